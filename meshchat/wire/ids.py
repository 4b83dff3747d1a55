"""What names a thing on the wire: a type for each kind of id, so that two of them cannot be exchanged.

All are bytes of a fixed size. A checker of types tells them apart; while the program runs they cost nothing.
What is only carried (bodies, sealed bytes, whole packets) stays `bytes`.
"""

from typing import Any, NewType, TypeAlias

# --- Who ------------------------------------------------------------------------------------------------

MESH_ID_SIZE = 8
MeshId = NewType("MeshId", bytes)
"""The hash of a mesh's name."""

ROUTER_ID_SIZE = 8
RouterId = NewType("RouterId", bytes)
"""The hash of a router's public key."""

NOBODY = RouterId(bytes(ROUTER_ID_SIZE))
"""The id of no router: what is sent to it is for all who hear it."""

PUBLIC_KEY_SIZE = 32
PublicKey = NewType("PublicKey", bytes)
"""An Ed25519 public key, of a user or of a router."""

SIGNATURE_SIZE = 64
Signature = NewType("Signature", bytes)
"""An Ed25519 signature."""

Place = NewType("Place", bytes)
"""A person on a router: the public key and the router's id."""

# --- Records --------------------------------------------------------------------------------------------

RECORD_ID_SIZE = 16
RecordId = NewType("RecordId", bytes)
"""The hash of what a record's author signed."""

POSITION_SIZE = 1 + 8 + RECORD_ID_SIZE
Bound = NewType("Bound", bytes)
"""Where a range of positions begins (inside) or ends (outside): a position, or anything that sorts among
them."""

Position = NewType("Position", Bound)
"""Where a record stands in the one order: stratum, stamp and id."""

Span: TypeAlias = tuple[Bound, Bound]
"""From a bound on, and below one."""

START = Bound(b"")
"""The bound below every position."""

END = Bound(b"\xff" * (POSITION_SIZE + 1))
"""The bound above every position."""

CONFIRM_KEY_SIZE = 8
ConfirmKey = NewType("ConfirmKey", bytes)
"""The first bytes of a record's id, by which a CONFIRM names it."""

SHORT_ID_SIZE = 6
ShortId = NewType("ShortId", bytes)
"""A record's id hashed with a `Salt`: its name in one list, salted anew each time so that a collision made on
purpose lasts one step."""

SALT_SIZE = 8
Salt = NewType("Salt", bytes)
"""Random, new for each list of short ids."""

NO_SALT = Salt(b"")
"""Where nothing is listed."""

FINGERPRINT_SIZE = 16
Fingerprint = NewType("Fingerprint", bytes)
"""The hash of all records of a range."""

VIEW_SIZE = 8
View = NewType("View", bytes)
"""The hash of all that a router holds: who holds the same need not say it again."""

SKETCH_KEY_SIZE = 10
SketchKey = NewType("SketchKey", bytes)
"""By which a sketch knows a record: its stamp and the first 2 bytes of its id."""

CELL_SIZE = SKETCH_KEY_SIZE + 2
Cell = NewType("Cell", bytes)
"""A cell of a sketch: sketch keys and checks, mixed."""

# --- Runs and conversations -----------------------------------------------------------------------------

BOOT_ID_SIZE = 8
BootId = NewType("BootId", bytes)
"""Random, new at each start of a router."""

NO_BOOT = BootId(b"")
"""Where none was heard yet."""

SEAL_NONCE_SIZE = ROUTER_ID_SIZE + BOOT_ID_SIZE + 8
SealNonce = NewType("SealNonce", bytes)
"""Of a datagram under the mesh key: the sender's id, its boot id and a counter. Never used twice."""

SenderRun = NewType("SenderRun", bytes)
"""A router and one run of it: its id and its boot id."""

HEARS_SIZE = 8
HearsFilter = NewType("HearsFilter", bytes)
"""The Bloom filter of the routers that one hears."""

HEARS_NOBODY = HearsFilter(bytes(HEARS_SIZE))
"""The filter that holds none."""

TOKEN_SECRET_SIZE = 16
TokenSecret = NewType("TokenSecret", bytes)
"""Random, new at each start and never sent: what this router's tokens are made from."""

TOKEN_SIZE = 8
Token = NewType("Token", bytes)
"""Given by a router, and shown to it by who answers: so a request is no recording."""

NO_TOKEN = Token(bytes(TOKEN_SIZE))
"""Shown where none was given."""

ASK_NONCE_SIZE = 8
AskNonce = NewType("AskNonce", bytes)
"""Random, new for each ASK-FILE: an OFFER names the one that it answers."""


def record_id_of(position: Position) -> RecordId:
    """The id of the record at a position."""
    return RecordId(position[-RECORD_ID_SIZE:])


_CONFIRM_KEY = slice(POSITION_SIZE - RECORD_ID_SIZE, POSITION_SIZE - RECORD_ID_SIZE + CONFIRM_KEY_SIZE)


def confirm_key_of(position: Position) -> ConfirmKey:
    """By which a CONFIRM names the record at a position."""
    key: Any = position[_CONFIRM_KEY]  # not ConfirmKey(...): each record that comes in goes by here
    confirm_key: ConfirmKey = key
    return confirm_key


def sketch_key_of(position: Position) -> SketchKey:
    """By which a sketch knows the record at a position."""
    return SketchKey(position[1 : 1 + SKETCH_KEY_SIZE])

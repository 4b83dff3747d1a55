"""Key pairs of users and routers: signing and verifying records."""

import hashlib
from dataclasses import dataclass, replace
from typing import NewType

import nacl.bindings
import nacl.exceptions
import nacl.utils

from meshchat.wire.ids import SIGNATURE_SIZE, MeshId, PublicKey, RouterId, Signature
from meshchat.wire.records import Grade, Record, router_id

SEED_SIZE = 32
KeySeed = NewType("KeySeed", bytes)
"""Secret: what an Ed25519 key pair is made from."""

MarkKey = NewType("MarkKey", bytes)
"""Secret, of one router and one mesh: with it the router marks the lines of its logs that it has verified."""


@dataclass(frozen=True)
class SigningKey:
    """An Ed25519 key pair, of a user or of a router, made from a 32-byte seed."""

    seed: KeySeed
    public: PublicKey
    _secret: bytes

    @classmethod
    def from_seed(cls, seed: KeySeed) -> "SigningKey":
        """The key pair of a 32-byte seed."""
        public, secret = nacl.bindings.crypto_sign_seed_keypair(seed)
        return cls(seed, PublicKey(public), secret)

    @classmethod
    def random(cls) -> "SigningKey":
        """A new key pair from the system's random source."""
        return cls.from_seed(KeySeed(nacl.utils.random(SEED_SIZE)))

    def sign(self, message: bytes) -> Signature:
        """The 64-byte signature over `message`."""
        return Signature(nacl.bindings.crypto_sign(message, self._secret)[:SIGNATURE_SIZE])

    def __repr__(self) -> str:
        return f"SigningKey({self.public.hex()})"


@dataclass(frozen=True)
class RouterIdentity:
    """A router's key pair and the id that follows from it."""

    key: SigningKey

    @property
    def id(self) -> RouterId:
        """8 bytes: the hash of the public key."""
        return router_id(self.key.public)

    def mark_key(self, mesh: MeshId) -> MarkKey:
        """32 secret bytes for the marks in this router's logs of mesh `mesh` (its 8-byte id)."""
        person = b"meshchat mark 1"  # another number where a line that was checked means something else
        return MarkKey(hashlib.blake2b(mesh, key=self.key.seed, digest_size=32, person=person).digest())


def sign_record(
    signer: SigningKey,
    *,
    mesh: MeshId,
    space: int,
    log: str,
    kind: int,
    author: str,
    router: RouterId,
    stamp: int,
    grade: Grade,
    body: bytes,
) -> Record:
    """A record with these fields, signed by `signer` as its author's key."""
    draft = Record(mesh, space, log, kind, author, signer.public, router, stamp, grade, body, Signature(b""))
    return replace(draft, signature=signer.sign(draft.signed))


def verify_record(record: Record) -> bool:
    """Whether the record was signed by the key it names."""
    try:
        nacl.bindings.crypto_sign_open(record.signature + record.signed, record.key)
    except nacl.exceptions.CryptoError:
        return False
    return True

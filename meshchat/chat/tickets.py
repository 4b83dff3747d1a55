"""Session tickets: logging in again without a password, after a restart of the front end or the daemon.

A ticket is the account's key seed, sealed under a key that only this router has (or the hosts of one hub
share), and nothing about it is stored until somebody logs out: a router that restarts takes the tickets it
gave. STATE alone yields no seed, a ticket alone yields none, both together do. (A stateless session as in
RFC 5077.) A ticket opens the account until 90 days have passed by mesh time, the password was changed or the
account retired, or a session that had it logged out.
"""

import base64
import binascii
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from meshchat.errors import TicketVoid
from meshchat.identity.boxes import BoxKey, open_box, seal_box_random
from meshchat.identity.keys import SEED_SIZE, KeySeed, SigningKey
from meshchat.wire.codec import uint

LIFETIME_MS = 90 * 86_400_000
"""How long a ticket opens an account: a phone that comes back after a summer does not ask for the password,
one that was lost a year ago opens nothing."""

TICKET_ID_SIZE = 8
"""Bytes: the first ones of the ticket's random nonce."""

MAX_TICKET_TEXT = 256
"""Characters of a ticket that are looked at; a real one has 116."""

MAX_VOIDED_OF_USER = 16
"""Logouts of one user that are remembered each by its ticket; for more of them, all his tickets that are not
younger than the oldest forgotten one are void."""

MAX_VOIDED_USERS = 1024
"""Users of whom logouts are remembered, 500 bytes each at most; for more of them, all tickets are void that
are not younger than those forgotten. Nobody brings a ticket back to life by logging in and out: he would log
out others, at a sign-up for each user."""

_VERSION = 1
_SIZE = 1 + SEED_SIZE + 4 + 8


class Ticket(NamedTuple):
    """What a ticket stands for: the account's key, its sequence number, and when it was given, in ms of mesh
    time; `id` tells it from others.
    """

    signer: SigningKey
    sequence: int
    given_ms: int
    id: bytes


@dataclass(frozen=True)
class Voided:
    """The logouts of one user: tickets given at or before `floor_ms` are void, and these, with the time each
    was given.
    """

    floor_ms: int = -1
    ids: Mapping[bytes, int] = field(default_factory=dict)

    def holds(self, ticket: Ticket) -> bool:
        """Whether the ticket is void."""
        return ticket.given_ms <= self.floor_ms or ticket.id in self.ids

    def adding(self, ticket: Ticket) -> "Voided":
        """The same, and this ticket."""
        ids = {**self.ids, ticket.id: ticket.given_ms}
        floor = self.floor_ms
        while len(ids) > MAX_VOIDED_OF_USER:
            oldest = min(ids, key=lambda each: ids[each])
            floor = max(floor, ids.pop(oldest))
        return Voided(floor, ids)

    @property
    def latest_ms(self) -> int:
        """No ticket given after this is void by it."""
        return max((self.floor_ms, *self.ids.values()))


class Tickets:
    """Gives tickets and takes them; `changed` since it was last written down.

    `key` is 32 secret bytes, `about` what the tickets are good for (the mesh id), `voided` the logouts of
    before by user (public key), the latest last, and `floor_ms` that of all users.
    """

    def __init__(
        self,
        key: BoxKey,
        about: bytes,
        voided: Iterable[tuple[bytes, Voided]] = (),
        floor_ms: int = -1,
    ) -> None:
        self._key, self._about = key, b"meshchat ticket" + about
        self._voided = OrderedDict(voided)
        self.floor_ms = floor_ms
        self.changed = False
        self._trim()

    @property
    def voided(self) -> Mapping[bytes, Voided]:
        """The logouts that are remembered, by user, the latest last."""
        return self._voided

    def give(self, signer: SigningKey, sequence: int, now_ms: int) -> tuple[Ticket, str]:
        """A ticket for the account of `signer` in its version `sequence`, and the text that stands for it."""
        plain = uint(_VERSION, 1) + signer.seed + uint(sequence, 4) + uint(now_ms, 8)
        box = seal_box_random(self._key, plain, self._about)
        text = base64.urlsafe_b64encode(box).decode("ascii")
        return Ticket(signer, sequence, now_ms, box[:TICKET_ID_SIZE]), text

    def take(self, text: str, now_ms: int) -> Ticket:
        """What a ticket holds; raises `TicketVoid` where it is none of this router's, too old or void."""
        ticket = self._read(text)
        if ticket is None or now_ms - ticket.given_ms > LIFETIME_MS or ticket.given_ms <= self.floor_ms:
            raise TicketVoid("Log in again.")
        voided = self._voided.get(ticket.signer.public)
        if voided is not None and voided.holds(ticket):
            raise TicketVoid("Log in again.")
        return ticket

    def _read(self, text: str) -> Ticket | None:
        try:
            box = base64.urlsafe_b64decode(text[:MAX_TICKET_TEXT].encode("ascii"))
        except (UnicodeEncodeError, binascii.Error):
            return None
        plain = open_box(self._key, box, self._about)
        if plain is None or len(plain) != _SIZE or plain[0] != _VERSION:
            return None
        seed, rest = plain[1 : 1 + SEED_SIZE], plain[1 + SEED_SIZE :]
        return Ticket(
            signer=SigningKey.from_seed(KeySeed(seed)),
            sequence=int.from_bytes(rest[:4], "big"),
            given_ms=int.from_bytes(rest[4:12], "big"),
            id=box[:TICKET_ID_SIZE],
        )

    def void(self, ticket: Ticket) -> None:
        """A session that had this ticket has logged out."""
        user = ticket.signer.public
        self._voided[user] = self._voided.pop(user, Voided()).adding(ticket)
        self.changed = True
        self._trim()

    def _trim(self) -> None:
        while len(self._voided) > MAX_VOIDED_USERS:
            _, forgotten = self._voided.popitem(last=False)
            self.floor_ms = max(self.floor_ms, forgotten.latest_ms)

"""Who may come in again and who may watch, in STATE: the key of the session tickets, logouts, and codes.

| file          | what                                                                         |
| ------------- | ---------------------------------------------------------------------------- |
| `ticket.key`  | the key that session tickets are sealed under, 64 hex digits, checked; 0600   |
| `access.json` | the logouts that void tickets, and the codes for `watch`, checked; mode 0600  |

What an operator changed is written at once; logouts are written within `WRITE_EVERY`, for flash wears.
"""

import logging
from collections.abc import Mapping
from typing import Any

from meshchat.adapters.storage.files import DAMAGED_SUFFIX, Files
from meshchat.adapters.storage.smallfile import (
    SmallFile,
    checked_line,
    checked_object,
    open_line,
    open_object,
)
from meshchat.chat.tickets import MAX_VOIDED_OF_USER, MAX_VOIDED_USERS, TICKET_ID_SIZE, Tickets, Voided
from meshchat.chat.watching import MAX_CODES, MAX_WATCHERS, WatchCodes
from meshchat.errors import StoreError
from meshchat.identity.boxes import BOX_KEY_SIZE, BoxKey, random_box_key
from meshchat.wire.ids import PUBLIC_KEY_SIZE, MeshId, PublicKey
from meshchat.wire.records import MAX_STAMP

WRITE_EVERY = 30.0
"""Shortest time between two writes for logouts, in seconds: who logs in and out by a script wears the flash
no faster. After a power cut within it, a ticket of that time opens its account again."""

ACCESS_VERSION = 1

_KEY = "ticket.key"
_ACCESS = "access.json"
_MAX_KEY = 1024
_MAX_ACCESS = 2 * 1024 * 1024
"""Bytes read: more than as many users, logouts and codes as are kept can fill."""

_MAX_MS = MAX_STAMP >> 16

log = logging.getLogger(__name__)


class AccessFile:
    """Brings `tickets` and `codes` to disk. `now` is monotonic seconds."""

    def __init__(self, files: Files, mesh: MeshId, now: float, now_ms: int) -> None:
        """Reads what there is for the mesh `mesh` (its id); what cannot be read is a line in the log.

        `now_ms` is mesh time. Where the logouts are lost, no ticket of before is taken any more.
        """
        self._key = SmallFile(files, _KEY, _MAX_KEY, private=True)
        self._access = SmallFile(files, _ACCESS, _MAX_ACCESS, private=True)
        self._saved_at = now
        self.tickets, self.codes = self._load(self._ticket_key(), mesh, now_ms)

    def keep(self, now: float, *, last: bool = False) -> None:
        """Writes what has changed, where it is time or the end. A disk that fails is a line in the log."""
        due = self.codes.changed or last or now - self._saved_at >= WRITE_EVERY
        if not due or not (self.codes.changed or self.tickets.changed):
            return
        self._saved_at = now
        try:
            self._access.replace(encode_access(self.tickets, self.codes))
        except StoreError as error:
            log.error("Logouts and codes are not saved: %s", error)
        else:
            self.tickets.changed = self.codes.changed = False

    def _ticket_key(self) -> BoxKey:
        """The key; a new one where there is none or it is damaged, by which older tickets are void."""
        try:
            raw = self._key.read()
            if raw is not None:
                key = _octets(open_line(raw), BOX_KEY_SIZE)
                if key is not None:
                    return BoxKey(key)
                log.warning("%s is damaged and made anew: everybody has to log in again.", self._key.path)
            fresh = random_box_key()
            self._key.replace(checked_line(fresh.hex()))
        except StoreError as error:
            log.error("Everybody has to log in again after the next start: %s", error)
            return random_box_key()
        return fresh

    def _load(self, key: BoxKey, mesh: MeshId, now_ms: int) -> tuple[Tickets, WatchCodes]:
        try:
            self._access.clean_up()
            raw = self._access.read()
        except StoreError as error:
            log.error("Logouts and codes are not known, so everybody has to log in again: %s", error)
            return Tickets(key, mesh, floor_ms=now_ms), WatchCodes()
        if raw is None:
            return Tickets(key, mesh), WatchCodes()
        try:
            return decode_access(raw, key, mesh)
        except (ValueError, RecursionError):
            self._set_aside(raw)
            return Tickets(key, mesh, floor_ms=now_ms), WatchCodes()

    def _set_aside(self, raw: bytes) -> None:
        log.warning(
            "%s is damaged and set aside as %s%s: everybody has to log in again; make new codes for `watch`.",
            *(self._access.path, _ACCESS, DAMAGED_SUFFIX),
        )
        try:
            self._access.set_aside(raw)
        except StoreError as error:
            log.error("%s", error)


def encode_access(tickets: Tickets, codes: WatchCodes) -> bytes:
    """The whole of `access.json`."""
    content = {
        "version": ACCESS_VERSION,
        "floor_ms": tickets.floor_ms,
        "voided": [
            {
                "user": user.hex(),
                "floor_ms": each.floor_ms,
                "tickets": {ticket.hex(): given for ticket, given in each.ids.items()},
            }
            for user, each in tickets.voided.items()
        ],
        "watch": {code: [key.hex() for key in keys] for code, keys in codes},
    }
    return checked_object(content)


def decode_access(raw: bytes, key: BoxKey, mesh: MeshId) -> tuple[Tickets, WatchCodes]:
    """What `encode_access` wrote; raises `ValueError` where anything in it is otherwise."""
    content = open_object(raw)
    if content.get("version") != ACCESS_VERSION:
        raise ValueError("not of this version")
    voided = [_voided(each) for each in _list(content.get("voided"), MAX_VOIDED_USERS)]
    tickets = Tickets(key, mesh, voided, _moment(content.get("floor_ms")))
    return tickets, WatchCodes(
        {
            code: [_key(each) for each in _list(keys, MAX_WATCHERS)]
            for code, keys in _dict(content.get("watch"), MAX_CODES).items()
        }
    )


def _voided(value: object) -> tuple[PublicKey, Voided]:
    fields = _dict(value, 8)
    ids = {}
    for ticket, given in _dict(fields.get("tickets"), MAX_VOIDED_OF_USER).items():
        ticket_id = _octets(ticket, TICKET_ID_SIZE)
        if ticket_id is None:
            raise ValueError("no ticket")
        ids[ticket_id] = _moment(given)
    return _key(fields.get("user")), Voided(_moment(fields.get("floor_ms")), ids)


def _key(value: object) -> PublicKey:
    key = _octets(value, PUBLIC_KEY_SIZE)
    if key is None:
        raise ValueError("no key")
    return PublicKey(key)


def _octets(value: object, size: int) -> bytes | None:
    try:
        octets = bytes.fromhex(value) if isinstance(value, str) else b""
    except ValueError:
        return None
    return octets if len(octets) == size else None


def _moment(value: object) -> int:
    if type(value) is not int or not -1 <= value <= _MAX_MS:
        raise ValueError("no time")
    return value


def _list(value: object, most: int) -> list[Any]:
    if not isinstance(value, list) or len(value) > most:
        raise ValueError("no list")
    return value


def _dict(value: object, most: int) -> Mapping[str, Any]:
    if not isinstance(value, dict) or len(value) > most:
        raise ValueError("no object")
    return value

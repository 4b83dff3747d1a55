"""What a router remembers of its people, in STATE/personal.jsonl: one JSON object a line, one line a person.

Flash wears, so it is written rarely: when somebody leaves, and every few minutes. What a power cut takes is a
few minutes of what was read; a line that cannot be read is passed over, and that person begins anew.
"""

import json
import logging
from collections.abc import Iterator

from meshchat.adapters.storage.files import Files
from meshchat.adapters.storage.smallfile import SmallFile
from meshchat.chat.personal import BELLS, Mark, Person, Personal
from meshchat.constants import MAX_IGNORED, MAX_MARKS, MAX_OPEN_ROOMS, MAX_PERSONAL, PERSONAL_EVERY
from meshchat.errors import StoreError
from meshchat.wire.ids import PUBLIC_KEY_SIZE, RECORD_ID_SIZE, PublicKey, RecordId
from meshchat.wire.records import MAX_STAMP, is_name

_NAME = "personal.jsonl"

log = logging.getLogger(__name__)


class PersonalFile:
    """Brings `people` to disk. Times are monotonic seconds."""

    def __init__(self, files: Files, now: float) -> None:
        """Reads what there is; what cannot be read is a line in the log."""
        self._file, self._saved_at = SmallFile(files, _NAME, MAX_PERSONAL, private=True), now
        self.people = Personal(self._load())

    def keep(self, now: float, *, last: bool = False) -> None:
        """Writes what has changed, where it is time or the end. A disk that fails is a line in the log."""
        if not self.people.unsaved:
            return
        if not (last or self.people.is_due or now - self._saved_at >= PERSONAL_EVERY):
            return
        self._saved_at = now
        self.people.is_due = False
        try:
            self._file.replace(b"".join(self._lines()))
        except StoreError as error:
            log.error("What people have read is not saved: %s", error)
        else:
            self.people.unsaved.clear()

    def _lines(self) -> list[bytes]:
        """As many as fit, of those used most lately, in order."""
        lines: list[bytes] = []
        room = MAX_PERSONAL
        for person in reversed(list(self.people)):
            line = encode_person(person)
            room -= len(line)
            if room < 0:
                break
            lines.append(line)
        return lines[::-1]

    def _load(self) -> Iterator[Person]:
        try:
            self._file.clean_up()
            raw = self._file.read() or b""
        except StoreError as error:
            log.error("What people had read is not known: %s", error)
            return
        damaged = 0
        for line in raw.splitlines():
            try:
                yield decode_person(line)
            except (ValueError, RecursionError):
                damaged += 1
        if damaged:
            log.warning("%s: %d damaged lines are passed over.", self._file.path, damaged)


def encode_person(person: Person) -> bytes:
    """The person's line with its newline."""
    fields = {
        "key": person.key.hex(),
        "marks": {room: [mark.stamp, mark.id.hex()] for room, mark in person.marks.items()},
        "ignored": {key.hex(): name for key, name in person.ignored.items()},
        "bell": person.bell,
        "rooms": person.rooms,
        "times": person.times,
    }
    return json.dumps(fields, separators=(",", ":")).encode("ascii") + b"\n"


def decode_person(line: bytes) -> Person:
    """The person in a line; raises `ValueError` where anything in it is not as `encode_person` writes it."""
    fields = json.loads(line.decode("utf-8"))
    if not isinstance(fields, dict):
        raise ValueError("no object")
    marks, ignored, rooms = (fields.get(name) for name in ("marks", "ignored", "rooms"))
    if not (isinstance(marks, dict) and isinstance(ignored, dict) and isinstance(rooms, list)):
        raise ValueError("a field is missing")
    if fields.get("bell") not in BELLS or not isinstance(fields.get("times"), bool):
        raise ValueError("no preference")
    if len(marks) > MAX_MARKS or len(ignored) > MAX_IGNORED or len(rooms) > MAX_OPEN_ROOMS:
        raise ValueError("too much")
    return Person(
        PublicKey(_octets(fields.get("key"), PUBLIC_KEY_SIZE)),
        {_name(room): _mark(mark) for room, mark in marks.items()},
        {PublicKey(_octets(key, PUBLIC_KEY_SIZE)): _name(name) for key, name in ignored.items()},
        fields["bell"],
        tuple(map(_name, rooms)),
        fields["times"],
    )


def _name(value: object) -> str:
    if not isinstance(value, str) or not is_name(value):
        raise ValueError("no name")
    return value


def _mark(value: object) -> Mark:
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError("no mark")
    stamp, record_id = value
    if type(stamp) is not int or not 0 <= stamp <= MAX_STAMP:
        raise ValueError("no stamp")
    return Mark(stamp, RecordId(_octets(record_id, RECORD_ID_SIZE)))


def _octets(value: object, size: int) -> bytes:
    octets = bytes.fromhex(value) if isinstance(value, str) else b""
    if len(octets) != size:
        raise ValueError("no bytes of this length")
    return octets

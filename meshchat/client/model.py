"""What a person sees of the mesh, whatever shows it: rooms, what is new in each, who is where.

Nothing here reads a clock, a socket or a terminal. Every table is bounded: strangers fill them.
"""

from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from meshchat.chat.names import fold
from meshchat.client.messages import Entry, Message, Notice, read_message

MAX_ENTRIES = 2000
MAX_TEXT_HELD = 1024 * 1024
"""Messages, and characters of them, kept of a room for scrolling back; what is older `/history` asks for."""

MAX_LOADED = 8
"""Rooms whose messages are kept at a time, 2 MB each at most; others are asked for again when shown."""

MAX_FRESH = 999
"""Unread messages counted in a room."""

MAX_NUMBER_DIGITS = 4
"""A room with a longer number as its name is called by the name only."""

MAX_USERS = 10_000
MAX_PRESENT = 4096
"""Accounts known by name, and (user, router) pairs present: what completion and `/who` look through."""


@dataclass(frozen=True)
class Mark:
    """The last message that was read in a room."""

    id: str
    ms: int


@dataclass(frozen=True, slots=True)
class _Fresh:
    """What is remembered of an unread message, also where the message itself is not kept."""

    key: str
    names_me: bool


@dataclass(frozen=True)
class Presence:
    """A user on a router: the rooms open there, the shown one first."""

    user: str
    rooms: tuple[str, ...]
    active: bool


@dataclass(frozen=True)
class Link:
    """How the router stands to the mesh."""

    neighbours: int
    in_step: bool


class Room:
    """A room: what was loaded of it, oldest first, and what is unread."""

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self.number = number
        self.open = False
        self.left = False
        """Left by `/leave`: from then on only mentions count there."""
        self.loaded = False
        self.entries: list[Entry] = []
        self.mark: Mark | None = None
        self.counted_to = 0
        """Up to this time, in UTC milliseconds, all that came is counted or read, loaded or not."""
        self.new_from: Message | None = None
        """The first message that was new when the room was last entered."""
        self.fresh: deque[_Fresh] = deque(maxlen=MAX_FRESH)
        self._ids: set[str] = set()
        self._floor: int | None = None
        self._length = 0

    @property
    def title(self) -> str:
        """`5:garden`, or just `2` for room 2."""
        return self.name if self.name == str(self.number) else f"{self.number}:{self.name}"

    def messages(self) -> Iterator[Message]:
        """The messages among the entries."""
        return (entry for entry in self.entries if isinstance(entry, Message))

    def load(self, messages: list[Message], *, all_there_is: bool) -> list[Message]:
        """Takes in what the history holds from its first message on; returns what is new here, in order.

        Of a room that is loaded already, what is older than that is not let in: it was never missed.
        """
        if not self.loaded:
            self.loaded = True
            self._floor = None if all_there_is or not messages else messages[0].ms
        return [message for message in messages if self.add(message)]

    def extend_back(self, messages: list[Message], *, all_there_is: bool) -> None:
        """Takes in older messages, up to those that are here."""
        if all_there_is:
            self._floor = None
        elif messages and self._floor is not None:
            self._floor = min(messages[0].ms, self._floor)
        for message in messages:
            self.add(message)

    @property
    def first_ms(self) -> int | None:
        """From when on the room is known; None: from its beginning, or more cannot be kept."""
        return self._floor if len(self.entries) < MAX_ENTRIES else None

    def add(self, entry: Entry) -> bool:
        """Puts an entry into its place by time; says whether it was new and is not too old."""
        if isinstance(entry, Message):
            if entry.id in self._ids or entry.ms < (self._floor or 0):
                return False
            self._ids.add(entry.id)
        insort(self.entries, entry, key=_time)
        self._length += len(entry.text)
        while len(self.entries) > MAX_ENTRIES or (self._length > MAX_TEXT_HELD and len(self.entries) > 1):
            self._floor = self.entries[0].ms
            self._drop_first()
        return True

    def _drop_first(self) -> None:
        gone = self.entries.pop(0)
        self._length -= len(gone.text)
        if isinstance(gone, Message):
            self._ids.discard(gone.id)

    def keep_only(self, ids: Container[str]) -> None:
        """All other messages have been wiped."""
        self.entries = [entry for entry in self.entries if isinstance(entry, Notice) or entry.id in ids]
        self._ids = {message.id for message in self.messages()}
        self._length = sum(len(entry.text) for entry in self.entries)

    def unload(self) -> None:
        """Forgets the messages, which the daemon still has, but not what is unread."""
        self.loaded, self.entries, self._length, self._floor = False, [], 0, None
        self._ids.clear()
        self.new_from = None

    def has(self, message_id: str) -> bool:
        """Whether the message is here."""
        return message_id in self._ids

    def find(self, message_id: str) -> Message | None:
        """The message, if it is here."""
        if message_id not in self._ids:
            return None
        return next((message for message in self.messages() if message.id == message_id), None)

    def since(self, ms: int) -> int:
        """The position of the first entry that is not older."""
        return bisect_left(self.entries, ms, key=_time)

    def last(self) -> Message | None:
        """The latest message."""
        return next((entry for entry in reversed(self.entries) if isinstance(entry, Message)), None)

    def last_ms(self) -> int:
        """The time of the latest entry; 0 where there is none."""
        return self.entries[-1].ms if self.entries else 0

    def after(self, mark: Mark | None) -> list[Message]:
        """The messages after the mark; none where nothing was ever read: everything is new then."""
        if mark is None:
            return []
        at = bisect_right(self.entries, mark.ms, key=_time)
        same = self.since(mark.ms)
        known = [i for i in range(same, at) if getattr(self.entries[i], "id", None) == mark.id]
        start = known[-1] + 1 if known else at
        return [entry for entry in self.entries[start:] if isinstance(entry, Message)]


def _time(entry: Entry) -> int:
    return entry.ms


def _is_number(name: str) -> bool:
    """Whether the name is a number as people write it: `12`, not `012`."""
    return name.isascii() and name.isdecimal() and name[0] != "0" and len(name) <= MAX_NUMBER_DIGITS


class Model:
    """Everything that a front end shows; the conversation changes it and tells the front end so."""

    def __init__(self, *, guest: bool = False) -> None:
        self.guest = guest
        """Whether the person has no commands that change the router."""
        self.user = ""
        self.key = ""
        self.router = ""
        self.rooms: dict[str, Room] = {}
        """By name, in the order of their numbers."""
        self._numbers: set[int] = set()
        self._free = 1
        self.current: Room | None = None
        self.last: Room | None = None
        """The room that was shown when the person left."""
        self.at_end = True
        """Whether the latest messages of the current room are in view: only then they count as read."""
        self.bell = "mentions"
        self.times = True
        self.connected = True
        self.link: Link | None = None
        self.names: dict[str, str] = {}
        """The name shown for each key."""
        self.ignored: dict[str, str] = {}
        """The names of ignored users, by key."""
        self._present: dict[tuple[str, str], Presence] = {}
        self._loaded: list[Room] = []

    def forget_person(self) -> None:
        """Somebody else logs in: nothing of the one before is kept but where he was."""
        for room in self.rooms.values():
            room.unload()
            room.fresh.clear()
            room.mark, room.open, room.left = None, False, False
        self.last = None
        self.ignored.clear()
        self._loaded.clear()

    # --- Rooms ------------------------------------------------------------------------------------------

    def know(self, names: Iterable[str]) -> None:
        """There are these rooms. Each keeps its number for as long as the visit lasts.

        A room whose name is a number has that one, others get what is free: so no answer has two meanings.
        """
        new = [name for name in dict.fromkeys(names) if name not in self.rooms]
        last = next((room.number for room in reversed(self.rooms.values())), 0)
        in_order = True
        for name in sorted(new, key=lambda name: not _is_number(name)):
            number = int(name) if _is_number(name) else 0
            if not number or number in self._numbers:
                number = self._free_number()
            self._numbers.add(number)
            self.rooms[name] = Room(name, number)
            in_order, last = in_order and number > last, number
        if not in_order:
            self.rooms = dict(sorted(self.rooms.items(), key=lambda item: item[1].number))

    def _free_number(self) -> int:
        while self._free in self._numbers:
            self._free += 1
        return self._free

    def room(self, name: str) -> Room:
        """The room of this name, which need not be known yet."""
        self.know([name])
        return self.rooms[name]

    def find_room(self, typed: str) -> Room | None:
        """The room meant by a name, however it is written, or by a number."""
        if typed in self.rooms:
            return self.rooms[typed]
        wanted = fold(typed)
        by_name = next((room for room in self.rooms.values() if fold(room.name) == wanted), None)
        return by_name or next((room for room in self.rooms.values() if str(room.number) == typed), None)

    def show(self, name: str) -> Room:
        """Goes to a room: what is unread there is marked as new, and read from now on."""
        if self.current is not None and self.current.name != name:
            self.current.new_from = None
        room = self.current = self.room(name)
        room.open, room.left, self.at_end = True, False, True
        room.new_from = next((m for m in room.after(room.mark) if not m.own and not self.ignores(m)), None)
        if room in self._loaded:
            self._loaded.remove(room)
        self._loaded.append(room)
        if len(self._loaded) > MAX_LOADED:
            self._loaded.pop(0).unload()
        return room

    def leave(self) -> Room | None:
        """Closes the current room; returns another one to go to, None where no other is open."""
        left = self.current
        others = [room for room in self.open_rooms if room is not left]
        if left is None or not others:
            return None
        left.open, left.left = False, True
        return min(others, key=lambda room: abs(room.number - left.number))

    @property
    def open_rooms(self) -> list[Room]:
        """The rooms that the person has been to, in the order of their numbers."""
        return [room for room in self.rooms.values() if room.open]

    def neighbour(self, step: int) -> Room | None:
        """The next room that is open or has news: forwards for 1, backwards for -1."""
        ring = [room for room in self.rooms.values() if room.open or self.unread(room)]
        if self.current not in ring or len(ring) < 2:
            return None
        return ring[(ring.index(self.current) + step) % len(ring)]

    def elsewhere(self) -> list[tuple[Room, int, int]]:
        """The rooms with news, how many messages and mentions; those with mentions and open ones first."""
        news = []
        for room in self.rooms.values():
            if room is self.current and self.at_end:
                continue
            unread, mentions = self.unread(room), self.mentions(room)
            if mentions or (unread and not room.left):
                news.append((room, unread, mentions))
        return sorted(news, key=lambda each: (not each[2], not each[0].open, each[0].number))

    # --- Messages ---------------------------------------------------------------------------------------

    def read(self, fields: Mapping[str, Any]) -> Message:
        """A message of the control socket as this person sees it."""
        return read_message(fields, self.user, self.key, self.router)

    def take(self, message: Message) -> bool:
        """A message came in; says whether it is new and shown in its room."""
        room = self.room(message.room)
        room.counted_to = max(room.counted_to, message.ms)
        new = room.add(message) if room.loaded else True
        if not new:
            return False
        if not (message.own or (room is self.current and self.at_end)):
            room.fresh.append(_Fresh(message.key, message.names_me))
        return not self.ignores(message)

    def notice(self, text: str) -> Notice | None:
        """A line of the program's own, at the end of the current room."""
        room = self.current
        if room is None:
            return None
        notice = Notice(text, room.last_ms())
        room.add(notice)
        return notice

    def unread(self, room: Room) -> int:
        """How many messages of others are unread there."""
        return sum(not self.ignores(fresh) for fresh in room.fresh)

    def mentions(self, room: Room) -> int:
        """How many of those name the person."""
        return sum(fresh.names_me and not self.ignores(fresh) for fresh in room.fresh)

    def seen_all(self) -> Mark | None:
        """The end of the current room is in view: returns its mark if that moved, to be kept."""
        room = self.current
        if room is None or not self.at_end:
            return None
        room.fresh.clear()
        last = room.last()
        if last is None or (room.mark and (room.mark.ms > last.ms or room.mark.id == last.id)):
            return None
        room.mark = Mark(last.id, last.ms)
        return room.mark

    def visible(self, entry: Entry) -> bool:
        """Whether the entry is shown: all but what ignored users wrote."""
        return isinstance(entry, Notice) or not self.ignores(entry)

    def search(self, text: str, from_: Message | None = None, *, newer: bool = False) -> Message | None:
        """The newest message of the current room that holds the text.

        With `from_`, the next one before that message, or after it for `newer`.
        """
        wanted = fold(text)
        if self.current is None or not wanted:
            return None
        messages = [message for message in self.current.messages() if self.visible(message)]
        if from_ in messages:
            at = messages.index(from_)
            messages = messages[at + 1 :] if newer else messages[:at]
        holding = (m for m in messages if wanted in fold(m.text) or wanted in fold(m.user))
        return next(holding, None) if newer else next(reversed(list(holding)), None)

    def held(self, record: str, room: str, by: int) -> bool:
        """So many neighbours hold an own message; says whether that is more than was known."""
        known = self.rooms.get(room)
        message = known.find(record) if known else None
        if message is None or message.held is None or message.held >= by:
            return False
        message.held = by
        return True

    # --- People -----------------------------------------------------------------------------------------

    def name(self, message: Message) -> str:
        """The author's name as it is now: a clash may have become known since."""
        return self.names.get(message.key, message.user)

    def ignores(self, message: Message | _Fresh) -> bool:
        """Whether the person wants to see nothing of its author, whatever his name is now."""
        return message.key in self.ignored

    def remember(self, personal: Mapping[str, Any]) -> None:
        """What the daemon keeps of the person's wishes."""
        self.ignored = dict(zip(personal["ignored_keys"], personal["ignored"], strict=True))
        self.bell, self.times = personal["bell"], personal["times"]

    def know_users(self, users: Iterable[Mapping[str, Any]]) -> None:
        """These are the accounts of the mesh, with where each is present."""
        self.names, self._present = {}, {}
        for user in users:
            if len(self.names) >= MAX_USERS:
                break
            self.names[user["key"]] = user["user"]
            for place in user.get("present", ()):
                self.present(user["user"], user["key"], place["router"], place["rooms"], place["active"])

    def present(self, user: str, key: str, router: str, rooms: Iterable[str], active: bool) -> None:
        """A user has these rooms open on a router; none: he has gone."""
        where = key, router
        self._present.pop(where, None)
        if opened := tuple(rooms):
            self._present[where] = Presence(user, opened, active)
            if len(self._present) > MAX_PRESENT:
                del self._present[next(iter(self._present))]

    def here(self, room: Room) -> list[tuple[str, bool]]:
        """The others who have the room open and whether each is active; the active ones first, by name."""
        people: dict[str, tuple[str, bool]] = {}
        for (key, _), presence in self._present.items():
            if room.name in presence.rooms and key != self.key and key not in self.ignored:
                name, active = people.get(key, (presence.user, False))
                people[key] = name, active or presence.active
        return sorted(people.values(), key=lambda person: (not person[1], fold(person[0])))

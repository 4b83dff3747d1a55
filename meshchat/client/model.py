"""What a person sees of the mesh, whatever shows it: rooms, what is new in each, who is where.

Nothing here reads a clock, a socket or a terminal. Every table is bounded: strangers fill them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from meshchat.chat.names import fold
from meshchat.client.messages import Entry, Message, Notice, read_message
from meshchat.client.rooms import Fresh, Mark, Room

MAX_LOADED = 8
"""Rooms whose messages are kept at a time, 2 MB each at most; others are asked for again when shown."""

MAX_NUMBER_DIGITS = 4
"""A room with a longer number as its name is called by the name only."""

MAX_USERS = 10_000
MAX_PRESENT = 4096
"""Accounts known by name, and (user, router) pairs present: what completion and `/who` look through."""


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


def _is_number(name: str) -> bool:
    """Whether the name is a number as people write it: `12`, not `012`."""
    return name.isascii() and name.isdecimal() and name[0] != "0" and len(name) <= MAX_NUMBER_DIGITS


class Model:
    """Everything that a front end shows; the conversation changes it and tells the front end so."""

    def __init__(self) -> None:
        self.rights: frozenset[str] = frozenset()
        """What the daemon lets the person do."""
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
            room.fresh.append(Fresh(message.key, message.names_me))
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

    def ignores(self, message: Message | Fresh) -> bool:
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

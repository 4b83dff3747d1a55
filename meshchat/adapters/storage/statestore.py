"""The small things a router must not forget, in STATE: its key, the mesh keys, clocks, what was wiped.

| file         | what                                                                         |
| ------------ | ---------------------------------------------------------------------------- |
| `router.key` | the seed of the router's Ed25519 key, 64 hex digits, checked; mode 0600      |
| `mesh.keys`  | mesh keys as `meshchat key new` prints them; the first one sends; mode 0600  |
| `state.json` | `State`, checked                                                             |
| `wiped.log`  | positions of records that somebody could still bring back, 50 hex digits each |

Secrets that cannot be read stop the daemon: a new router key would be a new router, and no mesh key an open
mesh. The rest is set aside, reported and begun anew where bytes of it are others than were written; what the
disk only failed to give is reported, and never written over: it may be there again at the next start. Where
nothing can be written, a router still relays.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields

from meshchat.adapters.storage.diskerrors import takes_nothing
from meshchat.adapters.storage.files import DAMAGED_SUFFIX, Files
from meshchat.adapters.storage.smallfile import (
    SmallFile,
    checked_line,
    checked_object,
    open_line,
    open_object,
)
from meshchat.constants import MAX_REMEMBERED, RELEASED_MS
from meshchat.errors import ConfigError, StoreError
from meshchat.identity.keys import SEED_SIZE, KeySeed, RouterIdentity, SigningKey
from meshchat.identity.meshkey import MeshKey, mesh_key_text, parse_mesh_key
from meshchat.wire.ids import POSITION_SIZE, Bound, Position
from meshchat.wire.records import MAX_STAMP

STATE_VERSION = 1

_ROUTER_KEY = "router.key"
_MESH_KEYS = "mesh.keys"
_STATE = "state.json"
_WIPED = "wiped.log"
_MAX_KEY = 1024
_MAX_STATE = 64 * 1024
_MAX_WIPED = 4 * MAX_REMEMBERED * (2 * POSITION_SIZE + 1)
"""Bytes read: twice what the file is let grow to."""
_MAX_MS = MAX_STAMP >> 16


@dataclass(frozen=True)
class State:
    """What is written every few minutes and at every wipe. Times are UTC milliseconds since 1970.

    `horizon_ms`, `pace_*` and `held_*` are the wipe's (`protocol.horizon`). `floor_ms`: the latest mesh time
    known for sure; mesh time never resumes earlier. `mesh_ms`: mesh time when this was written, whoever's
    word it was. `running_s`: seconds that this router has run in all its life. `boot_id`: the kernel's boot
    in which this was written; `clock_offset_ms`: mesh time less the time since boot as the operator set it,
    nothing after that boot; `clock_over_kernel`: he set it though the kernel's was synchronised.
    `synchronised_boot`: the boot in which the kernel's clock was synchronised. `good_ms`: mesh time when
    this was written, if the clock was good.
    """

    horizon_ms: int = 0
    pace_ms: int | None = None
    pace_run: int = 0
    held_ms: int | None = None
    held_run: int = 0
    floor_ms: int = RELEASED_MS
    mesh_ms: int = 0
    running_s: int = 0
    boot_id: str = ""
    clock_offset_ms: int | None = None
    clock_over_kernel: bool = False
    synchronised_boot: str = ""
    good_ms: int | None = None

    def __post_init__(self) -> None:
        known = [each for each in (self.pace_ms, self.held_ms, self.good_ms) if each is not None]
        moments = (self.horizon_ms, self.floor_ms, self.mesh_ms, *known)
        ok = (
            all(_is_int(moment, 0, _MAX_MS) for moment in moments)
            and all(_is_int(seconds, 0, 2**53) for seconds in (self.running_s, self.pace_run, self.held_run))
            and all(isinstance(boot, str) for boot in (self.boot_id, self.synchronised_boot))
            and isinstance(self.clock_over_kernel, bool)
            and (self.clock_offset_ms is None or _is_int(self.clock_offset_ms, -_MAX_MS, _MAX_MS))
        )
        if not ok:
            raise ValueError("a field of the state is out of range")


def _is_int(value: object, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


class StateStore:
    """The state of one router, in the directory `files`.

    Every save is durable when it returns, or raises `StoreError` and leaves what was there.
    """

    def __init__(self, files: Files, new_key: Callable[[], SigningKey] = SigningKey.random) -> None:
        """`new_key` makes the key of a router that has none yet."""
        self._files, self._new_key = files, new_key
        self._router_key = SmallFile(files, _ROUTER_KEY, _MAX_KEY, private=True)
        self._mesh_keys = SmallFile(files, _MESH_KEYS, _MAX_STATE, private=True)
        self._state = SmallFile(files, _STATE, _MAX_STATE)
        self._wiped = SmallFile(files, _WIPED, _MAX_WIPED)
        self._sealed = False
        self._wiped_lines = 0
        self._wiped_ragged = False  # the last line was cut short, and cannot be mended now
        self._report: list[str] = []

    @property
    def report(self) -> tuple[str, ...]:
        """What was found amiss when loading, one line for people each."""
        return tuple(self._report)

    # --- Secrets --------------------------------------------------------------------------------------------

    def identity(self) -> RouterIdentity:
        """This router's key; made on the first start, and at each start while the disk is full or read-only.

        Raises `StoreError` where the file is damaged or cannot be read or made.
        """
        raw = self._router_key.read()
        if raw is None:
            key = self._new_key()
            try:
                self._router_key.replace(checked_line(key.seed.hex()))
            except StoreError as error:
                if not takes_nothing(error):
                    raise
                self._report.append(f"{error} Until then this router is a new one at each start.")
            return RouterIdentity(key)
        try:
            seed = bytes.fromhex(open_line(raw) or "")
        except ValueError:
            seed = b""
        if len(seed) != SEED_SIZE:
            raise StoreError(
                f"{self._router_key.path} is damaged: restore it from a backup, "
                "or remove it and this router starts as a new one."
            )
        return RouterIdentity(SigningKey.from_seed(KeySeed(seed)))

    def mesh_keys(self) -> tuple[MeshKey, ...]:
        """The mesh keys, the one that sends first; none on an open mesh.

        Empty lines and those that begin with `#` and a space are passed over. Raises `ConfigError` on any
        other line that is no key, and where keys were read before and the file has gone, for a mesh is not
        opened by accident; `StoreError` where the file cannot be read.
        """
        raw = self._mesh_keys.read()
        if raw is None and self._sealed:
            raise ConfigError(
                f"{self._mesh_keys.path} has gone: put it back. To open the mesh to everybody: "
                "meshchat key drop KEY --yes"
            )
        keys = []
        text = (raw or b"").decode("utf-8-sig", "backslashreplace")
        for number, line in enumerate(map(str.strip, text.split("\n")), 1):
            if line.split(maxsplit=1)[:1] in ([], ["#"]):  # a key of which a bit turned may begin with #
                continue
            try:
                keys.append(parse_mesh_key(line))
            except ConfigError as error:
                raise ConfigError(f"{self._mesh_keys.path}, line {number}: {error}") from None
        self._sealed = bool(keys)
        return tuple(keys)

    def save_mesh_keys(self, keys: Iterable[MeshKey]) -> None:
        """Writes the mesh keys, the one that sends first."""
        lines = [mesh_key_text(key).encode() + b"\n" for key in keys]
        self._mesh_keys.replace(b"".join(lines))
        self._sealed = bool(lines)

    # --- State ----------------------------------------------------------------------------------------------

    def load(self) -> State:
        """The state as last saved; that of a first start where there is none, or it is damaged or cannot be
        read (both are reported).
        """
        try:
            for file in (self._router_key, self._mesh_keys, self._state, self._wiped):
                file.clean_up()
        except StoreError as error:
            self._report.append(str(error))
        try:
            raw = self._state.read()
        except StoreError as error:
            self._report.append(f"{error} Until the next start the clock and the wipe begin anew.")
            return State()
        try:
            return State() if raw is None else _parse(raw)
        except (ValueError, RecursionError):
            self._set_aside(raw or b"")
            return State()

    def _set_aside(self, raw: bytes) -> None:
        self._report.append(
            f"{self._state.path} is damaged and set aside as {_STATE}{DAMAGED_SUFFIX}: "
            "the clock and the wipe begin anew."
        )
        try:
            self._state.set_aside(raw)
        except StoreError as error:
            self._report.append(str(error))

    def save(self, state: State) -> None:
        """Writes the state: durable when it returns."""
        self._state.replace(checked_object({"version": STATE_VERSION} | asdict(state)))

    # --- What was wiped -------------------------------------------------------------------------------------

    def wiped(self) -> list[Position]:
        """The remembered positions, oldest entry first, each once; what is no position is passed over."""
        try:
            raw = self._wiped.read()
        except StoreError as error:
            self._report.append(f"{error} What was wiped may come back from neighbours until the next start.")
            self._wiped_ragged = True
            return []
        if raw is None:
            return []
        lines = raw.split(b"\n")
        found = dict.fromkeys(place for line in lines if (place := _parse_position(line)) is not None)
        kept = list(found)[-MAX_REMEMBERED:]
        self._wiped_lines = len(kept)
        if len(lines) != len(kept) + 1 or lines[-1]:
            self._wiped_ragged = bool(lines[-1])
            try:
                self.save_wiped(kept)
            except StoreError as error:
                self._report.append(str(error))
        return kept

    def add_wiped(self, positions: Iterable[Position]) -> None:
        """Remembers more positions: durable when it returns.

        The file holds at most twice `MAX_REMEMBERED`; then the oldest half goes. Call `wiped` first.
        """
        positions = tuple(positions)
        lines = [place.hex().encode() + b"\n" for place in positions]
        if not lines:
            return
        if self._wiped_lines + len(lines) > 2 * MAX_REMEMBERED:
            self.save_wiped([*self.wiped(), *positions][-MAX_REMEMBERED:])
            return
        lead = b"\n" if self._wiped_ragged else b""
        start = self._files.append(_WIPED, lead + b"".join(lines))
        try:
            self._files.sync(_WIPED)
        except StoreError:
            self._files.truncate(_WIPED, start)
            raise
        self._wiped_ragged = False
        self._wiped_lines += len(lines)

    def save_wiped(self, positions: Iterable[Position]) -> None:
        """Remembers these positions and no others."""
        lines = [place.hex().encode() + b"\n" for place in positions]
        self._wiped.replace(b"".join(lines))
        self._wiped_lines = len(lines)
        self._wiped_ragged = False


def _parse(raw: bytes) -> State:
    content = open_object(raw)
    if content.get("version") != STATE_VERSION:
        raise ValueError("not a state of this version")
    known = {field.name for field in fields(State)}
    return State(**{key: value for key, value in content.items() if key in known})


def _parse_position(line: bytes) -> Position | None:
    try:
        place = bytes.fromhex(line.decode("ascii"))
    except ValueError:
        return None
    return Position(Bound(place)) if len(place) == POSITION_SIZE else None

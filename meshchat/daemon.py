"""The daemon: the only place that wires engine, logs, network, application, clock and entropy together."""

import asyncio
import errno
import grp
import logging
import os
import pwd
import secrets
import signal
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from random import Random
from typing import Any

from meshchat.adapters.control import ControlServer, Socket
from meshchat.adapters.host.clock import SystemClock, boot_id, system_zone
from meshchat.adapters.links.network import Network
from meshchat.adapters.links.udp import UdpPort
from meshchat.adapters.meshview import MeshView
from meshchat.adapters.node import Node, NodeSettings
from meshchat.adapters.operator import OperatorView
from meshchat.adapters.storage.accessfile import AccessFile
from meshchat.adapters.storage.diskfiles import DiskFiles
from meshchat.adapters.storage.logstore import LogStore
from meshchat.adapters.storage.personalfile import PersonalFile
from meshchat.adapters.storage.statestore import StateStore
from meshchat.chat.access import OPERATOR, PEOPLE
from meshchat.chat.localtime import Zone, last_wipe
from meshchat.chat.notices import Notice
from meshchat.chat.service import Service
from meshchat.config import FIXED, SETTINGS, Config
from meshchat.constants import CAP_ACCOUNTS, CONFIRM_WAIT, NEWS_SHARE, TALK_SHARE, VERSION
from meshchat.errors import ConfigError, StoreError
from meshchat.protocol.air import AirShare
from meshchat.protocol.events import Send
from meshchat.state.caps import CapLimits
from meshchat.state.store import StoreLimits
from meshchat.wire.ids import BOOT_ID_SIZE, TOKEN_SECRET_SIZE, BootId, TokenSecret
from meshchat.wire.records import mesh_id

SYNC_EVERY = 5.0
"""Seconds between forcing appended history onto the disk under the policy "interval", and between looks at
whether what people have read is to be written."""

FAREWELL = 2 * CONFIRM_WAIT
"""Seconds to say that the people here have gone, and once more to a neighbour that may have missed it."""

SAID_AGAIN = 60.0
"""Seconds after which it is said again that no more files can be opened."""

log = logging.getLogger(__name__)


class Daemon:
    """One router's process. The node tells it what to do (`adapters.node.Listener`).

    Where `starts_anew` after `run`, a disk that had failed is back: another daemon is to read it.
    """

    def __init__(self, config: Config, read_config: Callable[[], Config]) -> None:
        """Opens what can fail: the directories, the logs, the port. Raises `MeshchatError`."""
        self._config, self._load = config, read_config
        state_files = DiskFiles(config.state)
        log_files = state_files if config.logs == config.state else DiskFiles(config.logs)
        mesh = mesh_id(config.mesh)
        logs = LogStore(log_files, state_files, mesh, fsync=config.fsync)
        logs.open()
        state = StateStore(state_files)
        kept = state.load()
        self._clock = SystemClock(config.clock_offset_s, config.clock_grade, kept.synchronised_boot)
        self._zone = _zone(config)
        settings = NodeSettings(
            mesh=mesh,
            limits=StoreLimits(
                CapLimits(config.cap_author, config.cap_room, config.cap_router), CAP_ACCOUNTS
            ),
            wipe_moment=self._wipe_moment,
            retention_ms=_retention_ms(config),
            boot=BootId(secrets.token_bytes(BOOT_ID_SIZE)),
            secret=TokenSecret(secrets.token_bytes(TOKEN_SECRET_SIZE)),
            boot_id=boot_id(),
            synchronised_boot=lambda: self._clock.synchronised_boot,
        )
        self._random = random = Random(secrets.randbits(128))
        self._port = UdpPort(config.group, config.port)
        self.node = Node(settings, logs, state, self._clock.read, random, self)
        self._mesh = MeshView(self.node, logs)
        air = AirShare(config.air_rate, NEWS_SHARE, config.repair_share, TALK_SHARE)
        self._network = Network(config, self.node, self._port, air)
        self._operator = OperatorView(config, self.node, self._network, state, logs)
        started = self._clock.read().mono
        self._personal = PersonalFile(state_files, started)
        self._access = AccessFile(state_files, mesh, started, self._mesh.now_ms())
        self._service: Service | None = None
        self._control: ControlServer | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._wake_at = 0.0
        self.starts_anew = False
        self._stopped = asyncio.Event()
        self._is_unreachable = False

    def _wipe_moment(self, now_ms: int) -> int:
        return last_wipe(now_ms, self._config.wipe_time, self._zone)

    # --- What the node tells ----------------------------------------------------------------------------

    def send(self, send: Send) -> None:
        """Puts a datagram on the air."""
        self._network.send(send)

    def tell(self, notice: Notice) -> None:
        """Front ends hear of it. Before the application is made nobody does: it reads then what there is."""
        if self._service is not None and self._control is not None:
            self._control.publish(self._service.tell(notice, asyncio.get_running_loop().time()))

    # --- Running ----------------------------------------------------------------------------------------

    async def run(self, early: Sequence[int] = ()) -> None:
        """Serves until `stop`. `early` fills with hang-ups that come before it is ready."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(FaultReport())
        self.node.start()
        hello = {"version": VERSION, "mesh": self._config.mesh, "router": self.node.router.hex()}
        self._service = Service(
            self._mesh,
            self._operator,
            self._zone,
            self._random,
            tickets=self._access.tickets,
            codes=self._access.codes,
            personal=self._personal.people,
        )
        self._control = ControlServer(
            _sockets(self._config),
            self._service,
            hello,
            _uids(self._config.origin_uids),
        )
        await self._control.start()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        if early:
            self._reload()
        self._network.start()
        syncing = loop.create_task(self._sync())
        log.info("Router %s serves the mesh %s.", self.node.router.hex(), self._config.mesh)
        try:
            await self._stopped.wait()
        finally:
            syncing.cancel()
            await self._control.close()
            if self._service.farewell(loop.time()):
                await asyncio.sleep(FAREWELL)
            await self._network.close()
            self._keep(last=True)
            if self._timer is not None:
                self._timer.cancel()

    def stop(self) -> None:
        """Ends `run` cleanly: nothing acknowledged is lost."""
        log.info("Stopping.")
        self._stopped.set()

    async def _sync(self) -> None:
        while True:
            await asyncio.sleep(SYNC_EVERY)
            self.node.sync()
            self._keep()
            if self.node.is_disk_back():
                log.warning("The disk that had failed is back: all is read anew.")
                self.starts_anew = True
                self.stop()
            await self._tend_sockets()

    async def _tend_sockets(self) -> None:
        """A cleaner of old files may remove a socket: nobody could reach the daemon any more."""
        if self._control is None:
            return
        try:
            await self._control.tend()
        except StoreError as error:
            if not self._is_unreachable:
                log.error("%s", error)
            self._is_unreachable = True
        else:
            self._is_unreachable = False

    def _keep(self, *, last: bool = False) -> None:
        """Writes what is remembered of people, where it is time."""
        now = self._clock.read().mono
        self._personal.keep(now, last=last)
        self._access.keep(now, last=last)

    # --- Time -------------------------------------------------------------------------------------------

    def wake_at(self, deadline: float | None) -> None:
        """The engine wants its next tick at this monotonic time."""
        if deadline is None or (self._timer is not None and deadline >= self._wake_at):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._wake_at = deadline
        delay = max(0.0, deadline - self._clock.read().mono)
        self._timer = asyncio.get_running_loop().call_later(delay, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.node.tick()

    # --- Configuration ----------------------------------------------------------------------------------

    def _reload(self) -> None:
        """SIGHUP: takes what can change while it runs; a setting that cannot be used leaves all as it was."""
        try:
            config = self._load()
            zone = _zone(config)
            self._operator.read_keys()
        except (ConfigError, StoreError) as error:
            log.error("The configuration is not taken: %s", error)
            return
        fields = {name: SETTINGS[name].name for name in FIXED}
        for name, attribute in sorted(fields.items()):
            if getattr(config, attribute) != getattr(self._config, attribute):
                log.warning("A new %s is taken at the next start.", name)
        config = replace(config, **{name: getattr(self._config, name) for name in fields.values()})
        self._config, self._zone, self._operator.config = config, zone, config
        logging.getLogger().setLevel(config.log_level.upper())
        self.node.set_retention(_retention_ms(config))
        self._network.reconfigure(config)
        if self._service is not None:
            self._service.set_zone(zone)
        log.info("The configuration was read again.")


class FaultReport:
    """What asyncio is to do with faults that nobody catches.

    Where all file descriptors are used up, it fails a hundred times a second to take a connection on, and has
    a traceback for each: a router's log is small.
    """

    def __init__(self) -> None:
        self._said_at = -SAID_AGAIN

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A handler as `asyncio.loop.set_exception_handler` takes it."""
        error = context.get("exception")
        if not (isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)):
            loop.default_exception_handler(context)
        elif loop.time() - self._said_at >= SAID_AGAIN:
            self._said_at = loop.time()
            log.error("Nobody can connect: too many files are open. Raise the limit (ulimit -n).")


def _retention_ms(config: Config) -> int | None:
    return None if config.retention_s is None else config.retention_s * 1000


def _zone(config: Config) -> Zone:
    """The configured zone, which has to be readable; else the machine's, or UTC where that is odd."""
    if config.timezone:
        return system_zone(config.timezone)
    try:
        return system_zone()
    except ConfigError as error:
        log.warning("%s Until then times are UTC.", error)
        return Zone()


def _sockets(config: Config) -> list[Socket]:
    """The doors; that none can be made for people is a line in the log."""
    doors = [Socket(config.socket, OPERATOR)]
    if config.people is None:
        log.warning("People have no socket: the path of one beside %s is too long (people).", config.socket)
    else:
        doors.append(Socket(config.people, PEOPLE, _group(config.people_group)))
    return doors


def _group(name: str) -> int | None:
    """The number of a group of this machine; one that there is not is a line in the log."""
    if not name:
        return None
    try:
        return int(name) if name.isdecimal() else grp.getgrnam(name).gr_gid
    except KeyError:
        log.warning("There is no group %s (people_group): the people's socket stays with the daemon's.", name)
        return None


def _uids(names: Iterable[str]) -> frozenset[int]:
    """The numbers of these users, of root and of who runs this; one that is missing is a line in the log."""
    uids = {0, os.geteuid()}
    for name in names:
        try:
            uids.add(int(name) if name.isdecimal() else pwd.getpwnam(name).pw_uid)
        except KeyError:
            log.warning(
                "There is no user %s (origin_uids): his word for where people come from is not taken.", name
            )
    return frozenset(uids)


def _start_logging(config: Config) -> None:
    """To syslog, where that is wished for and a syslogd is there; else to standard error."""
    handler: logging.Handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("meshchat: %(levelname)s: %(message)s"))
    missing = False
    if config.syslog:
        from meshchat.adapters.host.syslog import SYSLOG, SyslogHandler

        missing = not SYSLOG.is_socket()
        handler = handler if missing else SyslogHandler(fallback=handler)
    logging.basicConfig(level=config.log_level.upper(), handlers=[handler])
    if missing:
        log.warning("Nothing is logged to syslog: there is no /dev/log. Start syslogd, then this again.")


def run(read_config: Callable[[], Config]) -> None:
    """Runs a daemon until SIGTERM or SIGINT. `read_config` is called again at SIGHUP.

    Raises `MeshchatError` where it cannot start.
    """
    early: list[int] = []
    # Caught before the configuration is read: whoever changes that and then sends one misses nothing.
    signal.signal(signal.SIGHUP, lambda number, _: early.append(number))
    config = read_config()
    _start_logging(config)
    asyncio.run(_serve(config, read_config, early))


async def _serve(config: Config, read_config: Callable[[], Config], early: Sequence[int]) -> None:
    while True:
        daemon = Daemon(config, read_config)
        try:
            await daemon.run(early)
        finally:
            daemon.node.close()
        if not daemon.starts_anew:
            return
        config, early = read_config(), ()

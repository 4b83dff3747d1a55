"""The fixed numbers that several modules use, with what each is for: against whom, and why this size.

Durations are seconds and sizes bytes unless the name says otherwise.
"""

VERSION = "0.1.0"
"""Version of the program; `status` shows it."""

RELEASED_MS = 1_795_219_200_000
"""2026-11-21T00:00Z in milliseconds: no honest clock is earlier, so mesh time never starts before it."""

# --- The wire -------------------------------------------------------------------------------------------

DEFAULT_GROUP = "224.1.1.1"
DEFAULT_PORT = 8888

MIN_MTU = 576
"""The smallest MTU served (RFC 791's minimum reassembly size): every fixed packet fits into it."""

MAX_MTU = 1500
"""A larger MTU (loopback, jumbo frames) is not used: the next radio hop would have to fragment."""

MAX_MESH_NAME = 64
"""Characters of a mesh's name, which people compare by eye."""

MAX_TEXT = 8 * 1024
"""UTF-8 bytes in one message: about three printed pages, seven frames on the air."""

MAX_NAME_CHARS = 32
MAX_NAME_BYTES = MAX_NAME_CHARS * 4

MAX_RECORD = 16 * 1024
"""Bytes of one record as carried: the longest text and every header fit twice, and 32 of them
being reassembled (`MAX_REASSEMBLIES`) cost 512 KiB, which a router with 128 MB can spare."""

# --- Flooding -------------------------------------------------------------------------------------------

MISS = 0.02
"""A neighbour counts as having a record where the chance that it missed it is no greater than this: two
transmissions in its reach over links that lose 14%, three where they lose a quarter."""

LOSS_AT_FIRST = 0.25
LOSS_STEP = 1 / 16
LOSS_FLOOR = 0.02
"""What a link is taken to lose before it is known, how much each frame changes that, and the least: one
transmission is enough only over a link that has lost almost nothing for some 25 frames."""

CONFIRM_WAIT = 0.5
"""How long after a relay to wait for every neighbour's copy or confirmation before suspecting a loss: ten
times the longest relay jitter, and twice what a busy neighbour holds a record back for a fuller frame."""

NEWS_MS = 60_000
"""A record that a repair brings within a minute of its stamp is still news, and relayed as such: whoever
lies behind the router that missed it has missed it too."""

# --- Presence -------------------------------------------------------------------------------------------

PRESENCE_REFRESH = 600.0
PRESENCE_LIFETIME = 1500.0
"""Who is present says so again every 10 minutes, and is gone for those who have not heard it for 25: two
refreshes may get lost. Ten people who do nothing cost a router of a line some 5 B/s."""

PRESENCE_REPEATS = (8.0, 60.0)
"""What changed is said again after so many seconds (staged refresh: Pan and Schulzrinne, 1997): no digest
tells who missed a statement, and where half of all frames are lost, a flooding misses a router at times."""

PRESENCE_JITTER = 1.0
"""Longest random wait before a change is said: rooms opened one after the other make one statement, and when
a clock moves, not all routers speak as one."""

ACTIVE_FOR = 60.0
ACTIVE_GRACE = 15.0
"""Active is who typed within the last minute; others see it for 15 s more, since it is said again only once a
minute and has to come their way."""

TYPING_EVERY = 20.0
"""A front end tells at most so often that somebody types: what is fresher than that is now."""

STATEMENT_RATE = 0.2
STATEMENT_BURST = 10.0
"""Statements of one key, a second and in a burst: the rest is neither taken nor relayed. Who types on two
routers makes two a minute."""

MAX_PRESENT = 1024
"""Statements remembered, some 1.5 KB each; those of keys without account or message go first."""

# --- Digests (RFC 6206) ---------------------------------------------------------------------------------

TRICKLE_IMIN = 0.25
TRICKLE_DOUBLINGS = 7
"""Imax is 0.25 s * 2**7 = 32 s: a quiet line of ten routers costs under 6.6 B/s each."""
TRICKLE_K = 3

NEIGHBOUR_LIFETIME = 300.0
"""A neighbour not heard for so long is gone: two missed `SILENCE_MAX` announcements and a lost third."""

NEIGHBOUR_FRESH = 160.0
"""A neighbour heard within this time (five Imax, of which half may get lost) is expected to have what was
relayed; after it one that was switched off costs nothing any more."""

MAX_NEIGHBOURS = 512
"""Neighbours remembered. A stranger can invent router ids at will; 512 entries cost about 300 KB."""

# --- Narrowing a difference -----------------------------------------------------------------------------

RANGES_JITTER = 0.050
"""Longest random wait before answering a differing digest, so that one answer serves a cell."""

SKETCH_CELLS = 256
"""Cells of a sketch, 12 bytes each: about 160 differences, in three datagrams."""

TOKEN_EPOCH = 60.0
"""A token from an OFFER or a range step is good for one to two epochs: a replayed request is void."""

# --- ASK-FILE and dumps ---------------------------------------------------------------------------------

OFFER_JITTER = 0.150
OFFER_WAIT = 0.300
"""An OFFER waits up to 150 ms at random; the asker chooses 300 ms after the first one."""

WANT_RETRY = 0.25
"""A source silent for so long, and for four times its usual pause, is asked again."""

WANT_KEEP = 8.0
STREAM_KEEP = 20.0
"""An asker says at least so often that it still wants; a source stops where it has not said so for 20 s: who
was switched off in the middle of a dump costs the air 600 KB, not 30 MB."""

STALL = 1.0
SLOWEST = 1000.0
"""A fetch that has brought nothing for a second keeps no other source out: empty promises cost that much.
What is brought buys more time, a second for 1,000 bytes, up to `SOURCE_SILENCE`: a source
that sends a little at a time gains nothing by that."""

FETCH_LONGEST = 1_200.0
"""Longest fetch from one source: the largest log, 34 MB, takes 1,100 s at the default rate."""

MAX_STREAMS = 8
"""Dumps sent at once; further requests wait for the asker's next try."""

# --- The air --------------------------------------------------------------------------------------------

AIR_RATE = 1_000_000
"""Bits a second of the slowest multicast rate of an OpenWrt radio (`mcast_rate`)."""

REPAIR_SHARE = 0.25
"""Share of the air that dumps and repairs may take on an interface."""

TALK_SHARE = 0.05
"""Share for the steps that narrow a difference: whoever provokes them gains no more of the air than this."""

NEWS_SHARE = 0.50
"""Ceiling for new messages: they go first, and even a flood of them leaves the channel usable."""

# --- Time -----------------------------------------------------------------------------------------------

AHEAD_MS = 15 * 60 * 1000
"""A record stamped further than this ahead of mesh time waits in quarantine."""

STATE_EVERY = 600.0
"""How often running time, the clock floor and mesh time are written to flash: 144 small writes a day.

Mesh time that is further than this past what is on flash is written before the next record, so `AHEAD_MS`,
which is larger, covers what a restart does not know. A liar who moves a router without a clock on and on has
it written five times a second at most, as often as clocks are looked at, and each time with a record that is
written too: no more than a flood of records takes.
"""

# --- What is kept ---------------------------------------------------------------------------------------

DEFAULT_ROOMS = ("1", "2", "3", "4")

DEFAULT_RETENTION_S = 86_400
DEFAULT_WIPE_TIME = "04:00"

CAP_AUTHOR = 4 * 1024 * 1024
CAP_ROOM = 16 * 1024 * 1024
CAP_ROUTER = 32 * 1024 * 1024
"""Bytes of records, as carried, kept for an author in a room, a room, and the router. 100,000 short
messages are about 25 MB as carried and 50 MB as JSON Lines; one author's flood evicts only his own."""

CAP_ACCOUNTS = 2 * 1024 * 1024
"""Bytes of accounts and rooms: 5,000 accounts. Those never used go first, so a stranger who registers
without end evicts his own."""

ONCE_SIZE = 16
"""Bytes of the hash of a request by its idempotency key: nobody finds two keys with one hash."""

LATE_MS = 60_000
"""A record that comes so long after it was written came late. Flooding takes seconds: who moves to another
router and asks it for what is new has heard, or hears there as new, all else that people wrote meanwhile."""

ROAMING_MS = 10 * 60_000
"""Who comes from another router is given what was written so lately, beside all that came late: time to walk
out of one router's air and into the next one's, or to take a phone out of the pocket again."""

MAX_REMEMBERED = 50_000
"""Ids remembered after a wipe or an eviction, some 170 bytes each, 8 MB in all: two days of the fastest
honest mesh."""

MAX_LOGIN_CANDIDATES = 4
"""Accounts of one name that a login tries: each costs 16 MiB and up to a second on a router."""

MAX_ARGON_MEMORY = 16 * 1024 * 1024
MAX_ARGON_OPS = 4
"""Bounds on what an account record may ask of a router that opens it."""

# --- Front ends -----------------------------------------------------------------------------------------

PERSON_RATE = 3.0
PERSON_BURST = 10.0
"""Messages a person may type, a second and in a burst, at however many front ends at once."""

ORIGIN_RATE = 9.0
ORIGIN_BURST = 30.0
"""The same of all who come from one origin: three people who type as fast as they may. Accounts are free, so
without it twenty of them would be worth twenty people; a front end that names its people's addresses gives
each the whole of it."""

MAX_PEOPLE = 128
MAX_MARKS = 64
MAX_IGNORED = 64
MAX_OPEN_ROOMS = 16
MAX_PERSONAL = 128 * 1024
"""People of whom a router remembers something; rooms of each that were read, users he ignores, rooms he has
or left open (more in a request cost nothing); and bytes of it all on flash. Whoever can log in can make
accounts without end, and evicts those not used for longest: in RAM at most 5 MB, with names of 128 bytes
everywhere, else a few hundred bytes each."""

PERSONAL_EVERY = 300.0
"""Longest that what people read is not on flash, in seconds: while one reads, at most 288 writes a day, of a
few KB each."""

CONTROL_VERSION = 2
"""The version of the control socket's protocol, which the daemon's greeting names and a client must know."""

PEOPLE_SOCKET = "people.sock"
"""How the name of the socket for people who are not the router's operator ends."""

MAX_CONTROL_LINE = 256 * 1024
"""Bytes of one request on the control socket."""

MAX_CONTROL_BACKLOG = 1024 * 1024
"""Bytes waiting for a slow reader of the control socket before it is dropped."""

MAX_CONTROL_CLIENTS = 64
"""Connections to the control sockets, all doors together: 10 KB of RAM each, and a descriptor. When all are
taken, who has most gives one up (`chat/places.py`)."""

MAX_OWN_SESSIONS = 16
"""Sessions on a connection of whom nobody believes that he speaks for many; who is believed has no bound but
the memory, 3 KB each."""

MAX_WAITING = 64
"""Requests of one session, the one under way among them; more are refused."""

MAX_WAITING_BYTES = 4 * 1024 * 1024
MAX_OWN_WAITING_BYTES = 64 * 1024
"""Of requests that wait on one connection, all sessions together; until they are fewer it is not read. The
first is for who is believed to speak for many, the second for all others: as Python keeps them, requests take
up to twenty times their bytes, so that 64 connections could fill a router's memory."""

"""Every fixed number, with what it is for: against whom, and why this size.

Durations are seconds and sizes bytes unless the name says otherwise.
"""

VERSION = "0.1.0"
"""Version of the program; `status` shows it."""

RELEASED_MS = 1_795_219_200_000
"""2026-11-21T00:00Z in milliseconds: no honest clock is earlier, so mesh time never starts before it."""

PLAUSIBLE_MS = 20 * 365 * 86_400_000
"""How far past `RELEASED_MS` a neighbour's clock is believed: a liar's "good, 2431" moves nobody."""

# --- The wire -------------------------------------------------------------------------------------------

WIRE_VERSION = 1
"""Version of the datagram layout. A reader drops, counts and reports datagrams of a later one."""

DEFAULT_GROUP = "224.1.1.1"
DEFAULT_PORT = 8888

IP_UDP_HEADERS = 28
"""Bytes of IPv4 and UDP header that an interface's MTU has to hold beside the datagram."""

MIN_MTU = 576
"""The smallest MTU served (RFC 791's minimum reassembly size): every fixed packet fits into it."""

MAX_MTU = 1500
"""A larger MTU (loopback, jumbo frames) is not used: the next radio hop would have to fragment."""

MAX_TEXT = 8 * 1024
"""UTF-8 bytes in one message: about three printed pages, seven frames on the air."""

MAX_NAME_CHARS = 32
MAX_NAME_BYTES = MAX_NAME_CHARS * 4

MAX_RECORD = 16 * 1024
"""Bytes of one record as carried: the longest text and every header fit twice, and 32 of them
being reassembled (`MAX_REASSEMBLIES`) cost 512 KiB, which a router with 128 MB can spare."""

# --- Flooding -------------------------------------------------------------------------------------------

RELAY_JITTER = 0.050
"""Longest random wait before a relay; neighbours that heard the same frame must not answer as one."""

RELAY_COPIES = ((6, 10**9), (11, 4), (10**9, 3))
"""(up to so many neighbours, so many transmissions in a neighbour's reach are enough) whatever links lose: a
sparse mesh has no copies to spare, and in a dense cell more would only fill the air (simulated optimum)."""

MISS = 0.02
"""A neighbour counts as having a record where the chance that it missed it is no greater than this: two
transmissions in its reach over links that lose 14%, three where they lose a quarter."""

RESIDUE = 2e-5
"""A smaller chance, above which a digest follows when the news has come to rest: so a last message that was
lost against the odds is missed within seconds, for a fraction of what certainty about each would cost."""

FLOW = 0.4
"""A record counts as on its way for one to two times so long after it came: the relay jitter and what a busy
neighbour holds it back. Digests say nothing of it yet, or while people talk they would always differ."""

NEWS_REST = 2.0
NEWS_REST_MAX = 8.0
"""That digest follows after so many seconds without news, or so many after the first doubt."""

LOSS_AT_FIRST = 0.25
LOSS_STEP = 1 / 16
LOSS_FLOOR = 0.02
"""What a link is taken to lose before it is known, how much each frame changes that, and the least: one
transmission is enough only over a link that has lost almost nothing for some 25 frames."""

DEAF = 0.75
"""A neighbour of whose frames more gets lost is not counted as heard."""

CONFIRM_JITTER = 0.1
"""Longest random wait before a confirmation, in which others join it."""

CONFIRM_WAIT = 0.5
"""How long after a relay to wait for every neighbour's copy or confirmation before suspecting a loss: ten
times the longest relay jitter, and twice what a busy neighbour holds a record back for a fuller frame."""

LATE_CONFIRM_RATE = 2.0
LATE_CONFIRM_BURST = 8.0
"""Records that are news no more and are confirmed once again, a second and in a burst: who repeats what all
know, under invented names, draws 142 bytes a second from a router, not a share of the air."""

RESEND_UP_TO = 2
"""A record that so few neighbours may have missed is sent to each once more, by unicast, which a radio
repeats until it is acknowledged; more of them are left to the digests, which serve all at once."""

RESEND_CHANCE = 0.1
"""Below this chance of a miss a neighbour not heard with a record most likely has it, and was not heard: a
digest, which costs half of a record's frame and serves all, looks first."""

NEWS_FRAMES_RATE = 3.3
NEWS_FRAMES_BURST = 8.0
"""Frames of new records a second, and in a burst, that go at once; beyond, records wait up to 0.3 s for
others to share the 63 bytes of headers. A full frame never waits for this."""

MAX_CONFIRM_KEYS = 64
"""Keys in one CONFIRM: half a kilobyte, what 0.1 s of the fastest honest flood leaves to confirm."""

MAX_CONFIRMS_WAITING = 1024
"""Keys waiting to be confirmed on an interface while its share of the air is used up: 16 CONFIRMs.
Beyond, the oldest is dropped; who doubts this router then asks by a digest."""

NEWS_MS = 60_000
"""A record that a repair brings within a minute of its stamp is still news, and relayed as such: whoever
lies behind the router that missed it has missed it too."""

AUTHOR_RATE = 20.0
AUTHOR_BURST = 1000.0
"""New messages of one author that are flooded, a second and in a burst. What exceeds it still spreads,
through digests at the paced rate: a script that floods slows itself down and nobody else."""

MAX_RELAY_QUEUE = 4096
"""Records that wait to be relayed or are watched on one interface: a second of the fastest honest flood."""

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

STATEMENTS_RATE = 10.0
STATEMENTS_BURST = 256.0
"""Statements of all people with an account or a message here, a second and in a burst: 600 who type at once.
They cost 2 KB/s of the air of a router at the most, and a hundredth of a router's core to verify."""

STRANGERS_RATE = 1.0
STRANGERS_BURST = 64.0
"""The same for all other keys, which anyone makes at will; 64 are enough for who starts with no accounts."""

MAX_STATEMENT = 480
"""Bytes of a presence record as carried: with its age it fits a datagram at the smallest MTU, sealed."""

MAX_PRESENT = 1024
"""Statements remembered, some 1.5 KB each; those of keys without account or message go first."""

MAX_PLACES = 8
"""Routers on which one key is present: a router's id in a statement is only its author's word."""

MAX_UNTIMELY = 256
"""Statements set aside that are stamped for another time than it is here, 128 KB in all: a clock that is
adopted a moment later makes them good."""

PRESENCE_SHARE = 0.02
"""Share of the air for telling new neighbours who is present: fifty people in four seconds."""

MAX_TOLD = 256
"""Statements told to one new neighbour, the latest first."""

TELL_JITTER = 2.0
"""Longest random wait before that: in a cell one tells, and the others hear what the new one confirms."""

TELL_RATE = 1 / 60
TELL_BURST = 3.0
"""New neighbours told for one address, a second and in a burst: a stranger who starts anew with each frame,
100 bytes of it, gets 60 KB in all a minute, within `PRESENCE_SHARE`."""

TELL_ALL_RATE = 1.0
TELL_ALL_BURST = 16.0
"""The same for all addresses: to look through what is known takes a router 5 ms, and addresses are free."""

# --- Digests (RFC 6206) ---------------------------------------------------------------------------------

TRICKLE_IMIN = 0.25
TRICKLE_DOUBLINGS = 7
"""Imax is 0.25 s * 2**7 = 32 s: a quiet line of ten routers costs under 6.6 B/s each."""
TRICKLE_K = 3

INSIST = 4
"""Digests, in growing intervals, that are not suppressed where a neighbour in doubt hears few others: of
eight frames both ways one gets through even where half are lost."""

SILENCE_MAX = 128.0
"""Longest a router stays silent although its digests are suppressed: neighbours count each other to
decide about relaying, and a dense cell where only three speak would look sparse."""

NEIGHBOUR_LIFETIME = 300.0
"""A neighbour not heard for so long is gone: two missed `SILENCE_MAX` announcements and a lost third."""

NEIGHBOUR_FRESH = 160.0
"""A neighbour heard within this time (five Imax, of which half may get lost) is expected to have what was
relayed; after it one that was switched off costs nothing any more."""

MAX_NEIGHBOURS = 512
"""Neighbours remembered. A stranger can invent router ids at will; 512 entries cost about 300 KB."""

MAX_AN_ORIGIN = 4
"""Neighbours of one origin that count where a record is relayed: one router, and the ids it had before
its state was lost. The lowest ids count, or routers would not agree who is in whose reach. A
stranger with one address stands for no more, however many ids he invents."""

# --- Narrowing a difference -----------------------------------------------------------------------------

RANGES_JITTER = 0.050
"""Longest random wait before answering a differing digest, so that one answer serves a cell."""

EXCHANGE_RETRY = 0.5
EXCHANGE_FREE_TRIES = 4
EXCHANGE_RETRY_MAX = 3600.0
"""An exchange with a neighbour that changed nothing is tried again after 0.5 s; from the fifth on the
wait doubles up to an hour, so that no disagreement, honest or malicious, costs the air for ever."""

ANSWER_RATE = 8.0
ANSWER_BURST = 32.0
"""Digests, ASK-FILEs and ranges answered for one origin, a second and in a burst. An exchange
over 100,000 records takes five steps; a flood of requests gains no more than this."""

RECENT_IDS = 16
"""Ids of the newest records, compared by themselves where older ones differ for good."""

SKETCH_CELLS = 256
"""Cells of a sketch, 12 bytes each: about 160 differences, in three datagrams."""

SKETCH_FIRST = 16
"""A sketch opens an exchange where the counts differ by no more; else it is first asked whether it is just
the newest records that are missing, which no number of cells tells as cheaply."""

SKETCH_MOST = 140
"""Up to so many by the counts, a sketch is the second step; beyond, the ranges."""

SKETCH_OUTSIDE = 64
"""Records outside of what two routers compare that are taken out of a sketch for it, 4 microseconds each."""

WINDOW_IDS = 200
"""Ids in a request for all of a range but these: as many as fit a datagram."""

DENSE_PARTS = 6
"""Of at least so many small parts of a step three quarters differ: then a window of records is exchanged as
it is."""

SPLIT = 16
LEAF_IDS = 32
"""A differing range is split in 16; at or below 32 records its ids are listed instead."""

SKETCH_GROWTH = 4
"""A sketch that does not tell what differs is answered by one with so many times its cells: from the smallest
to the largest in three steps."""

MAX_PARTIAL_SKETCHES = 8
"""Sketches of which a part has come: one a neighbour, 4 KB each; whoever sends only parts costs 32 KB."""

EXPECT = 5.0
"""After a step towards a neighbour, records from it are an answer for so long: two losses of each datagram of
an exchange, each noticed by the next digest, and no longer, since such records may claim a high age."""

TOKEN_EPOCH = 60.0
"""A token from an OFFER or a range step is good for one to two epochs: a replayed request is void."""

# --- ASK-FILE and dumps ---------------------------------------------------------------------------------

ASK_REPEATS = (0.0, 1.0, 3.0, 9.0)
"""When a starting router asks, in seconds after the interface came up: batman-adv drops the first
seconds of a new listener's multicast, and a third of all frames may be lost."""

DIGEST_JITTER = 0.150
"""Longest random wait before a digest answers an ASK: many neighbours heard it at once."""

OFFER_JITTER = 0.150
OFFER_WAIT = 0.300
"""An OFFER waits up to 150 ms at random; the asker chooses 300 ms after the first one."""

SOURCE_SILENCE = 3.0
"""A source that has sent nothing wanted for so long is replaced; one that has brought something before, after
twice that: at 50% loss both ways a question or its answer is lost three times of four."""

WANT_RETRY = 0.25
"""A source silent for so long, and for four times its usual pause, is asked again."""

WANT_GAPS = 16
WANT_EVERY = 4.0
"""A dump under way is told what was lost once there are 16 gaps, or one for 4 s: at 20 bytes a gap the whole
list fits into a datagram, also where half of what is sent again is lost again."""

WANT_SOON = 0.5
"""After which a WANT of whole ranges is said again, by multicast, and then after twice as long each time: of
two that fetch from two sources, one hears the other and takes the same, also where a fifth is lost."""

WANT_KEEP = 8.0
STREAM_KEEP = 20.0
"""An asker says at least so often that it still wants; a source stops where it has not said so for 20 s: who
was switched off in the middle of a dump costs the air 600 KB, not 30 MB."""

STALL = 1.0
SLOWEST = 1000.0
"""A fetch that has brought nothing for a second keeps no other source out: empty promises cost that much.
What is brought buys more time, a second for 1,000 bytes, up to `SOURCE_SILENCE`: who drips gains nothing."""

FETCH_LONGEST = 1_200.0
"""Longest fetch from one source: the largest log, 34 MB, takes 1,100 s at the default rate."""

SHUN = 30.0
SHUN_MAX = 3600.0
"""A neighbour that offered and brought nothing is not asked for 30 s, then twice as long each time."""

OFFER_ALIKE = 0.98
OFFER_FAR = 0.5
"""Offers of nearly as many records are as good as the largest; neighbours of whose multicast half gets lost
come last, because over such a link each repair is sent twice."""

MAX_OFFERS = 16
"""OFFERs remembered while choosing, one an address."""

FETCH_ROUNDS_IDLE = 3
"""Rounds of a fetch that brought nothing before the asker leaves the rest to the digests."""

DUMP_MIN_SHARE = 0.5
"""An asker that holds less than this share of what a source offers takes a dump; else it narrows."""

OWN_SHARE = 0.125
"""An asker that holds less than this share of what a source offers does not say what is to be left out: that
would save little, and what is left out for one cannot serve another that asks for all."""

MAX_ORDERS = 16
"""Requests that wait for the fetch under way: the answers to one step of an exchange make two."""

DUMP_GATHER = 0.03
"""A source waits so long before a dump, in case another neighbour wants the same."""

PUSH_TO_ALL = 3
"""From so many neighbours on, a few missing records are pushed by multicast: others lack them too."""

MAX_STREAMS = 8
"""Dumps sent at once; further requests wait for the asker's next try."""

PACE_SAMPLE = 24
PACE_LOSS = 0.4
PACE_GAIN = 0.15
"""Where more than 40% of at least 24 datagrams was lost, the pace to that asker is halved; and where that
does not lower the loss by 15 points, it is set back. Chance makes 20% look like 40% once in a hundred."""
PACE_TRIAL = 30.0
"""Seconds until a pace that was set back is tried again."""
PACE_STEP = 1 / 16
PACE_LEAST = 1 / 16
"""The pace creeps back by a sixteenth of the full one for each sample, and is never less than that."""

MAX_SOURCES = 4.0
"""A source shares the air with others, of whom it knows by who says to be fetching; no lie leaves it less
than a quarter of its share."""

MAX_PACES = 64
"""Askers whose pace is remembered."""

MAX_REASSEMBLIES = 32
REASSEMBLY_LIFETIME = 60.0

# --- The air --------------------------------------------------------------------------------------------

AIR_RATE = 1_000_000
"""Bits a second of the slowest multicast rate of an OpenWrt radio (`mcast_rate`)."""

REPAIR_SHARE = 0.25
"""Share of the air that dumps and repairs may take on an interface."""

TALK_SHARE = 0.05
"""Share for the steps that narrow a difference: whoever provokes them gains no more of the air than this."""

NEWS_SHARE = 0.50
"""Ceiling for new messages: they go first, and even a flood of them leaves the channel usable."""

# --- Checking signatures --------------------------------------------------------------------------------

FORGERY_RATE = 20.0
FORGERY_BURST = 200.0
"""Bad signatures checked for one source address: 75 microseconds each on a PC and ten times that on a
router, so a forger costs at most 2% of a core after his burst."""

# --- Time -----------------------------------------------------------------------------------------------

AHEAD_MS = 15 * 60 * 1000
"""A record stamped further than this ahead of mesh time waits in quarantine."""

MAX_QUARANTINE = 1024 * 1024
"""Bytes of records waiting in quarantine; the one furthest in the future goes first."""

CLOCK_SETTLE_MS = 2_000
"""Two clock claims that differ by less are the same time: radio delays and polling stay below it."""

STATE_EVERY = 600.0
"""How often running time and the clock floor are written to flash: at most 144 small writes a day."""

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

MAX_SEEN = 1024
"""Records seen lately, some 250 bytes each, of which a piece is recognised by the id alone: several minutes
of a busy mesh. A piece of any other is collected once more, in the room that `MAX_REASSEMBLIES` bounds."""

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

MAX_RECEIPTS = 1024
"""Messages written on a router of which it remembers which neighbours hold them: over five minutes of one
person who types as fast as he may, in 300 KB of RAM."""

HELD_WAIT = 0.3
"""Seconds in which more neighbours that hold a message are told of together: those that relay it or confirm
it do so within 0.15 s."""

MESH_STATE_WAIT = 1.0
"""Seconds from what may have changed how the mesh looks to telling front ends of it: at most one a second."""

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
"""Requests of one session that wait for the one under way; more are refused."""

MAX_WAITING_BYTES = 4 * 1024 * 1024
MAX_OWN_WAITING_BYTES = 64 * 1024
"""Of requests that wait on one connection, all sessions together; until they are fewer it is not read. The
first is for who is believed to speak for many, the second for all others: as Python keeps them, requests take
up to twenty times their bytes, so that 64 connections could fill a router's memory."""

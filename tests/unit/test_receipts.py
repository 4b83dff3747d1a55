"""Who is counted as holding a message, by each thing that a neighbour may be heard to say."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from meshchat.constants import MAX_NEIGHBOURS
from meshchat.state.neighbour import Neighbour, Said
from meshchat.state.receipts import MAX_RECEIPTS, Receipts
from meshchat.wire.ids import CONFIRM_KEY_SIZE, BootId, ConfirmKey, Fingerprint, RouterId, Span
from meshchat.wire.packets import ClockClaim, Digest, Scope, Summary
from meshchat.wire.records import Grade, Record, make_position
from tests.unit.chats import Chat, written
from tests.unit.routers import key

MESH = Chat().mesh
NOTHING = Summary(0, Fingerprint(bytes(16)))
DIGEST = Digest(
    BootId(b"boot-one"),
    BootId(bytes(8)),
    bytes(3),
    ClockClaim(Grade.GOOD, 0, 0, 0),
    Scope.ALL,
    0,
    NOTHING,
    NOTHING,
)


def message(stamp: int, grade: Grade = Grade.GOOD) -> Record:
    return written(MESH, key(1), "ja", f"message {stamp}", stamp=stamp, grade=grade)


def neighbour(number: int, interface: str = "wlan0", digest: Digest | None = DIGEST) -> Neighbour:
    return Neighbour(
        RouterId(number.to_bytes(8, "big")), interface, ("10.0.0.1", 8888), 0.0, 0.0, said=Said(digest)
    )


def spans(low: int, high: int) -> tuple[Span, Span]:
    """Of both strata what is stamped from `low` on and below `high`."""
    return (make_position(0, low), make_position(0, high)), (make_position(1, low), make_position(1, high))


def by(receipts: Receipts, record: Record) -> int | None:
    receipt = receipts.get(record.id)
    return None if receipt is None else receipt.by


def heard(receipts: Receipts, record: Record, who: Neighbour) -> None:
    receipts.has(ConfirmKey(record.id[:CONFIRM_KEY_SIZE]), who)


def test_a_router_on_two_interfaces_is_one_holder() -> None:
    receipts, record = Receipts(lambda place: True), message(5)
    receipts.add(record)
    assert by(receipts, record) == 0
    for interface in ("wlan0", "mesh0", "wlan0"):
        heard(receipts, record, neighbour(1, interface))
        receipts.agrees(neighbour(1, interface), *spans(0, 9))
    assert by(receipts, record) == 1
    heard(receipts, record, neighbour(2))
    assert by(receipts, record) == 2


def test_an_equal_digest_counts_for_what_it_speaks_for_only() -> None:
    held = [message(stamp, grade) for stamp in range(10, 20) for grade in (Grade.GOOD, Grade.UNKNOWN)]
    gone = written(MESH, key(1), "ja", "wiped here", stamp=15)
    receipts = Receipts(lambda place: place != gone.position)
    for record in held:
        receipts.add(record)
    receipts.add(gone)
    receipts.agrees(neighbour(1), *spans(13, 17))
    for record in held:
        assert by(receipts, record) == (13 <= record.stamp < 17), record.stamp
    assert by(receipts, gone) == 0, "what is not held here is not shown by what is held here"
    receipts.agrees(neighbour(1), *spans(13, 100))
    assert [by(receipts, record) for record in held] == [int(record.stamp >= 13) for record in held]


def test_who_started_anew_holds_nothing_until_it_shows_it_again() -> None:
    receipts, record = Receipts(lambda place: True), message(5)
    receipts.add(record)
    receipts.agrees(neighbour(1), *spans(0, 9))
    heard(receipts, record, neighbour(2))
    assert [receipt.by for receipt in receipts.tell()] == [2]
    anew = neighbour(1, digest=replace(DIGEST, boot=BootId(b"boot-two")))
    receipts.spoke(neighbour(1))
    assert by(receipts, record) == 2
    receipts.spoke(anew)
    assert by(receipts, record) == 1
    receipts.agrees(anew, *spans(0, 9))
    receipts.spoke(anew)
    assert by(receipts, record) == 2
    assert [receipt.by for receipt in receipts.tell()] == [2], "it has grown again"


def test_growth_is_told_once() -> None:
    receipts, records = Receipts(lambda place: True), [message(stamp) for stamp in range(3)]
    for record in records:
        receipts.add(record)
    heard(receipts, records[1], neighbour(1))
    heard(receipts, records[1], neighbour(2))
    heard(receipts, message(99), neighbour(1))
    assert [(receipt.id, receipt.by) for receipt in receipts.tell()] == [(records[1].id, 2)]
    heard(receipts, records[1], neighbour(2))
    receipts.agrees(neighbour(1), *spans(0, 2))
    assert [receipt.id for receipt in receipts.tell()] == [records[0].id]
    assert receipts.tell() == []


def test_the_newest_messages_are_watched_and_strangers_fill_nothing() -> None:
    receipts = Receipts(lambda place: True)
    records = [message(stamp) for stamp in range(MAX_RECEIPTS + 3)]
    for record in records:
        receipts.add(record)
    assert [by(receipts, record) for record in records[:4]] == [None, None, None, 0]
    last = records[-1]
    for number in range(3 * MAX_NEIGHBOURS):
        heard(receipts, last, neighbour(number))
    assert 0 < (by(receipts, last) or 0) <= MAX_NEIGHBOURS
    latest = neighbour(3 * MAX_NEIGHBOURS - 1)
    count = by(receipts, last)
    heard(receipts, last, latest)
    assert by(receipts, last) == count, "who was heard last still counts"


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 40)),
        st.tuples(st.just("hear"), st.integers(0, 60)),
        st.tuples(st.just("agree"), st.integers(0, 40), st.integers(0, 40)),
        st.tuples(st.just("restart"), st.just(0)),
    ),
    max_size=60,
)


@given(STEPS)
def test_a_neighbour_counts_just_as_its_words_say(steps: list[tuple[str, int, int]]) -> None:
    """Against a model that looks at every message anew at each step."""
    receipts, boot = Receipts(lambda place: True), 1
    written_here: list[Record] = []
    holds: set[bytes] = set()
    for number, (what, one, *more) in enumerate(steps):
        who = neighbour(1, digest=replace(DIGEST, boot=BootId(boot.to_bytes(8, "big"))))
        if what == "write":
            record = written(MESH, key(1), "ja", f"{number}", stamp=one)
            written_here.append(record)
            receipts.add(record)
        elif what == "hear" and one < len(written_here):
            heard(receipts, written_here[one], who)
            holds.add(written_here[one].id)
        elif what == "agree":
            # A floor only ever rises: what lies below it is settled for good.
            receipts.agrees(who, *spans(0, more[0]))
            holds.update(record.id for record in written_here if record.stamp < more[0])
        elif what == "restart":
            boot += 1
            receipts.spoke(neighbour(1, digest=replace(DIGEST, boot=BootId(boot.to_bytes(8, "big")))))
            holds.clear()
        assert [by(receipts, record) for record in written_here] == [
            int(record.id in holds) for record in written_here
        ]

"""The bench's own arithmetic, where a slip would make a figure lie; and that it prints what it promises."""

import json
import random
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshchat.constants import MAX_MTU
from meshchat.protocol.envelope import IP_UDP_HEADERS
from meshchat.wire.datagram import PlainDatagram, decode_datagram
from meshchat.wire.ids import RouterId, Salt, Token
from meshchat.wire.packets import Carried, Packet, Records, Want, decode_packets, encode_packet
from tests.bench import first_generation, load
from tests.bench.differences import Cost
from tests.bench.figures import Figure, Peer, percentile
from tests.bench.machine import TOP
from tests.bench.report import Measured, as_json, as_text

# --- Percentiles and goals ------------------------------------------------------------------------------


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1), st.floats(0, 1))
def test_a_percentile_is_the_least_value_that_enough_of_them_do_not_exceed(
    values: list[float], share: float
) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values)
    assert sum(value < found for value in values) <= share * len(values)


def test_the_99th_percentile_of_few_values_is_the_worst() -> None:
    assert percentile([float(n) for n in range(1, 51)], 0.99) == 50
    assert percentile([float(n) for n in range(1, 201)], 0.99) == 198


def test_of_no_values_there_is_no_percentile() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


@pytest.mark.parametrize(
    ("ours", "goal", "at_least", "reached"),
    [
        (6.6, 6.6, False, True),
        (6.7, 6.6, False, False),
        (5000, 5000, True, True),
        (4999, 5000, True, False),
        (None, 5000, True, False),
        (None, 5000, False, False),
        (1, None, False, None),
    ],
)
def test_a_goal_is_reached_from_its_own_side(
    ours: float | None, goal: float | None, at_least: bool, reached: bool | None
) -> None:
    assert Figure("what", ours, "B", goal, at_least).reached is reached


def test_the_report_says_reached_or_not_with_ratios() -> None:
    figure = Figure(
        "idle", 9.9, "B/s", goal=6.6, peers=(Peer("alfred", 3.3), Peer("ngircd", None, "not here"))
    )
    rows = [Measured("idle", "traffic at rest", 1.0, (figure,)), Measured("x", "y", skipped="not root")]
    printed = json.loads(as_json({}, rows))["rows"][0]["figures"][0]
    assert printed["reached"] is False
    assert printed["ratio"] == pytest.approx(1.5)
    assert [peer["ratio"] for peer in printed["baselines"]] == [pytest.approx(3.0), None]
    text = "\n".join(as_text({"python": "3"}, rows))
    assert "not reached, 1.50x" in text
    assert "not here" in text
    assert "skipped: not root" in text


# --- What it measures with ------------------------------------------------------------------------------


def test_messages_are_of_the_stated_size_and_counted_with_their_signatures() -> None:
    records = load.messages(50)
    assert {len(record.body) for record in records} == {load.TEXT_BYTES}
    assert len({record.id for record in records}) == 50
    assert load.signed_bytes(records) == sum(len(record.signed) - 24 + 64 for record in records)


@given(st.integers(1, 40), st.sampled_from([None, 1, 3]))
def test_datagrams_hold_each_record_once_and_fit_the_mtu(count: int, each: int | None) -> None:
    records = load.messages(count)
    carried = []
    for data in load.datagrams(records, each):
        assert len(data) <= MAX_MTU - IP_UDP_HEADERS
        datagram = decode_datagram(data)
        assert isinstance(datagram, PlainDatagram)
        for packet in decode_packets(datagram.packets):
            assert isinstance(packet, Records)
            assert each is None or len(packet.items) <= each
            carried += [item.data for item in packet.items]
    assert carried == [record.carried for record in records]


# --- Counting bytes -------------------------------------------------------------------------------------


def frame(*packets: Packet) -> bytes:
    return PlainDatagram(load.MESH, RouterId(bytes(8)), b"".join(map(encode_packet, packets))).encode()


def test_a_frame_that_brings_records_is_no_search_but_for_what_else_is_in_it() -> None:
    brings = Records(tuple(Carried(record.carried) for record in load.messages(2)))
    asks = Want(RouterId(bytes(8)), Token(bytes(8)), Salt(bytes(8)), ())
    cost = Cost()
    cost.add(frame(brings))
    assert (cost.total, cost.search) == (42 + len(frame(brings)), 0)
    cost.add(frame(brings, asks))
    assert cost.search == len(encode_packet(asks))
    cost.add(frame(asks))
    assert cost.search == len(encode_packet(asks)) + 42 + len(frame(asks))
    assert cost.total == 3 * 42 + sum(map(len, (frame(brings), frame(brings, asks), frame(asks))))


# --- The first generation -------------------------------------------------------------------------------


def test_the_first_generation_merges_and_orders() -> None:
    lines = [first_generation.line_of(record) for record in load.messages(100)[::5]]  # one a second
    heard = lines[:]
    random.Random(1).shuffle(heard)
    held = "".join(f"{line}\n" for line in lines[::3])
    assert first_generation.merge(held, heard).splitlines() == lines


def test_the_first_generation_loses_a_line_that_begins_another_of_the_same_second() -> None:
    longer, shorter = "2026-11-21 21:00:00 bob: yes, at nine", "2026-11-21 21:00:00 bob: yes"
    assert first_generation.merge(f"{longer}\n", [shorter]) == f"{longer}\n"
    assert first_generation.merge(f"{shorter}\n", [longer]) == f"{shorter}\n{longer}\n"


def test_a_first_generation_answer_is_the_whole_log_of_every_responder() -> None:
    log = "".join(f"{first_generation.line_of(record)}\n" for record in load.messages(100))
    sent = first_generation.answer(log)
    assert b"".join(sent).decode() == log
    assert max(map(len, sent)) <= MAX_MTU - IP_UDP_HEADERS
    assert first_generation.restore_bytes(log, 9, 42) == 9 * (len(log.encode()) + 42 * len(sent))


# --- The command ----------------------------------------------------------------------------------------


def bench(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tests.bench", *arguments]
    return subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=False, timeout=120)


def test_a_quick_row_comes_out_as_json_with_its_conditions() -> None:
    done = bench("--quick", "--only", "merge", "--json")
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert {"machine", "python", "sizes", "bytes", "air of real daemons"} <= printed["conditions"].keys()
    assert [row["name"] for row in printed["rows"]] == ["merge"]
    for figure in printed["rows"][0]["figures"]:
        promised = {"what", "ours", "unit", "goal", "goal_is", "reached", "ratio", "baselines", "note"}
        assert figure.keys() == promised
        assert figure["ours"] > 0


def test_rows_are_picked_by_names_that_are_listed() -> None:
    names = [line.split()[0] for line in bench("--list").stdout.splitlines()]
    assert len(names) == len(set(names)) > 2
    refused = bench("--only", "nonsense")
    assert refused.returncode == 2
    assert "nonsense" in refused.stderr


def test_what_is_left_out_is_said_and_why() -> None:
    (row,) = json.loads(bench("--only", "scale", "--json").stdout)["rows"]
    assert row["figures"] == []
    assert "--long" in row["skipped"]

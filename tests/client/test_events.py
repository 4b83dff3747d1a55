"""Which session of a connection gets which event, and what becomes of those that nobody takes."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshchat.client.events import MAX_UNTAKEN, EventsMissed, Inbox, Subscription, Subscriptions
from meshchat.errors import DaemonGone

ROOMS = ("1", "2", "Garden", "garden")


def taken(inbox: Inbox) -> list[Mapping[str, Any]]:
    """What is in the inbox until it ends."""

    async def take_all() -> list[Mapping[str, Any]]:
        events = []
        inbox.put({"event": "last"})
        while (event := await inbox.take())["event"] != "last":
            events.append(event)
        inbox.end("That was all.")
        with pytest.raises(DaemonGone, match="That was all"):
            await inbox.take()
        return events

    return asyncio.run(take_all())


SESSIONS = st.integers(0, 4)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("subscribe"), SESSIONS, st.none() | st.lists(st.sampled_from(ROOMS))),
        st.tuples(st.just("close"), SESSIONS),
        st.tuples(st.just("message"), st.sampled_from(ROOMS)),
        st.tuples(st.just("presence")),
        st.tuples(st.just("held"), st.lists(SESSIONS, unique=True)),
    ),
    max_size=40,
)


@given(STEPS)
def test_each_event_goes_once_to_each_session_that_wants_it_and_to_no_other(
    steps: list[tuple[Any, ...]],
) -> None:
    subscriptions = Subscriptions()
    inboxes = {session: subscriptions.open(session) for session in range(5)}
    wanted: dict[int, list[str] | None] = {}
    closed: set[int] = set()
    expected: dict[int, list[int]] = {session: [] for session in inboxes}
    for number, (what, *about) in enumerate(steps):
        if what == "subscribe" and about[0] not in closed:
            subscriptions.change(about[0], Subscription.of(about[1]))
            wanted[about[0]] = about[1]
        elif what == "close":
            subscriptions.close(about[0])
            wanted.pop(about[0], None)
            closed.add(about[0])
        elif what == "message":
            subscriptions.deliver({"event": "message", "room": about[0], "number": number})
            for session, rooms in wanted.items():
                if rooms is None or about[0].lower() in map(str.lower, rooms):
                    expected[session].append(number)
        elif what == "presence":
            subscriptions.deliver({"event": "presence", "number": number})
            for session in wanted:
                expected[session].append(number)
        elif what == "held":
            subscriptions.deliver({"event": "held", "sessions": about[0], "number": number})
            for session in set(about[0]) - closed:
                expected[session].append(number)
    assert {
        session: [event["number"] for event in taken(inbox)] for session, inbox in inboxes.items()
    } == expected


def test_who_takes_nothing_for_long_is_told_once_that_he_missed_some() -> None:
    inbox = Inbox()
    for number in range(MAX_UNTAKEN + 2):
        inbox.put({"event": "mesh", "number": number})
    with pytest.raises(EventsMissed):
        asyncio.run(inbox.take())
    assert [event["number"] for event in taken(inbox)] == [MAX_UNTAKEN, MAX_UNTAKEN + 1]


def test_an_event_wakes_who_waits_for_it_and_a_wait_given_up_loses_none() -> None:
    async def wait() -> None:
        inbox = Inbox()
        waiting = asyncio.create_task(inbox.take())
        await asyncio.sleep(0)
        waiting.cancel()
        inbox.put({"event": "mesh", "number": 1})
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert (await inbox.take())["number"] == 1
        waiting = asyncio.create_task(inbox.take())
        await asyncio.sleep(0)
        inbox.put({"event": "mesh", "number": 2})
        assert (await waiting)["number"] == 2

    asyncio.run(wait())

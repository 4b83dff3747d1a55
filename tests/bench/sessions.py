"""Many people behind one connection, as a web front end has them: time, memory, and lines on the wire."""

import asyncio
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from meshchat.client.connection import AsyncControlClient, ControlClient, ControlSession
from tests.bench.engine import scratch
from tests.bench.figures import Effort, Figure, Peer
from tests.bench.footprint import process_memory, running_daemon

SESSIONS = 2_000
USERS = 20
"""Accounts that share the sessions: each takes an Argon2 run to make, and sign-ups are few."""

MESSAGES = 50
RECENT = 20
SECRET = "correct horse"


@dataclass(frozen=True)
class Crowd:
    """What a crowd of so many sessions cost: seconds in all, and KB of the daemon's memory a session.

    `lines` are the lines that crossed the connection for `MESSAGES` public messages, `delivered` how many
    sessions' worth of them came out of it.
    """

    sessions: int
    resume_s: float
    again_s: float
    send_s: float
    history_s: float
    events_s: float
    session_kb: float
    connection_kb: float
    lines: int
    delivered: int


def measure(sessions: int) -> Crowd:
    """One connection with so many sessions to a daemon that is started anew in between.

    Raises `AssertionError` where somebody is not let in, or misses something.
    """
    with scratch() as home:
        with running_daemon(home):
            tickets = _tickets(home / "socket")
        with running_daemon(home) as (pid, _):
            before = process_memory(pid)["Rss"]
            connection_kb = asyncio.run(_connections(home / "socket", pid))
            first = asyncio.run(_visit(home / "socket", tickets, sessions, pid, before))
        with running_daemon(home) as (pid, _):
            again_s = asyncio.run(_come_back(home / "socket", tickets, sessions))
    resume_s, session_kb, send_s, history_s, events_s, lines = first
    return Crowd(
        sessions=sessions,
        resume_s=resume_s,
        again_s=again_s,
        send_s=send_s,
        history_s=history_s,
        events_s=events_s,
        session_kb=session_kb,
        connection_kb=connection_kb,
        lines=lines,
        delivered=sessions * MESSAGES,
    )


def _tickets(path: Path) -> list[str]:
    tickets = []
    with ControlClient(path) as client:
        for number in range(USERS):
            client.request("register", user=f"user{number}", password=SECRET)
            client.request("login", user=f"user{number}", password=SECRET)
            tickets.append(str(client.request("ticket")["ticket"]))
    return tickets


async def _connections(path: Path, pid: int) -> float:
    """KB of the daemon's memory for each connection that has one session."""
    before = process_memory(pid)["Rss"]
    clients = [await AsyncControlClient.connect(path) for _ in range(USERS)]
    for client in clients:
        await client.request("subscribe", rooms=["1"])
    used = process_memory(pid)["Rss"] - before
    for client in clients:
        await client.close()
    return used * 1000 / USERS


async def _resume(client: AsyncControlClient, tickets: list[str], sessions: int) -> list[ControlSession]:
    opened = [await client.open_session(f"10.0.{number >> 8}.{number & 255}") for number in range(sessions)]
    answers = await asyncio.gather(
        *(session.request("resume", ticket=tickets[number % USERS]) for number, session in enumerate(opened))
    )
    assert [answer.fields["user"] for answer in answers[:USERS]] == [f"user{n}" for n in range(USERS)]
    return opened


async def _visit(
    path: Path, tickets: list[str], sessions: int, pid: int, before: float
) -> tuple[float, float, float, float, float, int]:
    client = await AsyncControlClient.connect(path)
    started = time.monotonic()
    people = await _resume(client, tickets, sessions)
    resume_s = time.monotonic() - started
    await asyncio.gather(*(person.request("subscribe", rooms=["1"]) for person in people))
    session_kb = (process_memory(pid)["Rss"] - before) * 1000 / sessions

    started = time.monotonic()
    speakers = people[:: max(1, sessions // MESSAGES)][:MESSAGES]
    sent = await asyncio.gather(
        *(
            speaker.request("send", room="1", text=f"message {number} about the soup", key=f"key {number}")
            for number, speaker in enumerate(speakers)
        )
    )
    send_s = time.monotonic() - started
    records = {answer.fields["record"] for answer in sent}
    heard = await asyncio.gather(*(_hear(person, records) for person in people))
    events_s = time.monotonic() - started
    # All sessions were handed the very objects that were read from the wire: as many as there were lines.
    lines = len({id(event) for events in heard for event in events})

    started = time.monotonic()
    histories = await asyncio.gather(
        *(person.request("history", room="1", limit=RECENT) for person in people)
    )
    history_s = time.monotonic() - started
    assert all(len(history.items) == min(RECENT, MESSAGES) for history in histories)
    await client.close()
    return resume_s, session_kb, send_s, history_s, events_s, lines


async def _hear(person: ControlSession, records: set[str]) -> list[object]:
    """The events of these messages, once each has come."""
    missing = set(records)
    events: list[object] = []
    while missing:
        event = await person.next_event()
        if event["event"] == "message":
            missing.remove(event["message"]["id"])
            events.append(event)
    return events


async def _come_back(path: Path, tickets: list[str], sessions: int) -> float:
    client = await AsyncControlClient.connect(path)
    started = time.monotonic()
    await _resume(client, tickets, sessions)
    took = time.monotonic() - started
    await client.close()
    return took


def rows(effort: Effort) -> Iterator[Figure]:
    """With people of one machine, whose front end is believed."""
    crowd = measure(effort.pick(SESSIONS, 200))
    each = f"of {crowd.sessions} sessions on one connection"
    yield Figure(
        f"daemon's memory, each {each}",
        crowd.session_kb,
        "KB",
        peers=(Peer("a connection with one session", crowd.connection_kb),),
    )
    yield Figure(
        f"logging in again by ticket, each {each}",
        crowd.resume_s * 1e6 / crowd.sessions,
        "us",
        peers=(Peer("after the daemon was started anew", crowd.again_s * 1e6 / crowd.sessions),),
        note="opening the session included",
    )
    yield Figure("sending, each message", crowd.send_s * 1e3 / MESSAGES, "ms")
    yield Figure(f"the newest {RECENT} messages, each {each}", crowd.history_s * 1e6 / crowd.sessions, "us")
    yield Figure(
        f"{MESSAGES} public messages until all {crowd.sessions} sessions have them",
        crowd.events_s,
        "s",
        note=f"{crowd.lines} lines crossed the connection for {crowd.delivered} deliveries; "
        f"client and daemon share {os.cpu_count()} cores",
    )

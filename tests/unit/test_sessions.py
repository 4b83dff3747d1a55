"""Many sessions on one connection, what each hears of, and coming back by a ticket."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshchat.chat.access import OPERATOR, PEOPLE
from meshchat.chat.answers import Work
from meshchat.chat.sessions import MAX_SESSION_TICKETS, Connection, Origin
from meshchat.chat.tickets import (
    LIFETIME_MS,
    MAX_VOIDED_OF_USER,
    MAX_VOIDED_USERS,
    Ticket,
    Tickets,
)
from meshchat.constants import MAX_OWN_SESSIONS
from meshchat.errors import MeshchatError, SessionRefused, TicketVoid, UsageError
from meshchat.identity.boxes import BoxKey
from tests.unit.chats import Chat, Person
from tests.unit.routers import START_MS, key


def session(chat: Chat, connection: Connection, number: int, origin: str | None = None) -> Person:
    """One more session of a connection, as the request `open` makes it."""
    request = {"id": 1, "do": "open", "session": number, "origin": origin}
    opened = chat.service.session(connection, request)
    person = Person(chat, connection)
    person.session = opened
    assert person.ask("open", origin=origin)["rights"] == connection.door.names()
    return person


# --- Sessions -------------------------------------------------------------------------------------------


def test_each_session_has_its_own_login_and_they_end_apart() -> None:
    chat = Chat()
    connection = chat.service.connect(PEOPLE, Origin("web"), trusted=True)
    ann, bo = session(chat, connection, 1).enter("ann"), session(chat, connection, 7).enter("bo")
    assert (ann.ask("whoami")["user"], bo.ask("whoami")["user"]) == ("ann", "bo")
    ann.ask("close")
    assert ann.refused("whoami") == "no-session"
    with pytest.raises(SessionRefused):
        chat.service.session(connection, {"session": 1})
    bo.ask("send", room="1", text="still here")
    assert chat.person().texts() == ["still here"]


@pytest.mark.parametrize("number", [-1, True, 1.5, "1", 2**31, [0]])
def test_what_is_no_number_of_a_session_is_refused(number: object) -> None:
    chat = Chat()
    connection = chat.service.connect(PEOPLE, Origin("web"))
    with pytest.raises(MeshchatError):
        chat.service.session(connection, {"do": "whoami", "session": number})


def test_a_session_that_is_null_is_the_connection_s_own() -> None:
    chat = Chat()
    connection = chat.service.connect(PEOPLE, Origin("web"))
    assert chat.service.session(connection, {"do": "whoami", "session": None}).number == 0


@pytest.mark.parametrize("origin", [7, ["10.0.0.1"], "a\nb"])
def test_what_is_refused_to_open_is_not_open(origin: object) -> None:
    chat = Chat()
    connection = chat.service.connect(PEOPLE, Origin("web"), trusted=True)
    with pytest.raises(UsageError):
        chat.service.session(connection, {"do": "open", "session": 1, "origin": origin})
    session(chat, connection, 1, "10.0.0.1")


def test_a_number_is_opened_once_and_who_speaks_for_one_has_few() -> None:
    chat = Chat()
    connection = chat.service.connect(PEOPLE, Origin("uid 33"))
    for number in range(1, MAX_OWN_SESSIONS):
        connection.open(number)
    with pytest.raises(SessionRefused):
        connection.open(1)
    with pytest.raises(SessionRefused):
        connection.open(99)
    connection.forget(connection.get(3))
    connection.open(99)


def test_a_public_event_crosses_a_connection_once_and_a_private_one_names_its_sessions() -> None:
    chat = Chat()
    connection = chat.service.connect(PEOPLE, Origin("web"), trusted=True)
    people = [session(chat, connection, number) for number in range(1, 6)]
    for person in people[:3]:
        person.ask("subscribe", rooms=["1"])
    people[3].ask("subscribe", rooms=["2"])
    chat.person().enter("ann").ask("send", room="1", text="once")
    events = [event for each, event in chat.events if each is connection and event["event"] == "message"]
    assert [event["message"]["text"] for event in events] == ["once"]  # type: ignore[index]
    chat.events.clear()
    for person in people[:3]:
        person.ask("close")
    chat.person().ask("login", user="ann", password="pass")
    writer = chat.person()
    writer.ask("login", user="ann", password="pass")
    writer.ask("send", room="1", text="nobody here wants it")
    assert not [event for each, event in chat.events if each is connection and event["event"] == "message"]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["subscribe", "close", "open"]),
            st.integers(1, 4),
            st.none() | st.frozensets(st.sampled_from("abc"), max_size=3),
        ),
        max_size=30,
    )
)
def test_a_connection_wants_exactly_what_its_sessions_want(
    steps: list[tuple[str, int, frozenset[str] | None]],
) -> None:
    connection = Connection(OPERATOR, Origin("x"), trusted=True)
    for do, number, rooms in steps:
        known = connection.sessions.get(number)
        if do == "open" and known is None:
            connection.open(number)
        elif do == "subscribe" and known is not None:
            known.subscribe(rooms)
        elif do == "close" and known is not None:
            connection.forget(known)
        for room in (None, "a", "b", "c"):
            assert connection.wants(room) == any(each.wants(room) for each in connection.sessions.values())


# --- Tickets --------------------------------------------------------------------------------------------


def test_a_ticket_lets_in_again_without_a_password_after_a_restart_of_the_daemon() -> None:
    before = Chat()
    ann = before.person(PEOPLE).enter("ann")
    ticket = ann.ask("ticket")["ticket"]
    after = Chat(router=before.router)
    back = after.person(PEOPLE)
    assert back.ask("resume", ticket=ticket) == {"user": "ann", "rights": PEOPLE.names()}
    back.ask("send", room="1", text="here again")
    assert back.texts() == ["here again"]


def test_a_ticket_ends_with_a_logout_of_who_has_it_and_others_of_the_user_go_on() -> None:
    chat = Chat()
    one, other = chat.person().enter("ann"), chat.person()
    other.ask("login", user="ann", password="pass")
    ticket, another = one.ask("ticket")["ticket"], other.ask("ticket")["ticket"]
    resumed = chat.person()
    resumed.ask("resume", ticket=ticket)
    one.leave()
    resumed.ask("logout")
    for person in (chat.person(), resumed):
        assert person.refused("resume", ticket=ticket) == "ticket"
        assert person.ask("whoami") == {"user": None}
    assert chat.person().ask("resume", ticket=another)["user"] == "ann"


def test_a_session_s_logout_voids_all_tickets_that_it_ever_gave() -> None:
    chat = Chat()
    ann = chat.person().enter("ann")
    tickets = [ann.ask("ticket")["ticket"] for _ in range(MAX_SESSION_TICKETS + 3)]
    assert chat.person().refused("resume", ticket=tickets[0]) == "ticket"
    assert chat.person().ask("resume", ticket=tickets[-1])["user"] == "ann"
    ann.ask("logout")
    for ticket in tickets:
        assert chat.person().refused("resume", ticket=ticket) == "ticket"


def test_a_ticket_ends_with_a_password_change_retirement_and_after_90_days() -> None:
    chat = Chat()
    ann = chat.person().enter("ann")
    old = ann.ask("ticket")["ticket"]
    ann.ask("passwd", old="pass", new="word")
    assert chat.person().refused("resume", ticket=old) == "ticket"
    new = ann.ask("ticket")["ticket"]
    chat.router.ms += LIFETIME_MS
    assert chat.person().ask("resume", ticket=new)["user"] == "ann"
    chat.router.ms += 1
    assert chat.person().refused("resume", ticket=new) == "ticket"
    chat.router.ms -= 1
    ann.ask("retire", password="word")
    assert chat.person().refused("resume", ticket=new) == "ticket"


def test_a_ticket_is_of_one_router_and_cannot_be_made_or_altered() -> None:
    chat = Chat()
    text = chat.person().enter("ann").ask("ticket")["ticket"]
    for wrong in (
        text[:-4],
        text[:20] + ("A" if text[20] != "A" else "B") + text[21:],
        "",
        "=",
        "é",
        "A" * 999,
    ):
        assert chat.person().refused("resume", ticket=wrong) == "ticket"
    for tickets in (Tickets(BoxKey(b"k" * 32), chat.mesh.mesh), Tickets(BoxKey(bytes(32)), b"othermsh")):
        with pytest.raises(TicketVoid):
            tickets.take(text, chat.router.ms)


def voided(tickets: Tickets, number: int, given_ms: int) -> tuple[str, Ticket]:
    ticket, text = tickets.give(key(number), 1, given_ms)
    tickets.void(ticket)
    return text, ticket


def test_no_number_of_logouts_brings_a_voided_ticket_back() -> None:
    """The table is bounded: what falls out of it takes other tickets of that time with it."""
    tickets = Tickets(BoxKey(bytes(32)), b"the mesh")
    first, _ = voided(tickets, 1, START_MS)
    kept = [tickets.give(key(1), 1, START_MS + at)[1] for at in (0, 10_000)]
    for at in range(1, MAX_VOIDED_OF_USER + 2):
        voided(tickets, 1, START_MS + at)
    with pytest.raises(TicketVoid):
        tickets.take(first, START_MS)
    with pytest.raises(TicketVoid):
        tickets.take(kept[0], START_MS)
    assert tickets.take(kept[1], START_MS).signer == key(1)
    for user in range(2, MAX_VOIDED_USERS + 2):
        voided(tickets, user, START_MS + 100)
    assert len(tickets.voided) == MAX_VOIDED_USERS
    for text in (first, kept[0]):
        with pytest.raises(TicketVoid):
            tickets.take(text, START_MS)
    assert tickets.take(kept[1], START_MS)


# --- A password that changes meanwhile ------------------------------------------------------------------


def test_who_was_logged_in_by_the_old_password_gets_no_ticket_for_after_the_change() -> None:
    chat = Chat()
    owner, thief = chat.person().enter("ann"), chat.person(PEOPLE)
    thief.ask("login", user="ann", password="pass")
    owner.ask("passwd", old="pass", new="another")
    assert thief.refused("ticket") == "ticket"
    assert chat.person(PEOPLE).ask("resume", ticket=owner.ask("ticket")["ticket"])["user"] == "ann"


@pytest.mark.parametrize(
    ("do", "fields"),
    [
        ("login", {"user": "ann", "password": "pass"}),
        ("passwd", {"old": "pass", "new": "stolen"}),
        ("retire", {"password": "pass"}),
    ],
)
def test_a_password_that_is_changed_while_it_is_checked_opens_nothing(
    do: str, fields: dict[str, str]
) -> None:
    chat = Chat()
    owner, thief = chat.person().enter("ann"), chat.person(PEOPLE, "thief")
    thief.ask("login", user="ann", password="pass")
    work = thief.outcome(do, **fields)
    assert isinstance(work, Work)
    computed = work.compute()
    owner.ask("passwd", old="pass", new="another")
    assert work.finish(computed, chat.now).result["code"] == "login"
    assert chat.person(PEOPLE).ask("login", user="ann", password="another")


def test_codes_for_watching_follow_from_no_dice_that_the_air_shows() -> None:
    assert Chat().person().ask("watch_new") != Chat().person().ask("watch_new")

"""What people may do how often: parallel connections and new names gain nothing, nobody shuts others out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshchat.chat.access import OPERATOR, PEOPLE
from meshchat.chat.answers import Answer
from meshchat.chat.limits import (
    LONGEST_DELAY,
    NAME_GUESSES,
    ORIGIN_GUESS_RATE,
    ORIGIN_GUESSES,
    ORIGIN_SIGN_UPS,
    SIGN_UPS,
    Budgets,
    Guess,
    Guesses,
)
from meshchat.chat.places import Occupant, Turns, who_gives_way
from meshchat.chat.sessions import Connection, Origin
from meshchat.constants import ORIGIN_BURST, PERSON_BURST
from meshchat.errors import MeshchatError, TooFast
from meshchat.wire.ids import PublicKey
from tests.unit.chats import Chat

HOUR = 3600.0


def guesses_answered(connections: int, seconds: float) -> int:
    """How many wrong passwords for one name are answered to one origin that tries on so many connections."""
    guesses, guess = Guesses(), Guess("ann", Origin("attacker"))
    busy_until = [0.0] * connections
    answered, now = 0, 0.0
    while now < seconds:
        for line in range(connections):
            if busy_until[line] > now:
                continue
            try:
                guesses.admit(guess, now)
                busy_until[line] = now + guesses.answer(guess, now, right=False)
            except TooFast:
                busy_until[line] = now + 1
                continue
            answered += busy_until[line] < seconds
        now += 0.5
    return answered


def test_sixty_connections_guess_no_faster_than_one() -> None:
    alone = guesses_answered(1, HOUR)
    assert 100 <= alone <= HOUR / LONGEST_DELAY + 10
    assert guesses_answered(60, HOUR) <= alone + 3


def test_who_tries_all_names_is_no_faster_either() -> None:
    guesses, origin, tried = Guesses(), Origin("attacker"), 0
    for step in range(int(HOUR)):
        for name in range(20):
            guess = Guess(f"name {step} {name}", origin)
            try:
                guesses.admit(guess, float(step))
                guesses.answer(guess, float(step), right=False)
                tried += 1
            except TooFast:
                break
    assert tried <= ORIGIN_GUESSES + HOUR * ORIGIN_GUESS_RATE + 1


def test_the_owner_gets_in_whatever_others_try_elsewhere() -> None:
    """From where he has been in before at once, while many origins guess; the name is slow for strangers."""
    guesses, home = Guesses(), Guess("ann", Origin("home"))
    assert guesses.answer(home, 0.0, right=True) == 0
    tried = 0
    for number in range(500):
        guess = Guess("ann", Origin(f"attacker {number}"))
        try:
            guesses.admit(guess, 1.0)
            guesses.answer(guess, 1.0, right=False)
            tried += 1
        except TooFast:
            pass
    assert tried == NAME_GUESSES
    guesses.admit(home, 1.0)
    assert guesses.answer(home, 1.0, right=True) == 0


@given(st.lists(st.tuples(st.floats(0, 100), st.booleans()), max_size=40))
def test_whoever_waits_as_long_as_told_is_heard(steps: list[tuple[float, bool]]) -> None:
    guesses, guess, now = Guesses(), Guess("ann", Origin("x")), 0.0
    for wait, right in steps:
        now += wait
        try:
            guesses.admit(guess, now)
            assert 0 <= guesses.answer(guess, now, right=right) <= LONGEST_DELAY
        except TooFast:
            pass
    guesses.admit(guess, now + HOUR)
    assert guesses.answer(guess, now + HOUR, right=True) == 0


def test_wrong_passwords_slow_down_and_a_right_one_waits_for_its_turn_and_ends_it() -> None:
    chat = Chat()
    chat.person().enter("ja")
    delays = []
    for _ in range(10):
        answer = chat.person(PEOPLE).answer("login", user="ja", password="no")
        delays.append(answer.delay_s)
        chat.let_pass(answer.delay_s)
    assert delays == [0, 0, 0, 1, 2, 4, 8, 16, 30, 30]
    right = chat.person(PEOPLE).answer("login", user="ja", password="pass")
    assert (right.result["ok"], right.delay_s) == (True, 30)
    assert chat.person(PEOPLE).answer("login", user="ja", password="pass").delay_s == 0
    assert chat.person(PEOPLE, "elsewhere").answer("login", user="ja", password="no").delay_s == 0


def test_too_many_tries_at_once_are_not_answered_even_where_one_is_right() -> None:
    chat = Chat()
    chat.person().enter("ja")
    many = [chat.person(PEOPLE).answer("login", user="ja", password="no") for _ in range(20)]
    assert {answer.result["code"] for answer in many} == {"login", "slow-down"}
    assert chat.person(PEOPLE).refused("login", user="ja", password="pass") == "slow-down"
    chat.let_pass(16 * 60)
    assert chat.person(PEOPLE).ask("login", user="ja", password="pass")["user"] == "ja"


# --- Writing and signing up -----------------------------------------------------------------------------


def test_a_person_is_slowed_down_at_all_his_front_ends_together_and_an_operator_s_script_is_not() -> None:
    chat = Chat()
    chat.person().enter("ja")
    tabs = [chat.person(PEOPLE, f"tab {number}") for number in range(5)]
    for tab in tabs:
        tab.ask("login", user="ja", password="pass")
    for number in range(int(PERSON_BURST)):
        tabs[number % 5].ask("send", room="1", text=str(number))
    assert [tab.refused("send", room="1", text="more") for tab in tabs] == ["slow-down"] * 5
    chat.let_pass(1)
    assert tabs[0].ask("send", room="1", text="later")
    script = chat.person().enter("bo")
    for number in range(50):
        script.ask("send", room="2", text=str(number))
    assert len(script.texts("2")) == 50


def test_many_accounts_of_one_origin_write_no_faster_than_three_people() -> None:
    chat = Chat()
    sent = 0
    for number in range(12):
        person = chat.person(PEOPLE, "stranger").enter(f"user{number}")
        for _ in range(int(PERSON_BURST)):
            sent += person.answer("send", room="1", text="spam").result["ok"] is True
    assert sent == ORIGIN_BURST
    assert chat.person(PEOPLE, "neighbour").enter("ann").ask("send", room="1", text="soup")


def sign_ups(budgets: Budgets, origin: Origin, now: float, *, most: int = 1000) -> int:
    made = 0
    try:
        while made < most:
            budgets.may_sign_up(PEOPLE, origin, now)
            budgets.signed_up(PEOPLE, origin, now)
            made += 1
    except TooFast:
        pass
    return made


def test_sign_ups_are_bounded_for_the_router_and_nobody_uses_them_up_alone() -> None:
    budgets = Budgets()
    assert sign_ups(budgets, Origin("stranger"), 0.0) == ORIGIN_SIGN_UPS
    assert sign_ups(budgets, Origin("neighbour"), 0.0, most=3) == 3
    made = ORIGIN_SIGN_UPS + 3 + sum(sign_ups(budgets, Origin(str(each)), 0.0) for each in range(20))
    assert made == SIGN_UPS
    with pytest.raises(TooFast, match="min"):
        budgets.may_sign_up(OPERATOR, Origin("root"), 0.0)
    assert sum(sign_ups(budgets, Origin(f"later {each}"), HOUR) for each in range(20)) == 20


# --- Places -------------------------------------------------------------------------------------------


def test_sixty_four_idle_connections_shut_nobody_out() -> None:
    chat = Chat()
    neighbour = chat.person(PEOPLE, "neighbour").enter("ann")
    idle = [chat.person(PEOPLE, "stranger").connection for _ in range(63)]
    occupants = [
        Occupant(neighbour.connection, 0.0),
        *(Occupant(each, 5.0 + at) for at, each in enumerate(idle)),
    ]
    newcomer = chat.person(PEOPLE, "another").connection
    assert who_gives_way(newcomer, occupants) is idle[0]


def test_who_is_logged_in_gives_way_only_to_his_own_excess() -> None:
    chat = Chat()
    people = [chat.person(PEOPLE, f"home {number}").enter(f"user{number}") for number in range(4)]
    occupants = [Occupant(person.connection, float(at)) for at, person in enumerate(people)]
    assert who_gives_way(chat.person(PEOPLE, "new").connection, occupants) is None
    second = chat.person(PEOPLE, "home 3")
    second.ask("login", user="user3", password="pass")
    occupants.append(Occupant(second.connection, 9.0))
    assert who_gives_way(chat.person(PEOPLE, "new").connection, occupants) is people[3].connection


def test_many_names_of_one_origin_do_not_shut_out_another() -> None:
    """The operator comes in, whoever is logged in by 64 names from one place; these wait for each other."""
    chat = Chat()
    crowd = []
    for number in range(6):
        chat.person().enter(f"user{number}")
        crowd.append(chat.person(PEOPLE, "guests"))
        crowd[-1].ask("login", user=f"user{number}", password="pass")
    occupants = [Occupant(person.connection, float(at)) for at, person in enumerate(crowd)]
    assert who_gives_way(chat.person(OPERATOR, "root").connection, occupants) is crowd[0].connection
    assert who_gives_way(chat.person(PEOPLE, "guests").connection, occupants) is None


def test_a_name_that_nobody_can_have_costs_no_work_and_no_memory() -> None:
    for name in ("a" * 200_000, "a" * 33, "", "~tag", "a b"):
        refused = Chat().person(PEOPLE).outcome("login", user=name, password="pass")
        assert isinstance(refused, Answer)
        assert refused.result["code"] == "login"


def test_of_one_holder_s_the_idle_one_goes_first() -> None:
    chat = Chat()
    listening, idle = chat.person(PEOPLE, "one"), chat.person(PEOPLE, "one")
    listening.ask("subscribe")
    occupants = [Occupant(listening.connection, 0.0), Occupant(idle.connection, 9.0)]
    assert who_gives_way(chat.person(PEOPLE, "new").connection, occupants) is idle.connection


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=80))
def test_turns_are_bounded_fair_in_order_and_go_round(steps: list[tuple[int, bool]]) -> None:
    turns: Turns[tuple[int, int]] = Turns(8, 3)
    waiting: dict[int, list[int]] = {origin: [] for origin in range(6)}
    skipped = dict.fromkeys(range(6), 0)
    for number, (origin, takes) in enumerate(steps):
        if not takes:
            gone = turns.put(origin, (origin, number))
            waiting[origin].append(number)
            if gone is not None:
                assert waiting[gone[0]].pop() == gone[1], "the last of somebody's gives way"
                assert len(waiting[gone[0]]) + 1 >= len(waiting[origin])
            assert all(len(each) <= 3 for each in waiting.values())
            assert sum(map(len, waiting.values())) <= 8
            continue
        item = turns.take()
        if item is None:
            assert not any(waiting.values())
            continue
        taken, oldest = item
        assert waiting[taken].pop(0) == oldest
        for each in range(6):
            skipped[each] = 0 if each == taken or not waiting[each] else skipped[each] + 1
            assert skipped[each] <= 5
    assert len(turns) == sum(map(len, waiting.values()))


def test_who_logs_in_alone_is_not_kept_out_by_four_who_fill_the_queue() -> None:
    turns: Turns[str] = Turns(16, 4)
    for number in range(16):
        assert turns.put(f"stranger {number % 4}", f"guess {number}") is None
    displaced = turns.put("neighbour", "login")
    assert displaced is not None
    assert displaced.startswith("guess")
    assert "login" in [turns.take() for _ in range(5)]


def test_a_connection_s_place_is_its_user_s_or_else_its_origin_s() -> None:
    connection = Connection(PEOPLE, Origin("x"))
    connection.open(0)
    assert Occupant(connection, 0.0).holder == Origin("x")


def test_refusals_name_the_wait() -> None:
    budgets = Budgets()
    for _ in range(int(PERSON_BURST)):
        budgets.write(PublicKey(b"user"), Origin("x"), 0.0)
    with pytest.raises(MeshchatError, match="wait 1 s"):
        budgets.write(PublicKey(b"user"), Origin("x"), 0.0)

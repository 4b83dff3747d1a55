"""Requests about sessions and accounts: who is there, who he is, and how he is let in."""

import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from meshchat.chat.access import Right, in_words
from meshchat.chat.accounts import Account, Login, new_key, seal, try_login
from meshchat.chat.answers import Answer, Outcome
from meshchat.chat.application import stamp_time, with_notice
from meshchat.chat.limits import Guess
from meshchat.chat.names import fold, key_tag, room_name, split_tag, user_name
from meshchat.chat.passwords import clean_password
from meshchat.chat.requests.fields import Flag, OptionalWord, Text, Word, Words
from meshchat.chat.requests.operation import Call, Nothing, Operation
from meshchat.chat.sessions import OWN
from meshchat.chat.tickets import Ticket
from meshchat.constants import MAX_OPEN_ROOMS
from meshchat.errors import LoginFailed, NameTaken, PasswordRefused, SessionRefused, TicketVoid
from meshchat.identity.keys import SigningKey
from meshchat.identity.passwords import SealedKey
from meshchat.state.presence import Present
from meshchat.wire.records import is_name

T = TypeVar("T")


# --- Sessions -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Open:
    """`origin`: where the person comes from, if the front end is believed in that."""

    origin: OptionalWord


def _open(call: Call, asked: Open) -> Outcome:
    # The session was opened before, with its origin: this is its first request.
    return Answer.done(rights=in_words(call.rights))


def _close(call: Call, asked: Nothing) -> Outcome:
    if call.session.number == OWN:
        raise SessionRefused("A connection's own session ends with the connection.")
    call.app.quit(call.session)
    call.session.connection.forget(call.session)
    return Answer.done()


@dataclass(frozen=True)
class Credentials:
    """A name, with the tag of a key or without, and a password."""

    user: Text
    password: Text


def _login(call: Call, asked: Credentials) -> Outcome:
    app = call.app

    def enter(login: Login | None) -> Answer:
        if login is None or not _opens_still(call, login.account):
            raise LoginFailed
        return _entered(call, login)

    if not is_name(unicodedata.normalize("NFC", split_tag(asked.user)[0])):
        raise LoginFailed  # Nobody can be called so, and it may be longer than is remembered of a guess.
    secret, candidates = _password_given(asked.password), app.accounts.candidates(asked.user)
    guard = _Guard(call, fold(split_tag(asked.user)[0]))
    return call.work(lambda: try_login(candidates, secret, app.sealing), guard.checked(enter))


def _entered(call: Call, login: Login) -> Answer:
    call.app.enter(call.session, login)
    return Answer.done(user=call.app.shown_name(login), rights=in_words(call.rights))


def _ticket(call: Call, asked: Nothing) -> Outcome:
    app, login, account = call.app, call.session.require_login(), _own_account(call)
    if account.sequence > login.account.sequence:
        raise TicketVoid("The password was changed: log in again.")
    ticket, given = app.tickets.give(login.signer, account.sequence, app.mesh.now_ms())
    _remember(call, ticket)
    return Answer.done(ticket=given)


@dataclass(frozen=True)
class Resume:
    """The ticket of an earlier session."""

    ticket: Word


def _resume(call: Call, asked: Resume) -> Outcome:
    app = call.app
    ticket = app.tickets.take(asked.ticket, app.mesh.now_ms())
    account = app.accounts.get(ticket.signer.public)
    if account is None or account.sequence > ticket.sequence:
        raise TicketVoid("Log in again.")
    answer = _entered(call, Login(account, ticket.signer))
    _remember(call, ticket)
    return answer


def _remember(call: Call, ticket: Ticket) -> None:
    """A logout of this session is to void the ticket; what it cannot remember any more is void now."""
    forgotten = call.session.remember_ticket(ticket)
    if forgotten is not None:
        call.app.tickets.void(forgotten)


def _logout(call: Call, asked: Nothing) -> Outcome:
    for ticket in call.session.tickets:
        call.app.tickets.void(ticket)
    call.app.quit(call.session)
    return Answer.done(rights=in_words(call.rights))


def _whoami(call: Call, asked: Nothing) -> Outcome:
    login = call.session.login
    return Answer.done(user=call.app.shown_name(login) if login else None)


@dataclass(frozen=True)
class Code:
    """A code as the operator told it."""

    code: Word


def _watch(call: Call, asked: Code) -> Outcome:
    call.app.codes.enter(asked.code, call.session.require_login().account.key)
    return Answer.done(rights=in_words(call.rights))


# --- Accounts -------------------------------------------------------------------------------------------


def _register(call: Call, asked: Credentials) -> Outcome:
    app, session = call.app, call.session
    name, secret = user_name(asked.user), clean_password(asked.password)
    door, origin = session.connection.door, session.origin

    def refuse(now: float) -> None:
        if app.accounts.taken(name):
            raise NameTaken
        app.budgets.may_sign_up(door, origin, now)

    def publish(made: tuple[SigningKey, SealedKey], now: float) -> Answer:
        refuse(now)
        signer, sealed = made
        notice = app.accounts.publish(signer, name, sealed)
        app.budgets.signed_up(door, origin, now)
        return Answer.done(**with_notice({"user": app.accounts.display(name, signer.public)}, notice))

    refuse(call.now)
    return call.work(lambda: new_key(secret, app.sealing), publish)


@dataclass(frozen=True)
class NewPassword:
    """The password of now, and the one from now on."""

    old: Text
    new: Text


def _passwd(call: Call, asked: NewPassword) -> Outcome:
    app, account = call.app, _own_account(call)
    old_secret, new_secret = _password_given(asked.old), clean_password(asked.new)

    def reseal() -> tuple[SigningKey, SealedKey] | None:
        login = try_login((account,), old_secret, app.sealing)
        return (login.signer, seal(login.signer, new_secret, app.sealing)) if login else None

    def publish(made: tuple[SigningKey, SealedKey] | None) -> Answer:
        if made is None or not _opens_still(call, account):
            raise LoginFailed("The old password is not right.")
        notice = app.accounts.publish(made[0], account.name, made[1])
        # Who changed it knows the new one: he stays, and gets tickets.
        call.session.login = Login(_own_account(call), made[0])
        return Answer.done(**with_notice({}, notice))

    return call.work(reseal, _Guard(call, fold(account.name)).checked(publish))


@dataclass(frozen=True)
class Retire:
    """The password, once more: nobody opens the account again."""

    password: Text


def _retire(call: Call, asked: Retire) -> Outcome:
    app, account, secret = call.app, _own_account(call), _password_given(asked.password)

    def publish(login: Login | None) -> Answer:
        if login is None or not _opens_still(call, account):
            raise LoginFailed("The password is not right.")
        return Answer.done(**with_notice({}, app.accounts.retire(login.signer, account.name)))

    guard = _Guard(call, fold(account.name))
    return call.work(lambda: try_login((account,), secret, app.sealing), guard.checked(publish))


def _own_account(call: Call) -> Account:
    """The account logged in, in its latest version."""
    login = call.session.require_login()
    return call.app.accounts.get(login.account.key) or login.account


def _opens_still(call: Call, account: Account) -> bool:
    """Whether the password that opened `account` is still its password, after the seconds that it took."""
    now = call.app.accounts.get(account.key)
    return now is not None and now.sealed == account.sealed


def _password_given(typed: str) -> str:
    """A password to be checked: one that no account can have is just wrong."""
    try:
        return clean_password(typed)
    except PasswordRefused:
        raise LoginFailed from None


class _Guard:
    """Holds the answer to a password back, right or wrong, for as long as earlier failures ask for."""

    def __init__(self, call: Call, name: str) -> None:
        """`name` is folded. Raises `TooFast` where the password is not to be tried at all."""
        self._guesses, self._guess = call.app.budgets.guesses, Guess(name, call.session.origin)
        self._guesses.admit(self._guess, call.now)

    def checked(self, finish: Callable[[T | None], Answer]) -> Callable[[T | None, float], Answer]:
        """`finish`, which raises `LoginFailed` for None, a wrong password, with delay and book-keeping."""

        def run(value: T | None, now: float) -> Answer:
            delay = self._guesses.answer(self._guess, now, right=value is not None)
            try:
                return finish(value).after(delay)
            except LoginFailed as error:
                return Answer.refusal(error).after(delay)

        return run


# --- Who there is ---------------------------------------------------------------------------------------


def _users(call: Call, asked: Nothing) -> Outcome:
    app, present = call.app, call.app.present(call.session.viewer)
    return Answer.stream(
        {
            "user": app.accounts.display(account.name, account.key),
            "key": key_tag(account.key),
            "since": stamp_time(account.since),
            "active": any(place.active for place in present.get(account.key, ())),
            "present": [_place(place) for place in present.get(account.key, ())],
        }
        for account in app.accounts.active()
    )


def _place(present: Present) -> dict[str, object]:
    return {
        "router": present.router.hex(),
        "rooms": list(present.rooms),
        "active": present.active,
        "idle_s": present.idle_s,
    }


@dataclass(frozen=True)
class Here:
    """The rooms that a person has open, and whether he typed since he last said so."""

    rooms: Words
    active: Flag


def _present(call: Call, asked: Here) -> Outcome:
    app, session = call.app, call.session
    session.require_login()
    names = [room_name(room) for room in asked.rooms[:MAX_OPEN_ROOMS]]
    opened = tuple(app.rooms.find(name) or name for name in names)
    app.attendance.present(session, opened, call.now, typed=asked.active)
    return Answer.done()


TABLE: Mapping[str, Operation[Any]] = {
    "open": Operation(Right.ENTER, Open, _open),
    "close": Operation(Right.ENTER, Nothing, _close),
    "register": Operation(Right.ENTER, Credentials, _register),
    "login": Operation(Right.ENTER, Credentials, _login),
    "resume": Operation(Right.ENTER, Resume, _resume),
    "logout": Operation(Right.ENTER, Nothing, _logout),
    "whoami": Operation(Right.ENTER, Nothing, _whoami),
    "ticket": Operation(Right.WRITE, Nothing, _ticket),
    "watch": Operation(Right.WRITE, Code, _watch),
    "passwd": Operation(Right.WRITE, NewPassword, _passwd),
    "retire": Operation(Right.WRITE, Retire, _retire),
    "present": Operation(Right.WRITE, Here, _present),
    "users": Operation(Right.READ, Nothing, _users),
}

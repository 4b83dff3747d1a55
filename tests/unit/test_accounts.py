import itertools
import time
from collections.abc import Iterator

import pytest

from meshchat.adapters.meshview import MeshView
from meshchat.chat.accounts import (
    Account,
    Accounts,
    Sealing,
    decode_account,
    decode_retirement,
    encode_account,
    encode_retirement,
    new_key,
    seal,
    try_login,
)
from meshchat.chat.names import key_tag
from meshchat.chat.passwords import MAX_PASSWORD, clean_password
from meshchat.chat.ports import Mesh
from meshchat.constants import MAX_LOGIN_CANDIDATES
from meshchat.errors import Malformed, PasswordRefused
from meshchat.identity.keys import SigningKey
from meshchat.wire.ids import Position
from meshchat.wire.records import Kind, Record, Space
from tests.sim.disk import SimFiles
from tests.unit.chats import CHEAP, Chat, written
from tests.unit.routers import Router, key


def account_record(
    mesh: Mesh,
    signer: SigningKey,
    name: str,
    *,
    sequence: int = 1,
    password: str = "pass",
    stamp: int | None = None,
) -> Record:
    body = encode_account(sequence, seal(signer, password, CHEAP))
    return written(mesh, signer, name, body, room="", space=Space.ACCOUNTS, kind=Kind.ACCOUNT, stamp=stamp)


def retirement(mesh: Mesh, signer: SigningKey, name: str, sequence: int = 9) -> Record:
    body = encode_retirement(sequence)
    return written(mesh, signer, name, body, room="", space=Space.ACCOUNTS, kind=Kind.RETIREMENT)


def login(accounts: Accounts, user: str, password: str) -> Account | None:
    found = try_login(accounts.candidates(user), password, CHEAP)
    return found.account if found else None


def test_bodies_round_trip_and_anything_else_is_malformed() -> None:
    signer, sealed = new_key("pass", CHEAP)
    body = encode_account(7, sealed)
    assert decode_account(body) == (7, sealed)
    assert decode_retirement(encode_retirement(7)) == 7
    for broken in (body[:-1], body + b"x", b"", body[:4] + b"\xff" + body[5:]):
        with pytest.raises(Malformed):
            decode_account(broken)
    for broken in (b"", b"123", b"12345"):
        with pytest.raises(Malformed):
            decode_retirement(broken)
    assert bytes(signer.public) not in body


def test_the_highest_sequence_and_a_retirement_win_in_any_order() -> None:
    mesh = Chat().mesh
    signer = key(1)
    records = [
        account_record(mesh, signer, "ja", sequence=1, password="one"),
        account_record(mesh, signer, "ja", sequence=3, password="three", stamp=1 << 16),
        account_record(mesh, signer, "ja", sequence=2, password="two"),
    ]
    for order in itertools.permutations(records):
        accounts = Accounts(Chat().mesh)
        for record in order:
            accounts.feed(record)
        assert login(accounts, "ja", "three")
        assert not login(accounts, "ja", "one")
        assert not login(accounts, "ja", "two")
        assert [account.since for account in accounts.active()] == [1 << 16]
    for order in itertools.permutations([*records, retirement(mesh, signer, "ja", sequence=0)]):
        accounts = Accounts(Chat().mesh)
        for record in order:
            accounts.feed(record)
        assert not login(accounts, "ja", "three")
        assert accounts.active() == []
        assert accounts.taken("JA")


def test_two_versions_with_one_sequence_are_settled_alike_everywhere() -> None:
    mesh = Chat().mesh
    here = account_record(mesh, key(1), "ja", sequence=2, password="here")
    there = account_record(mesh, key(1), "ja", sequence=2, password="there")
    opens = set()
    for order in ((here, there), (there, here)):
        accounts = Accounts(Chat().mesh)
        for record in order:
            accounts.feed(record)
        opens.add(tuple(bool(login(accounts, "ja", password)) for password in ("here", "there")))
    assert opens == {(False, True)}


def test_one_name_with_two_keys_is_shown_with_tags_and_both_can_log_in() -> None:
    mesh = Chat().mesh
    accounts = Accounts(mesh)
    first, second = account_record(mesh, key(1), "ja"), account_record(mesh, key(2), "Ja", password="other")
    accounts.feed(first)
    assert accounts.display("ja", key(1).public) == "ja"
    accounts.feed(second)
    tag = key_tag(key(2).public)
    assert accounts.display("ja", key(1).public) == f"ja~{key_tag(key(1).public)}"
    assert accounts.display("Ja", key(2).public) == f"Ja~{tag}"
    for typed, password, owner in (
        ("ja", "pass", key(1)),
        ("ja", "other", key(2)),
        (f"ja~{tag}", "other", key(2)),
    ):
        found = login(accounts, typed, password)
        assert found
        assert found.key == owner.public
    assert login(accounts, f"ja~{tag}", "pass") is None


def test_a_forger_who_only_writes_is_told_apart_until_his_messages_are_wiped() -> None:
    disk = SimFiles()
    router = Router(disk=disk)
    mesh = router.mesh
    router.take(account_record(mesh, key(1), "ja"))
    accounts = Accounts(mesh)
    forged = written(mesh, key(2), "ja", "I am ja")
    router.take(forged)
    accounts.saw_author(forged.author, forged.key)
    assert accounts.display("ja", key(1).public).startswith("ja~")
    assert accounts.display("ja", key(2).public).startswith("ja~")
    router.node.close()
    router = Router(disk=disk)
    accounts = Accounts(router.mesh)
    assert accounts.display("ja", key(1).public).startswith("ja~")
    router.mesh.wipe(None)
    accounts.history_gone()
    assert accounts.display("ja", key(1).public) == "ja"


def test_a_login_tries_four_of_many_and_the_one_used_here_is_among_them() -> None:
    mesh = Chat().mesh
    accounts = Accounts(mesh)
    accounts.feed(account_record(mesh, key(1), "ja"))
    found = login(accounts, "ja", "pass")
    assert found
    accounts.logged_in(found)
    for number in range(2, 30):
        back_dated = account_record(mesh, key(number), "ja", password="mine", stamp=number)
        accounts.feed(back_dated)
    candidates = accounts.candidates("ja")
    assert len(candidates) == MAX_LOGIN_CANDIDATES
    assert candidates[0].key == key(1).public
    tag = key_tag(key(29).public)
    assert [account.key for account in accounts.candidates(f"ja~{tag}")] == [key(29).public]


def test_a_name_that_somebody_writes_under_is_taken() -> None:
    accounts = Accounts(Chat().mesh)
    assert not accounts.taken("bo")
    accounts.saw_author("bo", key(3).public)
    assert accounts.taken("BO")


def test_broken_and_later_bodies_change_nothing() -> None:
    mesh = Chat().mesh
    accounts = Accounts(mesh)
    for kind, body in ((Kind.ACCOUNT, b"junk"), (Kind.RETIREMENT, b""), (77, b"of a later version")):
        record = written(mesh, key(1), "ja", body, room="", space=Space.ACCOUNTS, kind=kind)
        assert accounts.feed(record) is None
    assert not accounts.taken("ja")


class Unreadable(MeshView):
    """A mesh whose disk must not be read any more: a stranger's records may come by the thousand."""

    sealed = False

    def messages(
        self,
        room: str,
        since: int | None = None,
        until: int | None = None,
        limit: int | None = None,
        *,
        before: Position | None = None,
    ) -> Iterator[Record]:
        assert not self.sealed
        return super().messages(room, since, until, limit, before=before)

    def permanent(self, space: int) -> Iterator[Record]:
        assert not self.sealed
        return super().permanent(space)


def test_evicted_accounts_are_forgotten_one_by_one_and_nothing_is_read_again() -> None:
    router = Router()
    mesh = Unreadable(router.node, router.logs)
    older = account_record(mesh, key(1), "ja", sequence=1, password="one", stamp=1 << 16)
    newer = account_record(mesh, key(1), "ja", sequence=2, password="two")
    for record in (older, newer):
        router.take(record)
    accounts = Accounts(mesh)
    mesh.sealed = True
    accounts.drop(newer)
    assert login(accounts, "ja", "one")
    assert not login(accounts, "ja", "two")
    accounts.feed(newer)
    accounts.drop(older)
    assert login(accounts, "ja", "two")
    assert [account.since for account in accounts.active()] == [newer.stamp]
    accounts.drop(newer)
    accounts.drop(newer)
    assert accounts.active() == []
    assert not accounts.taken("ja")


def test_who_wrote_and_lost_the_account_keeps_the_name_while_the_messages_last() -> None:
    router = Router()
    mesh = Unreadable(router.node, router.logs)
    record = account_record(mesh, key(1), "ja")
    router.take(record)
    router.take(written(mesh, key(1), "ja", "hello"))
    accounts = Accounts(mesh)
    mesh.sealed = True
    accounts.drop(record)
    assert accounts.taken("ja")
    assert accounts.display("ja", key(2).public).startswith("ja~")
    mesh.wipe(None)
    accounts.history_gone()
    assert not accounts.taken("ja")


def test_passwords_are_the_same_however_they_are_composed() -> None:
    assert clean_password("e\u0301") == clean_password("é")
    assert clean_password(" ") == " "
    assert clean_password("x" * MAX_PASSWORD)
    for typed in ("", "x" * (MAX_PASSWORD + 1), "é" * MAX_PASSWORD):
        with pytest.raises(PasswordRefused):
            clean_password(typed)


def test_an_unknown_name_costs_as_much_as_a_wrong_password() -> None:
    signer, sealing = key(1), Sealing(operations=2)
    body = encode_account(1, seal(signer, "pass", sealing))
    accounts = Accounts(Chat().mesh)
    accounts.feed(written(Chat().mesh, signer, "ja", body, room="", space=Space.ACCOUNTS, kind=Kind.ACCOUNT))

    def least_cost(user: str) -> float:
        costs = []
        for _ in range(4):
            start = time.process_time()
            assert try_login(accounts.candidates(user), "wrong", sealing) is None
            costs.append(time.process_time() - start)
        return min(costs)

    assert 0.5 < least_cost("nobody") / least_cost("ja") < 2

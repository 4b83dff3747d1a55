"""Keys: who signed what, and what a password opens."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshchat.constants import MAX_ARGON_MEMORY, MAX_ARGON_OPS
from meshchat.errors import ConfigError, Malformed
from meshchat.identity.boxes import SEAL_OVERHEAD
from meshchat.identity.keys import KeySeed, RouterIdentity, SigningKey, sign_record, verify_record
from meshchat.identity.meshkey import (
    MESH_KEY_SIZE,
    MeshKey,
    Sealer,
    mesh_key_text,
    parse_mesh_key,
    random_mesh_key,
)
from meshchat.identity.passwords import PasswordSalt, SealedKey, open_key, seal_key_random
from meshchat.wire.codec import Reader
from meshchat.wire.ids import RouterId, SealNonce, Signature
from meshchat.wire.records import Grade, Kind, Record, Space, mesh_id, router_id

ANN, BEN = (SigningKey.from_seed(KeySeed(bytes([number]) * 32)) for number in (1, 2))
LIGHT = {"operations": 1, "memory": 8 * 1024}


def signed(signer: SigningKey = ANN) -> Record:
    return sign_record(
        signer,
        mesh=mesh_id("ours"),
        space=Space.ROOM,
        log="1",
        kind=Kind.MESSAGE,
        author="ann",
        router=RouterId(b"router-1"),
        stamp=1 << 56,
        grade=Grade.GOOD,
        body=b"hello",
    )


def test_what_ann_signed_is_ann_s() -> None:
    assert verify_record(signed())


@pytest.mark.parametrize(
    "change",
    [
        {"mesh": mesh_id("theirs")},
        {"space": Space.ROOMS},
        {"log": "2"},
        {"kind": Kind.ROOM},
        {"author": "ben"},
        {"key": BEN.public},
        {"router": b"router-2"},
        {"stamp": (1 << 56) + 1},
        {"grade": Grade.ADOPTED},
        {"body": b"hullo"},
        {"log": "1\x03ann", "author": ""},
        {"signature": bytes(64)},
        {"signature": signed(BEN).signature},
        {"key": bytes(32), "signature": bytes(64)},
        {"key": b"\x01" + bytes(31), "signature": b"\x01" + bytes(63)},
    ],
    ids=lambda change: "+".join(change),
)
def test_a_record_can_be_neither_altered_nor_moved(change: dict[str, object]) -> None:
    assert not verify_record(replace(signed(), **change))  # type: ignore[arg-type]


def test_two_signatures_over_one_text_are_one_record() -> None:
    record = signed()
    assert replace(record, signature=Signature(bytes(64))).id == record.id


def test_a_router_is_known_by_the_hash_of_its_key() -> None:
    identity = RouterIdentity(ANN)
    assert identity.id == router_id(ANN.public)
    assert len(identity.id) == 8
    assert identity.id != RouterIdentity(BEN).id


def test_a_key_shows_nobody_its_secret() -> None:
    assert ANN.seed.hex() not in repr(ANN)
    assert "\\x01\\x01" not in repr(ANN)


def test_random_keys_differ() -> None:
    assert SigningKey.random().seed != SigningKey.random().seed
    assert random_mesh_key() != random_mesh_key()


# --- Passwords ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("password", ["correct horse", "", "пароль", "x" * 5000])
def test_the_password_opens_the_key_and_no_other_does(password: str) -> None:
    sealed = seal_key_random(ANN, password, **LIGHT)
    again = SealedKey.decode(Reader(sealed.encode()))
    assert again == sealed
    opened = open_key(again, ANN.public, password)
    assert opened is not None
    assert opened.seed == ANN.seed
    assert open_key(again, ANN.public, password + " ") is None


def test_a_sealed_key_opens_for_its_own_public_key_alone() -> None:
    sealed = seal_key_random(ANN, "secret", **LIGHT)
    assert open_key(sealed, BEN.public, "secret") is None


def test_sealing_twice_gives_nothing_to_compare() -> None:
    first, second = (seal_key_random(ANN, "secret", **LIGHT) for _ in range(2))
    assert first.salt != second.salt
    assert first.ciphertext != second.ciphertext


@pytest.mark.parametrize(
    ("operations", "memory"),
    [
        (0, 8192),
        (MAX_ARGON_OPS + 1, 8192),
        (1, 0),
        (1, 7 * 1024),
        (1, MAX_ARGON_MEMORY + 1024),
        (255, 2**42 - 1024),
    ],
)
def test_no_account_makes_a_router_work_beyond_its_bounds(operations: int, memory: int) -> None:
    greedy = SealedKey(operations, memory, PasswordSalt(bytes(16)), bytes(24), bytes(48))
    with pytest.raises(Malformed, match="argon"):
        SealedKey.decode(Reader(greedy.encode()))


@given(st.binary(max_size=120))
def test_any_bytes_are_a_sealed_key_or_refused(data: bytes) -> None:
    try:
        sealed = SealedKey.decode(Reader(data))
    except Malformed:
        return
    assert data.startswith(sealed.encode())


# --- The mesh key ---------------------------------------------------------------------------------------


@given(st.binary(min_size=MESH_KEY_SIZE, max_size=MESH_KEY_SIZE))
def test_a_mesh_key_survives_being_copied_by_hand(key: bytes) -> None:
    written = mesh_key_text(MeshKey(key))
    assert len(written) == 56
    assert written.isalnum()
    by_hand = " ".join(written[at : at + 4] for at in range(0, 56, 4)).upper() + "\n"
    assert parse_mesh_key(by_hand) == key


@pytest.mark.parametrize("written", ["", "abc", "é" * 56, "1" * 56, "a" * 52, "a" * 64, "=" * 56])
def test_what_is_no_mesh_key_is_refused_in_words(written: str) -> None:
    with pytest.raises(ConfigError, match="56 letters and digits"):
        parse_mesh_key(written)


@given(st.binary(min_size=MESH_KEY_SIZE, max_size=MESH_KEY_SIZE), st.integers(0, 55), st.data())
def test_a_slip_of_the_pen_in_a_mesh_key_is_no_other_key(key: bytes, at: int, data: st.DataObject) -> None:
    written = mesh_key_text(MeshKey(key))
    wrong = data.draw(st.sampled_from(sorted(set("abcdefghijklmnopqrstuvwxyz234567") - {written[at]})))
    with pytest.raises(ConfigError, match="A letter of this mesh key is wrong"):
        parse_mesh_key(written[:at] + wrong + written[at + 1 :])


@given(st.binary(max_size=80))
def test_any_bytes_under_a_key_are_opened_or_none(data: bytes) -> None:
    assert Sealer((MeshKey(bytes(32)),)).open(SealNonce(bytes(24)), b"header", data) is None
    assert Sealer(()).open(SealNonce(bytes(24)), b"header", data) is None


def test_the_header_is_sealed_with_the_rest() -> None:
    sealer = Sealer((MeshKey(bytes(32)),))
    sealed = sealer.seal(SealNonce(bytes(24)), b"header", b"plain")
    assert len(sealed) == len(b"plain") + SEAL_OVERHEAD
    assert sealer.open(SealNonce(bytes(24)), b"header", sealed) == b"plain"
    assert sealer.open(SealNonce(bytes(24)), b"Header", sealed) is None
    assert sealer.open(SealNonce(bytes(23) + b"\x01"), b"header", sealed) is None


def test_no_key_seals_nothing() -> None:
    assert not Sealer(())
    assert Sealer((MeshKey(bytes(32)),))

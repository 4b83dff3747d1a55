"""Accounts: who may use a name, as far as this router knows, and the records that say so.

An account is a key. Of its records the highest sequence number counts, whatever their stamps say, and a
signed retirement counts over all. Two keys under one name (two partitions, or a forger) stay two people: all
are shown with the tag of their key, and nobody's name is taken by a record that claims to be older.
"""

import unicodedata
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace

from meshchat.chat.authoring import submit
from meshchat.chat.names import Strangers, fold, key_tag, split_tag, tagged
from meshchat.chat.ports import Mesh
from meshchat.constants import MAX_ARGON_MEMORY, MAX_LOGIN_CANDIDATES
from meshchat.errors import Malformed, MeshchatError
from meshchat.identity.boxes import NONCE_SIZE, SEAL_OVERHEAD
from meshchat.identity.keys import SEED_SIZE, SigningKey
from meshchat.identity.passwords import SALT_SIZE, PasswordSalt, SealedKey, open_key, seal_key_random
from meshchat.wire.codec import Reader, uint
from meshchat.wire.ids import PUBLIC_KEY_SIZE, PublicKey, RecordId
from meshchat.wire.records import Kind, Record, Space

SEQUENCE_SIZE = 4
MAX_SEQUENCE = 2 ** (8 * SEQUENCE_SIZE) - 1


@dataclass(frozen=True)
class Sealing:
    """What sealing a key under a password costs: Argon2 passes, and bytes of memory."""

    operations: int = 3
    memory: int = MAX_ARGON_MEMORY


@dataclass(frozen=True)
class Account:
    """A key with its name. `since` is the lowest stamp of its records; no `sealed` key: retired."""

    name: str
    key: PublicKey
    since: int
    sequence: int
    order: tuple[int, bytes]
    sealed: SealedKey | None


@dataclass(frozen=True)
class Login:
    """An account whose password was given, with its opened key."""

    account: Account
    signer: SigningKey


def encode_account(sequence: int, sealed: SealedKey) -> bytes:
    """The body of an account record: sequence u32, then the sealed key."""
    return uint(sequence, SEQUENCE_SIZE) + sealed.encode()


def decode_account(body: bytes) -> tuple[int, SealedKey]:
    """The sequence number and the sealed key; raises `Malformed`."""
    reader = Reader(body)
    sequence, sealed = reader.uint(SEQUENCE_SIZE), SealedKey.decode(reader)
    reader.end()
    return sequence, sealed


def encode_retirement(sequence: int) -> bytes:
    """The body of a retirement record: sequence u32."""
    return uint(sequence, SEQUENCE_SIZE)


def decode_retirement(body: bytes) -> int:
    """The sequence number; raises `Malformed`."""
    reader = Reader(body)
    sequence = reader.uint(SEQUENCE_SIZE)
    reader.end()
    return sequence


def new_key(password: str, sealing: Sealing) -> tuple[SigningKey, SealedKey]:
    """A new random key and itself sealed under `password`. Slow: Argon2."""
    signer = SigningKey.random()
    return signer, seal(signer, password, sealing)


def seal(signer: SigningKey, password: str, sealing: Sealing) -> SealedKey:
    """The key sealed under `password`. Slow: Argon2."""
    return seal_key_random(signer, password, operations=sealing.operations, memory=sealing.memory)


def try_login(candidates: Sequence[Account], password: str, sealing: Sealing) -> Login | None:
    """The first of the accounts that the password opens. Slow: Argon2, once for each.

    With no candidate it takes the time of one, so that a stranger does not learn which names exist.
    """
    for account in candidates:
        if account.sealed and (signer := open_key(account.sealed, account.key, password)):
            return Login(account, signer)
    if not candidates:
        decoy = SealedKey(
            sealing.operations,
            sealing.memory,
            PasswordSalt(bytes(SALT_SIZE)),
            bytes(NONCE_SIZE),
            bytes(SEED_SIZE + SEAL_OVERHEAD),
        )
        open_key(decoy, PublicKey(bytes(PUBLIC_KEY_SIZE)), password)
    return None


class Accounts:
    """The account table. The store's byte budget for accounts bounds how many others can make."""

    def __init__(self, mesh: Mesh) -> None:
        """Reads accounts and authors from the store; from then on it has to be told of each change."""
        self._mesh = mesh
        self._versions: dict[PublicKey, dict[RecordId, Account]] = {}
        self._by_key: dict[PublicKey, Account] = {}
        self._by_name: dict[str, dict[PublicKey, None]] = {}
        self._strangers = Strangers()
        self._logged_in: set[PublicKey] = set()
        for record in mesh.permanent(Space.ACCOUNTS):
            self.feed(record)
        for author, key in mesh.authors():
            self.saw_author(author, key)

    def history_gone(self) -> None:
        """After a wipe: clashes with authors whose messages have gone are over."""
        self._strangers.retain(self._mesh.has_author)

    def feed(self, record: Record) -> Account | None:
        """Takes in a record of the account log; the account as it now is, or None where nothing changed.

        A kind of a later version and a body that breaks the layout change nothing.
        """
        account = _account_in(record)
        if account is None:
            return None
        self._versions.setdefault(account.key, {})[record.id] = account
        known = self._by_key.get(account.key)
        if known:
            since = min(known.since, account.since)
            if _rank(account) <= _rank(known):
                self._by_key[account.key] = replace(known, since=since)
                return None
            account = replace(account, since=since)
            self._unlist(known)
        self._list(account)
        return account

    def drop(self, record: Record) -> None:
        """A record of the account log has gone from the store: the account is what the others make it."""
        versions = self._versions.get(record.key, {})
        if versions.pop(record.id, None) is None:
            return
        before = self._by_key[record.key]
        self._unlist(before)
        if versions:
            best = max(versions.values(), key=_rank)
            self._list(replace(best, since=min(version.since for version in versions.values())))
            return
        del self._versions[record.key], self._by_key[record.key]
        self._logged_in.discard(record.key)
        if self._mesh.has_author(record.key):
            self._strangers.add(fold(before.name), record.key)

    def _list(self, account: Account) -> None:
        self._by_key[account.key] = account
        self._by_name.setdefault(fold(account.name), {})[account.key] = None

    def _unlist(self, account: Account) -> None:
        folded = fold(account.name)
        del self._by_name[folded][account.key]
        if not self._by_name[folded]:
            del self._by_name[folded]

    def saw_author(self, name: str, key: PublicKey) -> None:
        """Takes in who wrote a message."""
        account, folded = self._by_key.get(key), fold(name)
        if account is None or fold(account.name) != folded:
            self._strangers.add(folded, key)

    def display(self, name: str, key: PublicKey) -> str:
        """The name as people are shown it: with the tag of its key where other keys use the name too."""
        return tagged(name, key) if self.keys(name) - {key} else name

    def taken(self, name: str) -> bool:
        """Whether the name is in use, retired, or that of somebody whose messages are held."""
        return bool(self.keys(name))

    def keys(self, name: str) -> Set[PublicKey]:
        """The public keys that use a name: of accounts, retired ones too, and of those who write under it."""
        folded = fold(name)
        return self._by_name.get(folded, {}).keys() | self._strangers.keys(folded)

    def name(self, key: PublicKey) -> str | None:
        """The name of the account of a key; None where it has none here."""
        account = self._by_key.get(key)
        return account.name if account else None

    def active(self) -> list[Account]:
        """The accounts that can log in, by name."""
        accounts = [account for account in self._by_key.values() if account.sealed]
        return sorted(accounts, key=lambda account: (fold(account.name), account.key))

    def get(self, key: PublicKey) -> Account | None:
        """The account of a key, unless it is retired or unknown."""
        account = self._by_key.get(key)
        return account if account and account.sealed else None

    def candidates(self, typed: str) -> list[Account]:
        """The accounts that a typed name (`ja`, or `ja~` and a tag) may mean; the likeliest, at most 4.

        Who logged in here goes first, then this very spelling, then who has written, then who came first.
        """
        name, tag = split_tag(unicodedata.normalize("NFC", typed))
        accounts = [
            account
            for key in self._by_name.get(fold(name), ())
            if (account := self.get(key)) and tag in (None, key_tag(key))
        ]
        accounts.sort(
            key=lambda account: (
                account.key not in self._logged_in,
                account.name != name,
                not self._mesh.has_author(account.key),
            )
        )
        return accounts[:MAX_LOGIN_CANDIDATES]

    def logged_in(self, account: Account) -> None:
        """Somebody logged in here: in a later clash this account is the likelier one."""
        self._logged_in.add(account.key)

    def publish(self, signer: SigningKey, name: str, sealed: SealedKey) -> str | None:
        """Submits the account, or its next version. A line for its owner, or None; raises `StoreError`."""
        body = encode_account(self._next_sequence(signer.public), sealed)
        return submit(self._mesh, signer, name, Space.ACCOUNTS, "", Kind.ACCOUNT, body).notice

    def retire(self, signer: SigningKey, name: str) -> str | None:
        """Submits the retirement. A line for its owner, or None; raises `StoreError`."""
        body = encode_retirement(self._next_sequence(signer.public))
        return submit(self._mesh, signer, name, Space.ACCOUNTS, "", Kind.RETIREMENT, body).notice

    def _next_sequence(self, key: PublicKey) -> int:
        known = self._by_key.get(key)
        if known and known.sequence == MAX_SEQUENCE:
            raise MeshchatError("This account cannot change any more; make a new one.")
        return known.sequence + 1 if known else 1


def _account_in(record: Record) -> Account | None:
    sealed = None
    try:
        if record.kind == Kind.ACCOUNT:
            sequence, sealed = decode_account(record.body)
        elif record.kind == Kind.RETIREMENT:
            sequence = decode_retirement(record.body)
        else:
            return None
    except Malformed:
        return None
    return Account(record.author, record.key, record.stamp, sequence, record.order, sealed)


def _rank(account: Account) -> tuple[bool, int, tuple[int, bytes]]:
    """A retirement over all, then the higher sequence; between equal ones, a rule that all routers share."""
    return account.sealed is None, account.sequence, account.order

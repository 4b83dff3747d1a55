"""Names of users and rooms as people type and see them.

What may be a name at all is fixed in `wire/records.is_name`; here it is said in one line to whoever typed
something else. Two names that fold alike are one name to people: `ja`, `Ja` and fullwidth `ｊａ`.
"""

import base64
import hashlib
import unicodedata
from collections import OrderedDict
from collections.abc import Callable

from meshchat.chat.render import BLANKS, SELECTORS
from meshchat.constants import MAX_NAME_BYTES, MAX_NAME_CHARS
from meshchat.errors import NameRefused
from meshchat.wire.ids import PublicKey
from meshchat.wire.records import UNASSIGNED, is_name

TAG_BYTES = 5
"""40 bits of a key tell people of one name apart: to imitate a given tag costs 2**40 key pairs."""

TAG_MARK = "~"
"""Stands between name and tag; no name contains it."""

MAX_STRANGERS = 10_000
"""Pairs of name and key remembered that have messages and no account: about 2 MB at most."""

_INVISIBLE = BLANKS | SELECTORS
"""With these in names, two of them could look the same."""


def user_name(typed: str) -> str:
    """The user name in NFC. Raises `NameRefused` with the rule it breaks."""
    return _name(typed, "user")


def room_name(typed: str) -> str:
    """The room name in NFC. Raises `NameRefused` with the rule it breaks."""
    return _name(typed, "room")


def _name(typed: str, of: str) -> str:
    name = unicodedata.normalize("NFC", typed)
    if not name:
        raise NameRefused(f"A {of} name has at least one letter or digit.")
    if len(name) > MAX_NAME_CHARS:
        raise NameRefused(f"A {of} name has at most {MAX_NAME_CHARS} characters; this has {len(name)}.")
    if len(name.encode("utf-8", "replace")) > MAX_NAME_BYTES:
        raise NameRefused(f"A {of} name has at most {MAX_NAME_BYTES} bytes of UTF-8.")
    unknown = any(unicodedata.category(char) == UNASSIGNED for char in name)
    if unknown or not is_name(name) or not _INVISIBLE.isdisjoint(name):
        raise NameRefused(
            f"A {of} name is made of letters and digits, with '-', '_' or '.' between them and no spaces."
        )
    return name


def fold(name: str) -> str:
    """What is equal for names that people take for the same: NFKC, case folded, less the invisible.

    (Unicode Standard 3.13, toNFKC_Casefold.)
    """
    folded = unicodedata.normalize("NFKC", name).casefold()
    folded = unicodedata.normalize("NFKC", folded).casefold()
    return "".join(char for char in folded if char not in _INVISIBLE)


def key_tag(key: PublicKey) -> str:
    """8 letters and digits (base32, lower case) that tell a public key from others."""
    digest = hashlib.blake2b(key, digest_size=TAG_BYTES, person=b"meshchat tag").digest()
    return base64.b32encode(digest).decode("ascii").lower()


def tagged(name: str, key: PublicKey) -> str:
    """The name with the tag of its key, as it is shown while several keys use the name."""
    return f"{name}{TAG_MARK}{key_tag(key)}"


def split_tag(typed: str) -> tuple[str, str | None]:
    """A typed login name as (name, tag or None)."""
    name, mark, tag = typed.partition(TAG_MARK)
    return name, tag.lower() if mark else None


class Strangers:
    """Keys that write under a name without an account held here; the oldest are forgotten first."""

    def __init__(self, limit: int = MAX_STRANGERS) -> None:
        self._limit = limit
        self._pairs: OrderedDict[tuple[str, PublicKey], None] = OrderedDict()
        self._keys: dict[str, set[PublicKey]] = {}

    def add(self, folded: str, key: PublicKey) -> None:
        """Remembers that `key` writes under a name that folds to `folded`."""
        pair = (folded, key)
        if pair in self._pairs:
            return
        self._pairs[pair] = None
        self._keys.setdefault(folded, set()).add(key)
        if len(self._pairs) > self._limit:
            self._forget(*self._pairs.popitem(last=False)[0])

    def keys(self, folded: str) -> frozenset[PublicKey]:
        """The keys that write under this name."""
        return frozenset(self._keys.get(folded, ()))

    def retain(self, writes: Callable[[PublicKey], bool]) -> None:
        """Forgets the keys of which `writes` says that they have written nothing that is held."""
        for folded, key in [pair for pair in self._pairs if not writes(pair[1])]:
            del self._pairs[folded, key]
            self._forget(folded, key)

    def _forget(self, folded: str, key: PublicKey) -> None:
        self._keys[folded].discard(key)
        if not self._keys[folded]:
            del self._keys[folded]

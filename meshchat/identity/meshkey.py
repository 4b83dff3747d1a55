"""The mesh key: datagrams are sealed under it, and people copy it as text."""

import base64
import hashlib
from typing import NewType

import nacl.bindings
import nacl.exceptions
import nacl.utils

from meshchat.errors import ConfigError
from meshchat.identity.boxes import SEAL_OVERHEAD
from meshchat.wire.ids import SealNonce

MESH_KEY_SIZE = 32
_KEY_CHECK_SIZE = 3
MeshKey = NewType("MeshKey", bytes)
"""Secret, of all routers of a mesh: datagrams are sealed under it."""


class Sealer:
    """Seals with the first mesh key, opens with any: two at once while a mesh changes over."""

    def __init__(self, keys: tuple[MeshKey, ...]) -> None:
        self._keys = tuple(
            hashlib.blake2b(key, digest_size=32, person=b"meshchat seal").digest() for key in keys
        )

    def __bool__(self) -> bool:
        return bool(self._keys)

    def seal(self, nonce: SealNonce, header: bytes, plain: bytes) -> bytes:
        """`plain` under the first key; `header` is authenticated with it. A nonce is used once."""
        return bytes(
            nacl.bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(plain, header, nonce, self._keys[0])
        )

    def open(self, nonce: SealNonce, header: bytes, sealed: bytes) -> bytes | None:
        """The plain bytes, or None where no key fits or a byte was altered or cut off."""
        if len(sealed) < SEAL_OVERHEAD:
            return None
        for key in self._keys:
            try:
                return bytes(
                    nacl.bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(sealed, header, nonce, key)
                )
            except nacl.exceptions.CryptoError:
                continue
        return None


def random_mesh_key() -> MeshKey:
    """A new 32-byte mesh key from the system's random source."""
    return MeshKey(nacl.utils.random(MESH_KEY_SIZE))


def mesh_key_text(key: MeshKey) -> str:
    """A mesh key as people copy it: 56 letters and digits, of which the last 5 or so are its checksum."""
    return base64.b32encode(key + _key_check(key)).decode("ascii").lower()


def _key_check(key: bytes) -> bytes:
    """So many bytes that key and checksum fill whole letters: of 2**24 slips of the pen one passes."""
    return hashlib.blake2b(key, digest_size=_KEY_CHECK_SIZE, person=b"meshchat key").digest()


def parse_mesh_key(written: str) -> MeshKey:
    """The key that `mesh_key_text` wrote; spaces and case do not matter. Raises `ConfigError`."""
    try:
        octets = base64.b32decode("".join(written.split()).upper())
    except ValueError:  # binascii.Error, and what is not ASCII
        octets = b""
    if len(octets) != MESH_KEY_SIZE + _KEY_CHECK_SIZE:
        raise ConfigError("A mesh key is 56 letters and digits, as `meshchat key new` prints it.")
    key, check = octets[:MESH_KEY_SIZE], octets[MESH_KEY_SIZE:]
    if check != _key_check(key):
        raise ConfigError(
            "A letter of this mesh key is wrong: compare it with `meshchat key show` on a router that has it."
        )
    return MeshKey(key)

"""Small secrets that leave the router and come back; and chance, for what nobody is to guess."""

from typing import NewType

import nacl.bindings
import nacl.exceptions
import nacl.utils

NONCE_SIZE = 24
SEAL_OVERHEAD = nacl.bindings.crypto_aead_xchacha20poly1305_ietf_ABYTES
"""Bytes that sealing adds."""

BOX_KEY_SIZE = 32
BoxKey = NewType("BoxKey", bytes)
"""Secret, of one router: what is to come back to it is sealed under it."""


def seal_box_random(key: BoxKey, plain: bytes, about: bytes) -> bytes:
    """`plain` under a 32-byte key, behind a random nonce; `about` is authenticated with it, not contained."""
    nonce = nacl.utils.random(NONCE_SIZE)
    return nonce + nacl.bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(plain, about, nonce, key)


def open_box(key: BoxKey, box: bytes, about: bytes) -> bytes | None:
    """What `seal_box_random` sealed, or None where it was not sealed so."""
    if len(box) < NONCE_SIZE + SEAL_OVERHEAD:
        return None
    try:
        return bytes(
            nacl.bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(
                box[NONCE_SIZE:], about, box[:NONCE_SIZE], key
            )
        )
    except nacl.exceptions.CryptoError:
        return None


def random_box_key() -> BoxKey:
    """A new 32-byte key for `seal_box_random` from the system's random source."""
    return BoxKey(nacl.utils.random(BOX_KEY_SIZE))


def random_octets(size: int) -> bytes:
    """So many bytes from the system's random source, for what nobody is to guess."""
    return nacl.utils.random(size)

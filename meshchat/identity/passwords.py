"""Private keys under passwords: so an account works on every router."""

from dataclasses import dataclass
from typing import NewType

import nacl.bindings
import nacl.exceptions
import nacl.pwhash.argon2id
import nacl.utils

from meshchat.constants import MAX_ARGON_MEMORY, MAX_ARGON_OPS
from meshchat.errors import Malformed, MeshchatError
from meshchat.identity.boxes import NONCE_SIZE, SEAL_OVERHEAD
from meshchat.identity.keys import SEED_SIZE, KeySeed, SigningKey
from meshchat.wire.codec import Reader, uint
from meshchat.wire.ids import PUBLIC_KEY_SIZE, PublicKey

_KEY_SIZE = 32
SALT_SIZE = 16
PasswordSalt = NewType("PasswordSalt", bytes)
"""Random, new for each sealed key."""


@dataclass(frozen=True)
class SealedKey:
    """A 32-byte seed under a password: Argon2id (RFC 9106), then XChaCha20-Poly1305.

    The Argon2 parameters travel with it, so that they can grow; a reader bounds them.
    """

    operations: int
    memory: int
    salt: PasswordSalt
    nonce: bytes
    ciphertext: bytes

    def encode(self) -> bytes:
        """operations u8, memory in KiB u32, salt 16, nonce 24, ciphertext 48."""
        return (
            uint(self.operations, 1) + uint(self.memory // 1024, 4) + self.salt + self.nonce + self.ciphertext
        )

    @classmethod
    def decode(cls, reader: Reader) -> "SealedKey":
        """Reads it; raises `Malformed("argon")` where it asks for more than a router can give."""
        operations, memory = reader.uint(1), reader.uint(4) * 1024
        if not (1 <= operations <= MAX_ARGON_OPS and 8 * 1024 <= memory <= MAX_ARGON_MEMORY):
            raise Malformed("argon")
        return cls(
            operations,
            memory,
            PasswordSalt(reader.take(SALT_SIZE)),
            reader.take(NONCE_SIZE),
            reader.take(SEED_SIZE + SEAL_OVERHEAD),
        )


def _password_key(password: str, salt: PasswordSalt, operations: int, memory: int) -> bytes:
    """Raises `MeshchatError` where this machine has not so much memory left."""
    try:
        return nacl.pwhash.argon2id.kdf(_KEY_SIZE, password.encode("utf-8"), salt, operations, memory)
    except nacl.exceptions.RuntimeError:
        raise MeshchatError("This router is short of memory right now; try again in a moment.") from None


def seal_key_random(
    signer: SigningKey, password: str, *, operations: int = 3, memory: int = MAX_ARGON_MEMORY
) -> SealedKey:
    """`signer`'s seed sealed under `password` with a random salt and nonce.

    `memory` is bytes, `operations` Argon2 passes. Takes a good part of a second on a router: never call
    it where others wait.
    """
    salt, nonce = PasswordSalt(nacl.utils.random(SALT_SIZE)), nacl.utils.random(NONCE_SIZE)
    key = _password_key(password, salt, operations, memory)
    ciphertext = nacl.bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(
        signer.seed, signer.public, nonce, key
    )
    return SealedKey(operations, memory, salt, nonce, ciphertext)


def open_key(sealed: SealedKey, public: PublicKey, password: str) -> SigningKey | None:
    """The key pair of public key `public`, or None where the password is not the one it was sealed under."""
    key = _password_key(password, sealed.salt, sealed.operations, sealed.memory)
    try:
        seed = nacl.bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(
            sealed.ciphertext, public, sealed.nonce, key
        )
    except nacl.exceptions.CryptoError:
        return None
    signer = SigningKey.from_seed(KeySeed(seed))
    return signer if signer.public == public and len(public) == PUBLIC_KEY_SIZE else None

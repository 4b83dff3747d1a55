"""Keys: signing and verifying records, sealing private keys under passwords, sealing datagrams.

All cryptography is libsodium's, through PyNaCl. Nothing here draws randomness unless a function's name says
so; the engine passes nonces in.
"""

import base64
import hashlib
from dataclasses import dataclass, replace
from typing import NewType

import nacl.bindings
import nacl.exceptions
import nacl.pwhash.argon2id
import nacl.utils

from meshchat.constants import MAX_ARGON_MEMORY, MAX_ARGON_OPS
from meshchat.errors import ConfigError, Malformed, MeshchatError
from meshchat.wire.codec import Reader, uint
from meshchat.wire.ids import (
    PUBLIC_KEY_SIZE,
    SIGNATURE_SIZE,
    MeshId,
    PublicKey,
    RouterId,
    SealNonce,
    Signature,
)
from meshchat.wire.records import Grade, Record, router_id

KeySeed = NewType("KeySeed", bytes)
"""Secret: what an Ed25519 key pair is made from."""

MarkKey = NewType("MarkKey", bytes)
"""Secret, of one router and one mesh: with it the router marks the lines of its logs that it has verified."""

MeshKey = NewType("MeshKey", bytes)
"""Secret, of all routers of a mesh: datagrams are sealed under it."""

BoxKey = NewType("BoxKey", bytes)
"""Secret, of one router: what is to come back to it is sealed under it."""

PasswordSalt = NewType("PasswordSalt", bytes)
"""Random, new for each sealed key."""

SEED_SIZE = 32
MESH_KEY_SIZE = 32
BOX_KEY_SIZE = 32
NONCE_SIZE = 24
SALT_SIZE = 16
SEAL_OVERHEAD = nacl.bindings.crypto_aead_xchacha20poly1305_ietf_ABYTES


@dataclass(frozen=True)
class SigningKey:
    """An Ed25519 key pair, of a user or of a router, made from a 32-byte seed."""

    seed: KeySeed
    public: PublicKey
    _secret: bytes

    @classmethod
    def from_seed(cls, seed: KeySeed) -> "SigningKey":
        """The key pair of a 32-byte seed."""
        public, secret = nacl.bindings.crypto_sign_seed_keypair(seed)
        return cls(seed, PublicKey(public), secret)

    @classmethod
    def random(cls) -> "SigningKey":
        """A new key pair from the system's random source."""
        return cls.from_seed(KeySeed(nacl.utils.random(SEED_SIZE)))

    def sign(self, message: bytes) -> Signature:
        """The 64-byte signature over `message`."""
        return Signature(nacl.bindings.crypto_sign(message, self._secret)[:SIGNATURE_SIZE])

    def __repr__(self) -> str:
        return f"SigningKey({self.public.hex()})"


@dataclass(frozen=True)
class RouterIdentity:
    """A router's key pair and the id that follows from it."""

    key: SigningKey

    @property
    def id(self) -> RouterId:
        """8 bytes: the hash of the public key."""
        return router_id(self.key.public)

    def mark_key(self, mesh: MeshId) -> MarkKey:
        """32 secret bytes for the marks in this router's logs of mesh `mesh` (its 8-byte id)."""
        person = b"meshchat mark 1"  # another number where a line that was checked means something else
        return MarkKey(hashlib.blake2b(mesh, key=self.key.seed, digest_size=32, person=person).digest())


def sign_record(
    signer: SigningKey,
    *,
    mesh: MeshId,
    space: int,
    log: str,
    kind: int,
    author: str,
    router: RouterId,
    stamp: int,
    grade: Grade,
    body: bytes,
) -> Record:
    """A record with these fields, signed by `signer` as its author's key."""
    draft = Record(mesh, space, log, kind, author, signer.public, router, stamp, grade, body, Signature(b""))
    return replace(draft, signature=signer.sign(draft.signed))


def verify_record(record: Record) -> bool:
    """Whether the record was signed by the key it names."""
    try:
        nacl.bindings.crypto_sign_open(record.signature + record.signed, record.key)
    except nacl.exceptions.CryptoError:
        return False
    return True


# --- Private keys under passwords -----------------------------------------------------------------------


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
        return nacl.pwhash.argon2id.kdf(MESH_KEY_SIZE, password.encode("utf-8"), salt, operations, memory)
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


# --- Small secrets that leave the router and come back ---------------------------------------------------


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


def random_octets(size: int) -> bytes:
    """So many bytes from the system's random source, for what nobody is to guess."""
    return nacl.utils.random(size)


def random_box_key() -> BoxKey:
    """A new 32-byte key for `seal_box_random` from the system's random source."""
    return BoxKey(nacl.utils.random(BOX_KEY_SIZE))


# --- Datagrams under the mesh key -----------------------------------------------------------------------


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
    """A mesh key as people copy it: 52 letters and digits."""
    return base64.b32encode(key).decode("ascii").rstrip("=").lower()


def parse_mesh_key(written: str) -> MeshKey:
    """The key that `mesh_key_text` wrote; spaces and case do not matter. Raises `ConfigError`."""
    letters = "".join(written.split()).upper()
    try:
        key = base64.b32decode(letters + "=" * (-len(letters) % 8))
    except ValueError:  # binascii.Error, and what is not ASCII
        key = b""
    if len(key) != MESH_KEY_SIZE:
        raise ConfigError("A mesh key is 52 letters and digits, as `meshchat key new` prints it.")
    return MeshKey(key)

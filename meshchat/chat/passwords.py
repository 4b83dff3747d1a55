"""What may be a password; apart from the accounts, so that who only asks for one needs no cryptography."""

import unicodedata

from meshchat.errors import PasswordRefused

MAX_PASSWORD = 1024
"""UTF-8 bytes of a password: more than anyone types, and Argon2 hashes it in no time."""


def clean_password(typed: str) -> str:
    """The password in NFC (RFC 8265, OpaqueString). Raises `PasswordRefused`: empty, or over 1024 bytes."""
    password = unicodedata.normalize("NFC", typed)
    if not password:
        raise PasswordRefused("A password has at least one character.")
    if len(password.encode("utf-8")) > MAX_PASSWORD:
        raise PasswordRefused(f"A password has at most {MAX_PASSWORD} bytes of UTF-8.")
    return password

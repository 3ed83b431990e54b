"""What a key looks like, and what of it is kept.

A key is ``bitalloc_<id>_<secret>``; its secret is 256 random bits. Only the SHA-256 of the key is stored. A slow hash
such as Argon2 protects passwords, which people choose and dictionaries list; nobody can try 2^256 secrets at any
speed, so it would only make every request slow.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

_KEY = re.compile(r"bitalloc_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")


@dataclass(frozen=True)
class Key:
    """A key as the service knows it: without its secret.

    Attributes:
        id: Names the key in logs and commands, and owns what the key makes.
        name: What the operator called it.
        digest: SHA-256 of the whole key, hexadecimal.
        created: When it was made, ISO 8601 in UTC.
        revoked: When it was revoked; None while it is good.
        max_requests_per_minute: Its own limit, for each replica; None for the service's.
        max_body_bytes: Its own limit on bodies; None for the service's.
    """

    id: str
    name: str
    digest: str
    created: str
    revoked: str | None = None
    max_requests_per_minute: int | None = None
    max_body_bytes: int | None = None


def new_secret() -> tuple[str, str]:
    """Draw a key.

    Returns:
        Its id and the whole key.

    Example:
        >>> identifier, text = new_secret()
        >>> identifier_of(text) == identifier
        True
    """
    identifier = secrets.token_hex(6)
    return identifier, f"bitalloc_{identifier}_{secrets.token_urlsafe(32)}"


def identifier_of(text: str) -> str | None:
    """Read the id in a key.

    Returns:
        The id; None where the text is no key.

    Example:
        >>> identifier_of("swordfish") is None
        True
    """
    match = _KEY.fullmatch(text)
    return match[1] if match else None


def digest_of(text: str) -> str:
    """Return what is stored of a key: its SHA-256, hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def matches(key: Key | None, text: str) -> bool:
    """Compare a key with what a client sent, in time that tells nothing about the secret.

    Args:
        key: The key with the id that was sent; None where there is none.

    Returns:
        Whether it is this key, and good.
    """
    kept = "0" * 64 if key is None else key.digest
    same = hmac.compare_digest(kept, digest_of(text))
    return same and key is not None and key.revoked is None

"""Basic authentication by the bcrypt hashes of the web configuration file, with bounded concurrency."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping

import bcrypt
from aiohttp import web

_AT_ONCE = 2


class Passwords:
    """Verifies passwords in threads, a few at a time, because bcrypt is slow on purpose.

    Correct passwords are remembered as digests with a key of this process.
    """

    def __init__(self, users: Mapping[str, str]) -> None:
        self._users = dict(users)
        self._key = secrets.token_bytes(32)
        self._right: set[bytes] = set()
        self._turn = asyncio.Semaphore(_AT_ONCE)

    async def prove(self, request: web.Request) -> None:
        """Verifies the password of a request for `name`. Does nothing for a request without one."""
        if (credentials := self._credentials(request)) is None or self._digest(credentials) in self._right:
            return
        name, password = credentials
        known = name in self._users
        hashed = self._users[name if known else next(iter(self._users))]  # an unknown name takes the same time
        async with self._turn:
            if await asyncio.to_thread(_fits, password, hashed) and known:
                self._right.add(self._digest(credentials))

    def name(self, request: web.Request) -> str | None:
        """The user whose password was verified, or None."""
        credentials = self._credentials(request)
        return credentials[0] if credentials is not None and self._digest(credentials) in self._right else None

    def _credentials(self, request: web.Request) -> tuple[str, str] | None:
        scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
        if not self._users or scheme.lower() != "basic":
            return None
        try:
            name, colon, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
        except ValueError:
            return None
        return (name, password) if colon else None

    def _digest(self, credentials: tuple[str, str]) -> bytes:
        return hmac.digest(self._key, ":".join(credentials).encode(), hashlib.sha256)


def _fits(password: str, hashed: str) -> bool:
    try:
        return bcrypt.checkpw(password.encode(), hashed.encode())
    except ValueError:  # bytes that bcrypt does not accept, or too many
        return False

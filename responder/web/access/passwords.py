"""Basic auth by the bcrypt hashes of the web configuration file; nobody can keep the loop or all threads busy."""

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
    """bcrypt is slow on purpose: who was once found to be right is known again, by a digest that dies with the process.

    What is wrong is tried in a thread, and only a few at once.
    """

    def __init__(self, users: Mapping[str, str]) -> None:
        self._users = dict(users)
        self._key = secrets.token_bytes(32)
        self._right: set[bytes] = set()
        self._turn = asyncio.Semaphore(_AT_ONCE)

    async def prove(self, request: web.Request) -> None:
        """Finds out whether the request's password is right, for `name` to know; does nothing for other requests."""
        if (credentials := self._credentials(request)) is None or self._digest(credentials) in self._right:
            return
        name, password = credentials
        known = name in self._users
        hashed = self._users[name if known else next(iter(self._users))]  # an unknown name takes as long
        async with self._turn:
            if await asyncio.to_thread(_fits, password, hashed) and known:
                self._right.add(self._digest(credentials))

    def name(self, request: web.Request) -> str | None:
        """Who was proven to have sent the request."""
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
    except ValueError:  # bytes that bcrypt does not take, or too many of them
        return False

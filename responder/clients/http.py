"""Plain HTTP, for the checks that ask a service itself."""

from __future__ import annotations

import hashlib
from typing import Any, Self

import aiohttp

from responder.errors import Unavailable

_MOST = 1 << 20
"""Bytes of a body that are looked at."""


class Http:
    """Fetches what the configuration names, never what a label or an annotation says."""

    def __init__(self) -> None:
        # A new connection each time: a kept one goes on talking to the old process after a switch.
        # And no cookies: they would pin us to the instance that answered first.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True, limit=0), cookie_jar=aiohttp.DummyCookieJar()
        )

    @classmethod
    async def connect(cls, settings: Any) -> Self:
        return cls()

    async def close(self) -> None:
        await self._session.close()

    async def get(self, url: str, *, headers: dict[str, str], timeout: float) -> tuple[int, str]:
        """Status and body, without following redirects. Raises `Unavailable` where there is no answer."""
        status, body = await self._get(url, headers, timeout, _MOST)
        return status, body.decode(errors="replace")

    async def digest(self, url: str, *, headers: dict[str, str], timeout: float) -> tuple[int, str]:
        """Status and the SHA-256 of the whole body, as `get` asks for it."""
        status, body = await self._get(url, headers, timeout, None)
        return status, hashlib.sha256(body).hexdigest()

    async def _get(self, url: str, headers: dict[str, str], timeout: float, most: int | None) -> tuple[int, bytes]:
        try:
            async with self._session.get(
                url, headers=headers, allow_redirects=False, timeout=aiohttp.ClientTimeout(total=timeout)
            ) as response:
                if most is None:
                    return response.status, await response.read()
                body = bytearray()
                while len(body) < most and (chunk := await response.content.read(most - len(body))):
                    body += chunk
                return response.status, bytes(body)
        except TimeoutError:
            raise Unavailable(f"{url} did not answer within {timeout:g} s") from None
        except (aiohttp.ClientError, OSError) as e:
            raise Unavailable(f"{url}: {e or type(e).__name__}") from e

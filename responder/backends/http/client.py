"""An HTTP client for checks of the service itself."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ssl
from ipaddress import ip_address
from socket import AI_ADDRCONFIG, SOCK_STREAM
from typing import Any, Self

import aiohttp
from yarl import URL

from responder.errors import Unavailable

_MOST = 1 << 20
"""Maximum bytes read of a body."""


class Http:
    """Requests URLs of the configuration, never of a label or an annotation."""

    def __init__(self) -> None:
        # A new connection per request: a kept one would still reach the old process after a switch.
        # No cookies: they would pin the requests to one instance.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True, limit=0), cookie_jar=aiohttp.DummyCookieJar()
        )

    @classmethod
    async def connect(cls, settings: Any) -> Self:
        return cls()

    async def close(self) -> None:
        await self._session.close()

    async def addresses(self, url: str, *, timeout: float) -> list[str]:
        """All addresses of the host of a URL. Raises Unavailable if it has none."""
        host, port = URL(url).host or "", URL(url).port
        with contextlib.suppress(ValueError):
            return [str(ip_address(host))]
        looking = asyncio.get_running_loop().getaddrinfo(host, port, type=SOCK_STREAM, flags=AI_ADDRCONFIG)
        try:
            async with asyncio.timeout(timeout):
                return list(dict.fromkeys(str(found[4][0]) for found in await looking))
        except TimeoutError:
            raise Unavailable(f"{host} did not resolve within {timeout:g} s") from None
        except OSError as e:
            raise Unavailable(f"{host}: {e.strerror or e}") from e

    async def reach(self, url: str, *, timeout: float) -> None:
        """Connects, with TLS for https, without a request. A refused connection counts as an answer.

        Raises Unavailable if the name does not resolve or the host does not answer.
        """
        parsed = URL(url)
        try:
            async with asyncio.timeout(timeout):
                context = await asyncio.to_thread(ssl.create_default_context) if parsed.scheme == "https" else None
                _, writer = await asyncio.open_connection(parsed.host, parsed.port, ssl=context)
                writer.close()
        except ConnectionRefusedError:
            return
        except TimeoutError:
            raise Unavailable(f"{url} did not answer within {timeout:g} s") from None
        except OSError as e:
            raise Unavailable(f"{url}: {e.strerror or e}") from e

    async def get(self, url: str, *, headers: dict[str, str], timeout: float, at: str = "") -> tuple[int, str]:
        """Status and body, without following redirects. `at`: one of the addresses of the host; the default is any.

        Raises Unavailable without an answer.
        """
        status, body = await self._get(url, headers, timeout, at, _MOST)
        return status, body.decode(errors="replace")

    async def digest(self, url: str, *, headers: dict[str, str], timeout: float, at: str = "") -> tuple[int, str]:
        """Status and the SHA-256 of the complete body. Raises like `get`."""
        status, body = await self._get(url, headers, timeout, at, None)
        return status, hashlib.sha256(body).hexdigest()

    async def _get(
        self, url: str, headers: dict[str, str], timeout: float, at: str, most: int | None
    ) -> tuple[int, bytes]:
        parsed, more = URL(url), dict[str, Any]()
        if at:  # the server and its certificate still see the host name
            headers = {"Host": parsed.raw_authority.rpartition("@")[2], **headers}
            more = {"server_hostname": parsed.host} if parsed.scheme == "https" else {}
            parsed = parsed.with_host(at)
        limit = aiohttp.ClientTimeout(total=timeout)
        try:
            async with self._session.get(
                parsed, headers=headers, allow_redirects=False, timeout=limit, **more
            ) as response:
                try:
                    return response.status, await _body(response, most)
                except aiohttp.ClientPayloadError as e:
                    raise Unavailable(f"{url} answered {response.status}, and its body broke off: {e}") from e
        except TimeoutError:
            raise Unavailable(f"{url} did not answer within {timeout:g} s") from None
        except (aiohttp.ClientError, OSError) as e:
            raise Unavailable(f"{url}: {e or type(e).__name__}") from e


async def _body(response: aiohttp.ClientResponse, most: int | None) -> bytes:
    if most is None:
        return await response.read()
    body = bytearray()
    while len(body) < most and (chunk := await response.content.read(most - len(body))):
        body += chunk
    return bytes(body)

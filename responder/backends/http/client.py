"""An HTTP client for checks of the service itself."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from ipaddress import ip_address
from socket import AI_ADDRCONFIG, SOCK_STREAM
from typing import Any, Self

from yarl import URL

from responder.errors import Unavailable
from responder.transport.http_client import Answer, HttpClient, reach

_TIMEOUT = 30.0
_MOST = 1 << 20
"""Maximum bytes read of a body."""


class Http:
    """Requests URLs of the configuration, never of a label or an annotation."""

    def __init__(self) -> None:
        # A new connection per request: a kept one would still reach the old process after a switch.
        self._http = HttpClient(_TIMEOUT, reuse=False)

    @classmethod
    async def connect(cls, settings: Any) -> Self:
        return cls()

    async def close(self) -> None:
        await self._http.close()

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
        with contextlib.suppress(ConnectionRefusedError):
            await reach(url, shown=url, timeout=timeout)

    async def get(self, url: str, *, headers: dict[str, str], timeout: float, at: str = "") -> tuple[int, str]:
        """Status and body, without following redirects. `at`: one of the addresses of the host; the default is any.

        Raises Unavailable without an answer.
        """
        answer = await self._get(url, headers, timeout, at, _MOST)
        return answer.status, answer.text

    async def digest(self, url: str, *, headers: dict[str, str], timeout: float, at: str = "") -> tuple[int, str]:
        """Status and the SHA-256 of the complete body. Raises like `get`."""
        answer = await self._get(url, headers, timeout, at, None)
        return answer.status, hashlib.sha256(answer.body).hexdigest()

    async def _get(self, url: str, headers: dict[str, str], timeout: float, at: str, most: int | None) -> Answer:
        target, options = URL(url), dict[str, Any]()
        if at:  # the server and its certificate still see the host name
            headers = {"Host": target.raw_authority.rpartition("@")[2], **headers}
            options = {"server_hostname": target.host} if target.scheme == "https" else {}
            target = target.with_host(at)
        return await self._http.send(
            "GET", target, shown=url, headers=headers, timeout=timeout, longest=most, cut=True, **options
        )

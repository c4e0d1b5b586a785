"""An HTTP client: each request has a deadline, each answer a size limit, and no error quotes a URL or an answer.

aiohttp is imported by the first request: it takes a quarter of the start of a command that sends none.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from yarl import URL

from responder.errors import Unavailable

if TYPE_CHECKING:
    import aiohttp

LONGEST = 64 << 20
"""Bytes of an answer that are read at most."""


class NoAnswer(Unavailable):
    """There is no complete answer. `reason` says why, without the URL."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class TooLong(ValueError):
    """The body is longer than the limit."""


class Answer(NamedTuple):
    """The answer to a request, with any status."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def succeeded(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode(errors="replace")

    @property
    def data(self) -> Any:
        """The JSON document in the body; the text if it is none."""
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(self.body)
        return self.text

    @property
    def json_object(self) -> dict[str, Any]:
        """The JSON object in the body; empty if the body is anything else."""
        data = self.data
        return data if isinstance(data, dict) else {}


class HttpClient:
    """A session without cookies, opened by the first request. `timeout`: seconds until the end of the answer.

    `reuse`: whether requests share connections.
    """

    def __init__(
        self,
        timeout: float,
        *,
        headers: Mapping[str, str] | None = None,
        reuse: bool = True,
        follow_redirects: bool = False,
    ) -> None:
        self._timeout, self._headers, self._reuse = timeout, headers, reuse
        self._follow_redirects = follow_redirects
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Closes all connections."""
        if self._session is not None:
            await self._session.close()

    async def send(
        self,
        method: str,
        url: str | URL,
        *,
        shown: str,
        timeout: float | None = None,
        longest: int | None = LONGEST,
        cut: bool = False,
        ignore_body: bool = False,
        **options: Any,
    ) -> Answer:
        """Returns the answer, whatever its status. Raises NoAnswer, which names the server as `shown`.

        `longest`: bytes of the body; None for no limit. `cut`: returns the first bytes of a longer body, which is an
        error otherwise. `ignore_body`: returns after the headers of a 2xx answer. `options`: see aiohttp.
        """
        import aiohttp

        async with self.stream(method, url, shown=shown, timeout=timeout, **options) as response:
            ignored = ignore_body and 200 <= response.status < 300
            try:
                body = b"" if ignored else await body_of(response, longest, cut=cut)
            except (TooLong, aiohttp.ClientPayloadError) as e:
                reason = str(e) if isinstance(e, TooLong) else f"answered {response.status}, and its body broke off"
                raise NoAnswer(f"{shown} {reason}", reason) from e
            return Answer(response.status, response.headers, body)

    @contextlib.asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str | URL,
        *,
        shown: str,
        timeout: float | aiohttp.ClientTimeout | None = None,
        **options: Any,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Yields an answer whose body the caller reads. Raises NoAnswer, also for errors of the body."""
        import aiohttp

        limit = timeout or self._timeout
        if not isinstance(limit, aiohttp.ClientTimeout):
            limit = aiohttp.ClientTimeout(total=limit)
        try:
            async with self._opened().request(
                method, url, timeout=limit, allow_redirects=self._follow_redirects, **options
            ) as response:
                yield response
        except TimeoutError as e:
            connecting = limit.sock_connect if isinstance(e, aiohttp.ConnectionTimeoutError) else None
            reason = f"did not answer within {connecting or limit.total or limit.sock_read:g} s"
            raise NoAnswer(f"{shown} {reason}", reason) from None
        except (aiohttp.ClientError, OSError, ValueError) as e:
            from foundation.client_errors import describe_client_error

            reason = str(e) if isinstance(e, TooLong) else describe_client_error(e)
            raise NoAnswer(f"{shown}: {reason}", reason) from e

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            import aiohttp

            self._session = aiohttp.ClientSession(
                headers=self._headers,
                cookie_jar=aiohttp.DummyCookieJar(),
                connector=None if self._reuse else aiohttp.TCPConnector(force_close=True, limit=0),
            )
        return self._session


async def body_of(response: aiohttp.ClientResponse, longest: int | None = LONGEST, *, cut: bool = False) -> bytes:
    """Returns the body; of a failure, what arrived of it. Raises aiohttp.ClientPayloadError and TooLong.

    `longest`: bytes, or None for no limit. `cut`: returns the first bytes of a longer body instead of raising TooLong.
    """
    import aiohttp

    body = bytearray()
    try:
        async for chunk in response.content.iter_any():
            body += chunk
            if longest is not None and len(body) > longest:
                if cut:
                    return bytes(body[:longest])
                raise TooLong(f"answered {response.status} with more than {longest >> 20} MiB")
    except (TooLong, aiohttp.ClientPayloadError):
        if response.status < 300:
            raise
    return bytes(body)


async def reach(url: str | URL, *, shown: str, timeout: float) -> None:
    """Connects, with TLS for https, and sends nothing. Raises NoAnswer, and ConnectionRefusedError."""
    parsed = URL(url)
    try:
        async with asyncio.timeout(timeout):
            context = await asyncio.to_thread(ssl.create_default_context) if parsed.scheme == "https" else None
            _, writer = await asyncio.open_connection(parsed.host, parsed.port, ssl=context)
            writer.close()
    except ConnectionRefusedError:
        raise
    except TimeoutError:
        reason = f"did not answer within {timeout:g} s"
        raise NoAnswer(f"{shown} {reason}", reason) from None
    except OSError as e:
        reason = e.strerror or str(e)
        raise NoAnswer(f"{shown}: {reason}", reason) from e

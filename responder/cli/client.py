"""The HTTP client of the command line. It uses the public API.

Completion and help of a command import this module too, so what is slow to import is imported when it is used.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import ssl
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from responder.cli.command import CONFIG, TLS_FILES, CommandError, Refused
from responder.errors import ResponderError
from responder.transport.http_client import Answer, HttpClient, NoAnswer, body_of


@contextlib.asynccontextmanager
async def connect(options: Mapping[str, Any]) -> AsyncIterator[ResponderClient]:
    """A client as the common options say. Raises CommandError if one of them is wrong."""
    tls = trust(*(options.get(option.replace("-", "_")) for option, _, _ in TLS_FILES))
    url = address(options.get("url"), options["config"])
    async with ResponderClient(url, bearer(options.get("token_file")), tls) as client:
        yield client


def address(url: str | None, config: Path) -> str:
    """The address of the responder: `url`, RESPONDER_URL, or `web` in the configuration file.

    Raises CommandError for an invalid one, and for a file that cannot be read: the default address may be another
    responder.
    """
    import yaml

    if url is not None:
        return _valid(url, "--url")
    if found := os.environ.get("RESPONDER_URL"):
        return _valid(found, "RESPONDER_URL")
    try:
        listen, scheme = _web(config)
    except FileNotFoundError as e:
        if config != CONFIG:
            raise CommandError(f"cannot be read: {e.strerror}", where=str(config), hint=_OR_URL) from None
        listen, scheme = LISTENS, "http"
    except (OSError, ValueError, TypeError, AttributeError, yaml.YAMLError) as e:
        reason = e.strerror if isinstance(e, OSError) else "it is not a configuration in UTF-8"
        hint = f"responder check finds the mistake; {_OR_URL}"
        raise CommandError(f"cannot be read: {reason}", where=str(config), hint=hint) from None
    return _valid(f"{scheme}://{listen}", f"{config} web.listen")


_OR_URL = "set the address with --url"


def _web(config: Path) -> tuple[str, str]:
    import yaml

    web = (yaml.safe_load(config.read_text("utf-8")) or {}).get("web") or {}
    file = web.get("config_file")
    tls = file is not None and (yaml.safe_load(Path(file).read_text("utf-8")) or {}).get("tls_server_config")
    return web.get("listen", LISTENS), "https" if tls else "http"


def _valid(url: str, where: str) -> str:
    """The URL without a slash at its end."""
    problem = ""
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
            problem = "expected http://HOST:PORT or https://HOST:PORT"
        elif parts.username is not None:
            problem = "must not contain a user or password: use --token-file"
        elif parts.query or parts.fragment or not url.isprintable() or " " in url:
            problem = "must not contain a query, a fragment or spaces"
    except ValueError as e:  # such as a port of 99999
        problem = str(e)
    if problem:
        raise CommandError(f"invalid URL: {problem}", where=where, hint="such as http://127.0.0.1:9095")
    return url.rstrip("/")


def execution_path(execution_id: str) -> str:
    """The path of an execution in the API."""
    return api_path("executions", execution_id)


def api_path(*segments: str) -> str:
    """A path in the API. Raises CommandError for a segment that would name another path."""
    for segment in segments:
        if segment in ("", ".", ".."):
            raise CommandError(f"{segment!r} is neither an ID nor a name")
    return "/".join(("/api/v1", *(quote(segment, safe="") for segment in segments)))


def bearer(token_file: Path | None) -> str | None:
    """The token from the file or from RESPONDER_TOKEN. Raises ResponderError if it is not readable or not a token."""
    if token_file is None:
        token, where = os.environ.get("RESPONDER_TOKEN", "").strip(), "RESPONDER_TOKEN"
    else:
        from foundation.secrets import read_secret  # slow to import

        where = str(token_file)
        try:
            token = read_secret(token_file)
        except ValueError as e:
            raise CommandError(str(e), where="--token-file") from None
    if not token.isascii() or not token.isprintable():
        raise CommandError("must hold one token of printable ASCII characters", where=where)
    return token


def trust(*given: Path | None) -> ssl.SSLContext | bool:
    """The TLS context for the files of TLS_FILES. Raises ResponderError if one of them cannot be used."""
    files = [file or os.environ.get(variable) or None for file, (_, variable, _) in zip(given, TLS_FILES, strict=True)]
    ca_file, cert_file, key_file = files
    if not any(files):
        return True
    if key_file and not cert_file:
        raise CommandError("needs --cert-file", where="--key-file")
    try:
        made = ssl.create_default_context(cafile=ca_file)
        if cert_file:
            made.load_cert_chain(cert_file, key_file)
    except OSError as e:
        raise CommandError(f"cannot be used: {e.strerror or e}", where=", ".join(str(f) for f in files if f)) from None
    return made


LISTENS = "127.0.0.1:9095"

_SET = "set its address with --url or RESPONDER_URL"
_TRUST = "trust its certificate authority with --ca-file or RESPONDER_CA_FILE"

_TIMEOUT = 30.0
"""Seconds for a request and its answer."""

FIRST_BYTES = 5.0
"""Seconds until the first bytes of a stream. A proxy that buffers takes longer."""

_SILENCE = 40.0
"""Seconds without even a heartbeat after which a stream is dead."""


class NoStream(ResponderError):
    """The responder cannot stream to this client. Poll instead."""


class ResponderClient:
    """One session with a responder."""

    def __init__(self, url: str, token: str | None, tls: ssl.SSLContext | bool = True) -> None:
        self._url = url
        self.ahead = timedelta()  # how far the responder's clock is ahead; zero if less than two seconds
        headers = {"Accept": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
        self._http, self._tls = HttpClient(_TIMEOUT, headers=headers, follow_redirects=True), tls

    async def __aenter__(self) -> ResponderClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.close()

    async def get(self, path: str, **query: str | int | None) -> dict[str, Any]:
        return await self._request("GET", path, params={k: str(v) for k, v in query.items() if v is not None})

    async def download(self, path: str) -> bytes:
        """Downloads a file without decompressing it."""
        return (await self._send("GET", path, auto_decompress=False)).body

    async def post(self, path: str, body: Mapping[str, Any] | bytes) -> dict[str, Any]:
        data = {"data": body} if isinstance(body, bytes) else {"json": {k: v for k, v in body.items() if v is not None}}
        return await self._request("POST", path, **data, headers={"Content-Type": "application/json"})

    async def text(self, path: str) -> str:
        """An answer other than JSON, such as a plot."""
        return (await self._send("GET", path, headers={"Accept": "*/*"})).text

    async def events(self, path: str, after: int) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """Server-sent events after number `after`, each with its type, until the stream ends. Raises NoStream."""
        import aiohttp

        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": str(after)} if after >= 0 else {})}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=_SILENCE)
        try:
            async with self._http.stream(
                "GET", self._url + path, shown=self._url, timeout=timeout, ssl=self._tls, headers=headers
            ) as response:
                self._inspect(response.status, response.headers)
                if response.status == 503:
                    raise NoStream("the responder has too many streams")
                if response.content_type != "text/event-stream":
                    answer = Answer(response.status, response.headers, await body_of(response))
                    raise _refused(answer, self._url)
                chunks = response.content.iter_any().__aiter__()
                try:
                    async with asyncio.timeout(FIRST_BYTES):
                        left = await anext(chunks, b"")
                except TimeoutError:
                    raise NoStream("a proxy buffers the stream") from None
                while left:
                    *frames, left = left.replace(b"\r\n", b"\n").split(b"\n\n")
                    for frame in frames:
                        if event := _event(frame.decode()):
                            yield event
                    if not (more := await anext(chunks, b"")):
                        return
                    left += more
        except NoAnswer as e:
            raise self._unreachable(e) from None

    async def _request(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        answer = await self._send(method, path, **options)
        body = answer.json_object
        if not body and answer.body.strip() != b"{}":
            raise CommandError(f"answered {answer.status}, but without a JSON object", where=f"{self._url}{path}")
        return body

    async def _send(self, method: str, path: str, **options: Any) -> Answer:
        try:
            answer = await self._http.send(method, self._url + path, shown=self._url, ssl=self._tls, **options)
        except NoAnswer as e:
            raise self._unreachable(e) from None
        self._inspect(answer.status, answer.headers)
        if answer.status >= 400:
            raise _refused(answer, self._url)
        return answer

    def _inspect(self, status: int, headers: Mapping[str, str]) -> None:
        # A proxy sets its own `Server`.
        if "rollback-responder" not in (headers.get("X-Responder"), headers.get("Server")):
            raise CommandError(f"answered {status}, but is not a responder", where=self._url, hint=_SET)
        try:
            ahead = parsedate_to_datetime(headers["Date"]) - datetime.now(UTC)
        except (KeyError, ValueError, TypeError):
            ahead = timedelta()
        self.ahead = (
            ahead if abs(ahead.total_seconds()) > 2 else timedelta()
        )  # the header has a resolution of one second

    def _unreachable(self, e: NoAnswer) -> ResponderError:
        hint = _TRUST if "certificate" in e.reason else _SET
        return CommandError(f"cannot connect to the responder: {e.reason}", where=self._url, hint=hint)


def _refused(answer: Answer, url: str) -> Refused:
    body, status = answer.json_object, answer.status
    guard = f"{body['guard']}: {body.get('reason')}" if body.get("guard") else f"{url} answered {status}"
    message = body["error"] if isinstance(body.get("error"), str) and body["error"] else guard
    return Refused(message, body, status)


def _event(text: str) -> tuple[str, dict[str, Any]] | None:
    """Type and data of one event of a stream; None for a comment or an empty event."""
    fields = dict(line.partition(": ")[::2] for line in text.split("\n") if line and not line.startswith(":"))
    return (fields["event"], json.loads(fields["data"])) if "event" in fields and "data" in fields else None

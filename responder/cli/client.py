"""The command line's way to a running responder: the same HTTP that everybody else uses."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from responder.errors import ResponderError


class Refused(ResponderError):
    """The responder understood, and said no. `body` is what it answered."""

    def __init__(self, message: str, body: dict[str, Any]) -> None:
        super().__init__(message)
        self.body = body


def address(url: str | None, config: Path) -> str:
    """Where the responder listens: as asked, from RESPONDER_URL, or from the configuration file's `web.listen`."""
    if found := url or os.environ.get("RESPONDER_URL"):
        return found.rstrip("/")
    try:
        listen = (yaml.safe_load(config.read_text()).get("web") or {}).get("listen", "127.0.0.1:9095")
    except (OSError, yaml.YAMLError, AttributeError):
        listen = "127.0.0.1:9095"
    return f"http://{listen}"


def bearer(token_file: Path | None) -> str | None:
    """The token from the file, or from RESPONDER_TOKEN. Raises ResponderError where the file cannot be read."""
    if token_file is None:
        return os.environ.get("RESPONDER_TOKEN")
    try:
        token = token_file.read_text().strip()
    except (OSError, UnicodeDecodeError) as e:
        raise ResponderError(f"{token_file} cannot be read: {e}") from None
    if not token.isascii() or not token.isprintable():
        raise ResponderError(f"{token_file} holds something other than one token")
    return token


class Client:
    """One session with a responder."""

    def __init__(self, url: str, token: str | None) -> None:
        self._url = url
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._session = aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=30))

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def get(self, path: str, **query: str | int | None) -> dict[str, Any]:
        return await self._ask("GET", path, params={k: str(v) for k, v in query.items() if v is not None})

    async def download(self, path: str) -> bytes:
        """A file as it is, not unpacked."""
        try:
            async with self._session.get(self._url + path, auto_decompress=False) as response:
                data = await response.read()
        except (aiohttp.ClientError, TimeoutError) as e:
            raise ResponderError(f"{self._url}{path}: {e or type(e).__name__}") from None
        if response.status >= 400:
            body = json.loads(data) if response.content_type == "application/json" else {}
            raise Refused(body.get("error") or f"{self._url} answered {response.status}", body)
        return data

    async def post(self, path: str, body: Mapping[str, Any] | bytes) -> dict[str, Any]:
        data = {"data": body} if isinstance(body, bytes) else {"json": {k: v for k, v in body.items() if v is not None}}
        return await self._ask("POST", path, **data, headers={"Content-Type": "application/json"})

    async def _ask(self, method: str, path: str, **how: Any) -> dict[str, Any]:
        try:
            async with self._session.request(method, self._url + path, **how) as response:
                if response.headers.get("Server") != "rollback-responder":
                    raise ResponderError(f"{self._url} answered, but it is not a responder")
                body, status = await response.json(), response.status
        except (aiohttp.ClientError, TimeoutError) as e:
            told = str(e) or type(e).__name__
            raise ResponderError(
                f"no responder answers at {self._url}: {told} (--url or RESPONDER_URL says where it is)"
            ) from None
        if status >= 400:
            where = f" (at {body['where']})" if body.get("where") else ""
            message = body.get("error") or f"{body.get('guard')}: {body.get('reason')}"
            raise Refused(f"{message}{where}", body)
        return dict(body)

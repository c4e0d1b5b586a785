"""The connection to Nomad's HTTP API, and the translation of its errors."""

from __future__ import annotations

import json
import os
from typing import Any, Self
from urllib.parse import quote

import aiohttp

from responder.errors import StepFailed, Unavailable
from responder.transport.acting import acting

_TIMEOUT = aiohttp.ClientTimeout(total=10)


class Nomad:
    """Nomad as `NOMAD_ADDR`, `NOMAD_TOKEN` and `NOMAD_NAMESPACE` describe it.

    Every method raises Unavailable if a retry may help, and StepFailed if Nomad rejects the request for good.
    """

    def __init__(self, address: str, token: str = "", namespace: str = "default") -> None:
        self._address, self._query = address.rstrip("/"), {"namespace": namespace}
        headers = {"X-Nomad-Token": token} if token else {}
        self._session = aiohttp.ClientSession(headers=headers, cookie_jar=aiohttp.DummyCookieJar(), timeout=_TIMEOUT)

    @classmethod
    async def connect(cls, settings: Any) -> Self:
        """The client. The responder has no settings for it: they come from the environment."""
        return cls(
            os.environ.get("NOMAD_ADDR", "http://127.0.0.1:4646"),
            os.environ.get("NOMAD_TOKEN", ""),
            os.environ.get("NOMAD_NAMESPACE", "default"),
        )

    async def close(self) -> None:
        """Closes the connections."""
        await self._session.close()

    async def job(self, job: str) -> dict[str, Any]:
        """The current version of the job."""
        found: dict[str, Any] = await self._request("GET", f"/v1/job/{quote(job, safe='')}")
        return found

    async def versions(self, job: str) -> list[dict[str, Any]]:
        """The versions of the job that Nomad keeps, the newest first."""
        found = await self._request("GET", f"/v1/job/{quote(job, safe='')}/versions")
        return list(found["Versions"])

    async def deployment(self, job: str) -> dict[str, Any] | None:
        """The most recent deployment of the job; None if there is none."""
        found: dict[str, Any] | None = await self._request("GET", f"/v1/job/{quote(job, safe='')}/deployment")
        return found

    async def revert(self, job: str, *, to: int, current: int) -> None:
        """Registers an older version again. Nomad rejects it unless the job is still at version `current`."""
        acting.get()()
        body = {"JobID": job, "JobVersion": to, "EnforcePriorVersion": current}
        await self._request("POST", f"/v1/job/{quote(job, safe='')}/revert", body)

    async def _request(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        try:
            async with self._session.request(
                method, self._address + path, params=self._query, json=body, allow_redirects=False
            ) as response:
                status, text = response.status, await response.text()
        except (aiohttp.ClientError, TimeoutError, OSError) as e:
            raise Unavailable(f"Nomad at {self._address}: {e or type(e).__name__}") from e
        if status == 429 or status >= 500:  # 500 as well if EnforcePriorVersion does not hold: the retry reads again
            raise Unavailable(f"Nomad answered {status} to {method} {path}: {text[:200]}")
        if status != 200:
            raise StepFailed(f"Nomad answered {status} to {method} {path}: {text[:200]}")
        try:
            return json.loads(text)
        except ValueError as e:
            raise Unavailable(f"expected JSON from Nomad for {method} {path}; it answered {text[:200]!r}") from e

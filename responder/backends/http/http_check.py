"""A check that requests a URL of the service itself."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import re2
from pydantic import Field, HttpUrl, JsonValue, field_validator

from foundation.durations import Duration
from responder.backends.check import Check, Finding
from responder.backends.http.client import Http
from responder.backends.problems import Problem
from responder.errors import Unavailable

_ABSENT = object()


class HttpCheck(Check[Http]):
    """A GET request returns the expected status, body and JSON fields. Redirects are not followed."""

    http: HttpUrl = Field(description="URL to GET")
    status: int = Field(default=200, ge=100, le=599, description="Expected status")
    body: str | None = Field(default=None, description="RE2 expression that the body must contain")
    fields: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="Expected JSON fields, such as {version: '2.1'}; a dot separates levels",
    )
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$", description="Expected SHA-256 of the body")
    headers: dict[str, str] = Field(default_factory=dict, description="Request headers")
    timeout: Duration = Field(default=5.0, gt=0, description="Deadline for the complete answer")
    every_address: bool = Field(
        default=False, description="Check every address of the host that answers; otherwise any one"
    )

    @field_validator("body")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        if value is not None:
            options = re2.Options()
            options.log_errors = False
            try:
                re2.compile(value, options)
            except re2.error:
                raise ValueError(f"{value!r} is not a valid RE2 regular expression") from None
        return value

    async def check_access(self, http: Http) -> list[Problem]:
        """Raises Unavailable if it cannot be reached. A refused connection is no problem; `holds` reports it."""
        await http.reach(str(self.http), timeout=self.timeout)
        return []

    async def holds(self, http: Http) -> Finding:
        try:
            if not self.every_address:
                return await self._look(http, "")
            found = await http.addresses(str(self.http), timeout=self.timeout)
            findings = await asyncio.gather(*(self._look_at(http, at) for at in found))
        except Unavailable as e:  # a service that does not answer is unhealthy, not unknown
            return Finding(holds=False, reason=str(e))
        answers = [finding for finding in findings if finding.answered] or findings
        return next((finding for finding in answers if not finding.holds), answers[0])

    async def _look_at(self, http: Http, at: str) -> Finding:
        try:
            return await self._look(http, at)
        except Unavailable as e:
            return Finding(holds=False, answered=False, reason=str(e))

    async def _look(self, http: Http, at: str) -> Finding:
        how: dict[str, Any] = {"headers": self.headers, "timeout": self.timeout, "at": at}
        status, body = await http.get(str(self.http), **how)
        wrong = f"{self.http}{at and f' at {at}'} answered {status}"
        if status != self.status:
            return Finding(holds=False, reason=f"{wrong}, expected {self.status}")
        if self.sha256 is not None:
            status, digest = await http.digest(str(self.http), **how)
            if (status, digest) != (self.status, self.sha256):
                mismatch = f"body has the SHA-256 {digest[:12]}, expected {self.sha256[:12]}"
                where = f"{self.http}{at and f' at {at}'}"
                return Finding(holds=False, reason=f"{where} answered {status}, but its {mismatch}")
        if self.body is not None and not re2.search(self.body, body):
            return Finding(holds=False, reason=f"{wrong}, but its body does not contain {self.body!r}")
        if self.fields:
            try:
                document = json.loads(body)
            except (ValueError, RecursionError):
                return Finding(holds=False, reason=f"{wrong}, but its body is not JSON")
            for path, value in self.fields.items():
                found = _field(document, path)
                if found is _ABSENT:
                    return Finding(holds=False, reason=f"{wrong} without {path}, expected {json.dumps(value)}")
                # Compared as JSON, because in Python `True == 1`.
                if json.dumps(found, sort_keys=True) != json.dumps(value, sort_keys=True):
                    mismatch = f"{path}={json.dumps(found)}, expected {json.dumps(value)}"
                    return Finding(holds=False, reason=f"{wrong} with {mismatch}")
        return Finding(holds=True, reason=wrong)


def _field(document: Any, path: str) -> Any:
    for name in path.split("."):
        document = document.get(name, _ABSENT) if isinstance(document, dict) else _ABSENT
    return document

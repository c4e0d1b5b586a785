"""The check type `http_response`: one HTTP request, its answer, and the duration of each phase."""

from __future__ import annotations

import json
from functools import cached_property
from time import perf_counter, time
from typing import Annotated, ClassVar, Literal, Self

import aiohttp
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SecretStr,
    field_validator,
    model_validator,
)
from yarl import URL

from exporters.clients.connections import Connections
from exporters.clients.http import exchange
from exporters.clients.phases import Phases
from exporters.clients.redirects import MOST_REDIRECTS, REDIRECTS, redirected
from exporters.clients.tls import Tls, earliest_expiry
from exporters.errors import Failed, raise_if_local
from exporters.output import ProbeOutput
from exporters.probes.check import Check, PositiveDuration, Regex
from exporters.probes.json_path import JsonPath, pick
from exporters.probes.statuses import Statuses, status_matches
from foundation.client_errors import describe_client_error
from foundation.durations import format_duration
from foundation.redaction import shown_url

LONGEST_SHOWN = 100


class BasicAuth(BaseModel):
    """User and password, sent with every request to the configured origin."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    username: str
    password: SecretStr


class HttpResponse(Check):
    """One request on a new connection. Every configured expectation must hold.

    Redirects are not followed by default: a page that redirects to a login would look healthy.
    """

    type: Literal["http_response"]
    url: str
    method: Annotated[str, Field(pattern=r"^[A-Z]+$")] = "GET"
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    bearer_token: SecretStr | None = None
    basic_auth: BasicAuth | None = None
    body: SecretStr | None = None
    expected_status: Statuses = ("2xx",)
    body_matches: Regex | None = None
    body_matches_not: Regex | None = None
    json_equals: dict[JsonPath, JsonValue] = Field(default_factory=dict)
    body_limit_bytes: Annotated[int, Field(ge=0)] = 1_048_576
    follow_redirects: bool = False
    certificate_valid_for: PositiveDuration | None = None
    tls: Tls = Tls()

    reasons: ClassVar[tuple[str, ...]] = (
        *("resolve", "connect", "tls", "certificate", "protocol", "redirect"),
        *("status", "body_limit", "regex", "json"),
    )

    @field_validator("url")
    @classmethod
    def _is_http(cls, url: str) -> str:
        try:
            parsed = URL(url)
            _ = parsed.port
        except ValueError:
            raise ValueError("is not a URL; write it as http://host/path") from None
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise ValueError("must be an http:// or https:// URL with a host; write it as http://host/path")
        if parsed.user is not None or parsed.password is not None:
            raise ValueError("must not contain a user or password; use basic_auth")
        return url

    @model_validator(mode="after")
    def _valid_request(self) -> Self:
        for name in self.headers:
            if not name or not all(c.isalnum() or c in "!#$%&'*+-.^_`|~" for c in name) or not name.isascii():
                raise ValueError(f"header {name!r} is not a valid HTTP header name; remove spaces and colons")
        for name, value in self._headers.items():
            if any(c in value for c in "\r\n\0"):
                raise ValueError(f"header {name} has a line break in its value; write it in one line")
        has_header = any(name.lower() == "authorization" for name in self.headers)
        if (self.bearer_token is not None) + (self.basic_auth is not None) + has_header > 1:
            raise ValueError("give only one of bearer_token, basic_auth and an Authorization header; remove the others")
        if self.certificate_valid_for is not None and not self.url.startswith("https:"):
            raise ValueError("certificate_valid_for needs an https:// URL; remove it, or correct the url")
        return self

    @property
    def shown_target(self) -> str:
        """The method and the URL without its query values."""
        return f"{self.method} {shown_url(self.url)}"

    @cached_property
    def _headers(self) -> dict[str, str]:
        sent = {name: value.get_secret_value() for name, value in self.headers.items()}
        if self.bearer_token is not None:
            sent["Authorization"] = f"Bearer {self.bearer_token.get_secret_value().strip()}"
        if self.basic_auth is not None:
            auth = aiohttp.encode_basic_auth(self.basic_auth.username, self.basic_auth.password.get_secret_value())
            sent["Authorization"] = auth
        return sent

    def secrets(self) -> list[str]:
        """See Check.secrets; also the credentials as they are sent."""
        sent = [value for name, value in self._headers.items() if name.lower() == "authorization"]
        credentials = [value.partition(" ")[2] for value in sent]
        return [*super().secrets(), *sent, *credentials]

    async def probe(self, out: ProbeOutput, connections: Connections) -> None:
        """See Check.probe."""
        spent = Phases()
        try:
            await self._exchange(out, connections, spent)
        except (aiohttp.ClientError, OSError) as error:
            raise_if_local(error)
            raise Failed(f"the exchange failed: {describe_client_error(error)}", reason="protocol") from error
        finally:
            expiry = earliest_expiry(spent.tls_connection) if spent.tls_connection is not None else None
            self._measure(out, spent, expiry)
        if expiry is not None and self.certificate_valid_for is not None:
            self._check_certificate(expiry - time(), self.certificate_valid_for)

    async def _exchange(self, out: ProbeOutput, connections: Connections, spent: Phases) -> None:
        method, url, sent = self.method, URL(self.url), self._headers
        body = self.body.get_secret_value().encode() if self.body is not None else None
        for redirects in range(MOST_REDIRECTS + 1):
            out.log(f"{method} {shown_url(str(url))}")
            async with exchange(connections, method, url, sent, body, self.tls, spent) as (response, content):
                out.log(f"status {response.code}")
                if not (self.follow_redirects and response.code in REDIRECTS and "Location" in response.headers):
                    await self._check_response(response.code, content, redirects, out, spent)
                    return
                method, url, sent, body = redirected(response, method, url, sent, body)
        raise Failed(f"more than {MOST_REDIRECTS} redirects", reason="redirect")

    async def _check_response(
        self, status: int, content: aiohttp.StreamReader, redirects: int, out: ProbeOutput, spent: Phases
    ) -> None:
        out.gauge("probe_http_status_code", "Status code of the last response.", status)
        out.gauge("probe_http_redirects", "Redirects followed.", redirects)
        began = perf_counter()
        unexpected = None
        if not status_matches(status, self.expected_status):
            message = f"status is {status}, expected {' or '.join(self.expected_status)}"
            unexpected = Failed(message, reason="status")
        try:
            body = await self._body(content, out)
        except (Failed, aiohttp.ClientPayloadError):
            if unexpected is None:
                raise
            raise unexpected from None  # the status is the better reason
        finally:
            spent.transfer += perf_counter() - began
        if unexpected is not None:
            raise unexpected
        if self.body_matches is not None and not self.body_matches.found_in(body):
            raise Failed(f"the body does not match {self.body_matches.text!r}", reason="regex")
        if self.body_matches_not is not None and self.body_matches_not.found_in(body):
            raise Failed(f"the body matches {self.body_matches_not.text!r}", reason="regex")
        if self.json_equals:
            self._check_json(body, out)

    async def _body(self, content: aiohttp.StreamReader, out: ProbeOutput) -> bytes:
        needed = self.body_matches or self.body_matches_not or self.json_equals
        body, size = bytearray(), 0
        async for chunk in content.iter_any():
            size += len(chunk)
            if self.body_limit_bytes and size > self.body_limit_bytes:
                raise Failed(f"the body is longer than {self.body_limit_bytes} bytes", reason="body_limit")
            if needed:
                body += chunk
        out.gauge("probe_http_body_bytes", "Length of the body, uncompressed.", size)
        out.log(f"body of {size} bytes")
        return bytes(body)

    def _check_json(self, body: bytes, out: ProbeOutput) -> None:
        try:
            document = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise Failed("the body is not JSON", reason="json") from error
        for path, expected in self.json_equals.items():
            try:
                found = pick(document, path)
            except LookupError as error:
                raise Failed(str(error.args[0]), reason="json") from error
            # In Python `1 == True`, in JSON not.
            if found != expected or isinstance(found, bool) != isinstance(expected, bool):
                shown = out.redact(json.dumps(found))[:LONGEST_SHOWN]
                raise Failed(f"{path} is {shown}, expected {json.dumps(expected)}", reason="json")

    def _check_certificate(self, left: float, expected: float) -> None:
        if left < expected:
            state = f"expires in {left / 86400:.1f} days" if left > 0 else "has expired"
            raise Failed(f"a certificate {state}, expected at least {format_duration(expected)}", reason="certificate")

    def _measure(self, out: ProbeOutput, spent: Phases, expiry: float | None) -> None:
        for phase in ("resolve", "connect", "tls", "processing", "transfer"):
            out.gauge(
                "probe_http_duration_seconds",
                "Duration of the phases of an HTTP probe, summed over redirects.",
                getattr(spent, phase),
                phase=phase,
            )
        tls = spent.tls_connection is not None
        out.gauge("probe_http_ssl", "1 if the last connection used TLS.", float(tls))
        if expiry is not None:
            meaning = "Unix time at which the first certificate of the server expires."
            out.gauge("probe_ssl_earliest_cert_expiry", meaning, expiry)

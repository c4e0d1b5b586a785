"""Does the URL answer as it should, and where did the time go?"""

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

from exporters.check import Check, Regex
from exporters.connections import Connections
from exporters.databases import described
from exporters.durations import Duration, written
from exporters.errors import Failed, spare_the_target
from exporters.json_path import JsonPath, pick
from exporters.notes import Notes
from exporters.phases import Phases, phases
from exporters.redaction import shown_url
from exporters.redirects import MOST_REDIRECTS, REDIRECTS, redirected
from exporters.statuses import Statuses, among
from exporters.tls import Handshake, Tls, earliest_expiry, handshake

LONGEST_SHOWN = 100


class BasicAuth(BaseModel):
    """User and password, sent with every request of the check to its own origin."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    username: str
    password: SecretStr


class HttpResponse(Check):
    """One request on a fresh connection. Everything that is given must hold.

    Redirects are not followed by default: a page that sends everyone to a login would look healthy.
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
    certificate_valid_for: Duration | None = None
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
            raise ValueError("is not a URL") from None
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise ValueError("must be an http:// or https:// URL with a host")
        if parsed.user is not None or parsed.password is not None:
            raise ValueError("must not hold a user or password: write them under basic_auth")
        return url

    @model_validator(mode="after")
    def _can_be_sent(self) -> Self:
        for name, value in self.headers.items():
            if not name or not all(c.isalnum() or c in "!#$%&'*+-.^_`|~" for c in name) or not name.isascii():
                raise ValueError(f"header {name!r} is not a header name")
            if any(c in value.get_secret_value() for c in "\r\n\0"):
                raise ValueError(f"header {name} has a line break in its value")
        named = {name.lower() for name in self.headers}
        ways = [self.bearer_token is not None, self.basic_auth is not None, "authorization" in named]
        if sum(ways) > 1:
            raise ValueError("give only one of bearer_token, basic_auth and an Authorization header")
        if self.certificate_valid_for is not None and not self.url.startswith("https:"):
            raise ValueError("certificate_valid_for needs an https:// URL")
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
        """As Check.secrets, the credentials as they are sent, and the values of the URL's query."""
        sent = [value for name, value in self._headers.items() if name.lower() == "authorization"]
        credentials = [value.partition(" ")[2] for value in sent]
        return [*super().secrets(), *sent, *credentials]

    async def probe(self, out: Notes, reach: Connections) -> None:
        """As Check.probe."""
        spent, secured = Phases(), Handshake()
        phases.set(spent)
        handshake.set(secured)
        try:
            await self._ask(out, reach, spent)
        except aiohttp.ClientConnectorDNSError as error:
            spare_the_target(error)
            raise Failed(f"the host has no address: {described(error.os_error)}", reason="resolve") from error
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientSSLError) as error:
            raise Failed(f"TLS failed: {described(error.__cause__ or error)}", reason="tls") from error
        except aiohttp.ClientConnectorError as error:
            spare_the_target(error)
            step = "connect" if secured.began is None else "tls"
            raise Failed(f"cannot connect: {described(error.os_error)}", reason=step) from error
        except (aiohttp.ClientError, OSError) as error:
            spare_the_target(error)
            raise Failed(f"the exchange broke: {_plain(error)}", reason="protocol") from error
        finally:
            self._measure(out, spent, secured)
        self._judge_certificate(secured)

    async def _ask(self, out: Notes, reach: Connections, spent: Phases) -> None:
        method, url, sent = self.method, URL(self.url), dict(self._headers)
        body = self.body.get_secret_value().encode() if self.body is not None else None
        context = reach.context(self.tls) if url.scheme == "https" or self.follow_redirects else True
        for redirects in range(MOST_REDIRECTS + 1):
            out.say(f"{method} {shown_url(str(url))}")
            began, resolved = perf_counter(), spent.resolve
            spent.connected = None
            async with reach.http.request(
                method,
                url,
                headers=sent,
                data=body,
                allow_redirects=False,
                ssl=context,
                server_hostname=self.tls.server_name,
            ) as response:
                self._clock(spent, began, resolved)
                out.say(f"status {response.status}")
                goes_on = self.follow_redirects and response.status in REDIRECTS and "Location" in response.headers
                if not goes_on:
                    await self._judge(response, redirects, out, spent)
                    return
                method, url, sent, body = redirected(response, method, url, sent, body)
        raise Failed(f"more than {MOST_REDIRECTS} redirects", reason="redirect")

    def _clock(self, spent: Phases, began: float, resolved: float) -> None:
        now, secured = perf_counter(), handshake.get()
        ready = spent.connected or now
        handshook = ready - secured.began if secured and secured.began and began <= secured.began <= ready else 0.0
        spent.tls += handshook
        spent.connect += max(0.0, ready - began - handshook - (spent.resolve - resolved))
        spent.processing += now - ready

    async def _judge(self, response: aiohttp.ClientResponse, redirects: int, out: Notes, spent: Phases) -> None:
        out.gauge("probe_http_status_code", "Status code of the last response.", response.status)
        out.gauge("probe_http_redirects", "Redirects that were followed.", redirects)
        began = perf_counter()
        unexpected = None
        if not among(response.status, self.expected_status):
            message = f"status is {response.status}, expected {' or '.join(self.expected_status)}"
            unexpected = Failed(message, reason="status")
        try:
            body = await self._body(response, out)
        except (Failed, aiohttp.ClientPayloadError):
            if unexpected is None:
                raise
            raise unexpected from None  # a status says more than the body that came with it
        finally:
            spent.transfer += perf_counter() - began
        if unexpected is not None:
            raise unexpected
        if self.body_matches is not None and not self.body_matches.found_in(body):
            raise Failed(f"the body does not match {self.body_matches.written!r}", reason="regex")
        if self.body_matches_not is not None and self.body_matches_not.found_in(body):
            raise Failed(f"the body matches {self.body_matches_not.written!r}", reason="regex")
        if self.json_equals:
            self._judge_json(body, out)

    async def _body(self, response: aiohttp.ClientResponse, out: Notes) -> bytes:
        wanted = self.body_matches or self.body_matches_not or self.json_equals
        kept, size = bytearray(), 0
        async for chunk in response.content.iter_any():
            size += len(chunk)
            if self.body_limit_bytes and size > self.body_limit_bytes:
                raise Failed(f"the body is longer than {self.body_limit_bytes} bytes", reason="body_limit")
            if wanted:
                kept += chunk
        out.gauge("probe_http_body_bytes", "Length of the body, uncompressed.", size)
        out.say(f"body of {size} bytes")
        return bytes(kept)

    def _judge_json(self, body: bytes, out: Notes) -> None:
        try:
            document = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise Failed("the body is not JSON", reason="json") from error
        for path, expected in self.json_equals.items():
            try:
                found = pick(document, path)
            except LookupError as error:
                raise Failed(str(error.args[0]), reason="json") from error
            # `1 == True` in Python, not in JSON.
            if found != expected or isinstance(found, bool) != isinstance(expected, bool):
                shown = out.redact(json.dumps(found))[:LONGEST_SHOWN]
                raise Failed(f"{path} is {shown}, expected {json.dumps(expected)}", reason="json")

    def _judge_certificate(self, secured: Handshake) -> None:
        if self.certificate_valid_for is None or secured.connection is None:
            return
        expiry = earliest_expiry(secured.connection)
        if expiry is not None and expiry - time() < self.certificate_valid_for:
            left = expiry - time()
            state = f"runs out in {left / 86400:.1f} days" if left > 0 else "has run out"
            raise Failed(f"a certificate {state}, wanted {written(self.certificate_valid_for)}", reason="certificate")

    def _measure(self, out: Notes, spent: Phases, secured: Handshake) -> None:
        for phase in ("resolve", "connect", "tls", "processing", "transfer"):
            out.gauge(
                "probe_http_duration_seconds",
                "Duration of the phases of an HTTP probe, summed over redirects.",
                getattr(spent, phase),
                phase=phase,
            )
        out.gauge(
            "probe_http_ssl", "1 if the last connection was made with TLS.", float(secured.connection is not None)
        )
        if secured.connection is not None and (expiry := earliest_expiry(secured.connection)) is not None:
            meaning = "Unix time at which the first certificate that the server sent runs out."
            out.gauge("probe_ssl_earliest_cert_expiry", meaning, expiry)


def _plain(error: BaseException) -> str:
    # aiohttp's own texts may quote what was received or the whole URL.
    match error:
        case aiohttp.ServerDisconnectedError():
            return "the server closed the connection without an answer"
        case aiohttp.ClientPayloadError():
            return "the body ended too early or is not encoded as announced"
        case aiohttp.ClientOSError() if error.strerror:
            return error.strerror
        case aiohttp.ClientResponseError():
            return "the answer is not HTTP"
        case _:
            return type(error).__name__

"""The responder's own clients, connected to the stand-ins: over a socket, or straight for the many drills."""

from __future__ import annotations

import io
import json
from typing import Any

from pydantic import SecretStr

from responder.clients.aws import Aws, AwsSettings
from responder.clients.cdn import Cloudflare, CloudflareSettings, Fastly, FastlySettings
from tests.cdns.amazon import Amazon
from tests.cdns.others import TOKEN, FakeCloudflare, FakeFastly
from tests.cdns.wire import Asked


def aws_settings(url: str, **more: Any) -> AwsSettings:
    told = {"access_key_id": "good", "secret_access_key": "very-secret", "timeout": "5s", "connections": 8}
    return AwsSettings.model_validate_json(json.dumps({"endpoint_url": url, **told, **more}))


def cloudflare_settings(url: str) -> CloudflareSettings:
    return CloudflareSettings(token=SecretStr(TOKEN), url=url)  # type: ignore[arg-type]


def fastly_settings(url: str) -> FastlySettings:
    return FastlySettings(token=SecretStr(TOKEN), url=url)  # type: ignore[arg-type]


class StraightAws(Aws):
    """boto3 as it is, signatures and all, but what it would send is handed over."""

    def __init__(self) -> None:
        super().__init__(aws_settings("http://amazon.test", connections=2))
        self.amazon = Amazon()

    def _made(self, service: str) -> Any:
        client = super()._made(service)
        client.meta.events.register("before-send", self._send)
        return client

    def _send(self, request: Any, **more: Any) -> Any:
        from botocore.awsrequest import AWSResponse
        from urllib3 import HTTPResponse

        body = request.body.read() if hasattr(request.body, "read") else request.body or b""
        told = self.amazon.answer(Asked.of(request.method, request.url, dict(request.headers), body))
        raw = HTTPResponse(
            io.BytesIO(told.body),
            status=told.status,
            headers=told.headers,
            preload_content=False,
            enforce_content_length=False,  # the answer to HEAD tells a length and has no body
        )
        return AWSResponse(request.url, told.status, raw.headers, raw)


class StraightCloudflare(Cloudflare):
    def __init__(self, fake: FakeCloudflare) -> None:
        super().__init__(cloudflare_settings("http://cloudflare.test"))
        self._fake = fake

    async def _send(self, method: str, path: str, body: Any, headers: dict[str, str]) -> tuple[int, str]:
        told = self._fake.answer(Asked.of(method, path, headers, json.dumps(body).encode()))
        return told.status, told.body.decode()


class StraightFastly(Fastly):
    def __init__(self, fake: FakeFastly) -> None:
        super().__init__(fastly_settings("http://fastly.test"))
        self._fake = fake

    async def _send(self, method: str, path: str, body: Any, headers: dict[str, str]) -> tuple[int, str]:
        told = self._fake.answer(Asked.of(method, path, headers, json.dumps(body).encode()))
        return told.status, told.body.decode()


_STRAIGHT: list[StraightAws] = []


def straight_aws(amazon: Amazon) -> StraightAws:
    """The same client for one world after another, as boto3 takes long to make one."""
    if not _STRAIGHT:
        _STRAIGHT.append(StraightAws())
    _STRAIGHT[0].amazon = amazon
    return _STRAIGHT[0]

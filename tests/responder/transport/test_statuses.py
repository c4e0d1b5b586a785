"""In every client, the HTTP status decides regardless of the body, which a proxy may have written."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import botocore.endpoint
import google.auth._exponential_backoff
import pytest

from responder.backends.alertmanager.client import Alertmanager, AlertmanagerSettings
from responder.backends.app_stores.app_store_client import AppStore
from responder.backends.app_stores.google_play_client import GooglePlay
from responder.backends.docker.client import Docker, DockerSettings
from responder.backends.http.client import Http
from responder.backends.http.http_check import HttpCheck
from responder.backends.kubernetes.client import Kubernetes, KubernetesSettings
from responder.backends.prometheus.client import Prometheus, PrometheusSettings
from responder.backends.sites.cdn_client import Cloudflare, CloudflareSettings, Fastly, FastlySettings
from responder.cli.client import ResponderClient
from responder.cli.command import Refused
from responder.errors import ResponderError, StepFailed, Unavailable
from responder.notify.channel import ChannelSettings, NotDelivered
from responder.notify.channels.github import GithubSettings
from responder.notify.channels.grafana import GrafanaSettings
from responder.notify.channels.slack import SlackSettings
from responder.notify.channels.webhook import WebhookSettings
from responder.transport.aws import Aws, AwsSettings
from tests.apiserver import Cluster
from tests.responder.notify.conftest import WELL, notification
from tests.stores.keys import app_store_settings, play_settings

FAILURES = (400, 401, 403, 404, 409, 429, 500, 502, 503)
TEMPORARY = (429, 500, 502, 503)
BODIES = {
    "empty": ("", ""),
    "plain text": ("text/plain", "404 page not found\n"),
    "HTML": ("text/html", "<html><head><title>Sorry</title></head><body>Sorry</body></html>"),
    "truncated JSON": ("application/json", '{"message": "what is'),
    "a list": ("application/json", '[1, {"message": null}]'),
    "another shape": (
        "application/json",
        '{"metadata": 1, "error": {"errors": 7}, "errors": 7, "data": {"result": "x"}}',
    ),
    "no text": ("application/json", "\udcff\udcfe"),
    "broken off": ("application/json", '{"message": "what'),
}


class Server:
    """Answers the same to every request, except for tokens."""

    def __init__(self) -> None:
        self.status, self.type, self.body, self.broken, self.headers = 200, "", "", False, ""
        self.token = True

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = next((line.partition(":")[2] for line in head.split("\r\n") if "content-length" in line), "0")
            await reader.readexactly(int(length))
            status, kind, body = self.status, self.type, self.body
            if self.token and head.startswith("post /token"):
                status, kind, body = 200, "application/json", '{"access_token": "t", "expires_in": 3600}'
            data = b"" if head.startswith("head ") else body.encode(errors="surrogateescape")
            size = len(data) + (99 if self.broken and body is self.body else 0)
            lines = [f"HTTP/1.1 {status} Odd", f"Content-Length: {size}", "Connection: close", *self.headers.split("|")]
            lines += [f"Content-Type: {kind}"] if kind else []
            writer.write("\r\n".join([*filter(None, lines), "", ""]).encode() + data)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def open_kubernetes(url: str, directory: Path) -> AsyncIterator[Any]:
    (directory / "config").write_text(json.dumps(Cluster().kubeconfig(url)))
    client = await Kubernetes.connect(KubernetesSettings(kubeconfig=directory / "config"))
    try:
        yield lambda: client.get("Pod", "shop", "backend")
    finally:
        await client.close()


Ask = Callable[[], Awaitable[Any]]


def connected(make: Callable[[str], Awaitable[Any]], ask: Callable[[Any], Awaitable[Any]]) -> Any:
    @asynccontextmanager
    async def opened(url: str, directory: Path) -> AsyncIterator[Ask]:
        client = await make(url)
        try:
            yield lambda: ask(client)
        finally:
            await client.close()

    return opened


CLIENTS: dict[str, Any] = {
    "kubernetes": open_kubernetes,
    "prometheus": connected(
        lambda url: Prometheus.connect(PrometheusSettings(url=url)), lambda client: client.query("up")
    ),
    "alertmanager": connected(
        lambda url: Alertmanager.connect(AlertmanagerSettings(urls=(url,))), lambda client: client.alerts({})
    ),
    "docker": connected(
        lambda url: Docker.connect(DockerSettings(host=url.replace("http:", "tcp:"))),
        lambda client: client.container("backend"),
    ),
    "google play": connected(
        lambda url: GooglePlay.connect(play_settings(url)), lambda client: client.read("com.example", "production")
    ),
    "app store": connected(
        lambda url: AppStore.connect(app_store_settings(url)), lambda client: client.read("1", "IOS", "2")
    ),
    "cloudflare": connected(
        lambda url: Cloudflare.connect(CloudflareSettings(url=url, token="t")), lambda client: client.read("/zones")
    ),
    "fastly": connected(
        lambda url: Fastly.connect(FastlySettings(url=url, token="t")), lambda client: client.read("/service/1/version")
    ),
    "s3": connected(
        lambda url: Aws.connect(AwsSettings(endpoint_url=url, access_key_id="a", secret_access_key="b")),
        lambda client: client.content("bucket", "version.json"),
    ),
}
MISSING = {"kubernetes", "docker", "s3"}
"""Clients that read 404 as a missing object."""


def expected(client: str, status: int, kind: str) -> type[ResponderError] | None:
    if client == "alertmanager" or status in TEMPORARY:
        refused = client == "docker" and status == 500 and kind == "application/json"
        return StepFailed if refused else Unavailable  # the engine answers 500 to permanent errors
    if status == 404 and client in MISSING:
        return None
    return Unavailable if (client, status) == ("kubernetes", 409) else StepFailed


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both SDKs retry some statuses after a pause."""
    hurried = SimpleNamespace(sleep=lambda seconds: None, time=time.time)
    monkeypatch.setattr(botocore.endpoint, "time", hurried)
    monkeypatch.setattr(google.auth._exponential_backoff, "time", hurried)


@asynccontextmanager
async def serving(server: Server) -> AsyncIterator[str]:
    listening = await asyncio.start_server(server, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    finally:
        listening.close()


def answers(server: Server, body: str) -> None:
    (server.type, server.body), server.broken = BODIES[body], body == "broken off"


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("name", CLIENTS)
async def test_the_status_decides_for_every_client(name: str, body: str, tmp_path: Path) -> None:
    server = Server()
    answers(server, body)
    async with serving(server) as url:
        for server.status in FAILURES:
            async with CLIENTS[name](url, tmp_path) as ask:  # a new client: some pause after 429
                if (wanted := expected(name, server.status, server.type)) is None:
                    assert await ask() is None, server.status
                    continue
                with pytest.raises((StepFailed, Unavailable)) as caught:
                    await ask()
                assert isinstance(caught.value, wanted), (server.status, caught.value)
                assert str(server.status) in str(caught.value)
                assert "JSON" not in str(caught.value)


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("name", sorted(CLIENTS.keys() - {"s3", "cloudflare", "fastly"}))
async def test_a_success_with_an_unexpected_body_is_unavailable(name: str, body: str, tmp_path: Path) -> None:
    server = Server()
    answers(server, body)
    async with serving(server) as url, CLIENTS[name](url, tmp_path) as ask:
        with pytest.raises((Unavailable, StepFailed) if name == "prometheus" else Unavailable):
            await ask()


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("status", [*FAILURES, 200])
async def test_token_errors_of_google_play_have_their_status(status: int, body: str, tmp_path: Path) -> None:
    server = Server()
    answers(server, body)
    server.status, server.token = status, False
    async with serving(server) as url, CLIENTS["google play"](url, tmp_path) as ask:
        with pytest.raises((StepFailed, Unavailable)) as caught:
            await ask()
    # Google's library retries on a status without reporting it.
    assert isinstance(
        caught.value, Unavailable if status in (200, 500, 503) or body == "broken off" else ResponderError
    )


CHANNELS: dict[str, Callable[[str], ChannelSettings]] = {
    "slack": lambda url: SlackSettings.model_validate({"token": "xoxb-1", "channel": "C1", "api_url": url}),
    "slack webhook": lambda url: SlackSettings.model_validate({"webhook_url": f"{url}/hook"}),
    "webhook": lambda url: WebhookSettings.model_validate({"url": url, "secret": "s" * 32}),
    "github": lambda url: GithubSettings.model_validate({"token": "t", "repository": "shop/shop", "api_url": url}),
    "grafana": lambda url: GrafanaSettings.model_validate({"url": url, "token": "t"}),
}


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("name", CHANNELS)
async def test_channel_errors_have_their_status(name: str, body: str) -> None:
    server = Server()
    answers(server, body)
    sent = notification(*WELL[0])
    async with serving(server) as url:
        channel = CHANNELS[name](url).open()
        for server.status in FAILURES:
            with pytest.raises(NotDelivered, match=str(server.status)):
                await channel.deliver(sent, "", retry=False)
        if name not in ("slack webhook", "webhook"):
            server.status = 200
            with pytest.raises(NotDelivered):
                await channel.deliver(sent, "", retry=True)
        await channel.close()


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("known", [True, False], ids=["responder", "proxy"])
async def test_command_line_errors_have_their_status(known: bool, body: str) -> None:
    server = Server()
    answers(server, body)
    server.headers = "X-Responder: rollback-responder" if known else "Server: nginx"
    async with serving(server) as url, ResponderClient(url, None) as client:
        for server.status in FAILURES:
            asks: list[Callable[[], Awaitable[Any]]] = [lambda: client.get("/x"), lambda: client.text("/x")]
            for ask in [*asks, lambda: client.post("/x", {}), lambda: client.download("/x")]:
                with pytest.raises(ResponderError, match=str(server.status)) as caught:
                    await ask()
                if known:
                    assert isinstance(caught.value, Refused)
        server.status = 200
        if body != "another shape":
            with pytest.raises(ResponderError):
                await client.get("/x")


@pytest.mark.parametrize("body", BODIES)
async def test_errors_of_checks_and_probes_have_their_status(body: str) -> None:
    server = Server()
    answers(server, body)
    async with serving(server) as url:
        http = await Http.connect(None)
        for server.status in FAILURES:
            check = HttpCheck.model_validate({"http": url, "fields": {"version": "1"}, "body": "x"})
            finding = await check.holds(http)
            assert not finding.holds
            assert f"answered {server.status}" in finding.reason
        await http.close()

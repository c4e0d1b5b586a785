"""Every registered channel keeps the published contract of a channel."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from responder.notify import ChannelSettings, Notify
from responder.notify.channels import CHANNELS
from responder.testing.channels import LAWS, ChannelCase, Trouble
from tests.responder.notify.peers import TOKEN, Github, Grafana, Mail, Peer, Sink, Slack, certificate


def settings(key: str, **fields: Any) -> ChannelSettings:
    made: ChannelSettings = getattr(Notify.model_validate({key: {"timeout": 1.0, **fields}}), key)[0]
    return made


def cause_on(peer: Peer) -> Callable[[Trouble], None]:
    def cause(trouble: Trouble) -> None:
        rejected = web.json_response({"message": f"no access with {TOKEN}"}, status=403)
        peer.trouble.append({"error": rejected, "hang": "hang", "lost_response": "late"}[trouble])

    return cause


@asynccontextmanager
async def slack(directory: Path) -> AsyncIterator[ChannelCase]:
    async with Slack().up() as peer:
        fields = {"token": TOKEN, "channel": "#ops", "api_url": f"{peer.url}/api"}
        yield ChannelCase(settings("slack", **fields), lambda: list(peer.messages), cause_on(peer), TOKEN)


@asynccontextmanager
async def github(directory: Path) -> AsyncIterator[ChannelCase]:
    async with Github().up() as peer:
        fields = {"repository": "shop/backend", "token": TOKEN, "api_url": f"{peer.url}/api/v3"}
        yield ChannelCase(settings("github", **fields), lambda: [*peer.issues, *peer.comments], cause_on(peer), TOKEN)


@asynccontextmanager
async def grafana(directory: Path) -> AsyncIterator[ChannelCase]:
    async with Grafana().up() as peer:
        made = settings("grafana", url=f"{peer.url}/grafana", token=TOKEN)
        yield ChannelCase(made, lambda: [a["tags"][1] for a in peer.annotations.values()], cause_on(peer), TOKEN)


@asynccontextmanager
async def webhook(directory: Path) -> AsyncIterator[ChannelCase]:
    async with Sink().up() as peer:
        made = settings("webhook", url=f"{peer.url}/hook", secret=TOKEN)
        yield ChannelCase(
            made, lambda: {headers["X-Responder-Delivery"] for headers, _ in peer.taken}, cause_on(peer), TOKEN
        )


@asynccontextmanager
async def email(directory: Path) -> AsyncIterator[ChannelCase]:
    files = certificate(directory)
    async with Mail("tls", files).up() as server:
        fields = {"host": "127.0.0.1", "port": server.port, "security": "tls", "ca_file": files[0]}
        login = {"username": "rollbacks", "password": TOKEN, "from": "rollbacks@shop.test", "to": ["oncall@shop.test"]}
        made = settings("email", **fields, **login)
        yield ChannelCase(made, lambda: {message["Message-ID"] for _, message in server.got}, server.cause, TOKEN)


@asynccontextmanager
async def console(directory: Path) -> AsyncIterator[ChannelCase]:
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    log = logging.getLogger("responder.notifications")
    log.addHandler(handler)
    level = log.level
    log.setLevel(logging.INFO)
    yield ChannelCase(settings("console"), lambda: lines)
    log.setLevel(level)
    log.removeHandler(handler)


CASES: dict[str, Callable[[Path], AbstractAsyncContextManager[ChannelCase]]] = {
    "slack": slack,
    "email": email,
    "webhook": webhook,
    "github": github,
    "grafana": grafana,
    "console": console,
}


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", CHANNELS.names)
async def test_contract(name: str, law: Callable[[ChannelCase], Awaitable[None]], tmp_path: Path) -> None:
    assert name in CASES, f"add a case for the channel {name} to {__file__}"
    async with CASES[name](tmp_path) as case:
        await law(case)

"""`responder check`: refuses what would fail at 3 a.m., with the place of every mistake."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from responder.cli import show
from responder.clients import Connections
from responder.clients.alertmanager import Alertmanager
from responder.clients.prometheus import Prometheus
from responder.config import Config
from responder.config_file import load
from responder.durations import format_duration
from responder.errors import ConfigError, Halt, ResponderError, Unavailable
from responder.evidence.stores import store_of, try_out
from responder.journal import open_journal
from responder.levers.release import CurrentRelease, PointerFile
from responder.notify import ChannelSettings, NotDelivered, Story
from responder.notify.channel import redact
from responder.sources import LogSource
from responder.strategies import levers_of
from responder.words import meant
from responder.world import World


async def check(file: Path, *, live: bool, output: str) -> int:
    """Exit code 0 where all is well, 2 where the file is wrong, 1 where something that it names does not answer."""
    mistakes: list[str] = []
    config: Config | None = None
    try:
        config = load(file)
        _state(config)
    except ConfigError as e:
        mistakes = e.mistakes
    silent = [told async for told in _silent(config)] if live and config and not mistakes else []
    hints = list(_hints(config)) if config and not mistakes else []
    if output == "json":
        print(json.dumps({"mistakes": mistakes, "does_not_answer": silent, "hints": hints}, indent=2))
    else:
        out = show.console()
        for told in mistakes:
            out.print(told, style="red", markup=False, soft_wrap=True)
        for told in silent:
            out.print(told, style="yellow", markup=False, soft_wrap=True)
        if config and not mistakes:
            modes = ", ".join(f"{p.name} ({p.manner})" for p in config.policies) or "none"
            out.print(f"{file}: {len(config.services)} services; policies: {modes}", markup=False, soft_wrap=True)
        for told in hints:
            out.print(f"hint: {told}", style="dim", markup=False, soft_wrap=True)
        if not mistakes and not silent:
            out.print("all is well", style="green")
    return 2 if mistakes else 1 if silent else 0


async def _ask(settings: ChannelSettings) -> str:
    """What is wrong with a channel, asked without telling anybody anything; empty where nothing is."""
    channel = settings.open()
    try:
        await channel.check()
    except NotDelivered as e:
        return redact(str(e), settings.secrets)
    finally:
        await channel.close()
    return ""


async def test_notification(file: Path, name: str) -> int:
    """Sends one message that says it is a test, past everything else. Exit code 1 where it does not get through."""
    config = load(file)
    channels = config.notify.channels
    if name not in channels:
        raise ConfigError([f"{file}: notify: no channel {name} is configured{meant(name, channels)}"])
    settings, now = channels[name], datetime.now(UTC)
    channel = settings.open()
    story = Story(
        subject=f"test-{now:%Y%m%d-%H%M%S}", occasion="0", stage="alert", at=now, accepted_at=now, service="",
        environment="", policy="(none)", reason="a test of this channel", happened="Nothing has happened.",
    )  # fmt: skip
    try:
        async with asyncio.timeout(settings.timeout):
            await channel.tell(story, "", again=False)
    except (NotDelivered, TimeoutError) as e:
        print(f"{name}: {redact(str(e) or 'it took too long', settings.secrets)}", file=sys.stderr)
        return 1
    finally:
        await channel.close()
    print(f"{name} has taken it; look there")
    return 0


def _hints(config: Config) -> Iterator[str]:
    """What is allowed, and not what we would do."""
    auto = [policy for policy in config.policies if policy.mode == "auto" and not policy.force]
    if auto and config.watchdog is None:
        yield "without a watchdog nobody notices that alerts do not get through, and no silence disarms everything"
    if config.web.external_url is None and any(one.links for one in config.notify.channels.values()):
        yield "without web.external_url the links in messages lead to the address that it listens on"
    web = config.web
    if not web.loopback and web.external_url is None and not web.allowed_hosts:
        yield f"web.listen is {web.listen}: clients that use a name are refused until web.allowed_hosts has it"
    for n, service in enumerate(config.services):
        for lever in (one for way in (service.rollback, *service.alternatives) for one in levers_of(way)):
            if isinstance(lever, CurrentRelease | PointerFile) and not lever.restart:
                yield f"services[{n}].rollback: {lever.nothing_follows}"
    for policy in auto:
        if policy.verify.bake < 30:
            told = format_duration(policy.verify.bake)
            yield f"policy {policy.name}: verify.for of {told} may call a service healthy that is only starting"


def _state(config: Config) -> None:
    """Whether the journal can be there at all, without disturbing a responder that has it open."""
    if config.state.startswith("sqlite:///"):
        file = Path(config.state.removeprefix("sqlite://"))
        nearest = next(p for p in (file.parent, *file.parents) if p.exists())
        if not os.access(nearest, os.W_OK):
            raise ConfigError([f"state: {nearest} is not writable for this user"])


async def _unreadable(source: LogSource, connections: Connections) -> AsyncIterator[str]:
    """What of these logs cannot be read, by reading the beginning of the first few."""
    since = datetime.now(UTC) - timedelta(minutes=10)
    try:
        async with asyncio.timeout(source.within):
            for log in (await source.logs(await connections.to(source.client), since))[:5]:
                try:
                    async with contextlib.aclosing(log.chunks()) as chunks:
                        await anext(chunks, b"")
                except (Halt, Unavailable) as e:
                    yield f"{log.origin}: {e}"
    except (Halt, Unavailable) as e:
        yield str(e)
    except TimeoutError:
        yield f"did not answer within {format_duration(source.within)}"


async def _silent(config: Config) -> AsyncIterator[str]:
    """What does not answer: Prometheus, Alertmanager, the shared journal, the channels, every lever and every check."""
    connections = config.connections()
    world = World(connections)
    try:
        try:
            await (await connections.to(Prometheus)).query("vector(1)")
        except ResponderError as e:
            yield f"prometheus: {e}"
        try:
            await (await connections.to(Alertmanager)).alerts({})
        except ResponderError as e:
            yield f"alertmanager: {e}"
        if not config.state.startswith("sqlite:"):
            try:
                await (await open_journal(config.journal)).close()
            except ConfigError as e:
                yield str(e)
        for name, settings in config.notify.channels.items():
            if problem := await _ask(settings):
                yield f"notify: {name}: {problem}"
        for i, service in enumerate(config.services):
            for lever in (one for way in (service.rollback, *service.alternatives) for one in levers_of(way)):
                try:
                    await world.rehearse(lever)
                except ResponderError as e:
                    yield f"services[{i}].rollback: {e}"
            for j, one in enumerate(service.healthy):
                finding = await world.holds(one)
                if not finding.holds:
                    yield f"services[{i}].healthy[{j}]: does not hold now: {finding.reason}"
            for j, source in enumerate(service.sources):
                async for told in _unreadable(source, connections):
                    yield f"services[{i}].logs[{j}]: {told}"
        if config.evidence:
            try:
                async with asyncio.timeout(config.evidence.within):
                    await try_out(store_of(config.evidence, connections))
            except (ResponderError, TimeoutError) as e:
                yield f"evidence: {e or 'it did not answer in time'}"
    finally:
        await connections.close()

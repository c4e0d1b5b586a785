"""`check --live`: queries everything that a plan and its execution use, concurrently, each with a deadline."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

from pydantic import BaseModel, HttpUrl

from foundation.durations import format_duration
from responder.app.settings import Config
from responder.backends.accessible import Accessible
from responder.backends.alertmanager.client import Alertmanager
from responder.backends.check import Check
from responder.backends.connections import Connections
from responder.backends.problems import Problem
from responder.backends.prometheus.client import Prometheus
from responder.backends.resource import Resource
from responder.cli.checking.alert_chain import expected_alerts, unmatched_rules, unrecorded_rules
from responder.cli.checking.routing import unrouted, without_route
from responder.errors import ConfigError, ResponderError
from responder.evidence.settings import EvidenceSettings
from responder.evidence.store import store_of, try_out
from responder.journal import check_journal
from responder.journal.settings import JournalSettings
from responder.notify import ChannelSettings, NotDelivered
from responder.notify.channel import redact
from responder.rollback.gateway import Gateway
from responder.rollback.strategies.strategy import Strategy
from responder.runtime.retention import archive_store
from responder.services.service import Service
from responder.transport.daemon_threads import DaemonThreads

Path = tuple[int | str, ...]
_WITHIN = 15.0
_LONGEST = 30.0
"""Timeout for one target, in seconds. Resources that need several requests, such as app stores, need more."""

_AT_ONCE = 64


class Found(NamedTuple):
    """A problem, and the path in the configuration that it belongs to."""

    path: Path
    problem: Problem


class Target(NamedTuple):
    path: Path
    name: str
    within: float
    ask: Callable[[], Awaitable[list[Problem]]]


async def preflight(config: Config) -> list[Found]:
    """Everything that would make a rollback fail now, in the order of the configuration."""
    asyncio.get_running_loop().set_default_executor(DaemonThreads())
    connections = config.connections()
    at_once = asyncio.Semaphore(_AT_ONCE)

    async def within_its_time(target: Target) -> list[Found]:
        async with at_once:
            return [Found(target.path, problem) for problem in await _problems(target)]

    try:
        targets = list(_targets(config, connections, Gateway(connections)))
        answers = await asyncio.gather(*map(within_its_time, targets))
    finally:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_WITHIN):
                await connections.close()
    return list(dict.fromkeys(found for answer in answers for found in answer))


async def _problems(target: Target) -> list[Problem]:
    try:
        async with asyncio.timeout(target.within):
            return await target.ask()
    except TimeoutError:
        return [Problem(target.name, f"did not answer within {format_duration(target.within)}")]
    except ResponderError as e:
        return [Problem(target.name, str(e))]
    except Exception as e:  # a bug in one target must not hide the others
        return [Problem(target.name, f"could not be checked: {type(e).__name__}: {e}")]


def _targets(config: Config, connections: Connections, gateway: Gateway) -> Iterator[Target]:
    yield Target(("prometheus",), "Prometheus", _WITHIN, lambda: _prometheus(config, connections))
    yield Target(("alertmanager",), "Alertmanager", _WITHIN, lambda: _alertmanager(config, connections))
    if not config.state.startswith("sqlite:"):
        yield Target(("state",), "the journal", _WITHIN, lambda: _journal(config.journal_url))
    if config.journal.archive:
        try_archive = partial(_archive, config.journal, connections)
        yield Target(("journal", "archive"), "the archive of the journal", _WITHIN, try_archive)
    for path, channel in config.notify.located():
        yield Target(path, channel.name, channel.timeout + 1.0, partial(_channel, channel))
    for i, service in enumerate(config.services):
        yield from targets_of(("services", i), service, gateway)
    if evidence := config.evidence:
        try_evidence = partial(_evidence, evidence, connections)
        yield Target(("evidence",), "the evidence store", evidence.within, try_evidence)


def targets_of(path: Path, service: Service, gateway: Gateway) -> Iterator[Target]:
    yield from _of_strategy((*path, "rollback"), service.rollback, gateway)
    for n, strategy in enumerate(service.alternatives):
        yield from _of_strategy((*path, "alternatives", n), strategy, gateway)
    for key, checks in (("health_checks", service.health_checks), ("traffic_checks", service.traffic_checks)):
        for n, check in enumerate(checks):
            check_path = (*path, key, n)
            yield _accessible(check_path, check, gateway)
            yield Target(check_path, _title(check), _WITHIN, partial(_holds, check, gateway))
    for n, source in enumerate(service.sources):
        yield _accessible((*path, "logs", n), source, gateway)


def _of_strategy(path: Path, strategy: Strategy, gateway: Gateway) -> Iterator[Target]:
    for part_path, part in _within(strategy, path):
        yield _accessible(part_path, part, gateway)
    for resource in strategy.derived():
        yield _accessible(path, resource, gateway)
    yield Target(path, f"strategy {strategy.strategy}", _LONGEST, lambda: strategy.problems(gateway))


def _accessible(path: Path, part: Any, gateway: Gateway) -> Target:
    within = min(part.read_timeout, _LONGEST) if isinstance(part, Resource) else _WITHIN
    title = _title(part)
    return Target(path, title, within + 1.0, lambda: gateway.check_access(part, title=title, within=within))


def _within(value: Any, path: Path) -> Iterator[tuple[Path, Accessible]]:
    """Every resource and check of a part of the configuration, with its path."""
    if isinstance(value, Resource | Check):
        yield path, value
    elif isinstance(value, BaseModel):
        for name, field in type(value).model_fields.items():
            yield from _within(getattr(value, name), (*path, field.alias or name))
    elif isinstance(value, tuple):
        for n, item in enumerate(value):
            yield from _within(item, (*path, n))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _within(item, (*path, str(key)))


def _title(part: Any) -> str:
    """The name of a target, or the query of a check."""
    if not isinstance(part, Check):
        return str(part)
    named = ("name", *type(part).model_fields)
    first = next((value for key in named if (value := getattr(part, key, None))), "")
    return str(first) if isinstance(first, str | HttpUrl) else str(part)


async def _prometheus(config: Config, connections: Connections) -> list[Problem]:
    prometheus = await connections.to(Prometheus)
    await prometheus.query("vector(1)")
    loaded = list(await prometheus.rules())
    return [*unmatched_rules(loaded, config.policies), *unrecorded_rules(loaded, config.policies)]


async def _alertmanager(config: Config, connections: Connections) -> list[Problem]:
    """Checks every peer. A rollback needs only one answer, so it would not notice missing peers."""
    found: list[Problem] = []
    expected = expected_alerts(await _rules(connections), config.policies, config.watchdog)
    acting = any(policy.actions for policy in config.policies)
    for url, loaded in (await (await connections.to(Alertmanager)).configurations()).items():
        if isinstance(loaded, ResponderError):
            found.append(Problem(f"Alertmanager {url}", str(loaded)))
        elif acting and not await _posts_directly(config, connections):
            found += _routes(f"Alertmanager {url}", loaded, expected)
    return found


def _routes(alertmanager: str, configuration: str, alerts: list[dict[str, str]]) -> Iterator[Problem]:
    fix = "add the routes and the receiver of docs/how-to/connect-alertmanager.md"
    if without_route(configuration):
        yield Problem(alertmanager, "no route leads to a webhook that ends in /api/v1/alerts", fix)
        return
    for labels in unrouted(configuration, alerts):
        shown = ", ".join(f'{name}="{value}"' for name, value in labels.items())
        yield Problem(alertmanager, f"no route leads {shown} to the responder", fix)


async def _rules(connections: Connections) -> list[Any]:
    """The loaded groups of rules; none if Prometheus does not answer, which another target reports."""
    try:
        return list(await (await connections.to(Prometheus)).rules())
    except ResponderError:
        return []


async def _posts_directly(config: Config, connections: Connections) -> bool:
    """Whether Prometheus also sends alerts to something other than the configured Alertmanagers."""
    known = {str(url).rstrip("/") for url in config.alertmanager.urls}
    active = await (await connections.to(Prometheus)).alertmanagers()
    return any(url.removesuffix("/api/v2/alerts").rstrip("/") not in known for url in active)


async def _journal(state: str) -> list[Problem]:
    try:
        await check_journal(state)
    except ConfigError as e:
        return [Problem("the journal", finding.message, finding.hint) for finding in e.findings]
    return []


async def _channel(settings: ChannelSettings) -> list[Problem]:
    channel = settings.open()
    try:
        await channel.check_access()
    except NotDelivered as e:
        return [Problem(settings.name, redact(str(e), settings.secrets))]
    finally:
        await channel.close()
    return []


async def _evidence(settings: EvidenceSettings, connections: Connections) -> list[Problem]:
    await try_out(await store_of(settings, connections))
    return []


async def _archive(settings: JournalSettings, connections: Connections) -> list[Problem]:
    await (await archive_store(settings, connections)).room()
    return []


async def _holds(check: Check, gateway: Gateway) -> list[Problem]:
    finding = await gateway.holds(check)
    return [] if finding.holds else [Problem(_title(check), f"fails now: {finding.reason}")]

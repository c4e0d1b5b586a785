"""`responder check`: refuses what would fail at 3 a.m., with the place of every mistake."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from responder.app.loading import load, locator
from responder.app.settings import Config
from responder.backends.alertmanager.matchers import all_match
from responder.backends.host.access import user
from responder.backends.host.release import CurrentRelease, PointerFile
from responder.backends.problems import Problem
from responder.backends.prometheus.trouble_check import NOW
from responder.cli.checking.live import preflight
from responder.cli.display import show
from responder.config.durations import format_duration
from responder.config.text import meant
from responder.decisions.policies import Policy
from responder.errors import ConfigError
from responder.notify import NotDelivered, Notification
from responder.notify.channel import redact
from responder.rollback.strategies import resources_of

Route = tuple[int | str, ...]


async def check(file: Path, *, live: bool, output: str) -> int:
    """Exit code 0 where all is well, 2 where the file is wrong, 1 where a rollback could not use what it names."""
    mistakes: list[str] = []
    config: Config | None = None
    try:
        config = load(file)
        _state(config)
    except ConfigError as e:
        mistakes = e.mistakes
    found: list[dict[str, str]] = []
    hints: list[str] = []
    if config and not mistakes:
        locate = locator(file)
        hints = [f"{locate(path)}: {hint}" for path, hint in _hints(config)]
    if live and config and not mistakes:
        found = [{"place": locate(finding.path), **finding.problem._asdict()} for finding in await preflight(config)]
        hints += _about_the_user()
    if output == "json":
        body: dict[str, Any] = {"mistakes": mistakes, "problems": found, "hints": hints}
        print(json.dumps({**body, **({"checked_as": user()} if live else {})}, indent=2))
    else:
        out = show.console()
        for mistake in mistakes:
            out.print(mistake, style="red", markup=False, soft_wrap=True)
        for finding in found:
            problem = Problem(finding["looked_at"], finding["found"], finding["fix"])
            out.print(f"{finding['place']}: {problem}", style="yellow", markup=False, soft_wrap=True)
        if config and not mistakes:
            modes = ", ".join(f"{p.name} ({p.manner})" for p in config.policies) or "none"
            services = f"{len(config.services)} service{'' if len(config.services) == 1 else 's'}"
            out.print(f"{file}: {services}; policies: {modes}", markup=False, soft_wrap=True)
            if live:
                out.print(f"checked as {user()}", markup=False, soft_wrap=True)
        for hint in hints:
            out.print(f"hint: {hint}", style="dim", markup=False, soft_wrap=True)
        if not mistakes and not found:
            out.print("all is well", style="green")
    return 2 if mistakes else 1 if found else 0


async def test_notification(file: Path, name: str) -> int:
    """Sends one message that says it is a test, past everything else. Exit code 1 where it does not get through."""
    config = load(file)
    channels = config.notify.channels
    if name not in channels:
        raise ConfigError([f"{file}: notify: no channel {name} is configured{meant(name, channels)}"])
    settings, now = channels[name], datetime.now(UTC)
    channel = settings.open()
    notification = Notification(
        subject=f"test-{now:%Y%m%d-%H%M%S}", occasion="0", stage="alert", at=now, accepted_at=now, service="",
        environment="", policy="(none)", reason="a test of this channel", happened="Nothing has happened.",
    )  # fmt: skip
    try:
        async with asyncio.timeout(settings.timeout):
            await channel.deliver(notification, "", retry=False)
    except (NotDelivered, TimeoutError) as e:
        print(f"{name}: {redact(str(e) or 'it took too long', settings.secrets)}", file=sys.stderr)
        return 1
    finally:
        await channel.close()
    print(f"{name} has taken it; look there")
    return 0


SHIPPED = frozenset({"ServiceFailing", "HighErrorRate", "LatencyHigh", "ErrorRateRegressed"})
"""The alerts of our own rules that offer a rollback: those rules record the trouble as it is now."""


def _takes_shipped(policy: Policy) -> bool:
    """Whether it takes alerts by the label that the shipped rules set, or by nothing but their names."""
    of_label = [matcher for matcher in policy.match if matcher.name == "rollback"]
    named = [
        matcher.value.split("|")
        for matcher in policy.match
        if matcher.name == "alertname" and matcher.op in ("=", "=~")
    ]
    is_offer = all_match(of_label, {"rollback": "true"}) and not all_match(of_label, {})
    return is_offer or any(set(names) <= SHIPPED for names in named)


def _hints(config: Config) -> Iterator[tuple[Route, str]]:
    """What is allowed, and not what we would do, each with its place in the file."""
    auto = [(n, policy) for n, policy in enumerate(config.policies) if policy.mode == "auto" and not policy.force]
    if auto and config.watchdog is None:
        hint = "without one nobody notices that alerts do not get through, and no silence disarms everything"
        yield ("watchdog",), hint
    web = config.web
    if web.external_url is None and any(channel.includes_links for channel in config.notify.channels.values()):
        yield ("web", "external_url"), "without it the links in messages lead to the address that it listens on"
    for n, policy in enumerate(config.policies):
        if policy.roll_back and not policy.force and not policy.expression and not _takes_shipped(policy):
            hint = (
                f"policy {policy.name} has none: for alerts whose rules do not record {NOW}, as the shipped ones do, "
                "it acts only while a health or traffic check of the service fails; that is safe, since a service "
                "whose checks all hold is never rolled back by them, and may be too careful"
            )
            yield ("policies", n, "expression"), hint
    if not web.loopback and web.external_url is None and not web.allowed_hosts:
        yield ("web", "listen"), f"{web.listen}: clients that use a name are refused until web.allowed_hosts has it"
    for n, service in enumerate(config.services):
        for resource in (
            resource for strategy in (service.rollback, *service.alternatives) for resource in resources_of(strategy)
        ):
            if isinstance(resource, CurrentRelease | PointerFile) and not resource.restart:
                yield ("services", n, "rollback"), resource.nothing_follows
    for n, policy in auto:
        if policy.verify.bake < 30:
            bake = format_duration(policy.verify.bake)
            yield ("policies", n, "verify", "for"), f"{bake} may call a service healthy that is only starting"


def _state(config: Config) -> None:
    """Whether the journal can be there at all, without disturbing a responder that has it open."""
    if config.state.startswith("sqlite:///"):
        file = Path(config.state.removeprefix("sqlite://"))
        nearest = next(p for p in (file.parent, *file.parents) if p.exists())
        if not os.access(nearest, os.W_OK):
            raise ConfigError([f"state: {nearest} is not writable for this user"])


def _about_the_user() -> Iterator[str]:
    """Whose rights were looked at: the service may have others."""
    if os.geteuid() == 0:
        yield (
            "root can write and run what the user of the service cannot: check as that user, as with "
            "sudo -u responder responder check --live"
        )

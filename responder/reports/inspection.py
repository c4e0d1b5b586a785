"""Collects the facts of a report: the journal in one read, and the current result of every check."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from responder.backends.alertmanager.client import Alertmanager
from responder.backends.check import Check, Finding
from responder.backends.connections import Connections
from responder.backends.http.http_check import HttpCheck
from responder.backends.prometheus.promql_check import PromqlCheck
from responder.config.permitted import EVERYTHING, Permitted
from responder.decisions.alert_state import who_muted
from responder.decisions.journal_facts import watchdog_missing
from responder.decisions.policies import Policy, ServiceOfLabel
from responder.decisions.policy_set import PolicySet
from responder.errors import StepFailed, Unavailable
from responder.journal import Database, Row, Transaction, decisions, deployments, executions
from responder.reports.facts import CheckResult, Cooldown, Denial, ReportInputs, Rollback, ServiceFacts
from responder.rollback.gateway import Gateway
from responder.services.pins import pins_of
from responder.services.service import Service

_AT_ONCE = 8
_MOST = 1000


async def inspect(
    journal: Database,
    policy_set: PolicySet,
    services: Sequence[Service],
    connections: Connections,
    now: datetime,
    since: datetime,
    *,
    disarmed: str = "",
    within: float = 5.0,
    permitted: Permitted = EVERYTHING,
) -> ReportInputs:
    """The facts about these services. A check that does not answer within so many seconds is unknown.

    Raises JournalUnavailable.
    """
    began = time.monotonic()
    facts = await journal.read(_known, policy_set, services, now, since, permitted)
    took = time.monotonic() - began
    found = await evaluate_checks(services, connections, within)
    checked = [
        service.model_copy(update={"checks": checks}) for service, checks in zip(facts.services, found, strict=True)
    ]
    failing = [
        configured
        for configured, service in zip(services, checked, strict=True)
        if any(check.state == "fails" for check in service.checks)
    ]
    muted = await query_silences(failing, connections, within) if failing else {}
    reported = [
        service.model_copy(update={"silenced": muted.get((service.service, service.environment), "")})
        for service in checked
    ]
    return facts.model_copy(
        update={"services": tuple(reported), "journal_took": took, "disarmed": facts.disarmed or disarmed}
    )


async def evaluate_checks(
    services: Sequence[Service], connections: Connections, within: float
) -> list[tuple[CheckResult, ...]]:
    """The current result of every check of each service, within so many seconds, a few at once."""
    gateway, turn = Gateway(connections), asyncio.Semaphore(_AT_ONCE)

    async def ask(check: Check) -> Finding:
        async with turn:
            return await gateway.holds(check)

    checks = [
        [*(("health", c) for c in s.health_checks), *(("traffic", c) for c in s.traffic_checks)] for s in services
    ]
    started = [[(kind, check, asyncio.create_task(ask(check))) for kind, check in of_service] for of_service in checks]
    tasks = [task for of_service in started for _, _, task in of_service]
    try:
        if tasks:
            await asyncio.wait(tasks, timeout=within)
    finally:
        late = [task for task in tasks if task.cancel()]
        await asyncio.gather(*late, return_exceptions=True)
    silence = Finding(holds=False, answered=False, reason=f"no answer within {within:g} s")
    return [
        tuple(_result(kind, check, silence if task.cancelled() else task.result()) for kind, check, task in of_service)
        for of_service in started
    ]


async def query_silences(
    services: Sequence[Service], connections: Connections, within: float
) -> dict[tuple[str, str], str]:
    """The silenced alerts of each service, and who silenced them. Empty if Alertmanager does not answer."""

    async def ask(service: Service) -> str:
        try:
            alertmanager = await connections.to(Alertmanager)
            labels = {"service": service.name, "environment": service.environment}
            known = await alertmanager.alerts(labels)
            muted = [alert for alert in known if alert.state == "suppressed"]
            names = ", ".join(sorted({alert.labels.get("alertname", "") for alert in muted})[:3])
            return f"{names}: {await who_muted(muted, alertmanager, known)}" if muted else ""
        except (Unavailable, StepFailed):
            return ""

    try:
        async with asyncio.timeout(within):
            reasons = await asyncio.gather(*map(ask, services[:_AT_ONCE]))
    except TimeoutError:
        return {}
    return {(service.name, service.environment): why for service, why in zip(services, reasons, strict=False) if why}


def _result(kind: Any, check: Check, finding: Finding) -> CheckResult:
    name = name_of(check)
    reason = finding.reason if name in finding.reason or finding.answered else f"{name}: {finding.reason}"
    state: Any = "holds" if finding.holds else "fails" if finding.answered else "unknown"
    return CheckResult(kind=kind, check=name, state=state, reason=reason)


def name_of(check: Check) -> str:
    """The name of a check, without credentials."""
    match check:
        case PromqlCheck():
            return check.promql
        case HttpCheck():
            return str(check.http)
    return check.model_dump_json(exclude_defaults=True)


async def _known(
    tx: Transaction,
    policy_set: PolicySet,
    services: Sequence[Service],
    now: datetime,
    since: datetime,
    permitted: Permitted,
) -> ReportInputs:
    thrown = await decisions.kill_switch(tx)
    running = {(deployment.service, deployment.environment): deployment for deployment in await deployments.running(tx)}
    still_open = {(row["service"], row["environment"]): row for row in await tx.all("open_executions")}
    ends = await tx.all("last_ends")
    refused = await tx.all("denied_since", since=since, most=_MOST)
    begun = await executions.find(tx, since=since, most=_MOST, permitted=permitted)
    reported = {(service.name, service.environment) for service in services}
    found = []
    for service in services:
        key = (service.name, service.environment)
        where = {"service": service.name, "environment": service.environment}
        runs = running.get(key)
        target = await tx.first("good_target", **where, running=runs.version) if runs else None
        stays = await tx.first("protected_since", **where, target=target["version"]) if target else None
        last = await tx.first("last_ended", **where)
        found.append(
            ServiceFacts(
                **where,
                depends_on=tuple(needed.name for needed in policy_set.needs(service)),
                running=runs,
                pinned=tuple((await pins_of(tx, *key)).active) if runs and runs.rolled_back_by else (),
                target=target["version"] if target else None,
                protected=f"{stays['version']}: {stays['no_rollback']}" if stays else "",
                open=_rollback(still_open.get(key)),
                last=_rollback(last),
                cooldowns=tuple(_cooldowns(policy_set, ends, key)),
                modes={p.name: "force" if p.force else p.mode for p in policy_set.policies if covers(p, service.name)},
                refused=tuple(_refused(row for row in refused if (row["service"], row["environment"]) == key)),
            )
        )
    return ReportInputs(
        at=now,
        since=since,
        stopped=policy_set.stop_file_says() or (f"stopped by {thrown.set_by}: {thrown.reason}" if thrown else ""),
        disarmed=await watchdog_missing(tx, policy_set, now),
        services=tuple(found),
        rollbacks=tuple(
            Rollback.model_validate(row) for row in begun if (row["service"], row["environment"]) in reported
        ),
    )


def covers(policy: Policy, service: str) -> bool:
    """Whether a policy can roll back the service. A policy that takes the service from a label covers all."""
    return isinstance(policy.roll_back, ServiceOfLabel) or service in (policy.roll_back or ())


def _rollback(row: Row | None) -> Rollback | None:
    return Rollback.model_validate(row) if row else None


def _cooldowns(policy_set: PolicySet, ends: Sequence[Row], key: tuple[str, str]) -> list[Cooldown]:
    return [
        Cooldown(
            policy=row["policy"], until=row["ended_at"] + timedelta(seconds=policy_set.policy(row["policy"]).cooldown)
        )
        for row in ends
        if (row["service"], row["environment"]) == key
    ]


def _refused(rows: Any) -> list[Denial]:
    """The number of denials per guard, with the latest reason."""
    found: dict[str, Denial] = {}
    for row in rows:
        known = found.get(row["guard"])
        values = {name: row[name] for name in ("guard", "reason", "last_at")}
        found[row["guard"]] = known.model_copy(update={"n": known.n + 1}) if known else Denial(n=1, **values)
    return list(found.values())

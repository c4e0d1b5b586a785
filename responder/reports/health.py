"""The health report: the status, warnings and recommendations, each with the fact behind it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Literal

from pydantic import BaseModel

from foundation.durations import format_duration
from responder.reports.facts import CheckResult, ReportInputs, Rollback, ServiceFacts

Status = Literal["healthy", "degraded", "unknown", "unhealthy"]
_WORST: tuple[Status, ...] = ("unhealthy", "unknown", "degraded", "healthy")

_WAITING_LONG = timedelta(seconds=30)
_JOURNAL_SLOW = 1.0


class CheckReport(BaseModel):
    """A check that fails or did not answer."""

    service: str
    environment: str
    kind: str
    check: str
    reason: str


class HealthWarning(BaseModel):
    """Something that needs attention."""

    about: str
    fact: str
    since: datetime | None = None


class Recommendation(BaseModel):
    """What to do, why, and the command or page for it."""

    because: str
    do: str
    see: str


class ServiceReport(BaseModel):
    service: str
    environment: str
    status: Status
    version: str | None
    version_status: str | None
    deployed_at: datetime | None
    rollback_target: str | None
    last_rollback: Rollback | None
    checks: list[CheckResult]
    silenced: str = ""  # which of its alerts are silenced while it fails, and by whom


class Report(BaseModel):
    """The status of all services and of the responder."""

    status: Status
    at: datetime
    since: datetime
    services: list[ServiceReport]
    failed_checks: list[CheckReport]
    unanswered_checks: list[CheckReport]
    warnings: list[HealthWarning]
    recommendations: list[Recommendation]
    rollbacks: list[Rollback]


def make_report(facts: ReportInputs) -> Report:
    """The report on these facts. Pure."""
    services = [
        ServiceReport(
            service=service.service,
            environment=service.environment,
            status=status_of(service),
            version=service.running.version if service.running else None,
            version_status=service.running.status if service.running else None,
            deployed_at=service.running.at if service.running else None,
            rollback_target=service.target,
            last_rollback=service.last,
            checks=list(service.checks),
            silenced=service.silenced,
        )
        for service in facts.services
    ]
    notes = [*_of_the_responder(facts), *(note for service in facts.services for note in _of_a_service(service, facts))]
    return Report(
        status=overall(facts, [service.status for service in services]),
        at=facts.at,
        since=facts.since,
        services=services,
        failed_checks=list(_checks(facts, "fails")),
        unanswered_checks=list(_checks(facts, "unknown")),
        warnings=[warned for warned, _ in notes if warned],
        recommendations=[advice for _, advice in notes if advice],
        rollbacks=list(facts.rollbacks),
    )


def status_of(service: ServiceFacts) -> Status:
    """`unhealthy`: a health check fails. `unknown`: one had no answer. `degraded`: a traffic check does not hold, a
    rollback is open, or the running version is bad or suspect. Otherwise `healthy`.
    """
    healthy = {check.state for check in service.checks if check.kind == "health"}
    if "fails" in healthy:
        return "unhealthy"
    if "unknown" in healthy or not healthy:
        return "unknown"
    quarantined = service.running is not None and service.running.status in ("bad", "suspect")
    traffic = any(check.state != "holds" for check in service.checks if check.kind == "traffic")
    return "degraded" if traffic or service.open or quarantined else "healthy"


def overall(facts: ReportInputs, services: Iterable[Status]) -> Status:
    """The worst status of the services and the responder; `unknown` without services.

    A stuck rollback is `unhealthy`. Automation that cannot act is `degraded`.
    """
    found: set[Status] = set(services) or {"unknown"}
    if any(service.open and service.open.state == "stuck" for service in facts.services):
        found.add("unhealthy")
    if facts.stopped or facts.disarmed or not facts.has_lease:
        found.add("degraded")
    return next(status for status in _WORST if status in found)


def _checks(facts: ReportInputs, state: str) -> Iterator[CheckReport]:
    for service in facts.services:
        for check in service.checks:
            if check.state == state:
                fields = check.model_dump(exclude={"state"})
                yield CheckReport(service=service.service, environment=service.environment, **fields)


_Note = tuple[HealthWarning | None, Recommendation | None]


def _note(about: str, fact: str, do: str = "", see: str = "", since: datetime | None = None) -> _Note:
    advice = Recommendation(because=f"{about}: {fact}", do=do, see=see) if do else None
    return HealthWarning(about=about, fact=fact, since=since), advice


def _of_the_responder(facts: ReportInputs) -> Iterator[_Note]:
    me = "the responder"
    if facts.stopped:
        yield _note(
            me, f"automation is off: {facts.stopped}", "re-enable it when the reason no longer applies",
            'responder close --all --reason "…", or remove the stop file',
        )  # fmt: skip
    if facts.disarmed:
        yield _note(
            me, f"automation is disarmed: {facts.disarmed}",
            "find the silence, or the failure on the path from Prometheus to the responder",
            "docs/how-to/arm-with-a-watchdog.md",
        )  # fmt: skip
    if not facts.has_lease:
        yield _note(
            me, "this process has no lease and executes nothing", "check its log and the journal",
            "docs/runbooks/ResponderJournalDown.md",
        )  # fmt: skip
    if facts.journal_took > _JOURNAL_SLOW:
        yield _note(
            me, f"reading the journal took {facts.journal_took:.1f} s", "check the disk or PostgreSQL",
            "docs/runbooks/ResponderJournalDown.md",
        )  # fmt: skip
    if facts.mistake:
        fact = f"the new configuration was rejected, the old one stays in use: {facts.mistake}"
        yield _note(me, fact, "correct it", "responder check")


def _of_a_service(service: ServiceFacts, facts: ReportInputs) -> Iterator[_Note]:
    about = f"{service.service} in {service.environment}"
    if service.open:
        yield _open(about, service.open, facts.at)
    yield from _failing(about, service, facts)
    for check in service.checks:
        if check.state == "unknown":
            yield _note(
                about, f"a check did not answer: {check.reason}", "check that Prometheus answers and has the series",
                "responder check --live",
            )  # fmt: skip
        elif check.state == "fails" and check.kind == "traffic":
            yield _note(
                about, f"there is no traffic: {check.reason}", "check that traffic reaches it",
                "docs/reference/configuration.md",
            )  # fmt: skip
    if service.silenced:
        yield _note(
            about, f"it is unhealthy while its alerts are silenced: {service.silenced}",
            "expire the silence to allow rollbacks", "amtool silence expire ID",
        )  # fmt: skip
    for pin in service.pinned:
        yield _note(
            about, f"its version is pinned: {pin}", "remove the file before you deploy another version",
            "docs/how-to/docker.md",
        )  # fmt: skip
    yield from _versions(about, service)
    for cooldown in service.cooldowns:
        if cooldown.until > facts.at:
            left = format_duration((cooldown.until - facts.at).total_seconds() // 1)
            yield _note(about, f"the cooldown of policy {cooldown.policy} lasts another {left}")
    if service.modes and not service.open and all(mode == "observe" for mode in service.modes.values()):
        yield _note(about, "all its policies are in observe mode")
    for refused in service.refused:
        times = f"{refused.n} times" if refused.n > 1 else "once"
        yield _note(
            about, f"alerts requested a rollback and {refused.guard} denied it {times}: {refused.reason}",
            "see the result of every guard", f"responder explain --last --service {service.service}", refused.last_at,
        )  # fmt: skip


def _open(about: str, rollback: Rollback, now: datetime) -> _Note:
    waited = format_duration((now - rollback.accepted_at).total_seconds() // 1)
    named = f"{rollback.id} ({rollback.from_version} → {rollback.to_version})"
    match rollback.state:
        case "stuck":
            return _note(
                about, f"rollback {named} is stuck: {rollback.reason}", "find the cause, then close it",
                f'responder history {rollback.id}, then: responder close {rollback.id} --reason "…"',
                rollback.accepted_at,
            )  # fmt: skip
        case "awaiting_approval":
            return _note(
                about,
                f"rollback {named} awaits approval: {rollback.reason}", "review its plan, then approve or stop it",
                f"responder approve {rollback.id} --plan {rollback.plan_hash}", rollback.accepted_at,
            )  # fmt: skip
        case "accepted" if now - rollback.accepted_at > _WAITING_LONG:
            return _note(
                about, f"rollback {named} has been queued for {waited}", "see what else is running",
                "responder status", rollback.accepted_at,
            )  # fmt: skip
    fact = f"rollback {named} has been running for {waited}"
    return _note(about, fact, "watch it", f"responder watch {rollback.id}", rollback.accepted_at)


def _failing(about: str, service: ServiceFacts, facts: ReportInputs) -> Iterator[_Note]:
    failing = [check.reason for check in service.checks if check.kind == "health" and check.state == "fails"]
    if not failing or service.open:
        return
    fact = f"it is unhealthy: {failing[0]}"
    sick = {
        other.service
        for other in facts.services
        if other.environment == service.environment and status_of(other) == "unhealthy"
    }
    if causes := sorted(sick & set(service.depends_on)):
        do, see = (
            f"check {', '.join(causes)} first: it is a dependency and unhealthy too",
            "responder report",
        )
    elif service.running is None or service.target is None:
        do, see = "fix it manually: there is no rollback target", "responder explain --last"
    elif service.running.rolled_back_by:
        do, see = (
            "look for another cause: the last change was a rollback",
            f"responder report {service.running.rolled_back_by}",
        )
    else:
        age = format_duration((facts.at - service.running.at).total_seconds() // 1)
        do = f"if {service.running.version}, deployed {age} ago, is the cause, roll back to {service.target}"
        see = f'responder rollback {service.service} --environment {service.environment} --reason "…" --dry-run'
    yield None, Recommendation(because=f"{about}: {fact}", do=do, see=see)


def _versions(about: str, service: ServiceFacts) -> Iterator[_Note]:
    running = service.running
    command = f"responder deployed {service.service} VERSION --environment {service.environment}"
    if running is None:
        yield _note(
            about, "no deployment was reported: it cannot be rolled back",
            "report deployments from the pipeline, the first one as good", f"{command} --good",
        )  # fmt: skip
        return
    if running.status in ("bad", "suspect"):
        yield _note(
            about, f"the running version {running.version} is {running.status}",
            "deploy another one, or mark it if it is good",
            f"responder mark {service.service} {running.version} good --environment {service.environment}", running.at,
        )  # fmt: skip
    if service.target is None:
        yield _note(
            about, f"no version other than {running.version} is known good: there is no rollback target",
            "mark an earlier version as good", f"responder versions {service.service}",
        )  # fmt: skip
    elif service.protected:
        version = service.protected.partition(":")[0]
        yield _note(
            about, f"no rollback can go past {service.protected}", "remove the protection when it is no longer needed",
            f"responder mark {service.service} {version} --lift --environment {service.environment}",
        )  # fmt: skip

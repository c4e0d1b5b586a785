"""How it is now, what stands out and what to do about it: every recommendation names the fact behind it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Literal

from pydantic import BaseModel

from responder.config.durations import format_duration
from responder.reports.facts import Asked, ReportInputs, Rollback, ServiceFacts

Status = Literal["healthy", "degraded", "unknown", "unhealthy"]
_WORST: tuple[Status, ...] = ("unhealthy", "unknown", "degraded", "healthy")

_WAITING_LONG = timedelta(seconds=30)
_JOURNAL_SLOW = 1.0


class Check(BaseModel):
    """A check that does not hold, or that nobody could answer."""

    service: str
    environment: str
    kind: str
    check: str
    reason: str


class Warned(BaseModel):
    """Something that stands out."""

    about: str
    fact: str
    since: datetime | None = None


class Recommendation(BaseModel):
    """What to do, why, and where to go."""

    because: str
    do: str
    see: str


class ServiceReport(BaseModel):
    service: str
    environment: str
    status: Status
    version: str | None
    known_as: str | None
    deployed_at: datetime | None
    can_go_back_to: str | None
    last_rollback: Rollback | None
    checks: list[Asked]
    silenced: str = ""  # which of its alerts are muted while it fails, and by whom


class Report(BaseModel):
    """The seed's health report: overall status, failed checks, warnings, recommendations."""

    status: Status
    at: datetime
    since: datetime
    services: list[ServiceReport]
    failed_checks: list[Check]
    unanswered_checks: list[Check]
    warnings: list[Warned]
    recommendations: list[Recommendation]
    rollbacks: list[Rollback]


def make_report(facts: ReportInputs) -> Report:
    """The same report for the same facts."""
    services = [
        ServiceReport(
            service=service.service,
            environment=service.environment,
            status=status_of(service),
            version=service.running.version if service.running else None,
            known_as=service.running.status if service.running else None,
            deployed_at=service.running.at if service.running else None,
            can_go_back_to=service.target,
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
    """`unhealthy`: a check of `healthy` fails. `unknown`: one got no answer. `degraded`: `traffic` does not hold, a
    rollback is open, or a version runs that is bad or suspect. Else `healthy`.
    """
    healthy = {check.state for check in service.checks if check.kind == "healthy"}
    if "fails" in healthy:
        return "unhealthy"
    if "unknown" in healthy or not healthy:
        return "unknown"
    quarantined = service.running is not None and service.running.status in ("bad", "suspect")
    traffic = any(check.state != "holds" for check in service.checks if check.kind == "traffic")
    return "degraded" if traffic or service.open or quarantined else "healthy"


def overall(facts: ReportInputs, services: Iterable[Status]) -> Status:
    """The worst of the services, and no better than the responder itself: a stuck rollback is `unhealthy`, automation
    that cannot act `degraded`. Without services there is nothing to know.
    """
    found: set[Status] = set(services) or {"unknown"}
    if any(service.open and service.open.state == "stuck" for service in facts.services):
        found.add("unhealthy")
    if facts.stopped or facts.disarmed or not facts.has_lease:
        found.add("degraded")
    return next(status for status in _WORST if status in found)


def _checks(facts: ReportInputs, state: str) -> Iterator[Check]:
    for service in facts.services:
        for check in service.checks:
            if check.state == state:
                fields = check.model_dump(exclude={"state"})
                yield Check(service=service.service, environment=service.environment, **fields)


_Note = tuple[Warned | None, Recommendation | None]


def _note(about: str, fact: str, do: str = "", see: str = "", since: datetime | None = None) -> _Note:
    advice = Recommendation(because=f"{about}: {fact}", do=do, see=see) if do else None
    return Warned(about=about, fact=fact, since=since), advice


def _of_the_responder(facts: ReportInputs) -> Iterator[_Note]:
    me = "the responder"
    if facts.stopped:
        yield _note(
            me, f"it does not act: {facts.stopped}", "let it act again once the reason is gone",
            'responder close --all --reason "…", or remove the stop file',
        )  # fmt: skip
    if facts.disarmed:
        yield _note(
            me, f"it is disarmed: {facts.disarmed}", "look for the silence, or for what is broken between",
            "docs/how-to/arm-with-a-watchdog.md",
        )  # fmt: skip
    if not facts.has_lease:
        yield _note(
            me, "this process holds no lease and carries nothing out", "look into its log, and at the journal",
            "docs/runbooks/ResponderJournalDown.md",
        )  # fmt: skip
    if facts.journal_took > _JOURNAL_SLOW:
        yield _note(
            me, f"reading the journal took {facts.journal_took:.1f} s", "look at the disk, or at PostgreSQL",
            "docs/runbooks/ResponderJournalDown.md",
        )  # fmt: skip
    if facts.mistake:
        fact = f"the new configuration was refused, the old one is in use: {facts.mistake}"
        yield _note(me, fact, "mend it", "responder check")


def _of_a_service(service: ServiceFacts, facts: ReportInputs) -> Iterator[_Note]:
    about = f"{service.service} in {service.environment}"
    if service.open:
        yield _open(about, service.open, facts.at)
    yield from _failing(about, service, facts)
    for check in service.checks:
        if check.state == "unknown":
            yield _note(
                about, f"a check got no answer: {check.reason}", "see whether Prometheus answers and has the series",
                "responder check --live",
            )  # fmt: skip
        elif check.state == "fails" and check.kind == "traffic":
            yield _note(
                about, f"nothing shows that it is used: {check.reason}", "see whether traffic reaches it",
                "docs/reference/configuration.md",
            )  # fmt: skip
    if service.silenced:
        yield _note(
            about, f"it is not healthy while its alerts are muted: {service.silenced}",
            "expire the silence to let it act", "amtool silence expire ID",
        )  # fmt: skip
    yield from _versions(about, service)
    for cooldown in service.cooldowns:
        if cooldown.until > facts.at:
            left = format_duration((cooldown.until - facts.at).total_seconds() // 1)
            yield _note(about, f"the policy {cooldown.policy} cools down for another {left}")
    if service.modes and not service.open and all(mode == "observe" for mode in service.modes.values()):
        yield _note(about, "every policy of it only observes")
    for refused in service.refused:
        times = f"{refused.n} times" if refused.n > 1 else "once"
        yield _note(
            about, f"alerts wanted a rollback and {refused.guard} refused it {times}: {refused.reason}",
            "see what every guard said", f"responder explain --last --service {service.service}", refused.last_at,
        )  # fmt: skip


def _open(about: str, rollback: Rollback, now: datetime) -> _Note:
    waited = format_duration((now - rollback.accepted_at).total_seconds() // 1)
    named = f"{rollback.id} ({rollback.from_version} → {rollback.to_version})"
    match rollback.state:
        case "stuck":
            return _note(
                about, f"rollback {named} is stuck: {rollback.reason}", "look at it, then close it by hand",
                f'responder history {rollback.id}, then: responder close {rollback.id} --reason "…"',
                rollback.accepted_at,
            )  # fmt: skip
        case "awaiting_approval":
            return _note(
                about, f"rollback {named} waits for approval: {rollback.reason}", "read its plan; approve or stop it",
                f"responder approve {rollback.id} --plan {rollback.plan_hash}", rollback.accepted_at,
            )  # fmt: skip
        case "accepted" if now - rollback.accepted_at > _WAITING_LONG:
            return _note(
                about, f"rollback {named} has waited for its turn for {waited}", "see what else is under way",
                "responder status", rollback.accepted_at,
            )  # fmt: skip
    fact = f"rollback {named} is under way for {waited}"
    return _note(about, fact, "watch it", f"responder watch {rollback.id}", rollback.accepted_at)


def _failing(about: str, service: ServiceFacts, facts: ReportInputs) -> Iterator[_Note]:
    failing = [check.reason for check in service.checks if check.kind == "healthy" and check.state == "fails"]
    if not failing or service.open:
        return
    fact = f"it is not healthy: {failing[0]}"
    sick = {
        other.service
        for other in facts.services
        if other.environment == service.environment and status_of(other) == "unhealthy"
    }
    if causes := sorted(sick & set(service.depends_on)):
        do, see = (
            f"look at {', '.join(causes)} first, which it needs and which is not healthy either",
            "responder report",
        )
    elif service.running is None or service.target is None:
        do, see = "mend it by hand: there is nothing to go back to", "responder explain --last"
    elif service.running.rolled_back_by:
        do, see = (
            "look for another cause: the last change was our own rollback",
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
            about, "no deployment of it was ever told: it cannot be rolled back",
            "let the pipeline tell them; the first one as known good", f"{command} --good",
        )  # fmt: skip
        return
    if running.status in ("bad", "suspect"):
        yield _note(
            about, f"{running.version} runs, which is {running.status}", "deploy another one, or mark it once you know",
            f"responder mark {service.service} {running.version} good --environment {service.environment}", running.at,
        )  # fmt: skip
    if service.target is None:
        yield _note(
            about, f"no version other than {running.version} is known good: there is nothing to go back to",
            "say of an earlier one that it is good", f"responder versions {service.service}",
        )  # fmt: skip
    elif service.must_stay:
        version = service.must_stay.partition(":")[0]
        yield _note(
            about, f"it must not be rolled back past {service.must_stay}", "lift that once it does not matter any more",
            f"responder mark {service.service} {version} --lift --environment {service.environment}",
        )  # fmt: skip

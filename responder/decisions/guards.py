"""Whether to act: pure functions over a situation, each with a reason that an engineer understands at 3 a.m."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Literal

from pydantic import BaseModel, ConfigDict

from responder.config.durations import format_duration
from responder.decisions.facts import Facts
from responder.decisions.policies import Incident
from responder.services.registry import NEVER_A_TARGET

Kind = Literal["allow", "deny", "require_approval"]


class GuardResult(BaseModel):
    """What one guard says. Every guard is asked and every answer is kept; the first that refuses decides."""

    model_config = ConfigDict(frozen=True)

    guard: str
    result: Kind
    reason: str


Guard = Callable[[Incident, Facts, datetime], tuple[Kind, str]]


def kill_switch(incident: Incident, facts: Facts, now: datetime) -> tuple[Kind, str]:
    """The kill switch. It stops forced rollbacks as well."""
    if facts.stopped:
        return "deny", f"automation is off: {facts.stopped}"
    return "allow", "nobody stopped it"


def armed(incident: Incident, facts: Facts, now: datetime) -> tuple[Kind, str]:
    """The watchdog comes through, and nobody silenced it. What a person asks for does not need it."""
    if incident.forced:
        return "allow", _not_asked(incident)
    if why := facts.disarmed or (facts.live.disarmed if facts.live else ""):
        return "deny", f"automation is disarmed: {why}"
    return "allow", "nothing disarms it"


def service_configured(incident: Incident, facts: Facts, now: datetime) -> tuple[Kind, str]:
    """The service is one that the configuration knows. Labels choose among what is configured, and nothing else."""
    if facts.service is None:
        return "deny", facts.service_problem
    return "allow", f"{facts.service.name} in {facts.service.environment} is configured"


def duplicate_alert(incident: Incident, facts: Facts, now: datetime) -> tuple[Kind, str]:
    """A re-sent alert is a no-op."""
    latest = facts.latest
    if latest and latest.ended_at and did_not_help(incident, facts, now):
        names = ", ".join(sorted({alert.name for alert in incident.alerts})[:3])
        since = format_duration((now - latest.ended_at).total_seconds() // 1)
        return "deny", f"rollback {latest.id} did not help: {names} still fires {since} after it was verified"
    if facts.opened:
        is_over = latest is not None and latest.id == facts.opened and latest.ended_at is not None
        ended = f" ({latest.outcome} at {latest.ended_at:%H:%M:%S} UTC)" if latest and is_over else ""
        return "deny", f"this alert has opened the rollback {facts.opened} already{ended}"
    return "allow", "this alert has not opened a rollback before"


def in_progress(incident: Incident, facts: Facts, now: datetime) -> tuple[Kind, str]:
    """One rollback a service at a time; a stuck one locks it until a human closes it."""
    latest = facts.latest
    if latest and latest.state == "stuck":
        return (
            "deny",
            f"rollback {latest.id} is stuck and needs a human: {latest.reason} (responder close {latest.id})",
        )
    if latest and latest.state != "closed":
        return "deny", f"rollback {latest.id} is under way ({latest.state})"
    return "allow", "no other rollback of it is under way"


def deployed_within(incident: Incident, facts: Facts, now: datetime) -> tuple[Kind, str]:
    """Only what changed lately can be rolled back: otherwise the trouble has another cause."""
    running, window = facts.running, incident.policy.deployed_within
    if running is None:
        return "deny", "nothing to roll back: no deployment of it was ever told (responder deployed SERVICE VERSION)"
    if incident.forced:
        return "allow", _not_asked(incident)
    if running.rolled_back_by:
        return (
            "deny",
            f"the last change was our own rollback {running.rolled_back_by}: going back further needs a human",
        )
    age = (now - running.at).total_seconds()
    deployed = f"{running.version} was deployed {format_duration(max(age, 0) // 1)} ago"
    if age > window:
        return "deny", f"nothing to roll back: {deployed}, longer than deployed_within ({format_duration(window)})"
    live = facts.live
    began = [alert.starts_at for alert in incident.alerts] + ([live.began_at] if live and live.began_at else [])
    # A rollback that was verified in between saw the service healthy: what rang before that is another trouble.
    verified = facts.verified_at
    onset = min((at for at in began if verified is None or at > verified), default=now)
    rollout = facts.service.reporting_delay if facts.service else 0.0
    came = facts.came
    if came and (came.at - onset).total_seconds() > rollout:
        before = format_duration((came.at - onset).total_seconds() // 1)
        return (
            "deny",
            f"nothing to roll back: the trouble began {before} before {came.version} was deployed: it is not the "
            "deployment",
        )
    if live and live.was_so_before:
        return "deny", f"nothing to roll back: {live.was_so_before}"
    return "allow", f"{deployed}, within {format_duration(window)}"


def restored_version(incident: Incident, facts: Facts, now: datetime) -> tuple[Kind, str]:
    """A known good version that only replaces a younger one is not rolled back: the trouble is the younger one's."""
    running, replaced = facts.running, facts.replaced
    if incident.forced:
        return "allow", _not_asked(incident)
    if running is None or replaced is None:
        return "allow", "the running version does not replace a younger one"
    return (
        "deny",
        f"{running.version} was known good before and replaced the younger {replaced.version} at "
        f"{running.at:%H:%M:%S} UTC: the trouble belongs to {replaced.version}; going back further needs a human",
    )


def target_version(incident: Incident, facts: Facts, now: datetime) -> tuple[Kind, str]:
    """The version to go back to is concrete, known good, and not the one that runs."""
    running, to = facts.running, facts.target
    if running is None:
        return "deny", "no version is known to run"
    if to is None:
        if incident.version is not None:
            return "deny", f"version {incident.version} is not known: it was never deployed here"
        return (
            "deny",
            f"no version other than {running.version} is known good (responder versions {incident.service})",
        )
    if to.version == running.version:
        return "deny", f"{to.version} is the version that runs"
    if to.status in NEVER_A_TARGET:
        return "deny", f"{to.version} is {to.status}"
    if to.status != "good" and not incident.forced:
        return "deny", f"{to.version} is a {to.status}, not known good"
    return "allow", f"back to {to.version}, which is {to.status}"


def protected_version(incident: Incident, facts: Facts, now: datetime) -> tuple[Kind, str]:
    """A version that somebody marked, as a security fix, is never taken away; lifting the mark is a human's."""
    if past := facts.no_rollback_past:
        return "deny", f"must not be rolled back past {past} (responder mark {incident.service} VERSION --lift)"
    return "allow", "no version is marked no_rollback since the target"


def compatibility(incident: Incident, facts: Facts, now: datetime) -> tuple[Kind, str]:
    """No pair of versions comes about that does not work with each other; telling otherwise is a human's."""
    if facts.unfit:
        return "deny", f"it would not fit: {'; '.join(facts.unfit)} (roll them back together, or tell --requires)"
    return "allow", "nothing says that the versions would not work with each other"


def once_per_version(incident: Incident, facts: Facts, now: datetime) -> tuple[Kind, str]:
    """One rollback per bad version without a human: whoever deployed it again, or said no, may have had a reason."""
    before = facts.tried_before
    if incident.forced or before is None:
        return "allow", "no rollback of the running version was tried before"
    history = f"{before.from_version} was rolled back before by {before.id} and deployed again"
    if before.outcome != "succeeded":
        history = f"{before.id} tried to roll {before.from_version} back before and was {before.outcome}"
    if before.stop_requested_by:
        history = f"{before.stop_requested_by} stopped {before.id}, which was to roll {before.from_version} back"
    return "deny", f"{history}: this needs a human"


def cooldown(incident: Incident, facts: Facts, now: datetime) -> tuple[Kind, str]:
    """Counted from the end of the policy's last rollback of the service, whichever alert opened that."""
    if incident.forced:
        return "allow", _not_asked(incident)
    last = facts.last_of_policy
    if last and last.ended_at:
        until = last.ended_at + timedelta(seconds=incident.policy.cooldown)
        if now < until:
            left = format_duration((until - now).total_seconds() // 1)
            return "deny", f"cooling down for another {left} after {last.id} (until {until:%H:%M:%S} UTC)"
    return "allow", "no cooldown is running"


def circuit_breaker(incident: Incident, facts: Facts, now: datetime) -> tuple[Kind, str]:
    """Many services in trouble at once is not the deployment of one of them."""
    around, limit = facts.fleet, facts.limits.circuit_breaker
    if incident.forced or around is None:
        return "allow", _not_asked(incident)
    others = sorted({*around.also_in_trouble, *(facts.live.also_in_trouble if facts.live else ())})
    if len(others) + 1 >= limit.services:
        named = ", ".join(others[:5]) + (" …" if len(others) > 5 else "")
        return "deny", (
            f"{len(others) + 1} services are in trouble within {format_duration(limit.within)} (also {named}): "
            "that is not the deployment of one of them"
        )
    return "allow", f"{len(others)} other services are in trouble"


def rate_limit(incident: Incident, facts: Facts, now: datetime) -> tuple[Kind, str]:
    """A limit on everything together: automation that is wrong is wrong often."""
    around, allowed = facts.fleet, facts.limits.rollbacks_per_hour
    if incident.forced or around is None:
        return "allow", _not_asked(incident)
    if around.begun_lately >= allowed:
        then = f" (again at {around.next_place_at:%H:%M:%S} UTC)" if around.next_place_at else ""
        return "deny", f"rollbacks in the last hour: {around.begun_lately}, allowed: {allowed}{then}"
    return "allow", f"rollbacks in the last hour: {around.begun_lately}"


def dependencies(incident: Incident, facts: Facts, now: datetime) -> tuple[Kind, str]:
    """Roll back the cause, not the symptoms."""
    if incident.forced or facts.fleet is None:
        return "allow", _not_asked(incident)
    if facts.fleet.needs_locked:
        return "deny", f"it depends on what is being rolled back: {', '.join(facts.fleet.needs_locked)}"
    if facts.live and facts.live.needs_failing:
        return "deny", f"it depends on what is failing itself: {'; '.join(facts.live.needs_failing)}"
    return "allow", "nothing that it depends on is failing"


def still_firing(incident: Incident, facts: Facts, now: datetime) -> tuple[Kind, str]:
    """Still firing and not silenced, asked of Alertmanager now: a body may be late, replayed or forged."""
    if incident.by_name:
        return "allow", _not_asked(incident)
    if facts.live is None:
        return "allow", _not_asked(incident)
    match facts.live.state:
        case "firing":
            return "allow", facts.live.reason
        case "suppressed":
            return "deny", f"muted in Alertmanager: {facts.live.reason}"
        case "gone":
            return "deny", f"resolved by now: {facts.live.reason}"
        case "unknown":
            return "deny", f"cannot tell whether it still fires: {facts.live.reason}"


def trouble_now(incident: Incident, facts: Facts, now: datetime) -> tuple[Kind, str]:
    """The trouble is visible in the last scrapes: the window of an alert is long, and the service may be well again."""
    if incident.forced or facts.live is None:
        return "allow", _not_asked(incident)
    trouble = facts.live.trouble_now
    if trouble is None:
        return "deny", "cannot tell whether the trouble lasts: it was not asked"
    return "allow" if trouble.state == "visible" else "deny", trouble.reason


def freeze_window(incident: Incident, facts: Facts, now: datetime) -> tuple[Kind, str]:
    """In a freeze window a human says yes to every rollback."""
    service = facts.service
    holding = [f.name for f in facts.freezes if service and f.holds(service.name, service.environment, now)]
    if holding and incident.forced:
        return "allow", f"frozen by {', '.join(holding)}, but {_not_asked(incident)}"
    if holding:
        return "require_approval", f"frozen by {', '.join(holding)}: a human has to approve"
    return "allow", "no freeze window"


def mode(incident: Incident, facts: Facts, now: datetime) -> tuple[Kind, str]:
    """Asked last, so that what is kept in observe mode is exactly what auto mode would have done."""
    if incident.forced:
        return "allow", f"requested by {incident.requested_by}"
    match incident.policy.mode:
        case "observe":
            return "deny", "observe mode: it would have acted"
        case "approve":
            return "require_approval", f"policy {incident.policy.name} asks for approval"
        case "auto":
            return "allow", "auto mode"


_MOOT = "not asked: something else speaks against it"


def _not_asked(incident: Incident) -> str:
    return f"not asked: requested by {incident.requested_by}" if incident.forced else _MOOT


GUARDS: tuple[Guard, ...] = (
    kill_switch,
    armed,
    service_configured,
    duplicate_alert,
    in_progress,
    deployed_within,
    restored_version,
    target_version,
    protected_version,
    compatibility,
    once_per_version,
    cooldown,
    circuit_breaker,
    rate_limit,
    dependencies,
    still_firing,
    trouble_now,
    freeze_window,
    mode,
)
"""In the order in which they decide. `duplicate_alert` and `in_progress` come early: they explain the later ones."""


OUTSIDE = frozenset(guard.__name__ for guard in (armed, circuit_breaker, dependencies, still_firing, trouble_now))
"""Those whose answer can change without us. They are asked again before the first change, and after an approval."""


def did_not_help(incident: Incident, facts: Facts, now: datetime) -> bool:
    """Whether an alert still fires so long after the rollback that it opened succeeded."""
    latest = facts.latest
    if latest is None or latest.id != facts.opened or latest.outcome != "succeeded" or latest.ended_at is None:
        return False
    return (now - latest.ended_at).total_seconds() > incident.policy.verify.resolved_within


_LIFTED_BY_THEMSELVES = ("service_configured", "in_progress", "still_firing", "trouble_now", "freeze_window", "mode")
"""After these no human has to take over: they say "not ours", "not yet", "not any more" or "so you want it"."""


def needs_human(
    incident: Incident, deciding: GuardResult, facts: Facts, now: datetime, *, trouble_visible: bool
) -> bool:
    """Whether a refusal leaves visible trouble, or the request of an engineer, to people."""
    if incident.by_name or incident.action != "roll_back" or deciding.result != "deny":
        return False
    if deciding.guard == "duplicate_alert":  # else the rollback that the alert opened calls people itself
        outcome = facts.latest.outcome if facts.latest else None
        is_left_alone = trouble_visible and outcome in ("succeeded", "cancelled")
        return did_not_help(incident, facts, now) or is_left_alone
    return deciding.guard not in _LIFTED_BY_THEMSELVES and (incident.forced or trouble_visible)


class Decision(BaseModel):
    """The verdicts of all guards, and what they come to."""

    model_config = ConfigDict(frozen=True)

    guard_results: tuple[GuardResult, ...]

    @property
    def deciding(self) -> GuardResult:
        """The first that refuses; else the first that wants approval; else the last, which allowed it."""
        for kind in ("deny", "require_approval"):
            for result in self.guard_results:
                if result.result == kind:
                    return result
        return self.guard_results[-1]


def decide(incident: Incident, facts: Facts, now: datetime, guards: Sequence[Guard] = GUARDS) -> Decision:
    """Asks every guard. Without a service there is nothing that the later ones could be asked about."""
    guard_results = []
    for guard in guards:
        kind, reason = guard(incident, facts, now)
        guard_results.append(GuardResult(guard=guard.__name__, result=kind, reason=reason))
        if guard is service_configured and kind == "deny":
            break
    return Decision(guard_results=tuple(guard_results))


_BLAMING = (["deployed_within"], ["restored_version"])
"""Where these decide, the outside says whether the trouble is older than the version that was replaced."""


def needs_more(incident: Incident, decision: Decision, facts: Facts) -> bool:
    """Whether only others and the outside can still say no: they are not asked about what is refused anyway."""
    if incident.action != "roll_back":
        return False
    against = [v.guard for v in decision.guard_results if v.result == "deny"]
    replaced = facts.replaced
    blames = replaced is not None and replaced.status not in NEVER_A_TARGET and against[:1] in _BLAMING
    return not incident.by_name and facts.live is None and (against in ([], ["mode"]) or blames)

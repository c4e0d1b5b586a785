"""What Prometheus and the responder say has happened, as stages with times; none of them is told by our own clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from examples.demo.stack import Stack

NEEDED = 3  # failed checks, as config/rules.yml says
SAMPLES = '{__name__=~"probe_success|probe_http_status_code",service="shop"}[2m]'


@dataclass(frozen=True)
class Stage:
    """One thing that had to happen; `at` is a Unix time, None until it has."""

    name: str
    at: float | None
    detail: str


@dataclass(frozen=True)
class Timeline:
    """One rollback, as far as it has come."""

    stages: tuple[Stage, ...]
    guard_results: tuple[dict[str, str], ...] = ()
    execution: str = ""
    state: str = ""
    outcome: str = ""
    reason: str = ""
    refused: str = ""  # by the guards: why

    @property
    def over(self) -> bool:
        return self.state in ("closed", "stuck", "awaiting_approval") or bool(self.refused)

    @property
    def waits_for(self) -> str:
        """The stage that has not come yet."""
        return next((stage.name for stage in self.stages if stage.at is None), "nothing")


async def observe(stack: Stack, live_at: float, version: str) -> Timeline:
    """The timeline of the rollback of the version that went live then, asked anew each time."""
    status: dict[float, float] = {}
    success: dict[float, float] = {}
    for series in await stack.query(SAMPLES):
        values = {float(t): float(v) for t, v in series["values"] if float(t) >= live_at}
        (success if series["metric"]["__name__"] == "probe_success" else status).update(values)
    failed = sorted(t for t, v in success.items() if v == 0)
    alert = await _alert(stack, live_at)
    decision = await _decision(stack, live_at)
    execution = await _execution(stack, decision)
    events: list[dict[str, Any]] = execution.get("events", [])
    accepted = next((e for e in events if e["type"] == "accepted"), None)
    if accepted:
        alert = {"at": _unix(accepted["alerts"][0]["starts_at"]), **accepted["alerts"][0]["annotations"]}
    moved = _step(events, 0)
    healthy_at = _healthy_again(success, failed, moved[1]) if moved else None
    guard_results = tuple(decision["body"]["guard_results"]) if decision else ()
    refused = decision["reason"] if decision and decision["result"] == "deny" else ""
    first = failed[0] if failed else None
    answered = f"GET /checkout was answered with {status.get(first, 0):.0f}" if first else "every second"
    counted = f"{min(len(failed), NEEDED)} of {NEEDED} failed checks so far" if failed else ""
    to = execution.get("to_version", "")
    stages = (
        Stage(f"{version} is live", live_at, "the deploy script reported it"),
        Stage("first failed check", first, f"exporters: {answered}"),
        Stage("alert fires", alert.get("at"), f"Prometheus: {alert.get('description', counted)}"),
        Stage(
            "received", _unix(accepted["received_at"]) if accepted else None, "Alertmanager passed it to the responder"
        ),
        Stage("decided", _unix(accepted["at"]) if accepted else None, _judged(guard_results, version, to)),
        Stage("acted", moved[1] if moved else None, _changed(moved, to)),
        Stage("healthy", healthy_at, "first good check"),
        Stage(
            "verified",
            _unix(execution["ended_at"]) if execution.get("outcome") == "succeeded" else None,
            f"good checks and traffic for {_bake(events)} without a break",
        ),
    )
    return Timeline(
        stages=stages,
        guard_results=guard_results,
        execution=execution.get("id", ""),
        state=execution.get("state", ""),
        outcome=execution.get("outcome") or "",
        reason=execution.get("reason") or "",
        refused=refused,
    )


def _unix(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


async def _alert(stack: Stack, since: float) -> dict[str, Any]:
    body = await stack.get(f"http://{stack.prometheus}/api/v1/alerts")
    for alert in body["data"]["alerts"]:
        if alert["state"] == "firing" and _unix(alert["activeAt"]) >= since:
            return {"at": _unix(alert["activeAt"]), **alert["annotations"]}
    return {}


async def _decision(stack: Stack, since: float) -> dict[str, Any]:
    """The first one, because later ones are about the same alert being sent again."""
    body = await stack.get(f"http://{stack.responder}/api/v1/decisions", service="shop")
    ours: list[dict[str, Any]] = [d for d in body["decisions"] if _unix(d["at"]) >= since]
    return ours[-1] if ours else {}


async def _execution(stack: Stack, decision: dict[str, Any]) -> dict[str, Any]:
    if not decision or not decision["execution"]:
        return {}
    found: dict[str, Any] = await stack.get(f"http://{stack.responder}/api/v1/executions/{decision['execution']}")
    return found


def _step(events: list[dict[str, Any]], number: int) -> tuple[float, float] | None:
    """When a step of the plan was started and done."""
    times = {e["type"]: _unix(e["at"]) for e in events if e.get("step") == number}
    return (times["step_started"], times["step_completed"]) if "step_completed" in times else None


def _bake(events: list[dict[str, Any]]) -> str:
    planned = next((e for e in events if e["type"] == "planned"), None)
    return str(planned["plan"]["steps"][-1]["hold_for"]) if planned else "a while"


def _healthy_again(success: dict[float, float], failed: list[float], acted: float) -> float | None:
    after = max([acted, *failed])
    return min((t for t, v in success.items() if v == 1 and t > after), default=None)


def _judged(guard_results: tuple[dict[str, str], ...], version: str, to: str) -> str:
    if not guard_results:
        return "every guard is asked, and Alertmanager whether it still fires"
    against = [v for v in guard_results if v["result"] != "allow"]
    if against:
        return f"{against[0]['result']} by {against[0]['guard']}: {against[0]['reason']}"
    return f"{len(guard_results)} guards evaluated, all allow: {version} → {to}"


def _changed(moved: tuple[float, float] | None, to: str) -> str:
    if moved is None:
        return "`current` and a restart"
    return f"`current` points to {to}, and it is restarted"

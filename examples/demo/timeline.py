"""The stages of the rollback, with times from Prometheus and the responder, never from the demo's clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from examples.demo.stack import Stack

NEEDED = 3  # failed checks, as config/rules.yml says
SAMPLES = '{__name__=~"probe_success|probe_http_status_code",service="shop"}[2m]'


@dataclass(frozen=True)
class Stage:
    """One stage; `at` is a Unix time, None while the stage is pending."""

    name: str
    at: float | None
    detail: str


@dataclass(frozen=True)
class Timeline:
    """One rollback, up to now."""

    stages: tuple[Stage, ...]
    guard_results: tuple[dict[str, str], ...] = ()
    execution: str = ""
    state: str = ""
    outcome: str = ""
    reason: str = ""
    refused: str = ""  # the reason of a denial

    @property
    def over(self) -> bool:
        return self.state in ("closed", "stuck", "awaiting_approval") or bool(self.refused)

    @property
    def waits_for(self) -> str:
        """The name of the first pending stage."""
        return next((stage.name for stage in self.stages if stage.at is None), "nothing")


async def observe(stack: Stack, live_at: float, version: str) -> Timeline:
    """Queries the timeline of the rollback of the version that went live at that time."""
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
    answered = f"GET /checkout returned {status.get(first, 0):.0f}" if first else "every second"
    counted = f"{min(len(failed), NEEDED)} of {NEEDED} failed checks so far" if failed else ""
    to = execution.get("to_version", "")
    stages = (
        Stage(f"{version} is live", live_at, "the deploy script reported it"),
        Stage("first failed check", first, f"exporters: {answered}"),
        Stage("alert fires", alert.get("at"), f"Prometheus: {alert.get('description', counted)}"),
        Stage("received", _unix(accepted["received_at"]) if accepted else None, "Alertmanager notified the responder"),
        Stage("decided", _unix(accepted["at"]) if accepted else None, _judged(guard_results, version, to)),
        Stage("acted", moved[1] if moved else None, _changed(moved, to)),
        Stage("healthy", healthy_at, "first good check"),
        Stage(
            "verified",
            _unix(execution["ended_at"]) if execution.get("outcome") == "succeeded" else None,
            f"checks and traffic good for {_bake(events)}",
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
    """The first decision; later ones concern the repeated alert."""
    body = await stack.get(f"http://{stack.responder}/api/v1/decisions", service="shop")
    ours: list[dict[str, Any]] = [d for d in body["decisions"] if _unix(d["at"]) >= since]
    return ours[-1] if ours else {}


async def _execution(stack: Stack, decision: dict[str, Any]) -> dict[str, Any]:
    if not decision or not decision["execution"]:
        return {}
    found: dict[str, Any] = await stack.get(f"http://{stack.responder}/api/v1/executions/{decision['execution']}")
    return found


def _step(events: list[dict[str, Any]], number: int) -> tuple[float, float] | None:
    """When a step of the plan started and completed."""
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
        return "evaluates every guard, and asks Alertmanager whether the alert still fires"
    against = [v for v in guard_results if v["result"] != "allow"]
    if against:
        return f"{against[0]['result']} by {against[0]['guard']}: {against[0]['reason']}"
    return f"{len(guard_results)} guards evaluated, all allow: {version} → {to}"


def _changed(moved: tuple[float, float] | None, to: str) -> str:
    if moved is None:
        return "switches `current` and restarts the service"
    return f"`current` points to {to}, service restarted"

"""The answers of `responder status` and `responder report`."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from responder.cli.display.terminal import clean, clock, table, word


def status(body: dict[str, Any]) -> RenderableType:
    """Armed or not, open rollbacks, services, policies and undelivered notifications."""
    armed = (
        Text("armed", style="bold green")
        if body["armed"]
        else Text(f"NOT ARMED: {clean(body['stopped'])}", style="bold red")
    )
    if body["health_status"]:
        armed = Text.assemble(armed, "; health: ", word(body["health_status"]))
        if body["health_status"] in ("degraded", "unhealthy", "unknown"):
            armed.append(" (details: responder report)")
    parts: list[RenderableType] = [armed]
    for key, title in (
        ("stuck", "Stuck: manual action required"),
        ("waiting_for_approval", "Awaiting approval"),
        ("active", "Running"),
    ):
        if body[key]:
            rows = (
                (x["id"], x["service"], f"{x['from_version']} → {x['to_version']}", word(x["state"]), x["reason"])
                for x in body[key]
            )
            parts.append(table(f"\n{title}", ("id", "service", "versions", "state", "reason"), rows))
    parts.append(
        table(
            "\nServices",
            ("service", "environment", "version", "status", "since", "strategy", "last rollback"),
            (
                (
                    s["service"],
                    s["environment"],
                    s["version"] or "unknown",
                    word(s["status"]),
                    clock(s["deployed_at"]),
                    s["strategy"],
                    _last(s["last_rollback"]),
                )
                for s in body["services"]
            ),
        )
    )
    for s in body["services"]:
        if s.get("silenced"):
            warning = (
                f"{s['service']} in {s['environment']} is not healthy, but its alerts are silenced: {s['silenced']}"
            )
            parts.append(Text(clean(warning), style="yellow"))
        for pin in s.get("pinned", ()):
            text = f"{s['service']} in {s['environment']} is pinned: {pin}; remove it before you deploy another version"
            parts.append(Text(clean(text), style="yellow"))
    if body["policies"]:
        columns = ("policy", "mode", "would have acted (observe mode)", "last time")
        policy_rows = (
            (p["name"], p["mode"], p["would_have_acted"] or "", clock(p["last_at"])) for p in body["policies"]
        )
        parts.append(table("\nPolicies", columns, policy_rows))
    if late := [n for n in body.get("notifications", ()) if n["pending"] or n["given_up"]]:
        late_rows = ((n["channel"], n["pending"], clock(n["since"]), n["given_up"] or "", _why(n)) for n in late)
        heads = ("channel", "undelivered", "since", "given up (24 h)", "last error")
        parts.append(table("\nUndelivered notifications", heads, late_rows))
    done = ", ".join(f"{n} {outcome}" for outcome, n in sorted(body["rollbacks"].items())) or "none yet"
    parts.append(Text(f"\nRollbacks: {done}"))
    return Group(*parts)


def _last(rollback: dict[str, Any] | None) -> str:
    return f"{rollback['outcome']} {clock(rollback['ended_at'])}" if rollback else "-"


def report(body: dict[str, Any]) -> RenderableType:
    """Failed checks, warnings, and what to do."""
    parts: list[RenderableType] = [Text.assemble(word(body["status"]), f" at {clock(body['at'])}")]
    columns = ("service", "environment", "health", "version", "status", "since", "rollback target", "last rollback")
    rows = (
        (
            s["service"],
            s["environment"],
            word(s["status"]),
            s["version"] or "unknown",
            word(s["version_status"]),
            clock(s["deployed_at"]),
            s["rollback_target"] or "nothing",
            _last(s["last_rollback"]),
        )
        for s in body["services"]
    )
    parts.append(table("\nServices", columns, rows))
    for key, title in (("failed_checks", "Failed checks"), ("unanswered_checks", "Checks without an answer")):
        if body[key]:
            found = ((c["service"], c["environment"], c["kind"], c["reason"]) for c in body[key])
            parts.append(table(f"\n{title}", ("service", "environment", "kind", "finding"), found))
    if body["warnings"]:
        warnings = ((w["about"], w["fact"], clock(w["since"])) for w in body["warnings"])
        parts.append(table("\nWarnings", ("about", "fact", "since"), warnings))
    if body["recommendations"]:
        parts.append(Text("\nRecommendations", style="bold"))
    for n, advice in enumerate(body["recommendations"], 1):
        parts.append(Text(f"{n}. {clean(advice['do'])}: ") + Text(clean(advice["see"]), style="cyan"))
        parts.append(Text(f"   because {clean(advice['because'])}", style="dim"))
    done: dict[str, int] = {}
    for rollback in body["rollbacks"]:
        done[rollback["outcome"] or "open"] = done.get(rollback["outcome"] or "open", 0) + 1
    counted = ", ".join(f"{n} {outcome}" for outcome, n in sorted(done.items())) or "none"
    parts.append(Text(f"\nRollbacks since {clock(body['since'])}: {counted}"))
    return Group(*parts)


def _why(channel: dict[str, Any]) -> str:
    return str(channel["error"]) if channel["configured"] else "no longer configured"

"""The answers of `responder history` and `responder explain`: rollbacks, decisions and plans."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from responder.cli.display.terminal import clean, clock, table, word


def history(rows: list[dict[str, Any]]) -> RenderableType:
    """One line for each rollback."""
    if not rows:
        return Text("no rollbacks yet")
    return table(
        "",
        ("time", "id", "service", "versions", "outcome", "duration", "reason"),
        (
            (
                clock(x["accepted_at"]),
                x["id"],
                f"{x['service']}/{x['environment']}",
                f"{x['from_version']} → {x['to_version']}",
                word(x["outcome"] or x["state"]),
                f"{x['duration_seconds']:.1f} s" if x["duration_seconds"] is not None else "-",
                x["reason"],
            )
            for x in rows
        ),
    )


def execution(body: dict[str, Any]) -> RenderableType:
    """One rollback with its events and notifications."""
    head = Text.assemble(
        (body["id"], "bold"),
        f"  {clean(body['service'])} in {clean(body['environment'])}  {body['from_version']} → {body['to_version']}  ",
        word(body["outcome"] or body["state"]),
    )
    rows = ((clock(event["at"]), event["type"], event.get("title") or event["text"]) for event in body["events"])
    parts: list[RenderableType] = [head, Text(clean(body["reason"] or ""), style="dim"), table("", ("", "", ""), rows)]
    if body.get("archived_in"):
        parts.append(Text(f"events and messages: {clean(body['archived_in'])}", overflow="fold"))
    for plan in [event["plan"] for event in body["events"] if event["type"] == "planned"][-1:]:
        parts += _notes(plan)
    if messages := body.get("messages"):
        shown = (
            (
                m["channel"],
                m["stage"],
                m["state"],
                clock(m["state_at"]),
                m["error"] if m["state"] != "delivered" else "",
            )
            for m in messages
        )
        parts.append(table("", ("channel", "stage", "state", "time", "last error"), shown))
    if body["state"] == "awaiting_approval":
        parts += [Text(""), approval_hint(body)]
    if body["effect_of_stop"]:
        parts.append(Text(clean(f"responder stop {body['id']}: {body['effect_of_stop']}"), style="yellow"))
    return Group(*parts)


def approval_hint(body: dict[str, Any]) -> RenderableType:
    """How to approve the plan."""
    parts = [Text(f"responder approve {body['id']} --plan {body['plan_hash']}", style="yellow")]
    parts += [Text(f"or open {body['approve_url']}", overflow="fold")] if body.get("approve_url") else []
    return Group(*parts)


def decisions(rows: list[dict[str, Any]]) -> RenderableType:
    """Every decision with its guard results."""
    if not rows:
        return Text("no decisions yet")
    parts: list[RenderableType] = []
    for row in rows:
        head = Text.assemble(
            (clock(row["last_at"]), "bold"),
            f"  {clean(row['service'])} {clean(row['environment'])}  policy {row['policy'] or '(none)'}  ",
            word(row["result"]),
            f" by {row['guard']}" + (f", {row['times']} times" if row["times"] > 1 else ""),
            f"  responder evidence {row['id']}" if row["result"] == "preserve" else "",
        )
        parts += [head, guard_results(row["body"]["guard_results"]), Text("")]
    return Group(*parts)


def guard_results(rows: list[dict[str, Any]]) -> RenderableType:
    """One line for each guard."""
    return table("", ("", "guard", "reason"), ((word(v["result"]), v["guard"], v["reason"]) for v in rows))


def explained(body: dict[str, Any]) -> RenderableType:
    """One decision with its guard results, and the plan or why there is none."""
    parts: list[RenderableType] = [
        Text.assemble(
            (f"{clean(body['service'])} {clean(body['environment'])}", "bold"),
            f"  policy {body['policy']}  ",
            word(body["result"]),
            f" by {body['guard']}: {clean(body['reason'])}",
        ),
        guard_results(body["guard_results"]),
    ]
    if "no_plan" in body:
        parts.append(Text(f"no plan: {clean(body['no_plan'])}", style="red"))
    if plan := body.get("plan"):
        versions = ", ".join(f"{p['version']['from_version']} → {p['version']['to_version']}" for p in plan["parts"])
        parts.append(Text(f"\nPlan {plan['hash']}: {versions}", style="bold"))
        parts += [Text(f"  {n}. {clean(step)}") for n, step in enumerate(plan["step_descriptions"], 1)]
        parts += _notes(plan)
    return Group(*parts)


def _notes(plan: dict[str, Any]) -> list[RenderableType]:
    remains = [f"remains on {_mitigation(mitigation)}" for mitigation in plan.get("mitigations", ())]
    notes = [f"note: {note}" for note in plan.get("notes", ())]
    return [Text(clean(line), style="yellow") for line in (*notes, *remains)]


def _mitigation(body: dict[str, Any]) -> str:
    from responder.rollback.plan import Mitigation  # slow to import, and most plans have none

    return str(Mitigation.model_validate(body))

"""How things look in a terminal."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from responder.config.sizes import format_size

_UNFOLDED = 10_000
_COLOURS = {
    "succeeded": "green",
    "good": "green",
    "allow": "green",
    "preserve": "green",
    "reverted": "yellow",
    "mitigated": "yellow",
    "cancelled": "yellow",
    "require_approval": "yellow",
    "awaiting_approval": "yellow",
    "candidate": "cyan",
    "running": "cyan",
    "accepted": "cyan",
    "reverting": "yellow",
    "failed": "red",
    "healthy": "green",
    "degraded": "yellow",
    "unknown": "yellow",
    "unhealthy": "bold red",
    "stuck": "bold red",
    "bad": "red",
    "suspect": "red",
    "retired": "dim",
    "deny": "red",
    "ignore": "dim",
}


def word(text: str | None) -> Text:
    """A state, an outcome or a verdict in its color."""
    return Text(text or "-", style=_COLOURS.get(text or "", ""))


def clock(text: str | None) -> str:
    """In UTC, as the reasons beside it have it; today's times without the date."""
    if not text:
        return "-"
    when = datetime.fromisoformat(text).astimezone(UTC)
    return f"{when:%H:%M:%S} UTC" if when.date() == datetime.now(UTC).date() else f"{when:%Y-%m-%d %H:%M:%S} UTC"


def clean(text: Any) -> str:
    """What came from a label must not clear or retitle an engineer's terminal."""
    return "".join(c if c.isprintable() else "�" for c in str(text if text is not None else "-"))


def _plain(text: Any) -> str:
    return escape(clean(text))


def table(title: str, columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> Table:
    made = Table(title=title, title_justify="left", title_style="bold", header_style="dim", box=None, pad_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold", no_wrap=column == "id")  # what is copied stays in one piece
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else _plain(cell) for cell in row))
    return made


def status(body: dict[str, Any]) -> RenderableType:
    armed = (
        Text("armed", style="bold green")
        if body["armed"]
        else Text(f"NOT ARMED: {clean(body['stopped'])}", style="bold red")
    )
    if body["health_status"]:
        armed = Text.assemble(armed, "; health: ", word(body["health_status"]))
    parts: list[RenderableType] = [armed]
    for key, title in (
        ("stuck", "Stuck: needs a human"),
        ("waiting_for_approval", "Waiting for approval"),
        ("active", "Under way"),
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
            ("service", "environment", "version", "known as", "since", "strategy", "last rollback"),
            (
                (
                    s["service"],
                    s["environment"],
                    s["version"] or "not told yet",
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
            warning = f"{s['service']} in {s['environment']} is not healthy while its alerts are muted: {s['silenced']}"
            parts.append(Text(clean(warning), style="yellow"))
    if body["policies"]:
        columns = ("policy", "mode", "would have acted (observe)", "last")
        policy_rows = (
            (p["name"], p["mode"], p["would_have_acted"] or "", clock(p["last_at"])) for p in body["policies"]
        )
        parts.append(table("\nPolicies", columns, policy_rows))
    if late := [n for n in body.get("notifications", ()) if n["pending"] or n["given_up"]]:
        late_rows = ((n["channel"], n["pending"], clock(n["since"]), n["given_up"] or "", _why(n)) for n in late)
        heads = ("channel", "undelivered", "since", "given up in a day", "last error")
        parts.append(table("\nNot told yet", heads, late_rows))
    done = ", ".join(f"{n} {outcome}" for outcome, n in sorted(body["rollbacks"].items())) or "none yet"
    parts.append(Text(f"\nRollbacks: {done}"))
    return Group(*parts)


def _last(rollback: dict[str, Any] | None) -> str:
    return f"{rollback['outcome']} {clock(rollback['ended_at'])}" if rollback else "-"


def report(body: dict[str, Any]) -> RenderableType:
    """The worst first: checks that fail, what stands out, what to do."""
    parts: list[RenderableType] = [Text.assemble("It is ", word(body["status"]), f" at {clock(body['at'])}")]
    columns = ("service", "environment", "", "version", "known as", "since", "can go back to", "last rollback")
    rows = (
        (
            s["service"],
            s["environment"],
            word(s["status"]),
            s["version"] or "not told yet",
            word(s["known_as"]),
            clock(s["deployed_at"]),
            s["can_go_back_to"] or "nothing",
            _last(s["last_rollback"]),
        )
        for s in body["services"]
    )
    parts.append(table("\nServices", columns, rows))
    for key, title in (("failed_checks", "Failed checks"), ("unanswered_checks", "Checks without answer")):
        if body[key]:
            found = ((c["service"], c["environment"], c["kind"], c["reason"]) for c in body[key])
            parts.append(table(f"\n{title}", ("service", "environment", "of", "what it found"), found))
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
    return str(channel["error"]) if channel["configured"] else "it is not configured any more"


def history(rows: list[dict[str, Any]]) -> RenderableType:
    if not rows:
        return Text("no rollbacks yet")
    return table(
        "",
        ("when", "id", "service", "versions", "outcome", "took", "why"),
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


def versions(rows: list[dict[str, Any]]) -> RenderableType:
    if not rows:
        return Text("no versions were ever told")
    return table(
        "",
        ("version", "environment", "known as", "since", "why", "must stay"),
        (
            (v["version"], v["environment"], word(v["status"]), clock(v["status_at"]), v["reason"], v["no_rollback"])
            for v in rows
        ),
    )


def platform(body: dict[str, Any]) -> RenderableType:
    """The versions of one platform, with what runs there."""
    runs = body["runs"]["version"]
    return table(
        f"{body['service']} on {body['platform']} in {body['environment']}",
        ("version", "known as", "there since", "made of", "built by", "why", "must stay"),
        (
            (
                v["version"] + (" (runs)" if v["version"] == runs else ""),
                word(v["status"]),
                clock(v["deployed_at"]),
                v["artifact"],
                v["provenance"],
                v["reason"],
                v["no_rollback"],
            )
            for v in body["versions"]
        ),
    )


def version_history(marks: list[dict[str, Any]], requirements: list[dict[str, Any]]) -> RenderableType:
    """Everything that was said of versions."""
    known_as = table(
        "",
        ("when", "version", "environment", "known as", "by", "why", "must stay"),
        (
            (
                clock(m["at"]),
                m["version"],
                m["environment"],
                word(m["status"]),
                m["marked_by"],
                m["reason"],
                m["no_rollback"],
            )
            for m in marks
        ),
    )
    works_with = table(
        "",
        ("when", "version", "environment", "works with", "by"),
        (
            (clock(r["at"]), r["version"], r["environment"], f"{r['needs']} {r['versions']}", r["reported_by"])
            for r in requirements
        ),
    )
    return Group(known_as, Text(""), works_with) if requirements else known_as


def clients(body: dict[str, Any]) -> RenderableType:
    """What apps are told, and how that came about."""

    def flags(switches: dict[str, bool]) -> str:
        return ", ".join(f"{name}={str(on).lower()}" for name, on in switches.items())

    return table(
        f"{body['service']} on {body['platform']} in {body['environment']}: told since",
        ("when", "at least", "blocked", "flags", "by", "why"),
        (
            (
                clock(c["at"]),
                c["min_version"],
                ", ".join(c["blocked_versions"]),
                flags(c["flags"]),
                c["changed_by"],
                c["reason"],
            )
            for c in body["changes"]
        ),
    )


def decisions(rows: list[dict[str, Any]]) -> RenderableType:
    """Why it acted and why not: each decision with what every guard said."""
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


def evidence(body: dict[str, Any]) -> RenderableType:
    """What was kept, and what is missing."""
    head = Text.assemble((body["id"], "bold"), f"  {clean(body['service'])} in {clean(body['environment'])}  ")
    if body["state"] != "kept":
        reason = clean(body["problem"]) or "nothing has been kept yet"
        return Group(Text.assemble(head, (body["state"], "yellow")), Text(reason))
    manifest = body["manifest"]
    rows = (
        (
            file["name"],
            format_size(file["bytes"]),
            f"{format_size(file['skipped_bytes'])} before it" if file["skipped_bytes"] else "",
            file["redacted"] or "",
            f"{file['origin']}{'; ' if file['cut_off'] else ''}{file['cut_off']}",
        )
        for file in manifest["files"]
    )
    parts: list[RenderableType] = [
        Text.assemble(head, f"kept {clock(body['kept_at'])}"),
        Text(clean(body["location"]), style="dim", overflow="fold"),
        table("", ("file", "size", "left out", "redacted", "what it is"), rows),
    ]
    if manifest["missing"]:
        rows_missing = ((gap["origin"], gap["reason"]) for gap in manifest["missing"])
        parts.append(table("\nMissing", ("what", "why"), rows_missing))
    return Group(*parts)


def guard_results(rows: list[dict[str, Any]]) -> RenderableType:
    return table("", ("", "guard", "reason"), ((word(v["result"]), v["guard"], v["reason"]) for v in rows))


def explained(body: dict[str, Any]) -> RenderableType:
    """What would be decided now, and the plan."""
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
        parts.append(Text(f"\nThe plan {plan['hash']}: {versions}", style="bold"))
        parts += [Text(f"  {n}. {clean(step)}") for n, step in enumerate(plan["steps_told"], 1)]
        parts += _notes(plan)
    return Group(*parts)


def _notes(plan: dict[str, Any]) -> list[RenderableType]:
    remains = [f"remains on {_mitigation(mitigation)}" for mitigation in plan.get("mitigations", ())]
    notes = [f"note: {note}" for note in plan.get("notes", ())]
    return [Text(clean(line), style="yellow") for line in (*notes, *remains)]


def _mitigation(body: dict[str, Any]) -> str:
    from responder.rollback.plan import Mitigation  # takes half a second, and most plans have none

    return str(Mitigation.model_validate(body))


def execution(body: dict[str, Any]) -> RenderableType:
    """One rollback as its events tell it."""
    head = Text.assemble(
        (body["id"], "bold"),
        f"  {clean(body['service'])} in {clean(body['environment'])}  {body['from_version']} → {body['to_version']}  ",
        word(body["outcome"] or body["state"]),
    )
    rows = []
    for event in body["events"]:
        summary = event.get("title") or event.get("note") or event.get("reason") or ""
        rows.append((clock(event["at"]), event["type"], summary))
    parts: list[RenderableType] = [head, Text(clean(body["reason"] or ""), style="dim"), table("", ("", "", ""), rows)]
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
        parts.append(table("", ("channel", "stage", "state", "", "last error"), shown))
    if body["state"] == "awaiting_approval":
        parts += [Text(""), waits(body)]
    if body["effect_of_stop"]:
        parts.append(Text(clean(f"responder stop {body['id']}: {body['effect_of_stop']}"), style="yellow"))
    return Group(*parts)


def waits(body: dict[str, Any]) -> RenderableType:
    """How a plan that waits is approved."""
    parts = [Text(f"responder approve {body['id']} --plan {body['plan_hash']}", style="yellow")]
    parts += [Text(f"or open {body['approve_url']}", overflow="fold")] if body.get("approve_url") else []
    return Group(*parts)


def console() -> Console:
    """As wide as the terminal. What goes into a pipe or a file is searched and copied: nothing is folded there."""
    made = Console(highlight=False, soft_wrap=False)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = _UNFOLDED
    return made

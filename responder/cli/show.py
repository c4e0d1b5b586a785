"""How things look in a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

_COLOURS = {
    "succeeded": "green",
    "good": "green",
    "allow": "green",
    "preserve": "green",
    "compensated": "yellow",
    "mitigated": "yellow",
    "cancelled": "yellow",
    "needs_approval": "yellow",
    "held": "yellow",
    "candidate": "cyan",
    "running": "cyan",
    "accepted": "cyan",
    "turning_back": "yellow",
    "failed": "red",
    "stuck": "bold red",
    "bad": "red",
    "suspect": "red",
    "retired": "dim",
    "refuse": "red",
    "ignore": "dim",
}


def word(text: str | None) -> Text:
    """A state, an outcome or a verdict in its colour."""
    return Text(text or "-", style=_COLOURS.get(text or "", ""))


def clock(text: str | None) -> str:
    if not text:
        return "-"
    when = datetime.fromisoformat(text).astimezone()
    return when.strftime("%H:%M:%S" if when.date() == datetime.now(UTC).astimezone().date() else "%Y-%m-%d %H:%M:%S")


def clean(text: Any) -> str:
    """What came from a label must not clear or retitle an engineer's terminal."""
    return "".join(c if c.isprintable() else "�" for c in str(text if text is not None else "-"))


def _plain(text: Any) -> str:
    return escape(clean(text))


def table(title: str, columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> Table:
    made = Table(title=title, title_justify="left", title_style="bold", header_style="dim", box=None, pad_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else _plain(cell) for cell in row))
    return made


def status(body: dict[str, Any]) -> RenderableType:
    armed = (
        Text("armed", style="bold green")
        if body["armed"]
        else Text(f"NOT ARMED: {clean(body['stopped'])}", style="bold red")
    )
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
            ("service", "environment", "version", "known as", "since", "strategy"),
            (
                (
                    s["service"],
                    s["environment"],
                    s["version"] or "not told yet",
                    word(s["status"]),
                    clock(s["deployed_at"]),
                    s["strategy"],
                )
                for s in body["services"]
            ),
        )
    )
    if body["policies"]:
        columns = ("policy", "mode", "would have acted (observe)", "last")
        told = ((p["name"], p["mode"], p["would_have_acted"] or "", clock(p["last_at"])) for p in body["policies"])
        parts.append(table("\nPolicies", columns, told))
    done = ", ".join(f"{n} {outcome}" for outcome, n in sorted(body["rollbacks"].items())) or "none yet"
    parts.append(Text(f"\nRollbacks: {done}"))
    return Group(*parts)


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


def marks(rows: list[dict[str, Any]]) -> RenderableType:
    """What was said of versions."""
    return table(
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
            for m in rows
        ),
    )


def clients(body: dict[str, Any]) -> RenderableType:
    """What apps are told, and how that came about."""

    def flags(told: dict[str, bool]) -> str:
        return ", ".join(f"{name}={str(on).lower()}" for name, on in told.items())

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
            word(row["verdict"]),
            f" by {row['guard']}" + (f", {row['times']} times" if row["times"] > 1 else ""),
        )
        parts += [head, verdicts(row["body"]["verdicts"]), Text("")]
    return Group(*parts)


def verdicts(rows: list[dict[str, Any]]) -> RenderableType:
    return table("", ("", "guard", "reason"), ((word(v["verdict"]), v["guard"], v["reason"]) for v in rows))


def explained(body: dict[str, Any]) -> RenderableType:
    """What would be decided now, and the plan."""
    parts: list[RenderableType] = [
        Text.assemble(
            (f"{clean(body['service'])} {clean(body['environment'])}", "bold"),
            f"  policy {body['policy']}  ",
            word(body["verdict"]),
            f" by {body['guard']}: {clean(body['reason'])}",
        ),
        verdicts(body["verdicts"]),
    ]
    if "no_plan" in body:
        parts.append(Text(f"no plan: {clean(body['no_plan'])}", style="red"))
    if plan := body.get("plan"):
        parts.append(Text(f"\nThe plan {plan['hash']}: {plan['from_version']} → {plan['to_version']}", style="bold"))
        parts += [Text(f"  {n}. {clean(step)}") for n, step in enumerate(plan["steps_told"], 1)]
        parts += _notes(plan)
    return Group(*parts)


def _notes(plan: dict[str, Any]) -> list[RenderableType]:
    return [Text(f"note: {clean(note)}", style="yellow") for note in plan.get("notes", ())]


def execution(body: dict[str, Any]) -> RenderableType:
    """One rollback as its events tell it."""
    head = Text.assemble(
        (body["id"], "bold"),
        f"  {clean(body['service'])} in {clean(body['environment'])}  {body['from_version']} → {body['to_version']}  ",
        word(body["outcome"] or body["state"]),
    )
    rows = []
    for event in body["events"]:
        told = event.get("title") or event.get("note") or event.get("reason") or ""
        rows.append((clock(event["at"]), event["type"], told))
    parts: list[RenderableType] = [head, Text(clean(body["reason"] or ""), style="dim"), table("", ("", "", ""), rows)]
    for plan in [event["plan"] for event in body["events"] if event["type"] == "planned"][-1:]:
        parts += _notes(plan)
    if body["state"] == "held":
        parts.append(Text(f"\nresponder approve {body['id']} --plan {body['plan_hash']}", style="yellow"))
        parts += [Text(f"or open {body['approve_url']}", overflow="fold")] if body.get("approve_url") else []
    return Group(*parts)


def console() -> Console:
    return Console(highlight=False, soft_wrap=False)

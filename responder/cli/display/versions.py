"""The answers of `responder versions` and `responder clients`."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from responder.cli.display.terminal import clock, table, word


def versions(rows: list[dict[str, Any]]) -> RenderableType:
    """One line for each version."""
    if not rows:
        return Text("no deployments reported yet")
    return table(
        "",
        ("version", "environment", "status", "since", "reason", "rollback past it denied"),
        (
            (v["version"], v["environment"], word(v["status"]), clock(v["status_at"]), v["reason"], v["no_rollback"])
            for v in rows
        ),
    )


def platform(body: dict[str, Any]) -> RenderableType:
    """The versions on one platform; the running one is marked."""
    runs = body["runs"]["version"]
    return table(
        f"{body['service']} on {body['platform']} in {body['environment']}",
        ("version", "status", "deployed", "artifact", "provenance", "reason", "rollback past it denied"),
        (
            (
                v["version"] + (" (running)" if v["version"] == runs else ""),
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
    """Every mark, and every reported requirement."""
    marks_table = table(
        "",
        ("time", "version", "environment", "status", "by", "reason", "rollback past it denied"),
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
    requires_table = table(
        "",
        ("time", "version", "environment", "requires", "by"),
        (
            (clock(r["at"]), r["version"], r["environment"], f"{r['needs']} {r['versions']}", r["reported_by"])
            for r in requirements
        ),
    )
    return Group(marks_table, Text(""), requires_table) if requirements else marks_table


def clients(body: dict[str, Any]) -> RenderableType:
    """The changes of the document that apps poll, newest first."""

    def flags(switches: dict[str, bool]) -> str:
        return ", ".join(f"{name}={str(on).lower()}" for name, on in switches.items())

    return table(
        f"{body['service']} on {body['platform']} in {body['environment']}: changes",
        ("time", "min version", "blocked", "flags", "by", "reason"),
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

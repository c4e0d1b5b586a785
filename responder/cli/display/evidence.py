"""The answer of `responder evidence`."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from responder.cli.display.terminal import clean, clock, table
from responder.config.sizes import format_size


def evidence(body: dict[str, Any]) -> RenderableType:
    """The files of the evidence, and what is missing."""
    head = Text.assemble((body["id"], "bold"), f"  {clean(body['service'])} in {clean(body['environment'])}  ")
    if body["state"] != "kept":
        reason = clean(body["problem"]) or "not collected yet"
        return Group(Text.assemble(head, (body["state"], "yellow")), Text(reason))
    manifest = body["manifest"]
    rows = (
        (
            file["name"],
            format_size(file["bytes"]),
            f"{format_size(file['skipped_bytes'])} before" if file["skipped_bytes"] else "",
            file["redacted"] or "",
            f"{file['origin']}{'; ' if file['cut_off'] else ''}{file['cut_off']}",
        )
        for file in manifest["files"]
    )
    parts: list[RenderableType] = [
        Text.assemble(head, f"kept {clock(body['kept_at'])}"),
        Text(clean(body["location"]), style="dim", overflow="fold"),
        table("", ("file", "size", "omitted", "redacted", "source"), rows),
    ]
    if manifest["missing"]:
        rows_missing = ((gap["origin"], gap["reason"]) for gap in manifest["missing"])
        parts.append(table("\nMissing", ("source", "reason"), rows_missing))
    return Group(*parts)

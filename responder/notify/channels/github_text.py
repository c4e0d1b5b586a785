"""The text of a GitHub issue: everything known about a rollback, in Markdown that labels cannot break."""

from __future__ import annotations

import re
from collections.abc import Iterable

from responder.config.text import one_line
from responder.notify.notification import Notification
from responder.rollback.stages import CALLS


def escape(text: str) -> str:
    """The text escaped for Markdown: no markup, no links, no mentions and no references to issues."""
    clean = "".join(c if c.isprintable() else " " for c in text)
    clean = re.sub(r"([\\`*_{}\[\]()<>|~!+=&$^-])", r"\\\1", clean)
    clean = re.sub(r"^(\s*\d+)\.", r"\1\\.", clean)
    # A backslash does not stop GitHub from linking these; a zero-width space does.
    return re.sub(r"([@#]|GH\\-|://|www\.)", "\\1\u200b", clean, flags=re.IGNORECASE)


def issue_body(notification: Notification) -> str:
    """The body of the issue."""

    def table(head: str, rows: Iterable[tuple[str, ...]]) -> str:
        columns = head.split(" | ")
        lines = [" | ".join(columns), " | ".join("---" for _ in columns)]
        lines += [" | ".join(escape(one_line(cell, 300)) for cell in row) for row in rows]
        return "\n".join(f"| {line} |" for line in lines)

    needed = "\n\n:rotating_light: A human must act." if notification.stage in CALLS else ""
    facts = [
        ("Service", f"{notification.service} in {notification.environment}"),
        ("Versions", f"{notification.from_version} → {notification.to_version}"),
        ("Reason", notification.reason),
        ("Policy", notification.policy),
        ("Severity", notification.severity),
        ("Strategy", notification.strategy),
        ("Requested by", notification.requested_by),
        ("Accepted", f"{notification.accepted_at:%Y-%m-%d %H:%M:%S} UTC"),
        ("Outcome", notification.outcome),
    ]
    parts = [
        f"**{escape(one_line(notification.title, 300))}**\n\n{escape(one_line(notification.happened, 2000))}{needed}"
    ]
    parts.append(table("Field | Value", [fact for fact in facts if fact[1]]))
    if notification.remains:
        parts.append(
            "### What remains\n\n"
            + "\n".join(f"- [ ] {escape(one_line(remaining, 500))}" for remaining in notification.remains)
        )
    if notification.steps:
        steps = [(str(n), str(s.state), s.title, s.note) for n, s in enumerate(notification.steps, 1)]
        parts.append("### Plan\n\n" + table("Step | State | Title | Note", steps))
    parts += [f"> {escape(one_line(note, 500))}" for note in notification.notes]
    if notification.alerts:
        alerts = [
            (
                alert.name,
                f"{alert.starts_at:%H:%M:%S} UTC",
                alert.summary,
                ", ".join(f"{k}={v}" for k, v in sorted(alert.labels.items())),
            )
            for alert in notification.alerts
        ]
        parts.append("### Alerts\n\n" + table("Alert | Since | Summary | Labels", alerts))
    if notification.guard_results:
        rows = [(result.guard, result.result, result.reason) for result in notification.guard_results]
        parts.append("### Guard results\n\n" + table("Guard | Result | Reason", rows))
    if notification.evidence:
        parts.append(
            "### Evidence\n\n" + "\n".join(f"- {escape(one_line(location, 500))}" for location in notification.evidence)
        )
    lines = [f"- {line.at:%H:%M:%S} UTC {escape(one_line(line.text, 500))}" for line in notification.timeline]
    parts.append("### Timeline\n\n" + "\n".join(lines))
    parts.append(f"`{notification.command}`" if notification.command and "`" not in notification.command else "")
    return "\n\n".join(part for part in parts if part)

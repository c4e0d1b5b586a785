"""A running rollback in the terminal: every step with its state, its duration and the findings of its checks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from foundation.durations import format_duration
from responder.cli.display.terminal import clean, clock, word
from responder.config.text import counted

_MARKS = {
    "todo": ("·", "dim"),
    "running": ("▸", "bold cyan"),
    "done": ("✓", "green"),
    "failed": ("✗", "bold red"),
    "stopped": ("✗", "yellow"),
    "skipped": ("-", "dim"),
}
_MOST_LINES = 12
"""Maximum lines for steps. A terminal cuts off the end of a longer picture, where the current step is."""


@dataclass
class Step:
    """One line of the picture."""

    title: str
    state: str = "todo"
    began: datetime | None = None
    ended: datetime | None = None
    note: str = ""


class Progress:
    """The state of a rollback, from its events so far."""

    def __init__(self, execution: str) -> None:
        self.execution = execution
        self.state, self.outcome, self.reason = "accepted", "", ""
        self.plan_hash = ""
        self._head = ""
        self._began: datetime | None = None
        self._ended: datetime | None = None
        self._steps: list[Step] = []
        self._revert_steps: list[Step] = []
        self._findings: list[dict[str, Any]] = []

    @property
    def steps(self) -> list[Step]:
        return [*self._steps, *self._revert_steps]

    def show_findings(self, findings: list[dict[str, Any]]) -> None:
        """Sets the latest findings of the checks of the current step."""
        self._findings = findings

    def take(self, event: dict[str, Any]) -> str:
        """Applies one event; returns the text that describes it."""
        at, kind = datetime.fromisoformat(event["at"]), event["type"]
        reason = event.get("reason") or event.get("note") or ""
        self.state = event["state"]
        self.reason = event.get("reason") or self.reason
        match kind:
            case "accepted":
                versions = f"{event['from_version']} → {event['to_version']}"
                self._head = f"{event['service']} in {event['environment']}  {versions}"
                self._began = at
                return f"{self._head}: {reason}"
            case "planned":
                plan = event["plan"]
                self.plan_hash = plan["hash"]
                self._steps = [Step(title) for title in plan["steps"]]
                return f"plan {plan['hash']} with {counted(len(plan['steps']), 'step')}"
            case "step_started":
                self._findings = []
                return self._start(event["title"], at)
            case "step_completed":
                return f"done in {self._end('done', at, event['note'])}"
            case "step_failed":
                self._end("failed", at, reason)
            case "stop_requested":
                self._end("stopped", at, f"stopped by {event['by']}: {reason}")
                reason = f"by {event['by']}: {reason}"
            case "approved":
                reason = f"by {event['by']}: plan {event['plan_hash']}"
            case "resumed":
                reason = f"resumed by worker {event['worker']}"
            case "closed":
                self.outcome, self._ended = event["outcome"], at
                reason = f"{event['outcome']}{f': {reason}' if reason else ''}"
        if self.state in ("reverting", "stuck", "closed"):
            for step in self.steps:
                step.state = "skipped" if step.state == "todo" else step.state
        return reason

    def _start(self, title: str, at: datetime) -> str:
        if self.state == "reverting":
            same = self._revert_steps[-1] if self._revert_steps and self._revert_steps[-1].state == "running" else None
            step = same or Step(title)
            self._revert_steps += [] if same else [step]
            step.state, step.began = "running", at
            return f"revert: {title}"
        for n, step in enumerate(self._steps, 1):
            if step.state in ("todo", "running"):  # after a crash, a running step starts again
                step.state, step.began = "running", at
                return f"{n}/{len(self._steps)} {title}"
        return title

    def _end(self, state: str, at: datetime, note: str) -> str:
        for step in self.steps:
            if step.state == "running":
                step.state, step.ended, step.note = state, at, note
                return _seconds(step.began, at)
        return ""

    def picture(self, now: datetime) -> RenderableType:
        """The picture at the time `now`."""
        head = Text.assemble(
            (self.execution, "bold"),
            f"  {clean(self._head)}  ",
            word(self.outcome or self.state),
            f"  {_seconds(self._began, self._ended or now)}",
        )
        grid = Table.grid(padding=(0, 1))
        grid.add_column(width=1)
        grid.add_column(overflow="fold")
        grid.add_column(justify="right", no_wrap=True)
        for row in self._rows(now):
            grid.add_row(*row)
        parts: list[RenderableType] = [head, Text(clean(self.reason), style="dim"), grid]
        if self._steps:
            done = sum(step.state == "done" for step in self._steps)
            color = "green" if self.outcome == "succeeded" else "cyan" if self.state == "running" else "yellow"
            bar = Table.grid(padding=(0, 1))
            bar.add_row(
                ProgressBar(total=len(self._steps), completed=done, width=40, complete_style=color,
                            finished_style=color),
                Text(f"{done} of {len(self._steps)}", style="dim"),
            )  # fmt: skip
            parts.append(bar)
        if self.state == "awaiting_approval":
            parts.append(Text(f"responder approve {self.execution} --plan {self.plan_hash}", style="yellow"))
        if self.state == "stuck":
            parts.append(
                Text(f'manual action required; then: responder close {self.execution} --reason "…"', style="yellow")
            )
        return Group(*parts)

    def _rows(self, now: datetime) -> Iterator[tuple[Text, Text, Text]]:
        steps = self.steps
        last = next((n for n, step in enumerate(steps) if step.state in ("running", "todo")), len(steps))
        first = max(0, min(last - _MOST_LINES * 2 // 3, len(steps) - _MOST_LINES))
        if first:
            done = sum(step.state == "done" for step in steps[:first])
            yield Text("✓", style="green"), Text(f"{done} earlier steps", style="dim"), Text("")
        for step in steps[first : first + _MOST_LINES]:
            mark, style = _MARKS[step.state]
            took = _seconds(step.began, step.ended or now) if step.began else ""
            title = clean(step.title) + (" (revert)" if step in self._revert_steps else "")
            dim = "dim" if step.state in ("todo", "skipped") else ""
            yield Text(mark, style=style), Text(title, style=dim), Text(took, style="dim")
            if step.note and step.state in ("failed", "stopped"):
                yield Text(""), Text(clean(step.note), style=style), Text("")
            if step.state == "running":
                for finding in self._findings:
                    good = finding["holds"]
                    yield Text(""), Text(clean(finding["reason"]), style="green" if good else "yellow"), Text("")
        if (left := len(steps) - first - _MOST_LINES) > 0:
            yield Text(""), Text(f"{left} more steps", style="dim"), Text("")


def line(event: dict[str, Any], sentence: str) -> str:
    """One event as a line, for output that is not a terminal."""
    return f"{clock(event['at'])}  {event['type']:<9} {clean(sentence)}".rstrip()


def _seconds(start: datetime | None, end: datetime | None) -> str:
    if start is None or end is None:
        return ""
    took = max((end - start).total_seconds(), 0.0)
    return f"{took:.1f}s" if took < 60 else format_duration(took // 1)

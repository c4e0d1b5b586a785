"""Shows the running demo: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from itertools import cycle
from time import time

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from examples.demo.timeline import Timeline
from examples.demo.traffic import A_SECOND, Second, Traffic

BLOCKS = " ▁▂▃▄▅▆▇█"
VERSION_STYLES = ("bold black on green", "bold white on red", "bold black on yellow")
TITLE = "A bad release, rolled back without an operator"
ABOUT = (
    "On this machine, on loopback only: a small shop with 20 requests a second, an exporter that checks it every "
    "second, Prometheus, Alertmanager and the responder. All of them are real, and every number is measured."
)


def console() -> Console:
    """Returns a console of the terminal's width, or of a fixed width without a terminal."""
    width = None if sys.stdout.isatty() else int(os.environ.get("COLUMNS") or 100)
    return Console(highlight=False, width=width)


def introduce(out: Console) -> None:
    """What the screen shows."""
    out.print(Text(TITLE, style="bold"))
    out.print(Text(ABOUT, style="dim"))
    out.print()


class Screen:
    """Shows the demo while it runs. The last state stays on the terminal."""

    def __init__(self, out: Console) -> None:
        self.out = out
        self._live = Live(console=out, auto_refresh=False) if out.is_terminal and not out.is_dumb_terminal else None
        self._printed: set[str] = set()
        self._last_line = 0.0

    def __enter__(self) -> Screen:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def show(self, now: str, traffic: Traffic | None = None, timeline: Timeline | None = None) -> None:
        """Shows the current activity, the traffic and the timeline."""
        if self._live:
            self._live.update(self._picture(now, traffic, timeline), refresh=True)
        else:
            self._lines(now, traffic, timeline)

    def traffic(self, traffic: Traffic) -> None:
        """Shows only the traffic."""
        if self._live:
            self._live.update(rates(traffic, self.out.width), refresh=True)

    def _picture(self, now: str, traffic: Traffic | None, timeline: Timeline | None) -> RenderableType:
        parts: list[RenderableType] = [Text(now, style="bold"), Text("")]
        if traffic:
            parts.append(rates(traffic, self.out.width))
        if timeline:
            parts.append(Text(""))
            parts.append(stages(timeline))
            # The report has them too; shown here only if they fit.
            if timeline.guard_results and not timeline.over and self.out.height >= 24 + len(timeline.guard_results):
                parts += [Text(""), guard_results(timeline)]
        return Group(*parts)

    def _lines(self, now: str, traffic: Traffic | None, timeline: Timeline | None) -> None:
        if now not in self._printed:
            self._printed.add(now)
            self.out.print(now)
        if timeline:
            began = timeline.stages[0].at or 0.0
            for stage in timeline.stages:
                if stage.at is not None and stage.name not in self._printed:
                    self._printed.add(stage.name)
                    self.out.print(f"{stage.at - began:6.2f} s  {stage.name:<19} {stage.detail}", soft_wrap=True)
        latest = traffic.latest(1) if traffic else []
        if latest and time() - self._last_line >= 2:
            self._last_line = time()
            self.out.print(f"{'':10} {latest[0].release:>4}: {latest[0].good} good, {latest[0].bad} failed per second")


def rates(traffic: Traffic, width: int) -> RenderableType:
    """Good and failed responses per second, below the release that served them."""
    seconds = traffic.latest(max(10, min(width, 120) - 32))
    good, bad = traffic.counted()
    last = seconds[-1] if seconds else Second()
    table = Table.grid(padding=(0, 2))
    for justify in ("left", "left", "right", "right"):
        table.add_column(justify=justify, no_wrap=True)
    table.add_row(
        Text("release", style="dim"),
        _releases(seconds, traffic.first_answer),
        Text("now", style="dim"),
        Text("total", style="dim"),
    )
    table.add_row("good", Text(_bars([s.good for s in seconds]), style="green"), f"{last.good}/s", str(good))
    loud = "bold red" if last.bad else "dim"
    row = Text(_bars([s.bad for s in seconds]), style="red"), Text(f"{last.bad}/s", style=loud), str(bad)
    table.add_row(Text("failed", style="bold red" if last.bad else ""), *row)
    return table


def _bars(counts: list[int]) -> str:
    top = max([A_SECOND, *counts])
    return "".join(BLOCKS[-(-n * (len(BLOCKS) - 1) // top)] for n in counts)


def _releases(seconds: list[Second], known: Iterable[str]) -> Text:
    """One colored stretch per release, with its name at the start."""
    styles = dict(zip(known, cycle(VERSION_STYLES), strict=False))
    row, before, left = Text(), "", ""
    for second in seconds:
        release = second.release or before
        if release != before:
            before = left = release
        row.append(left[:1] or " ", style=styles.get(release, ""))
        left = left[1:]
    return row


def stages(timeline: Timeline) -> RenderableType:
    """Each stage with the time since the bad release went live; the pending stage stands out."""
    table = Table.grid(padding=(0, 1))
    table.add_column(justify="right", no_wrap=True, min_width=7)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, min_width=18)
    table.add_column()
    began = timeline.stages[0].at or 0.0
    awaited = None if timeline.over else timeline.waits_for
    for stage in timeline.stages:
        if stage.at is not None:
            color = "red" if stage.name in ("first failed check", "alert fires") else "green"
            mark, style, note = Text("●", style=color), "bold", Text(stage.detail)
            table.add_row(f"{stage.at - began:.2f} s", mark, Text(stage.name, style=style), note)
        elif stage.name == awaited:
            table.add_row(
                "…", Text("◌", style="yellow"), Text(stage.name, style="yellow"), Text(stage.detail, style="dim")
            )
        else:
            table.add_row("", Text("○", style="dim"), Text(stage.name, style="dim"), "")
    return table


def guard_results(timeline: Timeline) -> RenderableType:
    """The guard results."""
    table = Table.grid(padding=(0, 1))
    table.add_column(justify="right", no_wrap=True, min_width=7)
    table.add_column(no_wrap=True, min_width=16)
    table.add_column()
    for result in timeline.guard_results:
        color = {"allow": "green", "deny": "red"}.get(result["result"], "yellow")
        table.add_row(Text(result["result"], style=color), result["guard"], Text(result["reason"], style="dim"))
    return table

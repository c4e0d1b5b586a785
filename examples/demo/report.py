"""The report at the end: timeline, customer impact, history and commands to try."""

from __future__ import annotations

from itertools import pairwise

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from examples.demo import screen
from examples.demo.stack import SHOP, Stack
from examples.demo.timeline import Timeline
from examples.demo.traffic import Traffic
from responder.cli.display import rollbacks as show

STYLES = ("red", "red", "yellow", "yellow", "cyan", "green")
SPANS = {
    "alert fires": "noticed",
    "received": "delivered",
    "decided": "decided",
    "acted": "rolled back",
    "healthy": "recovered",
    "verified": "verified",
}
"""The name of the time until each stage."""


def report(out: Console, traffic: Traffic, timeline: Timeline, history: list[dict[str, object]]) -> None:
    """Prints the report."""
    live_at = timeline.stages[0].at or 0.0
    good, bad = traffic.counted(since=live_at)
    out.print()
    out.print(Text("Guard results", style="bold"))
    out.print(screen.guard_results(timeline))
    out.print()
    out.print(Text("Timeline, from the first failed check to verified", style="bold"))
    out.print(waterfall(timeline, out.width))
    out.print()
    out.print(Text("Customer impact", style="bold"))
    if traffic.first_bad and traffic.last_bad:
        lasted = traffic.last_bad - traffic.first_bad
        out.print(
            f"{bad} of {good + bad} requests failed since the bad release went live, over {lasted:.1f} s.\n"
            f"The slowest response took {traffic.slowest:.2f} s, including both restarts."
        )
    out.print()
    out.print(Text("History (responder history)", style="bold"))
    out.print(show.history(history))


def waterfall(timeline: Timeline, width: int) -> RenderableType:
    """One bar per stage, each beginning where the previous one ended."""
    reached = [stage for stage in timeline.stages[1:] if stage.at is not None]
    # A check can pass before the restart returns: then healthy comes first.
    reached.sort(key=lambda stage: stage.at or 0.0)
    if len(reached) < 2:
        return Text("No timeline.")
    begin, end = reached[0].at or 0.0, reached[-1].at or 0.0
    room = max(20, min(width, 110) - 26)
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True, min_width=12)
    table.add_column(justify="right", no_wrap=True, min_width=8)
    table.add_column(no_wrap=True, width=room)
    for (before, stage), style in zip(pairwise(reached), STYLES, strict=False):
        start, until = before.at or 0.0, stage.at or 0.0
        left = round((start - begin) / (end - begin) * (room - 1))
        right = max(left + 1, round((until - begin) / (end - begin) * room))
        bar = Text(" " * left).append("█" * (right - left), style=style)
        table.add_row(SPANS[stage.name], f"{until - start:.3f} s", bar)
    table.add_row(Text("total", style="bold"), Text(f"{end - begin:.3f} s", style="bold"), "")
    return table


def try_next(out: Console, stack: Stack) -> None:
    """Prints commands to paste while the demo runs."""
    responder = stack.program["responder"]
    url = f"--url http://{stack.responder}"
    deploy = f"{SHOP / 'deploy'} {stack.root} http://{stack.responder}"
    amtool = f"amtool --alertmanager.url=http://{stack.alertmanager}"
    blocks = (
        ("Show why it acted, and the status", f"{responder} explain --last {url}", f"{responder} status {url}"),
        (
            "Deploy 1.1 again. Its alert fires within 10 s and is denied: show why",
            f"{deploy} 1.1",
            f"{responder} explain {url}",
        ),
        (
            "Force a rollback",
            f'{responder} rollback shop --reason "I saw the errors" --wait {url}',
        ),
        (
            "Silence the service and deploy another bad release: the alert fires within 10 s, and no rollback starts",
            f'{amtool} silence add service=shop --author=me --comment="I am on it" --duration=10m',
            f"{deploy} 1.2",
            f"{amtool} alert query --silenced",
        ),
        (
            "Expire the silence: the rollback starts within 30 s",
            f"{amtool} silence expire $({amtool} silence query -q)",
        ),
    )
    out.print()
    out.print(Text("What to try next, in another terminal", style="bold"))
    for what, *commands in blocks:
        out.print(Text(f"\n# {what}", style="dim"))
        for command in commands:
            out.print(Text(command, style="cyan"), soft_wrap=True)  # a wrapped line cannot be pasted
    out.print()
    for what, where in (
        ("Prometheus", f"http://{stack.prometheus}/alerts"),
        ("Alertmanager", f"http://{stack.alertmanager}"),
        ("configuration", f"{stack.directory}/*.yml"),
    ):
        out.print(f"{what:<14} {where}", soft_wrap=True)

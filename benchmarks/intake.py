"""From webhook to journalled: how many bodies a second are on record when the sender is answered, and how soon."""

from __future__ import annotations

import json
import os
import resource
import sqlite3
import statistics
import subprocess
import tempfile
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

from benchmarks.aims import aim
from benchmarks.bodies import template
from benchmarks.contestants import Contestant, Site, contestants
from benchmarks.processes import Server, program
from benchmarks.report import Table, main, ms

CONNECTIONS = 16
SIZES = (1, 100)
_SERVICE = "checkout"


@dataclass(frozen=True)
class Run:
    """What wrk counted in one run, and what the journal held afterwards."""

    answered: int
    seconds: int
    refused: int  # answered with 4xx or 5xx
    broken: int  # not answered
    p50: float
    p99: float
    generator: float  # cores that wrk was busy for
    server: float  # and the server, with the commands that it ran
    rows: int | None  # new rows of the journal; None where there is none

    @property
    def rate(self) -> float:
        return self.answered / self.seconds

    @property
    def cost(self) -> float:
        """Milliseconds of processor time a body: what the machine is otherwise busy with hardly changes it."""
        return self.server / self.rate * 1e3


def run(quick: bool, beside: Path | None) -> list[Table]:
    rounds, seconds = (2, 1) if quick else (5, 3)
    everyone = contestants(beside)
    runs: dict[tuple[str, int], list[Run]] = {}
    for number in range(rounds):
        # Who comes first has the colder disk and the cooler processor: each does in turn.
        for contestant in everyone[number % len(everyone) :] + everyone[: number % len(everyone)]:
            for size, measured in _one_round(contestant, seconds).items():
                runs.setdefault((contestant.name, size), []).append(measured)
    return [_table(size, {contestant.name: runs[contestant.name, size] for contestant in everyone}) for size in SIZES]


def _one_round(contestant: Contestant, seconds: int) -> dict[int, Run]:
    with tempfile.TemporaryDirectory(prefix="bench-intake-") as directory:
        # Deployed too long ago to be the cause: refused after everything has been looked up, and journalled.
        site = Site(Path(directory), [_SERVICE], deployed_ago=timedelta(hours=2))
        site.lay_out()
        server = contestant.start(site)
        journal = contestant.journal(site)
        try:
            measured = {}
            for size in SIZES:
                file = site.directory / f"body-{size}"
                file.write_text(template(_SERVICE, size))
                _load(contestant, server, file, 1, size * 100_000)  # warm: what is imported late, the page cache
                before = _rows(journal)
                run = _load(contestant, server, file, seconds, size * 100_000 + 50_000)
                server.calm_down()
                after = _rows(journal)
                rows = None if before is None or after is None else after - before
                # What was under way when wrk stopped counting is on record as well, or given up with its connection.
                if rows is not None and rows < run.answered - run.refused:
                    raise AssertionError(f"{run.answered} bodies were answered, but only {rows} are in the journal")
                measured[size] = Run(**{**asdict(run), "rows": rows})
            return measured
        finally:
            server.stop()


def _load(contestant: Contestant, server: Server, body: Path, seconds: int, first: int) -> Run:
    script = Path(__file__).with_name("bodies.lua")
    argv = [program("wrk"), "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", str(script), server.url + contestant.path]
    ours, theirs, began = _children(), server.cpu_seconds(), time.monotonic()
    output = subprocess.run([*argv, "--", str(body), str(first)], capture_output=True, text=True, check=True).stdout
    took = time.monotonic() - began
    figures = json.loads(next(line for line in output.splitlines() if line.startswith("figures: "))[9:])
    generator, busy = (_children() - ours) / took, (server.cpu_seconds() - theirs) / took
    return Run(**figures, generator=generator, server=busy, rows=None)


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return float(used.ru_utime + used.ru_stime)


def _rows(journal: Path) -> int | None:
    if not journal.exists():
        return None
    with closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as connection:
        return int(connection.execute("SELECT count(*) FROM decisions").fetchone()[0])


def _table(size: int, runs: dict[str, list[Run]]) -> Table:
    def median(name: str, field: str) -> float:
        return float(statistics.median(getattr(run, field) for run in runs[name]))

    title = f"intake: {CONNECTIONS} connections, {size} alert{'s' * (size > 1)} a body"
    columns = ["", "bodies/s", "p50 ms", "p99 ms", "on record", "refused", "broken", "CPU ms/body", "wrk cores"]
    table = Table(title, columns)
    for name in runs:
        rows = [run.rows for run in runs[name] if run.rows is not None]
        answered = sum(run.answered - run.refused for run in runs[name])
        table.add(
            name,
            f"{median(name, 'rate'):.0f}",
            ms(median(name, "p50")),
            ms(median(name, "p99")),
            f"{sum(rows)} of {answered}" if rows else "none",
            str(sum(run.refused for run in runs[name])),
            str(sum(run.broken for run in runs[name])),
            f"{median(name, 'cost'):.2f}",
            f"{median(name, 'generator'):.2f}",
        )
        table.figures[name] = {
            **{field: median(name, field) for field in ("rate", "p50", "p99", "cost", "server", "generator")},
            "rounds": [round(run.rate, 1) for run in runs[name]],
        }
    # Of each round by itself: what else the machine does then slows both down alike.
    pairs = zip(runs["responder"], runs["FastAPI handler"], strict=True)
    ratio = statistics.median(ours.rate / theirs.rate for ours, theirs in pairs)
    table.aims.append(aim(f"bodies a second, {size} alert{'s' * (size > 1)} each", ratio))
    idle = os.cpu_count() or 1
    busiest = max(median(name, "generator") for name in runs)
    table.notes.append(
        f"wrk has one thread: it is the bottleneck near 1.00 cores, and took at most {busiest:.2f} of {idle}"
    )
    return table


if __name__ == "__main__":
    main(run)

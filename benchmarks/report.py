"""Tables for people and JSON for machines, each figure beside the aim that it is held to."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Rows

from benchmarks.processes import Unready


@dataclass(frozen=True)
class Aim:
    """What a figure should be. `before`: whether it was met before, so that missing it fails the run."""

    wanted: str
    is_: str
    met: bool
    before: bool = False

    @property
    def result(self) -> str:
        return "met" if self.met else "missed, but met before" if self.before else "missed"


@dataclass
class Table:
    """One benchmark's figures, those that are shown and those that are kept."""

    title: str
    columns: Sequence[str]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    aims: list[Aim] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, *cells: str) -> None:
        self.rows.append(cells)

    def show(self, console: Console) -> None:
        rows = Rows(title=escape(self.title), title_justify="left", box=box.SIMPLE, title_style="bold")
        for number, column in enumerate(self.columns):
            rows.add_column(column, justify="right" if number else "left")
        for cells in self.rows:
            rows.add_row(*map(escape, cells))
        console.print(rows)
        for aim in self.aims:
            style = "green" if aim.met else "red" if aim.before else "yellow"
            text = f"  aim: {escape(aim.wanted)}: {escape(aim.is_)} ({aim.result})"
            console.print(text, style=style, highlight=False)
        for note in self.notes:
            console.print(f"  {escape(note)}", style="dim", highlight=False)


Benchmark = Callable[[bool, Path | None], list[Table]]


def ms(value: float) -> str:
    return f"{value:.1f}"


def share(value: float) -> str:
    return f"{value:.2f}"


def main(*benchmarks: Benchmark) -> None:
    """Runs them one after the other and shows each as soon as it is there."""
    parser = argparse.ArgumentParser(
        description="Measures the responder beside a FastAPI handler and Debian's webhook."
    )
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds: all of it in under a minute")
    parser.add_argument("--output", nargs=2, metavar=("json", "FILE"), help="keep the figures as well, as json FILE")
    parser.add_argument(
        "--beside", type=Path, metavar="CHECKOUT", help="measure another checkout's responder in the same rounds"
    )
    args = parser.parse_args()
    if args.output and args.output[0] != "json":
        parser.error("--output knows json only: --output json FILE")
    console = Console(width=None if Console().is_terminal else 120)
    began, machine = time.monotonic(), _machine()
    console.print(", ".join(f"{name} {value}" for name, value in machine.items()), style="dim", highlight=False)
    tables = []
    try:
        for benchmark in benchmarks:
            for table in benchmark(args.quick, args.beside):
                table.show(console)
                tables.append(table)
    except Unready as e:
        parser.exit(2, f"{e}\n")
    console.print(f"took {time.monotonic() - began:.0f} s", style="dim", highlight=False)
    if args.output:
        kept = {"at": datetime.now(UTC).isoformat(), "machine": machine, "tables": [asdict(table) for table in tables]}
        Path(args.output[1]).write_text(json.dumps(kept, indent=2) + "\n")
    if any(aim.before and not aim.met for table in tables for aim in table.aims):
        parser.exit(1, "an aim is missed that was met before\n")


def _machine() -> dict[str, str]:
    return {
        "cores": str(os.cpu_count()),
        "load": f"{os.getloadavg()[0]:.1f}",
        "fsync": f"{_fsync():.2f} ms",
        "linux": platform.release(),
        "python": platform.python_version(),
    }


def _fsync() -> float:
    """Milliseconds that the disk under the journal takes to keep a page: what no answer of ours can be quicker than."""
    with tempfile.TemporaryFile() as file:
        times = []
        for _ in range(50):
            file.write(b"x" * 4096)
            file.flush()
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e3

"""From the start of the process to ready, its memory when nothing happens, and the CPU time of `responder --help`."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.aims import aim
from benchmarks.contestants import Contestant, Site, contestants
from benchmarks.processes import INSTALLED, Weight
from benchmarks.report import Table, main, ms

_IDLE = 5.0


def run(quick: bool, beside: Path | None) -> list[Table]:
    rounds = 2 if quick else 11
    everyone = contestants(beside)
    for contestant in everyone:
        _start(contestant)  # compiles byte code
    times: dict[str, list[tuple[float, float]]] = {}
    helps: dict[str, list[float]] = {}
    for _ in range(rounds):
        for contestant in everyone:
            times.setdefault(contestant.name, []).append(_start(contestant))
            if contestant.kind == "responder":
                helps.setdefault(contestant.name, []).append(_help(contestant.checkout))
    weights = {contestant.name: _weigh(contestant) for contestant in everyone}
    return [_table(times, weights), _help_table(helps)]


def _weigh(contestant: Contestant) -> Weight:
    with tempfile.TemporaryDirectory(prefix="bench-start-") as directory:
        server = contestant.start(_site(directory))
        try:
            time.sleep(_IDLE)
            return server.weight()
        finally:
            server.stop()


def _start(contestant: Contestant) -> tuple[float, float]:
    """Milliseconds to ready, and of CPU."""
    with tempfile.TemporaryDirectory(prefix="bench-start-") as directory:
        server = contestant.start(_site(directory))
        server.stop()
        return server.ready_after * 1e3, server.ready_cpu * 1e3


def _help(checkout: Path) -> float:
    """Milliseconds of CPU."""
    env = {**os.environ, **INSTALLED, "PYTHONPATH": str(checkout)}
    before = _children()
    subprocess.run(
        [sys.executable, "-m", "responder", "--help"], cwd=checkout, env=env, capture_output=True, check=True
    )
    return (_children() - before) * 1e3


def _children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _site(directory: str) -> Site:
    site = Site(Path(directory), ["checkout"])
    site.lay_out()
    return site


def _table(times: dict[str, list[tuple[float, float]]], weights: dict[str, Weight]) -> Table:
    columns = ["", "ready ms", "worst ms", "CPU ms", "RSS MiB", "PSS MiB"]
    table = Table(f"startup, and memory after {_IDLE:g} s idle", columns)
    for name, taken in times.items():
        middle, worst = statistics.median(t for t, _ in taken), max(t for t, _ in taken)
        cpu, weight = statistics.median(c for _, c in taken), weights[name]
        table.add(name, f"{middle:.0f}", f"{worst:.0f}", f"{cpu:.0f}", ms(weight.rss), ms(weight.pss))
        table.figures[name] = {"ready": middle, "worst": worst, "cpu": cpu, "rss": weight.rss, "pss": weight.pss}
    ours = table.figures["responder"]
    table.aims.append(aim("start to ready", ours["ready"]))
    table.aims.append(aim("start to ready, CPU", ours["cpu"]))
    table.aims.append(aim("memory after 5 s idle", ours["rss"]))
    return table


def _help_table(helps: dict[str, list[float]]) -> Table:
    table = Table("responder --help", ["", "CPU ms"])
    for name, taken in helps.items():
        table.add(name, f"{statistics.median(taken):.0f}")
        table.figures[name] = {"cpu": statistics.median(taken)}
    table.aims.append(aim("`responder --help`, CPU", table.figures["responder"]["cpu"]))
    return table


if __name__ == "__main__":
    main(run)

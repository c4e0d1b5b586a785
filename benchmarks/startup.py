"""From the start of the process to ready, and what it weighs when nothing happens."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.contestants import Contestant, Site, contestants
from benchmarks.processes import Weight
from benchmarks.report import Aim, Table, main, ms

_IDLE = 5.0


def run(quick: bool, beside: Path | None) -> list[Table]:
    rounds = 2 if quick else 11
    everyone = contestants(beside)
    # This also warms: byte code is compiled, files are in memory.
    weights = {contestant.name: _weigh(contestant) for contestant in everyone}
    times: dict[str, list[float]] = {}
    for _ in range(rounds):
        for contestant in everyone:
            times.setdefault(contestant.name, []).append(_start(contestant))
    return [_table(times, weights)]


def _weigh(contestant: Contestant) -> Weight:
    with tempfile.TemporaryDirectory(prefix="bench-start-") as directory:
        server = contestant.start(_site(directory))
        try:
            time.sleep(_IDLE)
            return server.weight()
        finally:
            server.stop()


def _start(contestant: Contestant) -> float:
    with tempfile.TemporaryDirectory(prefix="bench-start-") as directory:
        server = contestant.start(_site(directory))
        server.stop()
        return server.ready_after * 1e3


def _site(directory: str) -> Site:
    site = Site(Path(directory), ["checkout"])
    site.lay_out()
    return site


def _table(times: dict[str, list[float]], weights: dict[str, Weight]) -> Table:
    table = Table(f"startup, and memory after {_IDLE:g} s idle", ["", "ready ms", "worst ms", "RSS MiB", "PSS MiB"])
    for name, taken in times.items():
        middle, weight = statistics.median(taken), weights[name]
        table.add(name, f"{middle:.0f}", f"{max(taken):.0f}", ms(weight.rss), ms(weight.pss))
        table.figures[name] = {"ready": middle, "worst": max(taken), "rss": weight.rss, "pss": weight.pss}
    ours = table.figures["responder"]
    table.aims.append(Aim("ready in under 1 s", f"{ours['ready']:.0f} ms", ours["ready"] < 1000))
    megabytes = ours["rss"] * 2**20 / 1e6
    table.aims.append(Aim("at most 80 MB resident", f"{megabytes:.0f} MB", megabytes <= 80))
    return table


if __name__ == "__main__":
    main(run)

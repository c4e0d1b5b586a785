"""The aims of the benchmarks, in one table. `make bench` fails if an aim is missed that was met before."""

from __future__ import annotations

from typing import NamedTuple

from benchmarks.report import Aim


class Wanted(NamedTuple):
    """The limit of a figure. `met`: whether it held when the figure was last recorded in docs/benchmarks.md."""

    limit: float
    unit: str
    met: bool
    least: bool = False  # whether the limit is the least that the figure should be, not the most


_HANDLER = "times the FastAPI handler"

AIMS = {
    "bodies a second, 1 alert each": Wanted(0.8, _HANDLER, met=False, least=True),
    "bodies a second, 100 alerts each": Wanted(0.8, _HANDLER, met=False, least=True),
    "first act of a fresh process": Wanted(40, "ms", met=True),
    "first act, idle, p50": Wanted(2.5, _HANDLER, met=False),
    "first act, idle, p99": Wanted(3, _HANDLER, met=False),
    "first act, 50 a second, p50": Wanted(5, _HANDLER, met=False),
    "first act, 50 a second, p99": Wanted(5, _HANDLER, met=False),
    "CPU per rollback": Wanted(8, "ms", met=False),
    "Kubernetes immediate": Wanted(1.15, "times kubectl", met=True),
    "Kubernetes rolling": Wanted(1.15, "times kubectl", met=True),
    "start to ready": Wanted(500, "ms", met=False),
    "start to ready, CPU": Wanted(500, "ms", met=False),
    "memory after 5 s idle": Wanted(60, "MiB", met=False),
    "`responder --help`, CPU": Wanted(200, "ms", met=True),
    "snapshot to a directory, time": Wanted(1.3, "times `pg_dump -Fd -j 2`", met=False),
    "snapshot to a directory, memory": Wanted(3, "times `pg_dump -Fd -j 2`", met=False),
    "snapshot to S3, time": Wanted(1.1, "times `pg_dump -Fc` and upload", met=False),
    "snapshot to S3, memory": Wanted(3, "times `pg_dump -Fc` and upload", met=True),
    "slowest read of a long history, SQLite": Wanted(1.2, "times", met=True),
    "slowest read of a long history, PostgreSQL": Wanted(1.2, "times", met=True),
    "slowest read of a large registry, SQLite": Wanted(2, "times", met=True),
    "slowest read of a large registry, PostgreSQL": Wanted(2, "times", met=True),
    "probes per CPU second": Wanted(0.8, "times blackbox_exporter", met=True, least=True),
    "CPU of 1,000 checks at 15 s": Wanted(1.2, "times blackbox_exporter", met=True),
    "memory of 1,000 checks": Wanted(1.2, "times blackbox_exporter", met=False),
    "storm: all answered": Wanted(10, "s", met=True),
    "storm: healthy p99": Wanted(100, "ms", met=False),
    "storm: ready p99": Wanted(100, "ms", met=False),
    "storm: metrics p99": Wanted(100, "ms", met=False),
    "storm: stop p99": Wanted(100, "ms", met=False),
    "storm: memory above idle": Wanted(40, "MiB", met=False),
    "CPU per decision, large against small": Wanted(1.5, "times", met=False),
    "flood: all journaled": Wanted(60, "s", met=False),
}


def aim(name: str, value: float) -> Aim:
    """The aim of that name, and whether this value meets it."""
    wanted = AIMS[name]
    return Aim(
        f"{name}, at {'least' if wanted.least else 'most'} {wanted.limit:g} {wanted.unit}",
        f"{value:.4g} {wanted.unit}",
        value >= wanted.limit if wanted.least else value <= wanted.limit,
        before=wanted.met,
    )

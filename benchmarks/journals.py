"""Times reads of a journal with a long history against reads of one with a short history, on both databases."""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.aims import aim
from benchmarks.report import Table, share
from responder.journal import Database
from tests.parts import postgres

Read = Callable[[Database], Awaitable[Any]]
States = Callable[[str], Awaitable[str]]
"""The URL of a new journal with this name."""


async def compare(table: Table, reads: Mapping[str, Read], few: Database, many: Database, times: int) -> None:
    """Adds a row for each read: the p50 with few and with many, and their ratio."""
    for label, read in reads.items():
        before, after = await _p50(few, many, read, times)
        table.add(label, f"{before:.2f}", f"{after:.2f}", share(after / before))
        table.figures[label] = {"few_ms": before, "many_ms": after, "ratio": after / before}


async def _p50(few: Database, many: Database, read: Read, times: int) -> tuple[float, float]:
    """In turns: what else the machine does is then in both."""
    took: tuple[list[float], list[float]] = ([], [])
    for _ in range(times):
        for journal, its in zip((few, many), took, strict=True):
            began = time.perf_counter()
            await read(journal)
            its.append(time.perf_counter() - began)
    return statistics.median(took[0]) * 1e3, statistics.median(took[1]) * 1e3


def aim_of_slowest(table: Table, name: str) -> None:
    """Adds the aim of that name, which no ratio of the table exceeds."""
    table.aims.append(aim(name, max(figures["ratio"] for figures in table.figures.values())))


async def on_both(measure: Callable[[str, States], Awaitable[Table]], *, durable: bool = True) -> list[Table]:
    """Measures on SQLite, and on PostgreSQL if it is installed."""
    with tempfile.TemporaryDirectory() as directory:

        async def file(name: str) -> str:
            return f"sqlite://{directory}/{name}.db"

        tables = [await measure("SQLite", file)]
        if shutil.which("pg_ctl") or Path("/usr/lib/postgresql").exists():
            async with postgres(directory, durable=durable) as server:
                tables.append(await measure("PostgreSQL", server.database))
        return tables

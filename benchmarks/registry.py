"""What reads of the registry cost with a million deployments, as a ratio to the same reads with a thousand."""

from __future__ import annotations

import asyncio
import shutil
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from benchmarks.report import Aim, Table, main, share
from responder.journal import Database, Transaction, deployments, open_journal
from tests.parts import postgres
from tests.registries import seed

_ONE = {"service": "s7", "environment": "production"}
_THERE = {**_ONE, "platform": "android"}
_WANTED = 2.0
Read = Callable[[Transaction], Awaitable[Any]]


async def _decision(tx: Transaction) -> None:
    running = await deployments.newest(tx, **_ONE)
    assert running is not None
    await tx.first("version_runs_since", **_ONE, version=running.version)
    target = await tx.first("good_target", **_ONE, running=running.version)
    assert target is not None
    await tx.first("protected_since", **_ONE, target=target["version"])


async def _client_document(tx: Transaction) -> None:
    await tx.first("client_rules", **_THERE)
    await deployments.newest(tx, **_THERE)


async def _platform(tx: Transaction) -> None:
    await deployments.newest(tx, **_THERE)
    await tx.first("good_on_platform", **_THERE, running="99.0", most=1)
    await tx.all("versions_of_platform", **_THERE, most=10)


# Those of one service are compared with a thousand deployments of 10 services; those of all services with as many
# services that were deployed once.
OF_ONE: dict[str, Read] = {
    "what the guards ask of one service": _decision,
    "a document for apps": _client_document,
    "10 versions of a platform": _platform,
    "10 versions of a service": lambda tx: tx.all("versions_of_service", **_ONE, most=10),
    "10 deployments of a service": lambda tx: deployments.find(tx, "s7", None, 10),
    "the 10 newest deployments": lambda tx: deployments.find(tx, None, None, 10),
}
OF_ALL: dict[str, Read] = {
    "what runs, of all services": deployments.running,
    "which wait to be good, of all services": deployments.running_candidates,
}


async def _p50(few: Database, many: Database, read: Read, times: int) -> tuple[float, float]:
    """In turns: what else the machine does is then in both."""
    took: tuple[list[float], list[float]] = ([], [])
    for _ in range(times):
        for journal, its in zip((few, many), took, strict=True):
            began = time.perf_counter()
            await journal.read(read)
            its.append(time.perf_counter() - began)
    return statistics.median(took[0]) * 1e3, statistics.median(took[1]) * 1e3


async def _grown(state: str, services: int, each: int) -> Database:
    journal = await open_journal(state)
    await seed(state, services=services, each=each)
    return journal


async def _database(name: str, states: Callable[[str], Awaitable[str]], quick: bool) -> Table:
    services, times = (1000, 100) if quick else (10_000, 500)
    table = Table(
        f"Reads of the registry, {name}: p50 beside {services * 100:,} deployments of {services:,} services",
        ("", "few deployments (ms)", "many (ms)", "ratio"),
    )
    few = await _grown(await states("few"), 10, 100)
    once = await _grown(await states("once"), services, 1)
    many = await _grown(await states("many"), services, 100)
    for reads, beside, rounds in ((OF_ONE, few, times), (OF_ALL, once, 40)):
        for label, read in reads.items():
            before, after = await _p50(beside, many, read, rounds)
            table.add(label, f"{before:.2f}", f"{after:.2f}", share(after / before))
            table.figures[label] = {"few_ms": before, "many_ms": after, "ratio": after / before}
    for journal in (few, once, many):
        await journal.close()
    worst = max(f["ratio"] for f in table.figures.values())
    table.aims.append(Aim(f"no read more than {_WANTED:g} times", f"{worst:.2f}", worst <= _WANTED))
    return table


async def _run(quick: bool) -> list[Table]:
    with tempfile.TemporaryDirectory() as directory:

        async def file(name: str) -> str:
            return f"sqlite://{directory}/{name}.db"

        tables = [await _database("SQLite", file, quick)]
        if shutil.which("pg_ctl") or Path("/usr/lib/postgresql").exists():
            async with postgres(directory) as server:
                tables.append(await _database("PostgreSQL", server.database, quick))
        return tables


def run(quick: bool, beside: Path | None) -> list[Table]:
    return asyncio.run(_run(quick))


if __name__ == "__main__":
    main(run)

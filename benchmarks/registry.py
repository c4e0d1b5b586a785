"""What reads of the registry cost with a million deployments, as a ratio to the same reads with a thousand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import journals
from benchmarks.journals import States, aim_of_slowest, compare, on_both
from benchmarks.report import Table, main
from responder.journal import Database, Transaction, deployments, open_journal
from tests.registries import seed

_ONE = {"service": "s7", "environment": "production"}
_THERE = {**_ONE, "platform": "android"}
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


def _reading(read: Read) -> journals.Read:
    return lambda journal: journal.read(read)


async def _grown(state: str, services: int, each: int) -> Database:
    journal = await open_journal(state)
    await seed(state, services=services, each=each)
    return journal


async def _database(name: str, states: States, quick: bool) -> Table:
    services, times = (1000, 100) if quick else (10_000, 500)
    table = Table(
        f"Reads of the registry, {name}: p50 beside {services * 100:,} deployments of {services:,} services",
        ("", "few deployments (ms)", "many (ms)", "ratio"),
    )
    few = await _grown(await states("few"), 10, 100)
    once = await _grown(await states("once"), services, 1)
    many = await _grown(await states("many"), services, 100)
    for reads, beside, rounds in ((OF_ONE, few, times), (OF_ALL, once, 40)):
        await compare(table, {label: _reading(read) for label, read in reads.items()}, beside, many, rounds)
    for journal in (few, once, many):
        await journal.close()
    aim_of_slowest(table, f"slowest read of a large registry, {name}")
    return table


def run(quick: bool, beside: Path | None) -> list[Table]:
    return asyncio.run(on_both(partial(_database, quick=quick)))


if __name__ == "__main__":
    main(run)

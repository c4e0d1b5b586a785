"""Nothing leaves the journal before it is in the archive, and nothing leaves that somebody still needs."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from responder.backends.connections import Connections
from responder.errors import LeaseLost, Unknown
from responder.journal import Database, Transaction, decisions, executions, open_journal, outbox
from responder.journal.decisions import RecordedDecision
from responder.journal.settings import JournalSettings
from responder.runtime import retention
from responder.runtime.retention import Retention
from tests.histories import fill

ROLLBACKS, SERVICES, DAYS = 70, 4, 30
_databases = count()


class Archived(NamedTuple):
    """A journal whose rollbacks ended 30 days ago, and its archive."""

    journal: Database
    directory: Path
    failures: list[str]

    def retention(self, days: int = 10) -> Retention:
        settings = JournalSettings(retention=f"{days}d", archive=str(self.directory))
        connections = Connections(lambda client: None)
        return Retention(settings, self.journal, connections, on_failure=lambda: self.failures.append("failed"))

    async def run(self, guard: Any = lambda: None, days: int = 10) -> None:
        while await self.retention(days).turn(guard) == retention._BETWEEN:
            pass

    async def history(self) -> list[dict[str, Any]]:
        return [dict(row) for row in await self.journal.read(executions.find, most=1000)]

    async def decided(self) -> set[str]:
        found = await self.journal.read(decisions.find, service=None, since=None, most=1000)
        return {row["id"] for row in found}

    def records(self, kind: str) -> dict[str, list[Any]]:
        """The records of each file."""
        files = sorted(self.directory.glob(f"{kind}/*/*.gz"))
        return {file.as_uri(): list(map(json.loads, gzip.open(file, "rt"))) for file in files}


@pytest.fixture(params=["sqlite", "postgres"])
async def archived(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Archived]:
    if request.param == "sqlite":
        state = f"sqlite://{tmp_path}/older.db"
    else:
        state = await request.getfixturevalue("postgres_server").database(f"retained_{next(_databases)}")
    newest = datetime.now(UTC) - timedelta(days=DAYS)
    await fill(state, executions=ROLLBACKS, services=SERVICES, newest=newest)
    journal = await open_journal(state)
    try:
        yield Archived(journal, tmp_path / "archive", [])
    finally:
        await journal.close()


async def test_old_details_move_to_the_archive_and_the_history_stays(archived: Archived) -> None:
    before, decided = await archived.history(), await archived.decided()
    events = {row["id"]: await archived.journal.read(executions.events_of, row["id"]) for row in before}
    await archived.run()
    after = await archived.history()
    assert [{**row, "archived_in": None} for row in after] == before
    files = archived.records("rollbacks")
    kept = [row["id"] for row in after if row["archived_in"] is None]
    newest = {row["service"]: row["id"] for row in reversed(after)}
    restored = {row["service"]: row["id"] for row in reversed(after) if row["outcome"] == "succeeded"}
    assert set(kept) == {*newest.values(), *restored.values()}
    for row in after:
        if row["archived_in"] is None:
            assert await archived.journal.read(executions.events_of, row["id"]) == events[row["id"]]
            continue
        record = next(r for r in files[row["archived_in"]] if r["execution"]["id"] == row["id"])
        assert [e["type"] for e in record["events"]] == [event.type for event in events[row["id"]]]
        assert [len(record[name]) for name in ("parts", "alerts", "messages")] == [1, 1, 2]
        with pytest.raises(Unknown, match="archived in file://"):
            await archived.journal.read(executions.events_of, row["id"])
    gone = {record["id"] for records in archived.records("decisions").values() for record in records}
    assert await archived.decided() == decided - gone
    assert set(kept) <= decided - gone
    assert len(gone) > len(decided) / 2
    assert archived.failures == []


async def test_nothing_is_deleted_that_is_younger(archived: Archived) -> None:
    decided = await archived.decided()
    await archived.run(days=DAYS + 7)
    assert all(row["archived_in"] is None for row in await archived.history())
    assert await archived.decided() == decided
    assert not archived.directory.exists()


@pytest.mark.parametrize("broken", ["unwritable", "altered", "lost"])
async def test_nothing_is_deleted_without_an_archive(
    archived: Archived, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    decided = await archived.decided()

    async def altered(store: Any, name: str) -> bytes:
        return gzip.compress(b"{}") if broken == "altered" else b""

    if broken == "unwritable":
        archived.directory.write_text("a file")
    else:
        monkeypatch.setattr(retention, "read_object", altered)
    assert await archived.retention().turn(lambda: None) > retention._BETWEEN
    assert archived.failures == ["failed"]
    assert all(row["archived_in"] is None for row in await archived.history())
    assert await archived.decided() == decided


async def test_a_crash_after_the_export_loses_nothing(archived: Archived) -> None:
    def crash() -> None:
        raise LeaseLost("gone")

    decided = await archived.decided()
    with pytest.raises(LeaseLost):
        await archived.run(crash)
    assert all(row["archived_in"] is None for row in await archived.history())
    first = archived.records("rollbacks")
    await archived.run()
    files = archived.records("rollbacks")
    assert {name: files[name] for name in first} == first  # the same batch has the same file
    for row in await archived.history():
        assert row["archived_in"] is None or row["id"] in {r["execution"]["id"] for r in files[row["archived_in"]]}
    gone = {record["id"] for records in archived.records("decisions").values() for record in records}
    assert await archived.decided() == decided - gone


async def test_two_replicas_archive_each_record(archived: Archived) -> None:
    await asyncio.gather(archived.run(), archived.run())
    files = archived.records("rollbacks")
    moved = [row for row in await archived.history() if row["archived_in"]]
    assert len(moved) > ROLLBACKS / 2
    for row in moved:
        record = next(r for r in files[row["archived_in"]] if r["execution"]["id"] == row["id"])
        assert len(record["events"]) == 7


async def test_what_is_still_needed_stays(archived: Archived) -> None:
    rows = await archived.history()
    waiting, repeated = rows[-1]["id"], rows[-2]["id"]
    at = archived.journal.now()
    await archived.journal.transaction(
        lambda tx: tx.all("add_message", subject=waiting, channel="slack", occasion="9", seq=9, stage="ended", at=at)
    )
    await archived.journal.transaction(outbox.add, outbox.News(f"{repeated}-d", 0, "denied", at))
    await archived.run()
    assert waiting in {row["id"] for row in await archived.history() if row["archived_in"] is None}
    assert {waiting, f"{repeated}-d"} <= await archived.decided()


async def test_trouble_still_counts_against_a_version(archived: Archived) -> None:
    """The last decision of each policy on each service stays, so that a version with trouble is never promoted."""

    async def last_trouble(tx: Transaction) -> dict[tuple[str, str], datetime]:
        rows = await decisions.find(tx, service=None, since=None, most=1000)
        return {(row["policy"], row["service"]): row["last_at"] for row in reversed(rows)}

    before = await archived.journal.read(last_trouble)
    await archived.run()
    assert await archived.journal.read(last_trouble) == before


async def test_an_incident_that_still_occurs_keeps_its_decisions(archived: Archived) -> None:
    """Else its first decision would be a later one, and it would count as new trouble."""
    oldest = (await archived.journal.read(decisions.find, service=None, since=None, most=1000))[-1]
    again = {"id": "again", "result": "deny", "guard": "still_firing", "last_at": archived.journal.now(), "times": 1}
    fields = {name: oldest[name] for name in RecordedDecision.model_fields}
    await archived.journal.transaction(
        decisions.insert, RecordedDecision(**{**fields, **again, "at": again["last_at"], "execution": None})
    )
    await archived.run()
    first = await archived.journal.read(lambda tx: tx.first("first_decided", incident=oldest["incident"]))
    assert first == {"at": oldest["at"]}

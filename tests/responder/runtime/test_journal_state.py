"""A scrape shows the last read of the journal with its age, and never waits for the journal."""

from __future__ import annotations

import asyncio
import re
from functools import partial
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

from responder.errors import JournalUnavailable
from responder.journal import Database, decisions
from responder.runtime.journal_metrics import JournalMetrics
from responder.runtime.journal_state import JournalState
from responder.services import registry
from tests.responder.examples import NOW, deployment, policy_set, service

TEXT = "text/plain"


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


class Unreadable:
    """A journal that fails, or never answers."""

    def __init__(self, journal: Database) -> None:
        self._journal, self.reads, self.broken = journal, 0, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)

    async def read(self, *args: Any) -> Any:
        self.reads += 1
        if self.broken:
            raise JournalUnavailable("broken")
        return await self._journal.read(*args)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def unreadable(journal: Database) -> Unreadable:
    return Unreadable(journal)


@pytest.fixture
def state(unreadable: Unreadable, clock: Clock) -> JournalState:
    return JournalState(unreadable, lambda: policy_set(services=(service(),)), clock)  # type: ignore[arg-type]


async def exposed(state: JournalState, encode: Any = generate_latest, content_type: str = TEXT) -> str:
    replica = JournalMetrics(state.snapshot, policy_set(), age=state.age).of_replica()
    return (await state.exposition(encode, content_type, replica)).decode()


async def test_scrapes_do_not_read_the_journal(state: JournalState, unreadable: Unreadable, journal: Database) -> None:
    await journal.transaction(registry.record, deployment(version="2.1", at=NOW), None)
    await state.refresh()
    for _ in range(3):
        assert 'version="2.1"' in await exposed(state)
    await journal.transaction(registry.record, deployment(version="2.2", at=NOW, id="d2"), None)
    assert 'version="2.2"' not in await exposed(state)
    assert unreadable.reads == 1
    await state.refresh()
    assert 'version="2.2"' in await exposed(state)


async def test_before_the_first_read_the_series_are_absent(state: JournalState) -> None:
    series = await exposed(state)
    assert "responder_journal_up 0.0" in series
    assert "responder_services_in_trouble" not in series


async def test_the_age_is_a_series_until_the_read_is_outdated(state: JournalState, clock: Clock) -> None:
    pause = await state.refresh()
    clock.seconds += pause + 1
    series = await exposed(state)
    assert (f"responder_journal_age_seconds {pause + 1}" in series, "responder_journal_up 1.0" in series) == (
        True,
        True,
    )
    assert "responder_services_in_trouble{" in series
    clock.seconds += 3 * pause
    series = await exposed(state)
    assert "responder_journal_up 0.0" in series
    assert re.findall(r"^responder_(?!journal_)\w+", series, flags=re.MULTILINE) == []


async def test_a_failed_read_is_shown_at_once(state: JournalState, unreadable: Unreadable, journal: Database) -> None:
    await state.refresh()
    await exposed(state)
    unreadable.broken = True
    await state.refresh()
    assert "responder_services_in_trouble" not in await exposed(state)
    unreadable.broken = False
    await journal.transaction(decisions.set_kill_switch, "bob", "why", NOW)
    await state.refresh()
    series = await exposed(state)
    assert ("responder_armed 0.0" in series, "responder_services_in_trouble{" in series) == (True, True)


async def test_a_bug_in_the_first_read_does_not_keep_the_replica_from_starting(
    state: JournalState, unreadable: Unreadable
) -> None:
    failed: list[str] = []
    unreadable.read = None  # type: ignore[method-assign, assignment]
    reading = asyncio.create_task(state.run(failed.append))
    async with asyncio.timeout(60):
        await state.tried.wait()
    assert "responder_journal_up 0.0" in await exposed(state)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    assert failed == ["metrics"]


async def test_a_scrape_during_a_read_does_not_keep_the_series_of_the_read_before(
    state: JournalState, journal: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode_all = state._encode

    async def slow(*args: Any) -> bytes:
        encoded = await encode_all(*args)
        monkeypatch.undo()
        await journal.transaction(registry.record, deployment(version="2.1", at=NOW), None)
        await state.refresh()
        return encoded

    await state.refresh()
    monkeypatch.setattr(state, "_encode", slow)
    assert 'version="2.1"' not in await exposed(state)
    assert 'version="2.1"' in await exposed(state)


async def test_a_long_read_is_repeated_rarely(state: JournalState, unreadable: Unreadable, clock: Clock) -> None:
    assert await state.refresh() == 5.0
    read = unreadable.read

    async def slow(*args: Any) -> Any:
        clock.seconds += 2
        return await read(*args)

    unreadable.read = slow  # type: ignore[method-assign]
    assert await state.refresh() == 40.0
    assert (state.read_in, state.age) == (2.0, 2.0)


async def test_every_format_ends_as_it_must(state: JournalState) -> None:
    await state.refresh()
    for version in ("1.0.0", "1.0.1", "1.0.2", "1.0.3", "1.0.4"):
        encode = partial(openmetrics.generate_latest, version=version, escaping=openmetrics.UNDERSCORES)
        series = await exposed(state, encode, f"application/openmetrics-text; version={version}")
        assert (series.count("# EOF"), series.endswith("# EOF\n")) == (1, True)
        assert "responder_services_in_trouble{" in series
    await state.refresh()
    assert "# EOF" not in await exposed(state)

"""A verification says what it proved, and what a restore would reject is found before it is needed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from responder.backends.postgres.snapshots.resource import Snapshot
from responder.backends.postgres.snapshots.verify import compare_restored
from responder.errors import StepFailed
from tests.responder.backends.postgres.snapshots.conftest import SourceDatabase
from tests.responder.backends.postgres.snapshots.test_commands import run, shop, taken  # noqa: F401

Run = Callable[..., Awaitable[tuple[int, Any, str]]]

RATES = """
CREATE TABLE rates (code text PRIMARY KEY, rate int); INSERT INTO rates VALUES ('a', 2);
CREATE TABLE prices (id int PRIMARY KEY, code text, n int); INSERT INTO prices VALUES (1, 'a', 3);
CREATE FUNCTION rate(text) RETURNS int IMMUTABLE LANGUAGE plpgsql
  AS $$ BEGIN RETURN (SELECT r.rate FROM {schema}rates r WHERE r.code = $1); END $$;
"""
USES = {
    "index": "CREATE INDEX by_rate ON prices (rate(code))",
    "predicate of an index": "CREATE INDEX by_rate ON prices (id) WHERE rate(code) > 1",
    "constraint": "ALTER TABLE prices ADD CONSTRAINT rated CHECK (rate(code) > 0)",
    "generated column": "ALTER TABLE prices ADD total int GENERATED ALWAYS AS (n * rate(code)) STORED",
    "materialized view": "CREATE MATERIALIZED VIEW totals AS SELECT id, n * rate(code) AS total FROM prices",
}


@pytest.mark.parametrize("use", USES)
async def test_a_plan_names_what_a_restore_cannot_create(source: SourceDatabase, use: str) -> None:
    await source.script(RATES.format(schema="") + USES[use])
    snapshot = Snapshot(database="shop", store="kept").planned("x-1")
    note, obstacle = await snapshot.preflight(source.snapshots, snapshot.key)
    assert "every archive is read, but not restored" in note
    assert 'relation "rates" does not exist' in obstacle
    assert "cannot be restored" in obstacle
    (problem,) = await snapshot.check_access(source.snapshots)
    assert "search_path" in problem.fix

    manifest = await source.snapshots.create("kept", source.request())
    with pytest.raises(StepFailed, match='relation "rates" does not exist'):
        await compare_restored(source.snapshots.postgres, source.snapshots.store("kept"), manifest, "shop", jobs=2)


@pytest.mark.parametrize("use", USES)
async def test_nothing_is_said_of_what_a_restore_can_create(source: SourceDatabase, use: str) -> None:
    await source.script(RATES.format(schema="public.") + USES[use])
    snapshot = Snapshot(database="shop", store="kept").planned("x-1")
    (_,) = await snapshot.preflight(source.snapshots, snapshot.key)
    assert await snapshot.check_access(source.snapshots) == []
    await source.snapshots.create("kept", source.request(scratch="shop"))


async def test_a_snapshot_that_was_only_read_can_be_restored_for_proof(run: Run) -> None:  # noqa: F811
    key = await taken(run)
    code, body, _ = await run("verify", key)
    assert code == 0
    assert body["how"].startswith("every archive is read, but not restored")
    code, body, _ = await run("verify", key, "--restore", "server")
    assert (code, body["how"]) == (
        0,
        "restored, rows not compared, because it was taken with `--verify read` and has no checksums",
    )

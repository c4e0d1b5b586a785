"""What a snapshot can and cannot restore: verifications say what they proved, obstacles are found before."""

from __future__ import annotations

import contextlib
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


@pytest.mark.parametrize("use", sorted(set(USES) - {"generated column"}))
async def test_what_a_restore_can_create_is_not_reported(source: SourceDatabase, use: str) -> None:
    """Not the generated column: a restore may compute it before the other table has its rows."""
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


GUARDS = {
    "a trigger that rejects": "BEGIN RAISE EXCEPTION 'append-only'; END",
    "a trigger that replaces": "BEGIN NEW.note := upper(checked(NEW.note)); RETURN NEW; END",
    "a trigger that needs the search_path": "BEGIN PERFORM checked(NEW.note); RETURN NEW; END",
}


@pytest.mark.parametrize("guard", GUARDS)
async def test_columns_are_restored_past_triggers_and_constraints(
    shop: SourceDatabase,  # noqa: F811
    run: Run,  # noqa: F811
    guard: str,
) -> None:
    before = await shop.sql("SELECT id, note FROM orders ORDER BY id")
    key = await taken(run)
    await shop.script(
        "UPDATE orders SET note = NULL; CREATE TABLE allowed (ok bool); INSERT INTO allowed VALUES (true);"
        "CREATE FUNCTION checked(text) RETURNS text LANGUAGE plpgsql"
        " AS $$ BEGIN PERFORM ok FROM allowed; RETURN $1; END $$;"
        "ALTER TABLE orders ADD CHECK (checked(note) <> '');"
        f"CREATE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS $$ {GUARDS[guard]} $$;"
        "CREATE TRIGGER guard BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION guard()"
    )
    code, body, err = await run("restore", key, "--into", "shop", "--columns", "public.orders:note")
    assert code == 0, err
    assert (body["updated"], body["different"]) == (20, 0)
    assert await shop.sql("SELECT id, note FROM orders ORDER BY id") == before
    with pytest.raises(Exception, match="append-only") if "rejects" in guard else contextlib.nullcontext():
        await shop.sql("UPDATE orders SET note = 'x'")

"""What surrounds a migration is named in the plan: prepared transactions, event triggers and publications."""

from __future__ import annotations

from pathlib import Path

import pytest

from responder.errors import StepFailed
from tests import parts
from tests.responder.backends.postgres.conftest import AppDatabase
from tests.responder.backends.postgres.differential import DatabaseCopy
from tests.responder.backends.postgres.test_rollback import USERS, approved, goes_back, in_a_hurry

UP, DOWN = "ALTER TABLE users ADD nick text", "ALTER TABLE users DROP COLUMN nick"


@pytest.fixture
async def server(tmp_path: Path):
    """With the settings that prepared transactions and logical replication need."""
    async with parts.postgres(tmp_path, durable=False) as server:
        admin = AppDatabase(await server.database("admin"), tmp_path)
        await admin.run("ALTER SYSTEM SET max_prepared_transactions = 5")
        await admin.run("ALTER SYSTEM SET wal_level = logical")
        await server.stop("fast")
        await server.start()
        yield server


async def at_two(shop: AppDatabase) -> AppDatabase:
    await shop.apply(USERS, UP)
    await shop.run("UPDATE users SET nick = 'x'")
    shop.file(2, DOWN, UP)
    return shop


async def test_locks_and_subscribers(server: parts.Postgres, tmp_path: Path) -> None:
    shop = await at_two(AppDatabase(await server.database("shop"), tmp_path))
    await shop.run("BEGIN; SELECT FROM users; PREPARE TRANSACTION 'order 7'")
    with pytest.raises(StepFailed, match=r"prepared transaction order 7 \(role postgres\) holds or waits for users"):
        await shop.rollback(long_transaction="0s").plan()
    await shop.run("ROLLBACK PREPARED 'order 7'")
    await shop.run("CREATE PUBLICATION everything FOR ALL TABLES")
    assert "publication everything" not in str((await shop.rollback().plan()).irreversible)
    await shop.run("SELECT pg_create_logical_replication_slot('replica', 'pgoutput')")
    plan = await shop.rollback().plan()
    assert "publication everything publishes all tables" in plan.irreversible
    assert "publication" not in (await shop.rollback(preserve_data=False).plan()).irreversible


async def test_event_triggers(shop: AppDatabase) -> None:
    """One that records commands fires for those that preserve data as well."""
    await at_two(shop)
    await shop.run(
        "CREATE TABLE ddl (tag text); CREATE FUNCTION record() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO public.ddl VALUES (tg_tag); END $$; CREATE EVENT TRIGGER recorder ON ddl_command_end"
        " EXECUTE FUNCTION record()"
    )
    try:
        twin = DatabaseCopy(shop)
        await twin.split()
        smoke = [{"sql": "SELECT false", "database": "shop"}]
        ended = await shop.rollback(smoke=smoke).run(through=lambda plan: in_a_hurry(approved(plan)))
        assert ended.outcome == "reverted", ended.reason
        differences = await twin.differences()
        assert differences
        assert all("INTO public.ddl VALUES" in line for line in differences)
        assert any("event trigger recorder on ddl_command_end fires" in note for note in ended.plan.notes)
    finally:
        await shop.run("DROP EVENT TRIGGER recorder")
    rollback = shop.rollback()
    rollback.version = rollback.version.model_copy(update={"execution": "drill-2"})
    await goes_back(rollback)

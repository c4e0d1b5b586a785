"""Triggers that reject, replace or repeat what is restored: data comes back as it was, and the plan names them."""

from __future__ import annotations

import pytest

from tests.responder.backends.postgres.conftest import AppDatabase
from tests.responder.backends.postgres.test_rollback import USERS, approved, content, goes_back

TRIGGERS = {
    "rejects": "BEGIN RAISE EXCEPTION 'users is append-only'; END",
    "replaces": "BEGIN NEW.name := 'from the trigger'; RETURN NEW; END",
    "repeats": "BEGIN INSERT INTO log VALUES (NEW.name); RETURN NEW; END",
    "ignores": "BEGIN RETURN NULL; END",
}
STATES = "SELECT tgrelid::regclass::text, tgname, tgenabled FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1, 2"
FAILING = {"sql": "SELECT false", "database": "shop"}


def at_once(seconds: float) -> None:
    """Waits in the test's own time: a failing check is tried until its deadline."""


def trigger(does: str, events: str = "INSERT OR UPDATE", enable: str = "ENABLE") -> str:
    return (
        "CREATE TABLE log (what text);"
        f"CREATE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS $$ {TRIGGERS[does]} $$;"
        f"CREATE TRIGGER guard BEFORE {events} ON users FOR EACH ROW EXECUTE FUNCTION guard();"
        f"ALTER TABLE users {enable} TRIGGER guard;"
        "CREATE TRIGGER asleep BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION guard();"
        "ALTER TABLE users DISABLE TRIGGER asleep"
    )


@pytest.mark.parametrize("enable", ["ENABLE", "ENABLE ALWAYS"])
@pytest.mark.parametrize("does", TRIGGERS)
async def test_a_revert_restores_values_past_a_trigger(shop: AppDatabase, does: str, enable: str) -> None:
    up, down = "ALTER TABLE users ADD nick text", "ALTER TABLE users DROP COLUMN nick"
    shop.file(2, down, up)
    await shop.apply(USERS, up)
    await shop.run("UPDATE users SET nick = 'n' || id")
    await shop.run(trigger(does, enable=enable))
    before, states = await content(shop, "users", "log"), await shop.rows(STATES)
    rollback = shop.rollback(smoke=[FAILING], wait=at_once)
    plan = await rollback.plan()
    assert 'triggers of "users" do not fire while its data is restored: asleep, guard' in " ".join(plan.notes)
    ended = await rollback.run(through=approved)
    assert ended.outcome == "reverted", ended.reason
    assert await content(shop, "users", "log") == before
    assert await shop.rows(STATES) == states


@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize("does", TRIGGERS)
async def test_preserved_values_are_restored_past_a_trigger(shop: AppDatabase, does: str, overwrite: bool) -> None:
    up = "ALTER TABLE users ADD nick text"
    shop.file(2, "ALTER TABLE users DROP COLUMN nick", up)
    await shop.apply(USERS, up)
    await shop.run("UPDATE users SET nick = 'n' || id")
    before = await content(shop, "users")
    rollback = shop.rollback()
    await goes_back(rollback)
    await shop.run(f"{up};{trigger(does)}")
    states = await shop.rows(STATES)
    (record,) = await shop.schemas.restore_preserved("shop", "drill-1", overwrite=overwrite, dry_run=False)
    assert record["rows"] == 2
    assert await content(shop, "users", "log") == [*before, []]
    assert await shop.rows(STATES) == states


async def test_triggers_of_partitions_and_deferred_keys_do_not_fire(shop: AppDatabase) -> None:
    up = "ALTER TABLE m ADD note text"
    shop.file(2, "ALTER TABLE m DROP COLUMN note", up)
    await shop.apply(
        f"{USERS};CREATE TABLE m (id int PRIMARY KEY, who int REFERENCES users DEFERRABLE INITIALLY DEFERRED)"
        " PARTITION BY RANGE (id); CREATE TABLE m1 PARTITION OF m FOR VALUES FROM (0) TO (10)",
        up,
    )
    await shop.run("INSERT INTO m VALUES (1, 1, 'a'), (2, 2, 'b')")
    await shop.run(trigger("rejects").replace("ON users", "ON m").replace("TABLE users", "TABLE m"))
    await shop.run("CREATE TRIGGER own BEFORE UPDATE ON m1 FOR EACH ROW EXECUTE FUNCTION guard()")
    before, states = await content(shop, "m"), await shop.rows(STATES)
    ended = await shop.rollback(smoke=[FAILING], wait=at_once).run(through=approved)
    assert ended.outcome == "reverted", ended.reason
    assert (await content(shop, "m"), await shop.rows(STATES)) == (before, states)


async def test_deleted_rows_are_restored_past_a_trigger(shop: AppDatabase) -> None:
    shop.file(2, "DELETE FROM users WHERE id = 1", "SELECT 1")
    await shop.apply(USERS, "SELECT 1")
    await shop.run(trigger("rejects"))
    before, states = await content(shop, "users"), await shop.rows(STATES)
    ended = await shop.rollback(smoke=[FAILING], wait=at_once).run(through=approved)
    assert ended.outcome == "reverted", ended.reason
    assert (await content(shop, "users"), await shop.rows(STATES)) == (before, states)

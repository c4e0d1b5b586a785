"""A schema is downgraded completely or not at all, and all removed data is preserved and restorable."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from responder.backends.postgres.catalog import INVALID_OBJECTS
from responder.backends.postgres.checks import fingerprint
from responder.backends.postgres.snapshots.client import Snapshots, SnapshotSettings
from responder.backends.postgres.snapshots.store import SnapshotStoreSettings
from responder.errors import Drift, StepFailed
from responder.rollback.execution import Execution
from responder.rollback.plan import Change, Plan
from responder.transport.aws import AwsSettings
from tests.responder.backends.postgres.conftest import AppDatabase
from tests.responder.harness import Rollback

USERS = (
    "CREATE TABLE users (id serial PRIMARY KEY, name text NOT NULL); INSERT INTO users (name) VALUES ('ann'), ('bob')"
)


def approved(plan: Plan) -> Plan:
    """The same plan with an approval."""
    steps = [s.model_copy(update={"irreversible": ""}) if s.kind == "change" else s for s in plan.steps]
    return plan.model_copy(update={"steps": tuple(steps)})


async def goes_back(rollback: Rollback) -> Execution:
    ended = await rollback.run(through=approved)
    assert (ended.state, ended.outcome) == ("closed", "succeeded"), ended.reason
    return ended


async def content(shop: AppDatabase, *tables: str) -> list[Any]:
    return [await shop.rows(f"SELECT t::text FROM {table} AS t ORDER BY 1") for table in tables]


class Loss(NamedTuple):
    """Version 1 besides users, the upgrade, its data, the downgrade, and the losses to approve."""

    base: str
    up: str
    data: str
    down: str
    consent: str
    tables: tuple[str, ...]


ENUM = "CREATE TYPE mood AS ENUM ('sad', 'ok');"
MEASURED = (
    "CREATE TABLE m (at date, v int, PRIMARY KEY (at)) PARTITION BY RANGE (at);"
    "CREATE TABLE m1 PARTITION OF m FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')"
)
NICKS = "CREATE TABLE nicks (who int, nick text); INSERT INTO nicks VALUES (2, 'b')"
LOSSES = {
    "a column": Loss(
        "SELECT 1",
        "ALTER TABLE users ADD nick text",
        "UPDATE users SET nick = upper(name)",
        "ALTER TABLE users DROP COLUMN nick",
        'drops "users"."nick"',
        ("users",),
    ),
    "two columns of a name that has to be quoted": Loss(
        'CREATE TABLE "Or""der" ("select" int, "b.c" int, PRIMARY KEY ("b.c", "select"))',
        'ALTER TABLE "Or""der" ADD "From" text, ADD n int',
        """INSERT INTO "Or""der" VALUES (1, 2, 'x', 3)""",
        'ALTER TABLE "Or""der" DROP COLUMN "From", DROP n',
        'drops "Or""der"."From", "Or""der"."n"',
        ('"Or""der"',),
    ),
    "a table": Loss(
        "SELECT 1",
        "CREATE TABLE orders (id serial PRIMARY KEY, who int REFERENCES users, n int GENERATED ALWAYS AS (2) STORED,"
        " x int GENERATED ALWAYS AS IDENTITY); CREATE INDEX by_who ON orders (who)",
        "INSERT INTO orders (who) VALUES (1), (2)",
        "DROP TABLE orders",
        'drops the table "orders"',
        ("orders",),
    ),
    "two dependent tables with a user-defined type": Loss(
        "SELECT 1",
        f"{ENUM}CREATE TABLE a (id int PRIMARY KEY, m mood);"
        "CREATE TABLE b (id int PRIMARY KEY, a int REFERENCES a ON DELETE CASCADE)",
        "INSERT INTO a VALUES (1, 'ok'); INSERT INTO b VALUES (7, 1)",
        "DROP TABLE b; DROP TABLE a; DROP TYPE mood",
        'drops the table "b" (preserved in rollback_keep); drops the table "a"',
        ("a", "b"),
    ),
    "a table with CASCADE, which takes a view and a key": Loss(
        "SELECT 1",
        "CREATE TABLE a (id int PRIMARY KEY); CREATE VIEW v AS SELECT * FROM a;"
        "ALTER TABLE users ADD a int REFERENCES a",
        "INSERT INTO a VALUES (1); UPDATE users SET a = 1",
        "DROP TABLE a CASCADE; ALTER TABLE users DROP COLUMN a CASCADE",
        "drops the view v by CASCADE",
        ("a", "users"),
    ),
    "a column of a user-defined type": Loss(
        "SELECT 1",
        f"{ENUM}ALTER TABLE users ADD m mood[]",
        "UPDATE users SET m = '{ok,sad}'",
        "ALTER TABLE users DROP COLUMN m; DROP TYPE mood",
        'drops "users"."m"',
        ("users",),
    ),
    "a partitioned table": Loss(
        "SELECT 1", MEASURED, "INSERT INTO m VALUES ('2026-05-05', 1)", "DROP TABLE m", 'drops the table "m"', ("m",)
    ),
    "a column of a partitioned table": Loss(
        MEASURED,
        "ALTER TABLE m ADD w int",
        "INSERT INTO m VALUES ('2026-05-05', 1, 2)",
        "ALTER TABLE m DROP COLUMN w",
        'drops "m"."w"',
        ("m",),
    ),
    "a column that others inherit": Loss(
        "CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE c (PRIMARY KEY (id)) INHERITS (p)",
        "ALTER TABLE p ADD v text",
        "INSERT INTO p VALUES (1, 'p'); INSERT INTO c VALUES (1, 'c')",
        "ALTER TABLE p DROP COLUMN v",
        'drops "p"."v"',
        ("p", "c"),
    ),
    "rows": Loss(
        "SELECT 1",
        "SELECT 1",
        "INSERT INTO users (name) VALUES ('new; one'), ('other')",
        "DELETE FROM users WHERE name = 'new; one' OR id > 3",
        "deletes rows of \"users\" where name = 'new; one' OR id > 3",
        ("users",),
    ),
    "rows that others go with": Loss(
        "CREATE TABLE notes (id int PRIMARY KEY, who int REFERENCES users ON DELETE CASCADE)",
        "SELECT 1",
        "INSERT INTO notes VALUES (5, 1)",
        "DELETE FROM users WHERE id = 1",
        "deletes or changes rows of public.notes by CASCADE",
        ("users", "notes"),
    ),
    "all rows": Loss("SELECT 1", "SELECT 1", "SELECT 1", "TRUNCATE users", 'deletes rows of "users"', ("users",)),
    "values": Loss(
        "SELECT 1",
        "SELECT 1",
        "UPDATE users SET name = upper(name)",
        "UPDATE users SET name = 'gone' WHERE id = 2",
        'overwrites "name" of "users" where id = 2',
        ("users",),
    ),
    "values that another table selects": Loss(
        NICKS,
        "SELECT 1",
        "SELECT 1",
        "WITH n AS (SELECT * FROM nicks) UPDATE users AS u SET name = nick FROM n WHERE who = u.id RETURNING u.id",
        'overwrites "name" of "users" where (tableoid, ctid) IN (',
        ("users",),
    ),
    "rows that another table selects": Loss(
        NICKS,
        "SELECT 1",
        "SELECT 1",
        "DELETE FROM users USING nicks WHERE who = users.id",
        'deletes rows of "users" where (tableoid, ctid) IN (',
        ("users",),
    ),
    "types that one statement drops": Loss(
        "SELECT 1",
        f"{ENUM}CREATE TYPE size AS ENUM ('s', 'l'); CREATE TABLE a (id int PRIMARY KEY, m mood);"
        "ALTER TABLE users ADD n size",
        "INSERT INTO a VALUES (1, 'ok'); UPDATE users SET n = 'l'",
        "DROP TABLE a; ALTER TABLE users DROP n; DROP TYPE IF EXISTS size, mood",
        'drops "users"."n"',
        ("a", "users"),
    ),
    "an enum that is replaced": Loss(
        "CREATE TYPE mood AS ENUM ('ok'); ALTER TABLE users ADD m mood",
        f"ALTER TYPE mood RENAME TO old; {ENUM}ALTER TABLE users ALTER m TYPE mood USING m::text::mood; DROP TYPE old",
        "UPDATE users SET m = 'ok'",
        "ALTER TYPE mood RENAME TO new; CREATE TYPE mood AS ENUM ('ok');"
        "ALTER TABLE users ALTER m TYPE mood USING m::text::mood; DROP TYPE new",
        'converts to mood "users"."m"',
        ("users",),
    ),
    "a type": Loss(
        "ALTER TABLE users ADD price int",
        "ALTER TABLE users ALTER price TYPE numeric",
        "UPDATE users SET price = id + 0.25",
        "ALTER TABLE users ALTER price TYPE int",
        'converts to int "users"."price"',
        ("users",),
    ),
    "a column of a renamed table": Loss(
        "SELECT 1",
        "ALTER TABLE users ADD nick text; ALTER TABLE users RENAME TO people; ALTER TABLE people RENAME id TO number",
        "UPDATE people SET nick = 'x'",
        "ALTER TABLE people RENAME number TO id; ALTER TABLE people DROP COLUMN nick;"
        "ALTER TABLE people RENAME TO users",
        'drops "people"."nick"',
        ("people",),
    ),
}


async def at_two(shop: AppDatabase, loss: Loss) -> list[Any]:
    await shop.apply(f"{USERS}; {loss.base}", loss.up)
    await shop.run(loss.data)
    shop.file(2, loss.down, loss.up)
    return await content(shop, *loss.tables)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
async def test_destroyed_data_can_be_restored(shop: AppDatabase, loss: Loss) -> None:
    before = await at_two(shop, loss)
    rollback = shop.rollback()
    assert loss.consent in (await rollback.plan()).irreversible
    await goes_back(rollback)
    # The migration runs again, as by a later deployment; then the recorded SQL runs unchanged.
    await shop.run(loss.up)
    for _, _, _, _, back in reversed(await shop.preserved()):
        if not back.startswith("CREATE VIEW"):
            await shop.run(back)
    assert await content(shop, *loss.tables) == before


TURNED_BACK = (
    "a table",
    "a column of a renamed table",
    "two dependent tables with a user-defined type",
    "a type",
    "values",
)


@pytest.mark.parametrize(
    "loss",
    [
        pytest.param(loss, id=name, marks=[] if name in TURNED_BACK else pytest.mark.soak)
        for name, loss in LOSSES.items()
    ],
)
async def test_a_revert_restores_everything(shop: AppDatabase, loss: Loss) -> None:
    before = await at_two(shop, loss)
    rollback = shop.rollback(smoke=[{"sql": "SELECT false", "database": "shop"}])
    ended = await rollback.run(through=lambda plan: in_a_hurry(approved(plan)))
    assert (ended.state, ended.outcome) == ("closed", "reverted"), ended.reason
    assert await content(shop, *loss.tables) == before
    assert await shop.value("SELECT max(version) FROM schema_migrations") == "2"


def in_a_hurry(plan: Plan) -> Plan:
    steps = [s.model_copy(update={"within": 0.0}) if s.kind == "gate" else s for s in plan.steps]
    return plan.model_copy(update={"steps": tuple(steps)})


NOTHING_LOST = [
    ("CREATE INDEX by_name ON users (name)", "DROP INDEX by_name"),
    ("ALTER TABLE users ALTER name DROP NOT NULL", "ALTER TABLE users ALTER name SET NOT NULL"),
    ("ALTER TABLE users ADD CONSTRAINT c CHECK (id > 0)", "ALTER TABLE users DROP CONSTRAINT c"),
    ("ALTER TABLE users ALTER name TYPE varchar(50)", "ALTER TABLE users ALTER name TYPE text"),
    ("ALTER TABLE users RENAME name TO called", "ALTER TABLE users RENAME called TO name"),
    ("ALTER TABLE users RENAME TO people", "ALTER TABLE people RENAME TO users"),
    ("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1; SELECT 2'", "DROP FUNCTION f()"),
    ("SELECT 1", "CREATE TABLE t (id int); INSERT INTO t VALUES (1); ALTER TABLE t ADD x int; DROP TABLE t"),
    ("SELECT 1", "ALTER TABLE users ADD x text; UPDATE users SET x = name; ALTER TABLE users DROP COLUMN x"),
]


@pytest.mark.parametrize(("up", "down"), NOTHING_LOST)
async def test_a_lossless_rollback_needs_no_approval(shop: AppDatabase, up: str, down: str) -> None:
    await shop.apply(USERS, up)
    shop.file(2, down, up)
    ended = await shop.rollback().run()
    assert (ended.state, ended.outcome) == ("closed", "succeeded"), ended.reason


NOT_FOOLED = [
    "CREATE TABLE IF NOT EXISTS users (id int); DROP TABLE users",
    "ALTER TABLE users ADD COLUMN IF NOT EXISTS name text; ALTER TABLE users DROP COLUMN name",
    "ALTER TABLE users ADD x int; ALTER TABLE users DROP x;"
    "ALTER TABLE users RENAME name TO x; ALTER TABLE users DROP x",
    "CREATE TABLE t (id int); DROP TABLE t; ALTER TABLE users RENAME TO t; DROP TABLE t",
    "CREATE TABLE t (id int); ALTER TABLE t RENAME TO u; ALTER TABLE users RENAME TO t; DROP TABLE t",
    "DELETE FROM everybody",
    "DROP TABLE other.users",
]


@pytest.mark.parametrize("down", NOT_FOOLED)
async def test_every_loss_is_detected(shop: AppDatabase, down: str) -> None:
    await shop.apply(USERS, "CREATE VIEW everybody AS SELECT * FROM users")
    shop.file(2, down)
    plan = await shop.rollback().plan()
    assert plan.irreversible


async def test_by_default_a_loss_requires_approval(shop: AppDatabase) -> None:
    await shop.apply(USERS, "ALTER TABLE users ADD nick text")
    shop.file(2, "ALTER TABLE users DROP COLUMN nick", "ALTER TABLE users ADD nick text")
    held = await shop.rollback().run()
    assert held.state == "awaiting_approval"
    assert held.reason == 'drops "users"."nick" (preserved in rollback_keep)'
    assert (await shop.rollback(approval="never").run()).outcome == "succeeded"


async def test_the_plan_does_not_depend_on_row_counts(shop: AppDatabase) -> None:
    """Otherwise no approval would stay valid."""
    await shop.apply(USERS, "ALTER TABLE users ADD nick text")
    shop.file(2, "ALTER TABLE users DROP COLUMN nick", "ALTER TABLE users ADD nick text")
    before = await shop.rollback().plan()
    await shop.run("INSERT INTO users (name, nick) SELECT 'x', 'y' FROM generate_series(1, 100)")
    after = await shop.rollback().plan()
    assert before.hash == after.hash
    assert 'drops "users"."nick": 0 values now, preserved in rollback_keep' in before.notes
    assert 'drops "users"."nick": 100 values now, preserved in rollback_keep' in after.notes


@pytest.mark.parametrize(
    ("down", "limit", "why"),
    [
        (
            "ALTER TABLE users DROP COLUMN name",
            1,
            "2 values and rows would leave the live tables, but loses_at_most is 1",
        ),
        ("DO $$ BEGIN NULL; END $$", 100, "the size of the loss is unknown"),
    ],
)
async def test_exceeding_loses_at_most_freezes_the_rollback(shop: AppDatabase, down: str, limit: int, why: str) -> None:
    await shop.apply(USERS, "SELECT 1")
    shop.file(2, down)
    ended = await shop.rollback(loses_at_most=limit).run()
    assert ended.state == "stuck"
    assert why in ended.reason
    assert await shop.value("SELECT max(version) FROM schema_migrations") == "2"


async def test_rows_hidden_by_policies_are_not_lost(shop: AppDatabase) -> None:
    """With forced row-level security a copy would silently lack rows: it is an error instead."""
    await shop.run("CREATE ROLE owner_of_secrets LOGIN; GRANT ALL ON SCHEMA public TO owner_of_secrets") if not (
        await shop.value("SELECT 1 FROM pg_roles WHERE rolname = 'owner_of_secrets'")
    ) else await shop.run("GRANT ALL ON SCHEMA public TO owner_of_secrets")
    await shop.run(f"GRANT CREATE ON DATABASE {shop.dsn.rsplit('/', 1)[1]} TO owner_of_secrets")
    shop = AppDatabase(shop.dsn.replace("postgres@", "owner_of_secrets@"), shop.directory)
    await shop.apply(USERS, "ALTER TABLE users ADD nick text; UPDATE users SET nick = name")
    await shop.run(
        "ALTER TABLE users ENABLE ROW LEVEL SECURITY; ALTER TABLE users FORCE ROW LEVEL SECURITY;"
        "CREATE POLICY only_ann ON users USING (name = 'ann')"
    )
    shop.file(2, "ALTER TABLE users DROP COLUMN nick")
    ended = await shop.rollback().run(through=approved)
    assert (ended.state, ended.outcome) == ("closed", "failed")
    assert "row-level security" in ended.reason
    assert "2 → 1 changed nothing: the revision is 2" in ended.reason


async def test_a_table_without_a_key_is_preserved_completely(shop: AppDatabase) -> None:
    await shop.apply("CREATE TABLE log (line text, n int); INSERT INTO log VALUES ('a', 1), ('a', 1)", "SELECT 1")
    shop.file(2, "ALTER TABLE log DROP COLUMN n")
    rollback = shop.rollback()
    assert any("cannot be restored automatically without a key" in note for note in (await rollback.plan()).notes)
    await goes_back(rollback)
    ((what, _, _, keep, back),) = await shop.preserved()
    assert (what, back) == ("rows without a key", "")
    assert await shop.rows(f'SELECT * FROM rollback_keep."{keep}"') == [("a", 1), ("a", 1)]


async def test_preserved_data_does_not_affect_live_tables(shop: AppDatabase) -> None:
    await shop.apply(
        USERS + ";CREATE TABLE audit (n int)",
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN INSERT INTO audit VALUES (1); RETURN NULL; END';"
        "CREATE TABLE orders (id serial PRIMARY KEY, who int REFERENCES users); INSERT INTO orders (who) VALUES (1);"
        "CREATE TRIGGER t AFTER DELETE ON orders FOR EACH ROW EXECUTE FUNCTION note()",
    )
    shop.file(2, "DROP TABLE orders; DROP FUNCTION note()")
    await goes_back(shop.rollback())
    await shop.run("DELETE FROM users WHERE id = 1")
    assert await shop.rows("SELECT * FROM audit") == []


async def test_without_preserve_data_the_loss_is_reported(shop: AppDatabase) -> None:
    await shop.apply(USERS, "CREATE TABLE t (id int); ALTER TABLE users ADD nick text; INSERT INTO t VALUES (1)")
    shop.file(2, "DROP TABLE t; ALTER TABLE users DROP COLUMN nick")
    rollback = shop.rollback(preserve_data=False)
    plan = await rollback.plan()
    assert 'drops the table "t": 1 row now, LOST' in plan.notes
    assert "kept" not in plan.irreversible
    await goes_back(rollback)
    assert await shop.value("SELECT to_regnamespace('rollback_keep')") is None


# --- obstacles -------------------------------------------------------------------------------------------------------
async def test_a_table_with_dependents_is_not_moved(shop: AppDatabase) -> None:
    await shop.apply(USERS, "CREATE TABLE a (id int PRIMARY KEY); CREATE VIEW v AS SELECT * FROM a")
    shop.file(2, "DROP TABLE a")
    rollback = shop.rollback()
    assert any('the view v depends on "a"' in note for note in (await rollback.plan()).notes)
    ended = await rollback.run(through=approved)
    assert ended.outcome == "failed"
    assert "cannot drop table a because other objects depend on it\nDETAIL:  view v depends on table a" in ended.reason
    assert await shop.value("SELECT to_regnamespace('rollback_keep')") is None


async def test_a_long_transaction_is_reported_and_not_terminated(shop: AppDatabase) -> None:
    await shop.apply(USERS, "ALTER TABLE users ADD nick text")
    shop.file(2, "ALTER TABLE users DROP COLUMN nick")
    async with shop.session() as other:
        await other.execute("SET application_name = 'reports'; BEGIN; SELECT nick FROM users")
        with pytest.raises(
            StepFailed,
            match=r"\(role postgres, application reports\) holds or waits for users for [0-9]s, idle in .*nick",
        ):
            await shop.rollback(long_transaction="0s").plan()
        notes = (await shop.rollback().plan()).notes
        assert not any("holds or waits" in note for note in notes)
        ended = await shop.rollback().run(through=approved)
        assert ended.outcome == "failed"
        assert "lock timeout" in ended.reason
        assert "a lock timed out in every attempt" in ended.reason
        assert "2 → 1 changed nothing" in ended.reason
        await other.execute("COMMIT")
    await goes_back(shop.rollback())


async def test_a_concurrent_migration_is_reported(shop: AppDatabase) -> None:
    await shop.apply(USERS, "CREATE INDEX i ON users (name)")
    shop.file(2, "DROP INDEX i")
    async with shop.session() as other:
        await other.execute("SET application_name = 'deploy'")
        await other.execute("SELECT pg_advisory_lock(hashtextextended('rollback:' || current_database(), 0))")
        ended = await shop.rollback().run()
        assert ended.outcome == "failed"
        assert "another migration of database shop holds the advisory lock: process" in ended.reason
        assert "deploy" in ended.reason


async def test_a_manual_schema_change_is_drift(shop: AppDatabase) -> None:
    await shop.apply(USERS, "CREATE INDEX i ON users (name)")
    shop.file(2, "DROP INDEX i")
    rollback = shop.rollback()
    checksum = (await rollback.plan()).steps[0].resource.paths[0].expected_fingerprint
    await shop.run("ALTER TABLE users ADD hotfix int")
    with pytest.raises(StepFailed, match="it was changed by hand"):
        await shop.rollback(from_artifact=f"image@sha256:1 schema:{checksum}").plan()
    await shop.run("ALTER TABLE users DROP hotfix")
    assert (await shop.rollback(from_artifact=f"schema:{checksum}").plan()).steps

    async def meddled(plan: Plan) -> None:
        await shop.run("ALTER TABLE users ADD hotfix int")

    plan = await rollback.plan()
    await meddled(plan)
    change = plan.steps[0]
    with pytest.raises(Drift, match="changed after the plan was made"):
        await rollback.gateway.write(change.resource, "1", expected="2")


async def test_the_target_schema_is_verified(shop: AppDatabase) -> None:
    await shop.apply(USERS)
    first = await fingerprint(shop.schemas, "shop")
    await shop.apply("CREATE INDEX i ON users (name)")
    shop.file(2, "DROP INDEX i")
    ended = await shop.rollback(artifact=f"schema:{first}").run()
    assert ended.outcome == "succeeded"
    await shop.apply("ALTER TABLE users ADD nick text")
    shop.file(2, "SELECT set_config('a.b', 'c', true)", "SELECT set_config('a.b', 'c', true)")
    ended = await shop.rollback(artifact=f"schema:{first}").run(through=lambda p: in_a_hurry(approved(p)))
    assert ended.outcome == "reverted"
    assert f"expected schema:{first}" in ended.reason


async def test_the_application_is_rolled_back_first(shop: AppDatabase) -> None:
    await shop.apply(USERS, "CREATE INDEX i ON users (name)")
    shop.file(2, "DROP INDEX i")
    new = {"sql": "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'shop-2'", "database": "shop"}
    rollback = shop.rollback(application=[{**new, "equals": 0}], application_within="300ms")
    async with shop.session() as application:
        await application.execute("SET application_name = 'shop-2'")
        ended = await rollback.run()
        assert ended.outcome == "failed"
        assert 'timed out waiting for "application rolled back' in ended.reason
    assert (await shop.rollback(application=[{**new, "equals": 0}]).run()).outcome == "succeeded"


async def test_an_invalid_index_is_reported(shop: AppDatabase) -> None:
    await shop.apply(USERS + "; INSERT INTO users (name) VALUES ('ann')", "CREATE INDEX i ON users (name)")
    shop.file(2, "CREATE UNIQUE INDEX CONCURRENTLY once ON users (lower(name)); DROP INDEX i")
    ended = await shop.rollback().run(through=approved)
    assert ended.state == "stuck"
    assert "is partly migrated (2 → 1): 2 → 1: 0 of 2 parts" in ended.reason or "once" in ended.reason
    await shop.run("DELETE FROM users WHERE id = 3")
    findings = await shop.schemas.rows("shop", INVALID_OBJECTS)
    assert findings == [{"problem": "index once is invalid"}]


# --- snapshot and laws -----------------------------------------------------------------------------------------------
async def with_a_place(shop: AppDatabase, rollback: Rollback, directory: str) -> Rollback:
    store = SnapshotStoreSettings.model_validate({"name": "vault", "directory": directory})
    databases = tuple(shop.schemas._databases.values())
    rollback.connections._clients[Snapshots] = await Snapshots.connect(
        SnapshotSettings((store,), databases, AwsSettings())
    )
    return rollback


async def test_a_snapshot_is_taken_before_the_drop(shop: AppDatabase) -> None:
    await shop.apply(USERS, "CREATE TABLE orders (id int); INSERT INTO orders VALUES (1), (2)")
    shop.file(2, "DROP TABLE orders")
    (shop.directory / "kept").mkdir()
    rollback = await with_a_place(shop, shop.rollback(backup_location="vault"), str(shop.directory / "kept"))
    plan = await rollback.plan()
    assert [str(step).split(":")[0] for step in plan.steps[:2]] == [
        "snapshot of shop in vault",
        "schema revision of shop",
    ]
    await goes_back(rollback)
    snapshots: Snapshots = await rollback.connections.to(Snapshots)
    manifest = await snapshots.find("vault", "shop/drill-1")
    assert manifest is not None
    await snapshots.close()


async def test_a_failed_snapshot_prevents_all_changes(shop: AppDatabase) -> None:
    await shop.apply(USERS, "CREATE TABLE orders (id int)")
    shop.file(2, "DROP TABLE orders")
    directory = shop.directory / "no such place" / "at all"
    rollback = await with_a_place(
        shop, shop.rollback(backup_location="vault", snapshot_tables=["public.users"]), str(directory)
    )
    directory.parent.write_text("a file instead of a directory")
    ended = await rollback.run(through=lambda plan: approved(plan))
    assert (ended.state, ended.outcome) == ("closed", "failed"), ended.reason
    assert await shop.value("SELECT max(version) FROM schema_migrations") == "2"
    assert await shop.value("SELECT to_regclass('orders')") is not None


async def test_the_laws_of_resources(shop: AppDatabase) -> None:
    await shop.apply(USERS, "CREATE INDEX by_name ON users (name)")
    shop.file(2, "DROP INDEX by_name", "CREATE INDEX by_name ON users (name)")
    change = (await shop.rollback().plan()).steps[0]
    assert isinstance(change, Change)
    resource = change.resource
    await resource.write(shop.schemas, "1", expected="2")
    await resource.write(shop.schemas, "1", expected="2")
    assert await resource.read(shop.schemas) == "1"
    assert await resource.converged(shop.schemas, "1")
    await resource.write(shop.schemas, "2", expected="1")
    assert await resource.read(shop.schemas) == "2"
    await shop.run("INSERT INTO schema_migrations VALUES ('3')")
    with pytest.raises(Drift, match="is '3', neither '2', nor '1'"):
        await resource.write(shop.schemas, "1", expected="2")
    assert Change.model_validate_json(change.model_dump_json()) == change
    with pytest.raises(StepFailed, match="the plan contains no migration from 3 to 1"):
        await resource.write(shop.schemas, "1", expected="3")

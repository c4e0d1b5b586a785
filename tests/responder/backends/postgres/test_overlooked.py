"""Losses that are easy to overlook: each is reported before, preserved, and restored."""

from __future__ import annotations

import asyncio
import re

import asyncpg
import pytest

from responder.backends.postgres.client import DatabaseSettings, Postgres, without_values
from responder.errors import StepFailed
from tests.responder.backends.postgres.conftest import AppDatabase
from tests.responder.backends.postgres.test_rollback import (
    MEASURED,
    USERS,
    Loss,
    approved,
    at_two,
    content,
    goes_back,
    in_a_hurry,
)

HEIRS = "CREATE TABLE p (id int PRIMARY KEY, v text);CREATE TABLE c (PRIMARY KEY (id), own text) INHERITS (p)"
TREE = "CREATE TABLE tree (id int PRIMARY KEY, up int REFERENCES tree ON DELETE CASCADE)"
LOSSES = {
    "rows of the same table that go with the rows": Loss(
        TREE,
        "SELECT 1",
        "INSERT INTO tree VALUES (1, NULL), (2, 1), (3, 2), (4, NULL)",
        "DELETE FROM tree WHERE id = 1",
        "deletes or changes rows of public.tree by CASCADE",
        ("tree",),
    ),
    "rows of the same table that are deleted through another": Loss(
        "CREATE TABLE a (id int PRIMARY KEY, b int);"
        "CREATE TABLE b (id int PRIMARY KEY, a int REFERENCES a ON DELETE CASCADE);"
        "ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES b ON DELETE CASCADE DEFERRABLE",
        "SELECT 1",
        "INSERT INTO a VALUES (1, NULL); INSERT INTO b VALUES (5, 1); INSERT INTO a VALUES (2, 5)",
        "DELETE FROM a WHERE id = 1",
        "deletes or changes rows of public.a by CASCADE",
        ("a", "b"),
    ),
    "rows that TRUNCATE CASCADE removes, regardless of ON DELETE": Loss(
        "CREATE TABLE notes (id int PRIMARY KEY, who int REFERENCES users);"
        "CREATE TABLE marks (id int PRIMARY KEY, note int REFERENCES notes)",
        "SELECT 1",
        "INSERT INTO notes VALUES (5, 1); INSERT INTO marks VALUES (6, 5)",
        "TRUNCATE users CASCADE",
        "deletes or changes rows of public.marks by CASCADE",
        ("users", "notes", "marks"),
    ),
    "rows of heirs": Loss(
        HEIRS,
        "SELECT 1",
        "INSERT INTO p VALUES (1, 'p'); INSERT INTO c VALUES (2, 'c', 'only here')",
        "DELETE FROM p WHERE v <> ''",
        "deletes rows of \"p\" where v <> ''",
        ("ONLY p", "c"),
    ),
    "all rows of heirs": Loss(
        HEIRS,
        "SELECT 1",
        "INSERT INTO p VALUES (1, 'p'); INSERT INTO c VALUES (2, 'c', 'only here')",
        "TRUNCATE p",
        'deletes rows of "p"',
        ("ONLY p", "c"),
    ),
    "rows that go with those of heirs": Loss(
        f"{HEIRS};CREATE TABLE notes (id int PRIMARY KEY, c int REFERENCES c ON DELETE CASCADE)",
        "SELECT 1",
        "INSERT INTO c VALUES (2, 'c', 'only here'); INSERT INTO notes VALUES (1, 2)",
        "DELETE FROM p",
        "deletes or changes rows of public.notes by CASCADE",
        ("ONLY p", "c", "notes"),
    ),
    "some values of heirs": Loss(
        HEIRS,
        "SELECT 1",
        "INSERT INTO p VALUES (1, 'p'), (3, 'p'); INSERT INTO c VALUES (2, 'c', 'only here')",
        "UPDATE p SET v = 'gone' WHERE id < 3",
        'overwrites "v" of "p" where id < 3',
        ("ONLY p", "c"),
    ),
    "values of several columns at once": Loss(
        "ALTER TABLE users ADD nick text",
        "SELECT 1",
        "UPDATE users SET nick = 'n' || id",
        "UPDATE users SET (name, nick) = ('x', 'y') WHERE id = 1",
        'overwrites "name", "nick" of "users" where id = 1',
        ("users",),
    ),
    "an element of an array": Loss(
        "ALTER TABLE users ADD a int[]",
        "SELECT 1",
        "UPDATE users SET a = ARRAY[1, id]",
        "UPDATE users SET a[1] = 7",
        'overwrites "users"."a"',
        ("users",),
    ),
    "a field of a composite": Loss(
        "CREATE TYPE place AS (x int, y int); ALTER TABLE users ADD at place",
        "SELECT 1",
        "UPDATE users SET at = (1, id)",
        "UPDATE users SET at.y = 7",
        'overwrites "users"."at"',
        ("users",),
    ),
    "values by a type that is wide enough, and an expression that is not": Loss(
        "SELECT 1",
        "SELECT 1",
        "UPDATE users SET name = 'long name ' || id",
        "ALTER TABLE users ALTER name TYPE text USING left(name, 4)",
        'converts to text "users"."name"',
        ("users",),
    ),
    "a column of a table that is dropped further on": Loss(
        "SELECT 1",
        "CREATE TABLE orders (id int PRIMARY KEY, n int NOT NULL); ALTER TABLE orders ADD x text",
        "INSERT INTO orders VALUES (1, 2, 'three')",
        "ALTER TABLE orders DROP COLUMN x; DROP TABLE orders",
        'drops the table "orders"',
        ("orders",),
    ),
    "a column, and then rows": Loss(
        "SELECT 1",
        "ALTER TABLE users ADD x text",
        "UPDATE users SET x = 'x' || id",
        "ALTER TABLE users DROP COLUMN x; DELETE FROM users WHERE id = 1",
        'deletes rows of "users" where id = 1',
        ("users",),
    ),
    "a type, and then the table": Loss(
        "SELECT 1",
        "CREATE TABLE orders (id int PRIMARY KEY, n int NOT NULL)",
        "INSERT INTO orders VALUES (1, 2)",
        "ALTER TABLE orders ALTER n TYPE text; DROP TABLE orders",
        'drops the table "orders"',
        ("orders",),
    ),
    "a name that PostgreSQL does not fold": Loss(
        'CREATE TABLE "Äpfel" (id int PRIMARY KEY); CREATE TABLE "äpfel" (id int PRIMARY KEY, x int)',
        'ALTER TABLE "Äpfel" ADD "Ü" text',
        "INSERT INTO \"Äpfel\" VALUES (1, 'ü')",
        "ALTER TABLE Äpfel DROP COLUMN Ü",
        'drops "Äpfel"."Ü"',
        ('"Äpfel"', '"äpfel"'),
    ),
    "a table that heirs have": Loss(
        "SELECT 1",
        HEIRS,
        "INSERT INTO p VALUES (1, 'p'); INSERT INTO c VALUES (2, 'c', 'only here')",
        "DROP TABLE p CASCADE",
        'drops the table "public"."c" by CASCADE',
        ("ONLY p", "c"),
    ),
    "a partition": Loss(
        MEASURED,
        "CREATE TABLE m2 PARTITION OF m FOR VALUES FROM ('2027-01-01') TO ('2028-01-01')",
        "INSERT INTO m VALUES ('2026-05-05', 1), ('2027-05-05', 2)",
        "DROP TABLE m2",
        'drops the table "m2" (preserved in rollback_keep)',
        ("m", "m2"),
    ),
    "an heir": Loss(
        "CREATE TABLE p (id int PRIMARY KEY, v text)",
        "CREATE TABLE c (PRIMARY KEY (id), own serial) INHERITS (p)",
        "INSERT INTO p VALUES (1, 'p'); INSERT INTO c VALUES (2, 'c', 7)",
        "DROP TABLE c",
        'drops the table "c" (preserved in rollback_keep)',
        ("p", "c"),
    ),
    "references that are set to NULL": Loss(
        "CREATE TABLE notes (id int PRIMARY KEY, who int REFERENCES users ON DELETE SET NULL)",
        "SELECT 1",
        "INSERT INTO notes VALUES (5, 1), (6, 2)",
        "DELETE FROM users WHERE id = 1",
        'changes by ON DELETE "public"."notes"."who"',
        ("users", "notes"),
    ),
    "references to rows that a cascade deletes": Loss(
        "CREATE TABLE notes (id int PRIMARY KEY, who int REFERENCES users ON DELETE CASCADE);"
        "CREATE TABLE marks (id int PRIMARY KEY, note int DEFAULT 6 REFERENCES notes ON DELETE SET DEFAULT)",
        "SELECT 1",
        "INSERT INTO notes VALUES (5, 1), (6, 2); INSERT INTO marks VALUES (1, 5), (2, 6)",
        "DELETE FROM users WHERE id = 1",
        'changes by ON DELETE "public"."marks"."note"',
        ("users", "notes", "marks"),
    ),
    "only the rows of the table itself": Loss(
        "CREATE TABLE p (id int); CREATE TABLE c () INHERITS (p)",
        "SELECT 1",
        "INSERT INTO p VALUES (1); INSERT INTO c VALUES (1)",
        "DELETE FROM ONLY p",
        'deletes rows of "p"',
        ("ONLY p", "c"),
    ),
    "a column that others see through two views": Loss(
        "SELECT 1",
        "ALTER TABLE users ADD nick text; CREATE VIEW v AS SELECT nick FROM users; CREATE VIEW w AS SELECT * FROM v",
        "UPDATE users SET nick = 'x'",
        "ALTER TABLE users DROP COLUMN nick CASCADE",
        "drops the view w by CASCADE",
        ("users",),
    ),
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
async def test_losses_are_reported_before_and_restored(shop: AppDatabase, loss: Loss) -> None:
    before = await at_two(shop, loss)
    rollback = shop.rollback()
    assert loss.consent in (await rollback.plan()).irreversible
    await goes_back(rollback)
    if loss.up != "SELECT 1":
        await shop.run(loss.up)
    await shop.schemas.restore_preserved("shop", "drill-1", overwrite=True, dry_run=False)
    assert await content(shop, *loss.tables) == before


@pytest.mark.parametrize(
    ("needs", "says"),
    [
        ("CREATE TABLE c () INHERITS (a)", "table c depends on table a"),
        (
            "CREATE POLICY own ON users USING (EXISTS (SELECT FROM a WHERE a.id = users.id))",
            "policy own on table users depends on table a",
        ),
        ("CREATE TABLE b (id int DEFAULT nextval('a_id_seq'))", "default value for column id of table b"),
        ("ALTER TABLE users ADD whole a", "column whole of table users depends on type a"),
    ],
)
async def test_dependent_objects_prevent_moving_a_table(shop: AppDatabase, needs: str, says: str) -> None:
    await shop.apply(USERS, f"CREATE TABLE a (id serial PRIMARY KEY); {needs}")
    shop.file(2, "DROP TABLE a")
    ended = await shop.rollback().run(through=approved)
    assert ended.outcome == "failed"
    assert "cannot drop table a because other objects depend on it" in ended.reason
    assert says in ended.reason
    assert await shop.value("SELECT to_regclass('public.a') IS NOT NULL AND to_regnamespace('rollback_keep') IS NULL")


async def test_tables_that_depend_on_each_other_are_dropped_together(shop: AppDatabase) -> None:
    await shop.apply(USERS, "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int REFERENCES a)")
    shop.file(2, "DROP TABLE a, b")
    await goes_back(shop.rollback())
    assert len(await shop.preserved()) == 2


SLOW = """
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(1.5); RETURN NULL; END';
CREATE TRIGGER slow BEFORE DELETE ON users FOR EACH STATEMENT EXECUTE FUNCTION slow()
"""


async def writes_meanwhile(shop: AppDatabase, sql: str) -> bool:
    """Whether a write during the downgrade succeeded."""
    async with shop.session() as writer:
        for _ in range(200):
            if await writer.fetchval("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"):
                break
            await asyncio.sleep(0.05)
        try:
            return str(await writer.execute(sql)).endswith(" 1")
        except asyncpg.PostgresError:
            return False


async def test_cascading_rows_are_locked(shop: AppDatabase) -> None:
    """A key check does not conflict with the lock of the table that it points to."""
    await shop.apply(
        f"{USERS}; CREATE TABLE notes (id int PRIMARY KEY, who int REFERENCES users ON DELETE CASCADE); {SLOW}",
        "SELECT 1",
    )
    shop.file(2, "DELETE FROM users WHERE id = 1")
    went, wrote = await asyncio.gather(
        shop.rollback().run(through=approved), writes_meanwhile(shop, "INSERT INTO notes VALUES (7, 1)")
    )
    assert went.outcome == "succeeded", went.reason
    await shop.schemas.restore_preserved("shop", "drill-1", overwrite=True, dry_run=False)
    assert wrote is bool(await shop.rows("SELECT * FROM notes")), "it was acknowledged, and was deleted"


async def test_tables_are_locked_after_a_standalone_statement(shop: AppDatabase) -> None:
    await shop.apply(f"{USERS}; {SLOW}", "CREATE INDEX i ON users (name)")
    shop.file(2, "DROP INDEX CONCURRENTLY i; DELETE FROM users")
    went, wrote = await asyncio.gather(
        shop.rollback().run(through=approved), writes_meanwhile(shop, "UPDATE users SET name = 'new' WHERE id = 1")
    )
    assert went.outcome == "succeeded", went.reason
    await shop.schemas.restore_preserved("shop", "drill-1", overwrite=True, dry_run=False)
    assert not wrote or ("new",) in await shop.rows("SELECT name FROM users")


@pytest.mark.parametrize(
    "down",
    [
        "UPDATE users SET name = 'old'; DELETE FROM users WHERE name = 'old'",
        "ALTER TABLE users RENAME name TO other; ALTER TABLE users RENAME nick TO name;"
        "DELETE FROM users WHERE name = 'old'",
        "UPDATE users SET nick = 'x'; DELETE FROM marks WHERE who IN (SELECT id FROM users WHERE nick = 'x')",
    ],
)
async def test_rows_changed_by_earlier_statements_are_not_counted(shop: AppDatabase, down: str) -> None:
    await shop.apply(f"{USERS}; ALTER TABLE users ADD nick text; CREATE TABLE marks (who int)", "SELECT 1")
    await shop.run("INSERT INTO marks VALUES (1), (2)")
    shop.file(2, down)
    notes = (await shop.rollback().plan()).notes
    assert any(n.startswith("deletes rows of") and ": not counted, preserved" in n for n in notes), notes
    ended = await shop.rollback(loses_at_most=10).run()
    assert ended.state == "stuck"
    assert "the size of the loss is unknown: deletes rows of" in ended.reason


async def test_a_migration_cannot_change_the_timeouts(shop: AppDatabase) -> None:
    await shop.apply(USERS, "CREATE INDEX i ON users (name)")
    shop.file(2, "SET lock_timeout = 0; SET LOCAL statement_timeout TO 0; DROP INDEX i")
    async with shop.session() as other:
        await other.execute("BEGIN; SELECT * FROM users")
        async with asyncio.timeout(60):
            ended = await shop.rollback().run(through=approved)
    assert ended.outcome == "failed"
    assert "lock timeout" in ended.reason
    assert any("left out, because the responder sets the limits: SET lock_timeout = 0" in n for n in ended.plan.notes)


@pytest.mark.parametrize("word", ["ABORT", "START TRANSACTION", "PREPARE TRANSACTION 'x'"])
async def test_transaction_control_is_refused(shop: AppDatabase, word: str) -> None:
    await shop.apply(USERS, "SELECT 1")
    shop.file(2, f"{word}; DROP TABLE users")
    with pytest.raises(StepFailed, match="remove it, the responder runs the file in one transaction"):
        await shop.rollback().plan()


async def test_firing_triggers_are_reported(shop: AppDatabase) -> None:
    await shop.apply(f"{USERS}; {SLOW}", "SELECT 1")
    shop.file(2, "DELETE FROM users WHERE id = 1")
    note = 'triggers of "users" fire and may change other data: slow'
    assert note in (await shop.rollback().plan()).notes


async def test_a_key_with_included_columns_is_used(shop: AppDatabase) -> None:
    await shop.apply(
        "CREATE TABLE a (id int NOT NULL, body json NOT NULL, PRIMARY KEY (id) INCLUDE (body))",
        "ALTER TABLE a ADD x text; INSERT INTO a VALUES (1, '{}', 'y')",
    )
    shop.file(2, "ALTER TABLE a DROP COLUMN x", "ALTER TABLE a ADD x text")
    await goes_back(shop.rollback())
    await shop.run("ALTER TABLE a ADD x text")
    await shop.schemas.restore_preserved("shop", "drill-1", overwrite=True, dry_run=False)
    assert await shop.rows("SELECT id, x FROM a") == [(1, "y")]


SECRET = "ann@example.com"


@pytest.mark.parametrize(
    "down",
    [
        "CREATE UNIQUE INDEX once ON users (mail)",
        "ALTER TABLE users ADD CHECK (mail IS NULL)",
        "ALTER TABLE users ALTER mail TYPE int USING mail::int",
        "INSERT INTO users (id, name, mail) VALUES (1, 'x', 'y')",
        "INSERT INTO users (name, mail) SELECT NULL, mail FROM users",
        f"DO $$ BEGIN RAISE EXCEPTION 'no' USING DETAIL = '{SECRET}'; END $$",
    ],
)
async def test_errors_contain_no_row_values(shop: AppDatabase, down: str) -> None:
    await shop.apply(f"{USERS}; ALTER TABLE users ADD mail text; UPDATE users SET mail = '{SECRET}'", "SELECT 1")
    shop.file(2, down)
    ended = await shop.rollback().run(through=approved)
    assert ended.outcome == "failed"
    assert re.search(r"database shop rejected a statement: |PostgreSQL would reject it", ended.reason), ended.reason
    assert SECRET not in ended.reason


async def test_errors_of_other_sessions_contain_no_row_values(shop: AppDatabase) -> None:
    await shop.apply(USERS, "ALTER TABLE users ADD nick text")
    shop.file(2, "ALTER TABLE users DROP COLUMN nick")
    async with shop.session() as other:
        await other.execute(f"BEGIN; UPDATE users SET nick = '{SECRET}', name = E'it''s {SECRET}' WHERE id = 4711")
        with pytest.raises(StepFailed) as raised:
            await shop.rollback(long_transaction="0s").plan()
    assert "UPDATE users SET nick = " in str(raised.value)
    assert SECRET not in str(raised.value)
    assert "4711" not in str(raised.value)


async def test_output_of_tools_contains_no_row_values(shop: AppDatabase) -> None:
    await shop.apply(f"{USERS}; ALTER TABLE users ADD mail text; UPDATE users SET mail = '{SECRET}'", "SELECT 1")
    tool = {
        "current": "SELECT max(version) FROM schema_migrations",
        "downgrade": ["psql", "-v", "ON_ERROR_STOP=1", "-c", "ALTER TABLE users ADD UNIQUE (mail)"],
    }
    ended = await shop.rollback(tool={"command": tool}).run(through=approved)
    assert "could not create unique index" in ended.reason
    assert SECRET not in ended.reason


@pytest.mark.parametrize(
    ("output", "left"),
    [
        (
            "ERROR:  duplicate key\nDETAIL:  Key (mail)=(a\n\nb) already exists.\n"
            'CONTEXT:  COPY users, line 1: "1\ta"\n',
            "ERROR:  duplicate key",
        ),
        (
            "psycopg.errors.NotNullViolation: null value\nDETAIL:  Failing row contains (1, a).\n\n"
            "The above exception was the direct cause\n\nIntegrityError: null value\n"
            "DETAIL:  Failing row contains (1, a).\n[SQL: INSERT INTO t VALUES (%s)]\n[parameters: {'x': 'a'}]\n"
            "(Background",
            "psycopg.errors.NotNullViolation: null value\nThe above exception was the direct cause\n\n"
            "IntegrityError: null value\n[SQL: INSERT INTO t VALUES (%s)]\n\n(Background",
        ),
        ('ERROR:  invalid input syntax for type integer: "a"b"', 'ERROR:  invalid input syntax for type integer: "…"'),
        (
            "ERROR:  cannot drop table a\nDETAIL:  view v depends on table a\nHINT:  Use CASCADE",
            "ERROR:  cannot drop table a\nDETAIL:  view v depends on table a\nHINT:  Use CASCADE",
        ),
    ],
)
def test_output_of_programs_is_reported_without_row_values(output: str, left: str) -> None:
    assert without_values(output).strip() == left


async def test_remaining_rows_are_not_restored_twice(shop: AppDatabase) -> None:
    """A table that may lose rows is preserved completely if it has no key to identify them."""
    await shop.apply(
        f"{USERS}; CREATE TABLE notes (who int REFERENCES users ON DELETE CASCADE); INSERT INTO notes VALUES (1), (2)",
        "SELECT 1",
    )
    shop.file(2, "DELETE FROM users WHERE id = 1")
    rollback = shop.rollback()
    prefix = "deletes or changes rows of public.notes by CASCADE: not counted, preserved in rollback_keep, cannot be"
    assert any(note.startswith(prefix) for note in (await rollback.plan()).notes)
    await goes_back(rollback)
    await shop.schemas.restore_preserved("shop", "drill-1", overwrite=True, dry_run=False)
    assert await shop.rows("SELECT * FROM users ORDER BY 1") == [(1, "ann"), (2, "bob")]
    assert await shop.rows("SELECT * FROM notes") == [(2,)]
    (keep,) = [keep for _, source, _, keep, _ in await shop.preserved() if "notes" in source]
    assert await shop.rows(f'SELECT * FROM rollback_keep."{keep}" ORDER BY 1') == [(1,), (2,)]


async def test_references_to_a_changed_key_are_preserved(shop: AppDatabase) -> None:
    await shop.apply(
        f"{USERS}; CREATE TABLE notes (id int PRIMARY KEY, who int REFERENCES users ON UPDATE SET NULL);"
        "INSERT INTO notes VALUES (5, 1), (6, 2)",
        "SELECT 1",
    )
    shop.file(2, "UPDATE users SET id = id + 100 WHERE id = 1")
    rollback = shop.rollback()
    plan = await rollback.plan()
    assert 'changes by ON UPDATE "public"."notes"."who"' in plan.irreversible
    prefix = 'changes by ON UPDATE "public"."notes"."who": 2 values now, preserved in rollback_keep, cannot be restored'
    assert any(note.startswith(prefix) for note in plan.notes)
    await goes_back(rollback)
    (keep,) = [keep for _, source, _, keep, _ in await shop.preserved() if "notes" in source]
    assert await shop.rows(f'SELECT * FROM rollback_keep."{keep}" ORDER BY 1') == [(5, 1), (6, 2)]


async def test_sequence_numbers_are_not_reused(shop: AppDatabase) -> None:
    up = "CREATE TABLE orders (id serial PRIMARY KEY, x int GENERATED ALWAYS AS IDENTITY)"
    await shop.apply(
        USERS, f"{up}; INSERT INTO orders SELECT FROM generate_series(1, 5); DELETE FROM orders WHERE id > 2"
    )
    shop.file(2, "DROP TABLE orders", up)
    await goes_back(shop.rollback())
    await shop.run(up)
    await shop.schemas.restore_preserved("shop", "drill-1", overwrite=True, dry_run=False)
    await shop.run("INSERT INTO orders DEFAULT VALUES")
    assert await shop.rows("SELECT * FROM orders ORDER BY 1") == [(1, 1), (2, 2), (6, 6)]


async def test_restoring_has_a_lock_timeout(shop: AppDatabase) -> None:
    await shop.apply(USERS, "ALTER TABLE users ADD nick text; UPDATE users SET nick = 'x'")
    shop.file(2, "ALTER TABLE users DROP COLUMN nick", "ALTER TABLE users ADD nick text")
    await goes_back(shop.rollback())
    await shop.run("ALTER TABLE users ADD nick text")
    async with shop.session() as other:
        await other.execute("BEGIN; UPDATE users SET name = 'y'")
        async with asyncio.timeout(60):
            with pytest.raises(StepFailed, match="lock timeout"):
                await shop.schemas.restore_preserved("shop", "drill-1", overwrite=True, dry_run=False)


def test_tls_settings_of_the_url_reach_programs() -> None:
    url = "postgresql://u@db/shop?sslmode=verify-full&sslrootcert=/etc/ssl/our%20ca.pem&sslcert=/c&sslkey=/k"
    postgres = Postgres((DatabaseSettings.model_validate({"name": "shop", "url": url}),))
    with postgres.environment("shop") as variables:
        assert variables["PGSSLMODE"] == "verify-full"
        assert variables["PGSSLROOTCERT"] == "/etc/ssl/our ca.pem"
        assert (variables["PGSSLCERT"], variables["PGSSLKEY"]) == ("/c", "/k")


@pytest.mark.parametrize(
    ("up", "down", "says"),
    [
        (
            "CREATE TYPE mood AS ENUM ('sad'); ALTER TABLE users ADD m mood[]",
            "DROP TYPE mood",
            "table column public.users.m",
        ),
        ("CREATE SEQUENCE s; ALTER TABLE users ADD n int DEFAULT nextval('s')", "DROP SEQUENCE s", "public.users.n"),
        (
            "CREATE TABLE a (id int PRIMARY KEY); ALTER TABLE users ADD whole a",
            "DROP TABLE a CASCADE",
            "table column public.users.whole",
        ),
        (
            "CREATE TABLE a (id serial PRIMARY KEY); ALTER TABLE users ADD n int DEFAULT nextval('a_id_seq')",
            "DROP TABLE a CASCADE",
            "public.users.n",
        ),
    ],
)
async def test_live_objects_do_not_depend_on_preserved_data(shop: AppDatabase, up: str, down: str, says: str) -> None:
    """Otherwise dropping the side schema would drop a column or a default."""
    await shop.apply(USERS, up)
    shop.file(2, down)
    ended = await shop.rollback().run(through=approved)
    assert ended.outcome == "failed", ended.reason
    assert ": it is needed by " in ended.reason
    assert says in ended.reason
    assert "2 → 1 changed nothing" in ended.reason


@pytest.mark.soak
@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
async def test_a_revert_restores_the_previous_state(shop: AppDatabase, loss: Loss) -> None:
    before = await at_two(shop, loss)
    rollback = shop.rollback(smoke=[{"sql": "SELECT false", "database": "shop"}])
    ended = await rollback.run(through=lambda plan: in_a_hurry(approved(plan)))
    assert (ended.state, ended.outcome) == ("closed", "reverted"), ended.reason
    assert await content(shop, *loss.tables) == before


@pytest.mark.parametrize(
    "down",
    [
        "ALTER TABLE users ALTER name SET NOT NULL",
        "ALTER TABLE users RENAME TO people",
        "ALTER TABLE users DROP CONSTRAINT users_pkey",
        "DROP INDEX by_name",
        "CREATE INDEX other ON users (name)",
        "ALTER TABLE users ENABLE ROW LEVEL SECURITY",
    ],
)
async def test_blocking_sessions_are_reported_without_a_loss(shop: AppDatabase, down: str) -> None:
    await shop.apply(f"{USERS}; CREATE INDEX by_name ON users (name)", "SELECT 1")
    shop.file(2, down)
    async with shop.session() as other:
        await other.execute("SET application_name = 'reports'; BEGIN; SELECT name FROM users")
        with pytest.raises(StepFailed, match=r"reports\) holds or waits"):
            await shop.rollback(long_transaction="0s").plan()

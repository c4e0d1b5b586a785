"""Objects dropped before, after and with their table: equal to the tool's downgrade, and all are restored."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from tests.responder.backends.postgres.conftest import AppDatabase
from tests.responder.backends.postgres.differential import DatabaseCopy
from tests.responder.backends.postgres.test_rollback import USERS, approved, content, goes_back, in_a_hurry


class Drop(NamedTuple):
    """The objects and rows of version 2, and the order of their drops."""

    up: str
    data: str
    down: str
    tables: tuple[str, ...] = ("t",)
    base: str = ""


T = "CREATE TABLE t (id int PRIMARY KEY, a int, b text)"
ROWS = "INSERT INTO t VALUES (1, 10, 'x'), (2, 20, 'y')"
ENUM = "CREATE TYPE mood AS ENUM ('sad', 'ok')"
NOTE = "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'"
PARTS = (
    "CREATE TABLE t (id int, a int, PRIMARY KEY (id)) PARTITION BY RANGE (id); CREATE INDEX t_a ON t (a);"
    "CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (10);"
    "CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (10) TO (20)"
)
PART_ROWS = "INSERT INTO t VALUES (1, 1), (11, 2)"
CITEXT = "CREATE EXTENSION citext"

DROPS = {
    "index before": Drop(f"{T}; CREATE INDEX t_a ON t (a)", ROWS, "DROP INDEX t_a; DROP TABLE t"),
    "several indexes in one statement": Drop(
        f"{T}; CREATE INDEX t_a ON t (a); CREATE INDEX t_b ON t (b)", ROWS, "DROP INDEX t_a, t_b; DROP TABLE t"
    ),
    "index after": Drop(f"{T}; CREATE INDEX t_a ON t (a)", ROWS, "DROP TABLE t; DROP INDEX IF EXISTS t_a"),
    "index concurrently before": Drop(
        f"{T}; CREATE INDEX t_a ON t (a)", ROWS, "DROP INDEX CONCURRENTLY t_a; DROP TABLE t"
    ),
    "index renamed before": Drop(
        f"{T}; CREATE INDEX t_a ON t (a)", ROWS, "ALTER INDEX t_a RENAME TO t_old; DROP TABLE t"
    ),
    "index made before": Drop(T, ROWS, "CREATE INDEX t_b ON t (b); DROP TABLE t; CREATE TABLE t_b (id int)"),
    "unique constraint before": Drop(
        f"{T}; ALTER TABLE t ADD CONSTRAINT t_b UNIQUE (b)", ROWS, "ALTER TABLE t DROP CONSTRAINT t_b; DROP TABLE t"
    ),
    "primary key before": Drop(T, ROWS, "ALTER TABLE t DROP CONSTRAINT t_pkey; DROP TABLE t"),
    "check before": Drop(
        f"{T}; ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0)", ROWS, "ALTER TABLE t DROP CONSTRAINT c; DROP TABLE t"
    ),
    "foreign key before": Drop(
        f"{T}; ALTER TABLE t ADD CONSTRAINT f FOREIGN KEY (id) REFERENCES users",
        ROWS,
        "ALTER TABLE t DROP CONSTRAINT f; DROP TABLE t",
    ),
    "foreign key from another table before": Drop(
        f"{T}; ALTER TABLE users ADD t int CONSTRAINT f REFERENCES t",
        f"{ROWS}; UPDATE users SET t = id",
        "ALTER TABLE users DROP CONSTRAINT f; DROP TABLE t; ALTER TABLE users DROP t",
        ("t", "users"),
    ),
    "serial column before": Drop(
        "CREATE TABLE t (id serial PRIMARY KEY, a int)",
        "INSERT INTO t (a) VALUES (1), (2)",
        "ALTER TABLE t DROP COLUMN id; DROP TABLE t",
    ),
    "sequence of a serial before": Drop(
        "CREATE TABLE t (id serial PRIMARY KEY, a int)",
        "INSERT INTO t (a) VALUES (1), (2)",
        "ALTER TABLE t ALTER id DROP DEFAULT; DROP SEQUENCE t_id_seq; DROP TABLE t",
    ),
    "sequence of a serial after": Drop(
        "CREATE TABLE t (id serial PRIMARY KEY, a int)",
        "INSERT INTO t (a) VALUES (1), (2)",
        "DROP TABLE t; DROP SEQUENCE IF EXISTS t_id_seq",
    ),
    "sequence of its own after": Drop(
        "CREATE SEQUENCE s; CREATE TABLE t (id int PRIMARY KEY DEFAULT nextval('s'), a int)",
        "INSERT INTO t (a) VALUES (1), (2)",
        "DROP TABLE t; DROP SEQUENCE s",
    ),
    "sequence of its own, if it exists": Drop(
        "CREATE SEQUENCE s INCREMENT -1; CREATE TABLE t (id int PRIMARY KEY DEFAULT nextval('s'), a int)",
        "INSERT INTO t (a) VALUES (1), (2)",
        "DROP TABLE t; DROP SEQUENCE IF EXISTS s",
    ),
    "identity": Drop(
        "CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a int)",
        "INSERT INTO t (a) VALUES (1), (2)",
        "ALTER TABLE t ALTER id DROP IDENTITY; DROP TABLE t",
    ),
    "trigger and function": Drop(
        f"{T}; {NOTE}; CREATE TRIGGER tr AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION note()",
        ROWS,
        "DROP TRIGGER tr ON t; DROP TABLE t; DROP FUNCTION note()",
    ),
    "function of a trigger after": Drop(
        f"{T}; {NOTE}; CREATE TRIGGER tr AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION note()",
        ROWS,
        "DROP TABLE t; DROP FUNCTION note()",
    ),
    "function of a default, a check, an index and a generated column after": Drop(
        "CREATE FUNCTION f(x int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT x + 1';"
        "CREATE TABLE t (id int PRIMARY KEY, a int DEFAULT f(1) CHECK (f(a) > 0),"
        " g int GENERATED ALWAYS AS (f(id)) STORED); CREATE INDEX t_f ON t (f(a))",
        "INSERT INTO t (id) VALUES (1), (2)",
        "DROP TABLE t; DROP FUNCTION f(int)",
    ),
    "view before": Drop(f"{T}; CREATE VIEW v AS SELECT a FROM t", ROWS, "DROP VIEW v; DROP TABLE t"),
    "views with it": Drop(
        f"{T}; CREATE VIEW v AS SELECT a FROM t; CREATE VIEW w AS SELECT a FROM v;"
        "CREATE MATERIALIZED VIEW m AS SELECT b FROM t",
        ROWS,
        "DROP TABLE t CASCADE; DROP VIEW IF EXISTS v",
    ),
    "policy before": Drop(
        f"{T}; ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON t USING (a > 0)",
        ROWS,
        "DROP POLICY p ON t; DROP TABLE t",
    ),
    "policy that reads another table": Drop(
        f"CREATE TABLE o (id int PRIMARY KEY); {T}; ALTER TABLE t ENABLE ROW LEVEL SECURITY;"
        "CREATE POLICY p ON t USING (EXISTS (SELECT FROM o WHERE o.id = a))",
        f"{ROWS}; INSERT INTO o VALUES (10)",
        "DROP TABLE t; DROP TABLE o",
        ("t", "o"),
    ),
    "rule that writes another table": Drop(
        f"CREATE TABLE o (id int PRIMARY KEY); {T};"
        "CREATE RULE r AS ON DELETE TO t DO ALSO INSERT INTO o VALUES (OLD.id)",
        f"{ROWS}; INSERT INTO o VALUES (10)",
        "DROP TABLE t; DROP TABLE o",
        ("t", "o"),
    ),
    "statistics before": Drop(
        f"{T}; CREATE STATISTICS st ON a, b FROM t", ROWS, "DROP STATISTICS st; DROP TABLE t"
    ),
    "statistics with it": Drop(f"{T}; CREATE STATISTICS st ON a, b FROM t", ROWS, "DROP TABLE t"),
    "type after": Drop(
        f"{ENUM}; CREATE TABLE t (id int PRIMARY KEY, m mood DEFAULT 'ok' CHECK (m <> 'sad'))",
        "INSERT INTO t VALUES (1, 'ok')",
        "DROP TABLE t; DROP TYPE mood",
    ),
    "type after, if it exists": Drop(
        f"{ENUM}; CREATE TABLE t (id int PRIMARY KEY, m mood[])",
        "INSERT INTO t VALUES (1, '{ok,sad}')",
        "DROP TABLE t; DROP TYPE IF EXISTS mood",
    ),
    "type of a column, if it exists": Drop(
        f"{ENUM}; ALTER TABLE users ADD m mood",
        "UPDATE users SET m = 'ok'",
        "ALTER TABLE users DROP COLUMN m; DROP TYPE IF EXISTS mood",
        ("users",),
    ),
    "type with cascade": Drop(
        f"{ENUM}; CREATE TABLE t (id int PRIMARY KEY, m mood DEFAULT 'ok' CHECK (m <> 'sad'));"
        "CREATE INDEX t_m ON t (m)",
        "INSERT INTO t VALUES (1, 'ok')",
        "DROP TABLE t; DROP TYPE mood CASCADE",
    ),
    "type of the key": Drop(
        f"{ENUM}; CREATE TABLE t (m mood PRIMARY KEY, a int)",
        "INSERT INTO t VALUES ('ok', 5)",
        "ALTER TABLE t DROP COLUMN a; DROP TABLE t; DROP TYPE mood",
    ),
    "domain after": Drop(
        "CREATE DOMAIN pos AS int CHECK (VALUE > 0); CREATE TABLE t (id int PRIMARY KEY, p pos)",
        "INSERT INTO t VALUES (1, 7)",
        "DROP TABLE t; DROP DOMAIN pos",
    ),
    "extension after": Drop(
        f"{CITEXT}; CREATE TABLE t (id int PRIMARY KEY, c citext UNIQUE)",
        "INSERT INTO t VALUES (1, 'Ann')",
        "DROP TABLE t; DROP EXTENSION citext",
    ),
    "extension of a column, with cascade": Drop(
        f"{CITEXT}; ALTER TABLE users ADD c citext",
        "UPDATE users SET c = name",
        "ALTER TABLE users DROP COLUMN c; DROP EXTENSION IF EXISTS citext CASCADE",
        ("users",),
    ),
    "collation after": Drop(
        "CREATE COLLATION de (provider = icu, locale = 'de'); CREATE TABLE t (id int PRIMARY KEY, b text COLLATE de)",
        "INSERT INTO t VALUES (1, 'Ä')",
        "DROP TABLE t; DROP COLLATION de",
    ),
    "schema after": Drop(
        "CREATE SCHEMA z; CREATE TABLE z.t (id serial PRIMARY KEY, a int); CREATE STATISTICS z.st ON id, a FROM z.t",
        "INSERT INTO z.t (a) VALUES (1)",
        "DROP TABLE z.t; DROP SCHEMA z",
        ("z.t",),
    ),
    "publication": Drop(
        f"{T}; CREATE PUBLICATION pub FOR TABLE t", ROWS, "DROP TABLE t; DROP PUBLICATION pub"
    ),
    "partition before": Drop(PARTS, PART_ROWS, "DROP TABLE t1; DROP TABLE t"),
    "index of a partitioned table before": Drop(PARTS, PART_ROWS, "DROP INDEX t_a; DROP TABLE t"),
    "partition detached before": Drop(PARTS, PART_ROWS, "ALTER TABLE t DETACH PARTITION t1; DROP TABLE t", ("t", "t1")),
    "heir before": Drop(
        "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE c (x int) INHERITS (t)",
        "INSERT INTO t VALUES (1); INSERT INTO c VALUES (2, 3)",
        "DROP TABLE c; DROP TABLE t",
        ("ONLY t", "c"),
    ),
    "heirs with it": Drop(
        "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE c (x int) INHERITS (t); CREATE TABLE d () INHERITS (c);"
        "CREATE INDEX c_x ON c (x)",
        "INSERT INTO t VALUES (1); INSERT INTO c VALUES (2, 3); INSERT INTO d VALUES (4, 5)",
        "DROP INDEX c_x; DROP TABLE t CASCADE",
        ("ONLY t", "ONLY c", "d"),
    ),
    "table renamed before": Drop(
        f"{T}; CREATE INDEX t_a ON t (a)", ROWS, "ALTER TABLE t RENAME TO old; DROP INDEX t_a; DROP TABLE old"
    ),
    "tables that refer to each other": Drop(
        "CREATE TABLE t (id int PRIMARY KEY, o int); CREATE TABLE o (id int PRIMARY KEY, t int REFERENCES t);"
        "ALTER TABLE t ADD CONSTRAINT f FOREIGN KEY (o) REFERENCES o DEFERRABLE; CREATE UNIQUE INDEX o_t ON o (t)",
        "INSERT INTO t VALUES (1, NULL); INSERT INTO o VALUES (5, 1); UPDATE t SET o = 5",
        "ALTER TABLE t DROP CONSTRAINT f; DROP INDEX o_t; DROP TABLE o; DROP TABLE t",
        ("t", "o"),
    ),
    "a circle of keys that cannot be deferred": Drop(
        "CREATE TABLE t (id int PRIMARY KEY, o int); CREATE TABLE o (id int PRIMARY KEY, t int REFERENCES t);"
        "ALTER TABLE t ADD CONSTRAINT f FOREIGN KEY (o) REFERENCES o",
        "INSERT INTO t VALUES (1, NULL); INSERT INTO o VALUES (5, 1); UPDATE t SET o = 5",
        "ALTER TABLE t DROP CONSTRAINT f; DROP TABLE o; DROP TABLE t",
        ("t", "o"),
    ),
    "two tables in one statement": Drop(
        "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE o (id int PRIMARY KEY, t int REFERENCES t)",
        "INSERT INTO t VALUES (1); INSERT INTO o VALUES (5, 1)",
        "DROP TABLE t, o",
        ("t", "o"),
    ),
}  # fmt: skip


async def at_two(shop: AppDatabase, drop: Drop) -> list[object]:
    """Version 2 with its rows; returns the rows."""
    await shop.apply(f"{USERS}; {drop.base or 'SELECT 1'}", drop.up)
    await shop.run(drop.data)
    shop.file(2, drop.down, drop.up)
    return await content(shop, *drop.tables)


@pytest.mark.parametrize("drop", DROPS.values(), ids=DROPS)
async def test_objects_are_dropped_in_a_working_order(shop: AppDatabase, drop: Drop) -> None:
    before = await at_two(shop, drop)
    twin = DatabaseCopy(shop)
    await twin.split()
    for sql in drop.down.split(";"):  # CONCURRENTLY cannot be one of several statements
        await twin.copy.run(sql)
    await twin.copy.run("DELETE FROM schema_migrations WHERE version = '2'")
    await goes_back(shop.rollback())
    assert await twin.differences() == []
    if "DETACH" not in drop.down:  # remaining objects block running the migration again
        await shop.run(drop.up)
        done = await shop.schemas.restore_preserved("shop", "drill-1", overwrite=True, dry_run=False)
        assert done
        assert await content(shop, *drop.tables) == before


TURNED_BACK = ["index before", "sequence of a serial before", "sequence of its own, if it exists", "partition before",
               "function of a default, a check, an index and a generated column after", "type with cascade",
               "extension of a column, with cascade", "heirs with it", "statistics with it", "type of the key",
               "a circle of keys that cannot be deferred", "two tables in one statement"]  # fmt: skip


@pytest.mark.parametrize("name", TURNED_BACK)
async def test_reverted_drops_are_restored_in_order(shop: AppDatabase, name: str) -> None:
    drop = DROPS[name]
    before = await at_two(shop, drop)
    twin = DatabaseCopy(shop)
    await twin.split()
    rollback = shop.rollback(smoke=[{"sql": "SELECT false", "database": "shop"}])
    ended = await rollback.run(through=lambda plan: in_a_hurry(approved(plan)))
    assert (ended.state, ended.outcome) == ("closed", "reverted"), ended.reason
    assert await content(shop, *drop.tables) == before
    assert await twin.differences() == []


async def test_all_remaining_statements_are_reported(shop: AppDatabase) -> None:
    """A person runs the SQL exactly as in the reason."""
    await shop.apply(USERS, "CREATE INDEX i ON users (name)")
    names = ", ".join(f"'somebody {n}'" for n in range(30))
    left = f"ALTER TABLE users ADD CONSTRAINT known CHECK (name  IN ({names}))"
    same = "UPDATE users SET name = name"  # planning cannot know which rows violate the constraint after it
    shop.file(2, f"DROP INDEX CONCURRENTLY i; {same}; {left}")
    ended = await shop.rollback().run(through=approved)
    assert ended.state == "stuck"
    assert f"{same}; {left}; " in ended.reason
    await shop.run("UPDATE users SET name = 'somebody ' || id")
    await shop.run(ended.reason.split("Left to run: ")[1].split("; then run: responder close")[0])
    assert await shop.rows("SELECT * FROM schema_migrations") == [("1",)]

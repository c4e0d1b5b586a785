"""Scripts that rename, move and cascade: equal to the tool's own downgrade, reverted in full, and restorable."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from responder.errors import StepFailed
from tests.responder.backends.postgres.conftest import AppDatabase
from tests.responder.backends.postgres.differential import DatabaseCopy
from tests.responder.backends.postgres.test_rollback import USERS, approved, goes_back, in_a_hurry

REVERTS = {"smoke": [{"sql": "SELECT false", "database": "shop"}]}


class Migration(NamedTuple):
    up: str
    data: str
    down: str


ENUM = "CREATE TYPE mood AS ENUM ('sad', 'ok')"
IN_SCHEMA = (
    "CREATE SCHEMA x; CREATE TYPE x.e AS ENUM ('a', 'b'); CREATE TABLE x.a (id serial PRIMARY KEY, e x.e);"
    "CREATE TABLE x.b (id int PRIMARY KEY, a int REFERENCES x.a); CREATE TABLE x.unused (id serial);"
    "CREATE VIEW x.v AS SELECT * FROM x.a; ALTER TABLE users ADD e x.e[]; CREATE TABLE q (a int REFERENCES x.a)"
)
MIGRATIONS = {
    "a column of a renamed table": Migration(
        "ALTER TABLE users ADD nick text; ALTER TABLE users RENAME TO people; ALTER TABLE people RENAME name TO label",
        "UPDATE people SET nick = 'x' || label",
        "ALTER TABLE people RENAME label TO name; ALTER TABLE people RENAME TO users; ALTER TABLE users DROP nick",
    ),
    "a renamed column of another type": Migration(
        "ALTER TABLE users ADD nick int; ALTER TABLE users RENAME nick TO nr",
        "UPDATE users SET nr = id",
        "ALTER TABLE users ALTER nr TYPE text; ALTER TABLE users RENAME nr TO nick; ALTER TABLE users DROP nick",
    ),
    "a renamed table": Migration(
        "CREATE TABLE t (id serial PRIMARY KEY, a int)",
        "INSERT INTO t (a) VALUES (7)",
        "ALTER TABLE t RENAME TO u; ALTER INDEX t_pkey RENAME TO u_pkey; DROP TABLE u",
    ),
    "a table in another schema": Migration(
        "CREATE SCHEMA x; CREATE TABLE t (id serial PRIMARY KEY, a int)",
        "INSERT INTO t (a) VALUES (7)",
        "ALTER TABLE t SET SCHEMA x; DROP TABLE x.t; DROP SCHEMA x",
    ),
    "a table with and without its schema": Migration(
        "CREATE TABLE t (id int PRIMARY KEY, d text, e text)",
        "INSERT INTO t VALUES (1, 'q', 'r')",
        "ALTER TABLE public.t DROP d; ALTER TABLE t RENAME e TO f; DROP TABLE public.t",
    ),
    "an empty search path": Migration(
        "CREATE TABLE t (id int PRIMARY KEY, d text)",
        "INSERT INTO t VALUES (1, 'q')",
        "SELECT pg_catalog.set_config('search_path', '', false); ALTER TABLE public.t DROP d; DROP TABLE public.t",
    ),
    "heirs before their parent": Migration(
        "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (x int) INHERITS (a)",
        "INSERT INTO a VALUES (1); INSERT INTO b VALUES (2, 3)",
        "DROP TABLE b; DROP TABLE a",
    ),
    "a former heir": Migration(
        "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (x int, PRIMARY KEY (id)) INHERITS (a)",
        "INSERT INTO a VALUES (1); INSERT INTO b VALUES (2, 3)",
        "ALTER TABLE b NO INHERIT a; DROP TABLE a; DROP TABLE b",
    ),
    "a range type": Migration(
        "CREATE TYPE span AS RANGE (subtype = float8); ALTER TABLE users ADD s span, ADD m span_multirange",
        "UPDATE users SET s = '[1,2)', m = '{[1,2)}'",
        "ALTER TABLE users DROP s, DROP m; DROP TYPE span",
    ),
    "a type with its columns": Migration(
        f"{ENUM}; ALTER TABLE users ADD m mood DEFAULT 'sad', ADD n mood[]",
        "UPDATE users SET m = 'ok', n = '{ok}' WHERE id = 1",
        "DROP TYPE mood CASCADE",
    ),
    "a domain with its columns": Migration(
        "CREATE DOMAIN d AS text; ALTER TABLE users ADD c d, ADD l d[]; CREATE TABLE t (id int PRIMARY KEY, d d)",
        "UPDATE users SET c = 'X', l = '{y}'; INSERT INTO t VALUES (1, 'q')",
        "DROP DOMAIN IF EXISTS d CASCADE; DROP TABLE t",
    ),
    "an extension with its columns": Migration(
        "CREATE EXTENSION citext; ALTER TABLE users ADD c citext",
        "UPDATE users SET c = 'X'",
        "DROP EXTENSION citext CASCADE",
    ),
    "an identity column": Migration(
        "ALTER TABLE users ADD n int GENERATED ALWAYS AS IDENTITY (START 100)", "SELECT 1", "ALTER TABLE users DROP n"
    ),
    "a column of a table whose rules swallow changes": Migration(
        "ALTER TABLE users ADD n int DEFAULT 7; CREATE RULE quiet AS ON UPDATE TO users DO INSTEAD NOTHING",
        "ALTER TABLE users DISABLE RULE quiet; UPDATE users SET n = id; ALTER TABLE users ENABLE RULE quiet",
        "DROP RULE quiet ON users; ALTER TABLE users DROP n",
    ),
    "a schema with all in it": Migration(
        IN_SCHEMA,
        "INSERT INTO x.a (e) VALUES ('a'), ('b'); INSERT INTO x.b VALUES (5, 2); UPDATE users SET e = '{a,b}';"
        "INSERT INTO q VALUES (1)",
        "DROP SCHEMA x CASCADE; DROP TABLE q",
    ),
    "a schema after its column": Migration(
        "CREATE SCHEMA x; CREATE TYPE x.e AS ENUM ('a'); ALTER TABLE users ADD e x.e",
        "UPDATE users SET e = 'a'",
        "ALTER TABLE users DROP e; DROP SCHEMA IF EXISTS x CASCADE",
    ),
}


async def at_two(shop: AppDatabase, migration: Migration) -> DatabaseCopy:
    """Returns a copy of the database."""
    await shop.apply(USERS, migration.up)
    await shop.run(migration.data)
    shop.file(2, migration.down, migration.up)
    twin = DatabaseCopy(shop)
    await twin.split()
    return twin


@pytest.mark.parametrize("migration", MIGRATIONS.values(), ids=MIGRATIONS)
async def test_the_downgrade_equals_that_of_the_tool(shop: AppDatabase, migration: Migration) -> None:
    twin = await at_two(shop, migration)
    await goes_back(shop.rollback())
    await twin.copy.run(f"{migration.down}; DELETE FROM public.schema_migrations WHERE version = '2'")
    assert await twin.differences() == []
    for database in (shop, twin.copy):
        await database.run(f"{migration.up}; INSERT INTO schema_migrations VALUES ('2')")
    await shop.schemas.restore_preserved("shop", "drill-1", overwrite=True, dry_run=False)
    await twin.copy.run(migration.data)
    assert await twin.differences() == []


@pytest.mark.parametrize("migration", MIGRATIONS.values(), ids=MIGRATIONS)
async def test_reverting_restores_everything(shop: AppDatabase, migration: Migration) -> None:
    twin = await at_two(shop, migration)
    ended = await shop.rollback(**REVERTS).run(through=lambda plan: in_a_hurry(approved(plan)))
    assert ended.outcome == "reverted", ended.reason
    assert await twin.differences() == []


async def test_names_keep_their_meaning_across_steps(shop: AppDatabase) -> None:
    """Each step is restored under the names and types that it found."""
    await shop.apply(
        USERS,
        "ALTER TABLE users ADD nick text",
        "ALTER TABLE users RENAME nick TO number; ALTER TABLE users ALTER number TYPE int USING number::int",
        "ALTER TABLE users RENAME TO people",
    )
    await shop.run("UPDATE people SET number = id + 40")
    shop.file(4, "ALTER TABLE people RENAME TO users", "ALTER TABLE users RENAME TO people")
    shop.file(
        3,
        "ALTER TABLE users ALTER number TYPE text; ALTER TABLE users RENAME number TO nick",
        "ALTER TABLE users RENAME nick TO number; ALTER TABLE users ALTER number TYPE int USING number::int",
    )
    shop.file(2, "ALTER TABLE users DROP nick", "ALTER TABLE users ADD nick text")
    twin = DatabaseCopy(shop)
    await twin.split()
    rollback = shop.rollback("4", "1", **REVERTS)
    ended = await rollback.run(through=lambda plan: in_a_hurry(approved(plan)))
    assert ended.outcome == "reverted", ended.reason
    assert await twin.differences() == []


@pytest.mark.parametrize("path", ["SET search_path TO x, public", "set local search_path = 'x'"])
async def test_another_search_path_is_refused(shop: AppDatabase, path: str) -> None:
    await shop.apply(USERS, "CREATE SCHEMA x; CREATE TABLE x.t (id int)")
    shop.file(2, f"{path}; DROP TABLE t")
    with pytest.raises(StepFailed, match="cannot tell which tables it changes; write the schema in their names"):
        await shop.rollback().plan()

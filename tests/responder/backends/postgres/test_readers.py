"""The plan names who else reads a column or a table that goes."""

from __future__ import annotations

import contextlib

import asyncpg
import pytest

from tests.responder.backends.postgres.conftest import AppDatabase
from tests.responder.backends.postgres.test_rollback import USERS

UP = "ALTER TABLE users ADD nick text, ADD mail text"
DOWN = "ALTER TABLE users DROP COLUMN nick"


@pytest.fixture
async def reporting(shop: AppDatabase) -> str:
    """A role of another team."""
    with contextlib.suppress(asyncpg.DuplicateObjectError):
        await shop.run("CREATE ROLE reporting LOGIN")
    return shop.dsn.replace("postgres@", "reporting@")


async def test_roles_functions_and_sessions_that_read_a_column_are_named(shop: AppDatabase, reporting: str) -> None:
    shop.file(2, DOWN, UP)
    await shop.apply(USERS, UP)
    await shop.run(
        "GRANT SELECT ON users TO reporting;"
        "CREATE FUNCTION nick_of(int) RETURNS text LANGUAGE sql AS 'SELECT nick FROM users WHERE id = $1';"
        "CREATE FUNCTION mail_of(int) RETURNS text LANGUAGE sql AS 'SELECT mail FROM users WHERE id = $1'"
    )
    other = await asyncpg.connect(reporting, server_settings={"application_name": "metabase"})
    try:
        await other.fetch("SELECT nick FROM users WHERE id = 7")
        text = "\n".join((await shop.rollback().plan()).notes)
        await other.fetch("SELECT mail FROM users")
        unrelated = "\n".join((await shop.rollback().plan()).notes)
    finally:
        await other.close()
    assert '"users"."nick" can also be read by role reporting' in text
    assert '"users"."nick" is named in function nick_of(integer)' in text
    assert "mail_of" not in text
    assert "read last by 1 session (role reporting, application metabase, 127.0.0.1): SELECT nick FROM users" in text
    assert "id = 7" not in text, "no values of rows"
    assert "metabase" not in unrelated


async def test_a_grant_on_another_column_is_not_named(shop: AppDatabase, reporting: str) -> None:
    shop.file(2, DOWN, UP)
    await shop.apply(USERS, UP)
    await shop.run("GRANT SELECT (mail) ON users TO reporting")
    assert "reporting" not in "\n".join((await shop.rollback().plan()).notes)
    await shop.run("GRANT SELECT (nick) ON users TO reporting")
    assert "role reporting" in "\n".join((await shop.rollback().plan()).notes)


async def test_readers_of_a_table_are_named(shop: AppDatabase, reporting: str) -> None:
    up = 'CREATE TABLE "Or""ders" (id int)'
    shop.file(2, 'DROP TABLE "Or""ders"', up)
    await shop.apply(USERS, up)
    await shop.run('GRANT SELECT ON "Or""ders" TO reporting, PUBLIC')
    assert '"Or""ders" can also be read by roles PUBLIC, reporting' in "\n".join((await shop.rollback().plan()).notes)

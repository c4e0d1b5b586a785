"""The checks `sql` and `intact` hold only if the database answers as expected."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from responder.backends.postgres.checks import fingerprint
from responder.backends.registries import AnyCheck
from responder.errors import ResponderError
from tests.responder.backends.postgres.conftest import AppDatabase

CHECK: TypeAdapter[Any] = TypeAdapter(AnyCheck)


@pytest.mark.parametrize(
    ("sql", "expected", "holds", "reason"),
    [
        ("SELECT 1 = 1", {}, True, "is True"),
        ("SELECT false", {}, False, "is False, expected True"),
        ("SELECT 1", {}, False, "is 1, expected True"),
        ("SELECT NULL::bool", {}, False, "is None, expected True"),
        ("SELECT 1 WHERE false", {}, False, "returned 0 rows, expected one value"),
        ("SELECT true FROM generate_series(1, 2)", {}, False, "returned 2 rows"),
        ("SELECT true AS a, true AS b", {}, False, "returned 2 columns"),
        ("SELECT 5", {"equals": 5}, True, "is 5"),
        ("SELECT 5.0", {"equals": 5}, True, "is 5.0"),
        ("SELECT true", {"equals": 1}, False, "expected 1"),
        ("SELECT 'a'", {"equals": "a"}, True, ""),
        ("SELECT 'b'", {"equals": "a"}, False, "expected 'a'"),
        ("SELECT 5", {"at_least": 5}, True, ""),
        ("SELECT 4.9", {"at_least": 5}, False, "is 4.9, expected at least 5"),
        ("SELECT 6", {"at_least": 5, "at_most": 5.5}, False, "expected at least 5 and at most 5.5"),
        ("SELECT 'NaN'::float8", {"at_least": 0}, False, "is nan, expected at least 0"),
        ("SELECT NULL", {"at_least": 0}, False, "expected a number"),
        ("SELECT '5'", {"at_least": 0}, False, "expected a number"),
    ],
)
async def test_sql(shop: AppDatabase, sql: str, expected: dict[str, Any], holds: bool, reason: str) -> None:
    finding = await CHECK.validate_python({"sql": sql, "database": "shop", **expected}).holds(shop.schemas)
    assert finding.holds is holds, finding.reason
    assert reason in finding.reason


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("DELETE FROM t RETURNING true", "read-only transaction"),
        ("SELECT pg_sleep(60) IS NULL", "statement timeout"),
        ("SELECT nothing", "does not exist"),
        ("SELECT true, true", "two columns of the same name"),
    ],
)
async def test_an_invalid_query_is_refused(shop: AppDatabase, sql: str, why: str) -> None:
    await shop.run("CREATE TABLE t (); INSERT INTO t DEFAULT VALUES")
    with pytest.raises(ResponderError, match=why):
        await CHECK.validate_python({"sql": sql, "database": "shop", "timeout": "200ms"}).holds(shop.schemas)
    assert await shop.value("SELECT count(*) FROM t") == 1


def test_bounds_and_equals_exclude_each_other() -> None:
    with pytest.raises(ValidationError, match="set equals, or at_least and at_most, not both"):
        CHECK.validate_python({"sql": "SELECT 1", "database": "shop", "equals": 1, "at_least": 0})


CHANGES = [
    "ALTER TABLE a ADD x int",
    "ALTER TABLE a ALTER id TYPE bigint",
    "ALTER TABLE a ALTER name SET DEFAULT 'x'",
    "ALTER TABLE a ALTER name SET NOT NULL",
    "ALTER TABLE a ADD CHECK (id > 0)",
    "CREATE UNIQUE INDEX ON a (name)",
    "CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 2'",
    "CREATE OR REPLACE VIEW v AS SELECT id + 1 AS id FROM a",
    "ALTER TYPE mood ADD VALUE 'ok'",
    "CREATE TRIGGER t AFTER INSERT ON a FOR EACH ROW EXECUTE FUNCTION g()",
    "ALTER TABLE a ENABLE ROW LEVEL SECURITY",
    "CREATE POLICY p ON a USING (true)",
    "CREATE SEQUENCE s",
    "CREATE SCHEMA other CREATE TABLE b (id int)",
]


async def test_any_schema_change_changes_the_fingerprint(shop: AppDatabase) -> None:
    await shop.run(
        "CREATE TABLE a (id int, name text); CREATE VIEW v AS SELECT id FROM a WHERE false;"
        "CREATE TYPE mood AS ENUM ('sad');"
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1';"
        "CREATE FUNCTION g() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
    )
    first = await fingerprint(shop.schemas, "shop")
    await shop.run("INSERT INTO a VALUES (1, 'x'); ANALYZE a; CREATE SCHEMA rollback_keep CREATE TABLE k (id int)")
    assert await fingerprint(shop.schemas, "shop") == first
    seen = {first}
    for change in CHANGES:
        if "a ALTER id" in change:
            await shop.run("DROP VIEW v")
        await shop.run(change if "VIEW" not in change else "CREATE VIEW v AS SELECT id + 1 AS id FROM a")
        seen.add(await fingerprint(shop.schemas, "shop"))
    assert len(seen) == len(CHANGES) + 1


async def test_an_invalid_index_or_constraint_fails_the_check(shop: AppDatabase) -> None:
    await shop.run("CREATE TABLE a (id int); ALTER TABLE a ADD CONSTRAINT c CHECK (id > 0) NOT VALID")
    reason = "constraint c on a is not validated"
    finding = await CHECK.validate_python({"intact": {"database": "shop"}}).holds(shop.schemas)
    assert (finding.holds, finding.reason) == (False, reason)
    known = {"intact": {"database": "shop", "known_problems": [reason]}}
    assert (await CHECK.validate_python(known).holds(shop.schemas)).holds
    await shop.run("ALTER TABLE a VALIDATE CONSTRAINT c")
    found = await fingerprint(shop.schemas, "shop")
    for expected, holds in ((found, True), ("0" * 32, False)):
        check = CHECK.validate_python({"intact": {"database": "shop", "fingerprint": expected}})
        assert (await check.holds(shop.schemas)).holds is holds

"""Every PostgreSQL type is dropped, preserved and restored exactly."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.responder.backends.postgres.conftest import AppDatabase
from tests.responder.backends.postgres.test_rollback import goes_back

TORTURE = (Path(__file__).parent / "torture.sql").read_text()
HASHES = """
SELECT count(*), sum(('x' || substr(md5(t::text), 1, 16))::bit(64)::bigint::numeric) FROM {} AS t
"""


async def tortured(shop: AppDatabase) -> None:
    async with shop.session() as session:
        await session.execute("SELECT lo_unlink(oid) FROM pg_largeobject_metadata")
        await session.execute(TORTURE)
    await shop.apply("SELECT 1", "SELECT 1")


async def columns_of(shop: AppDatabase, table: str) -> list[tuple[str, str]]:
    sql = (
        "SELECT quote_ident(attname), format_type(atttypid, atttypmod) FROM pg_attribute"
        f" WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped AND attname NOT IN ('id', 'User')"
    )
    return await shop.rows(f"{sql} ORDER BY attnum")


@pytest.mark.parametrize("table", ["torture.every_type", '"Mixed Case"."select"', "torture.large"])
async def test_columns_are_preserved_and_restored(shop: AppDatabase, table: str) -> None:
    await tortured(shop)
    columns = await columns_of(shop, table)
    before = await shop.rows(HASHES.format(table))
    drops = ", ".join(f"DROP COLUMN {name}" for name, _ in columns)
    adds = f"ALTER TABLE {table} {', '.join(f'ADD COLUMN {name} {kind}' for name, kind in columns)}"
    shop.file(2, f"ALTER TABLE {table} {drops}", adds)
    await goes_back(shop.rollback())
    assert not await columns_of(shop, table)
    await shop.run(adds)
    for *_, back in await shop.preserved():
        await shop.run(back)
    assert await shop.rows(HASHES.format(table)) == before


TABLES = ["every_type", "tree", "large", "unlogged", "widest", "measured", "audit", "hashed", '"table"', "booked"]


async def test_whole_tables_are_preserved_and_restored(shop: AppDatabase) -> None:
    await tortured(shop)
    await shop.run("UPDATE torture.every_type SET a_regclass = 'pg_class'")  # otherwise it moves with the table
    there = {name: await shop.rows(HASHES.format(f"torture.{name}")) for name in TABLES}
    shop.file(2, ";".join(f"DROP TABLE torture.{name} CASCADE" for name in TABLES))
    await goes_back(shop.rollback())
    kept: dict[str, Any] = {}
    for what, source, _, keep, back in await shop.preserved():
        if what == "table":
            name = source.replace('"torture".', "").strip('"')
            kept[name] = (keep, back)
    assert set(kept) == {name.strip('"') for name in TABLES}
    for name in TABLES:
        assert await shop.value(f"SELECT to_regclass('torture.{name}')") is None
        keep, back = kept[name.strip('"')]
        # The table as the migration would create it again, and the rows that the recorded SQL restores.
        await shop.run(f'CREATE TABLE torture.{name} (LIKE rollback_keep."{keep}" INCLUDING ALL)')
        await shop.run(re.sub(r"SELECT setval.*", "", back))
        assert await shop.rows(HASHES.format(f"torture.{name}")) == there[name], name

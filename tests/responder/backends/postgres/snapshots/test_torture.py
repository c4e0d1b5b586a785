"""Everything that PostgreSQL can store is restored from a snapshot with equal hashes."""

from __future__ import annotations

from pathlib import Path

import pytest

from responder.backends.postgres.snapshots import checksums
from responder.backends.postgres.snapshots.columns import restore_columns
from responder.backends.postgres.snapshots.restore import create_database, restore
from tests import parts
from tests.responder.backends.postgres.snapshots.conftest import S3, TORTURE, SourceDatabase, source_database


async def hashes(source: SourceDatabase, name: str) -> dict[str, str]:
    """Checksums of all relations with rows, of sequences and of populated views."""
    async with checksums.session(source.snapshots.postgres, "shop", database_name=name) as connection:
        found = {
            t.name: str(await checksums.table_checksum(connection, t)) for t in await checksums.tables_of(connection)
        }
        found[checksums.LARGE_OBJECTS] = str(await checksums.large_object_checksum(connection))
        for view in await checksums.materialized_views_of(connection):
            row = await connection.fetchrow(
                f"SELECT count(*), md5(string_agg(v::text, '|' ORDER BY v::text)) FROM {view} v"
            )
            found[view] = str(tuple(row))
        for row in await connection.fetch("SELECT schemaname, sequencename, last_value FROM pg_sequences"):
            found[f"sequence {row[0]}.{row[1]}"] = str(row[2])
    return found


DOWNGRADE = """
DROP TABLE "Mixed Case"."select";
DROP MATERIALIZED VIEW torture.z_totals CASCADE;
ALTER TABLE torture.every_type DROP COLUMN jsons, ALTER COLUMN a_mood TYPE text;
DROP TYPE torture.pair CASCADE;
TRUNCATE torture.tree;
SELECT lo_unlink(70002);
"""


@pytest.mark.parametrize("where", ["directory", "s3"])
async def test_the_torture_schema_is_restored_exactly(
    where: str, cluster: parts.Postgres, s3: S3, tmp_path: Path
) -> None:
    async with source_database(cluster, tmp_path, s3=s3 if where == "s3" else None, encrypt=where == "s3") as source:
        await source.script(TORTURE)
        name = source.dsn.rpartition("/")[2]
        before = await hashes(source, name)
        assert len(before) > 30

        manifest = await source.snapshots.create("kept", source.request(jobs=3, scratch="shop"))
        assert manifest.verified == "restore"
        assert len(manifest.archives) == 4

        postgres, store = source.snapshots.postgres, source.snapshots.store("kept")
        await source.script(DOWNGRADE)
        assert await hashes(source, name) != before
        await create_database(postgres, "shop", f"{name}_back", manifest)
        await restore(postgres, store, manifest, "shop", f"{name}_back", jobs=2, owners=True)
        assert await hashes(source, f"{name}_back") == before


async def test_columns_of_every_type_are_restored(source: SourceDatabase) -> None:
    await source.script(TORTURE)
    name = source.dsn.rpartition("/")[2]
    before = await hashes(source, name)
    await source.snapshots.create("kept", source.request(tables=("torture.every_type",)))
    rows = await source.sql(
        "SELECT attname FROM pg_attribute WHERE attrelid = 'torture.every_type'::regclass AND attnum > 1"
    )
    columns = [row["attname"] for row in rows]
    assert len(columns) > 80
    await source.script(f"UPDATE torture.every_type SET {', '.join(f'{column} = NULL' for column in columns)}")

    manifest = await source.snapshots.find("kept", "shop/x-1")
    assert manifest is not None
    store = source.snapshots.store("kept")
    done = await restore_columns(
        source.snapshots.postgres, store, manifest, "shop", "torture.every_type", columns, overwrite=False
    )
    assert (done.rows, done.updated, done.missing, done.different) == (6, 6, 0, 0)
    assert await hashes(source, name) == before

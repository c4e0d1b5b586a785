"""A snapshot is consistent, counts only if it is complete, and is taken once."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from pydantic import TypeAdapter

from responder.backends.connections import Connections
from responder.backends.postgres.snapshots.client import Snapshots
from responder.backends.postgres.snapshots.resource import Snapshot
from responder.backends.postgres.snapshots.verify import compare_restored, read_archives
from responder.backends.registries import AnyResource
from responder.errors import LeaseLost, StepFailed, Unavailable
from responder.rollback.gateway import Gateway
from responder.transport.acting import acting
from responder.transport.object_store import DirectoryStore, Stored
from responder.transport.s3_store import S3Store
from tests import parts
from tests.contents.database import contents
from tests.contents.files import tree
from tests.responder.backends.postgres.snapshots.conftest import S3, SourceDatabase, settings_of, source_database
from tests.responder.backends.resource_law import keeps_the_laws

ROWS = """
CREATE TABLE orders (id int PRIMARY KEY, note text);
INSERT INTO orders SELECT n, repeat(md5(n::text), 10) FROM generate_series(1, 2000) n;
CREATE TABLE paid (id int PRIMARY KEY REFERENCES orders);
INSERT INTO paid SELECT n FROM generate_series(1, 500) n;
"""


def resource(**more: Any) -> Snapshot:
    return Snapshot(**{"database": "shop", "store": "kept", **more}).planned("x-1")


class _SnapshotConnections(Connections):
    def __init__(self, snapshots: Snapshots) -> None:
        self._snapshots = snapshots

    async def to(self, kind: Any) -> Any:
        return self._snapshots


async def test_the_resource_takes_one_snapshot(source: SourceDatabase) -> None:
    await source.script(ROWS)
    gateway, snapshot = Gateway(_SnapshotConnections(source.snapshots)), resource()
    assert TypeAdapter(AnyResource).validate_json(snapshot.model_dump_json()) == snapshot
    assert await gateway.read(snapshot) is None
    (note,) = await gateway.ask(snapshot, lambda client: snapshot.preflight(client, snapshot.key))
    assert "2 tables of shop" in note
    assert source.files() == [], "looking changes nothing"

    await gateway.write(snapshot, snapshot.key, expected=None)
    assert await gateway.read(snapshot) == "shop/x-1"
    assert await gateway.converged(snapshot, snapshot.key)
    files = {name: (source.directory / name).stat().st_mtime_ns for name in source.files()}
    await gateway.write(snapshot, snapshot.key, expected=None)
    assert {name: (source.directory / name).stat().st_mtime_ns for name in source.files()} == files

    with pytest.raises(StepFailed):
        await gateway.write(snapshot, None, expected=snapshot.key)


async def test_the_laws(source: SourceDatabase) -> None:
    """A snapshot stays. It changes neither the database nor another snapshot."""
    await source.script(ROWS)
    other = Snapshot(database="shop", store="kept").planned("x-0")
    await other.write(source.snapshots, other.key, expected=None)

    def state() -> dict[str, Any]:
        return {"database": contents(source.dsn), "store": tree(source.directory)}

    more: dict[str, Any] = {"state": state, "version": ["/store/*shop~1x-1*"], "one_way": True}
    await keeps_the_laws(resource(), source.snapshots, expected=None, to="shop/x-1", stranger=None, **more)


async def test_a_snapshot_is_consistent(source: SourceDatabase) -> None:
    """A writer moves money between two tables in different archives: the sum is the same in every snapshot."""
    await source.script(
        "CREATE TABLE a (n int); CREATE TABLE b (n int); INSERT INTO a VALUES (1000); INSERT INTO b VALUES (0)"
    )

    async def change() -> None:
        while True:
            await source.sql("WITH x AS (UPDATE a SET n = n - 1) UPDATE b SET n = n + 1")

    moving = asyncio.create_task(change())
    try:
        manifest = await source.snapshots.create("kept", source.request(jobs=2, scratch="shop"))
    finally:
        moving.cancel()
        await asyncio.wait([moving])
    assert len([archive for archive in manifest.archives if archive.section == "data"]) == 2
    assert manifest.verified == "restore", "the hashed data equals the dumped data"


@pytest.mark.parametrize("harm", ["cut", "changed", "gone", "at the end"])
async def test_damage_is_detected(source: SourceDatabase, harm: str) -> None:
    await source.script(ROWS)
    manifest = await source.snapshots.create("kept", source.request())
    largest = max(manifest.archives, key=lambda archive: archive.size)
    file = source.directory / largest.objects[0]
    raw = file.read_bytes()
    match harm:
        case "cut":
            file.write_bytes(raw[: len(raw) // 2])
        case "changed":
            file.write_bytes(raw[:-100] + bytes([raw[-100] ^ 1]) + raw[-99:])
        case "gone":
            file.unlink()
        case _:
            file.write_bytes(raw + b"\0")
    with pytest.raises(StepFailed):
        await read_archives(source.snapshots.store("kept"), manifest, jobs=2)


@pytest.mark.parametrize("encrypt", [False, True])
async def test_a_store_that_changes_an_archive_is_detected(
    encrypt: bool, cluster: parts.Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = DirectoryStore.put

    async def changing(store: DirectoryStore, name: str, blocks: AsyncIterator[bytes]) -> Stored:
        stored = await put(store, name, blocks)
        if "/data-" in name:
            file = source.directory / name
            raw = file.read_bytes()
            file.write_bytes(raw[:-100] + bytes([raw[-100] ^ 1]) + raw[-99:])
        return stored

    monkeypatch.setattr(DirectoryStore, "put", changing)
    async with source_database(cluster, tmp_path, encrypt=encrypt) as source:
        await source.script(ROWS)
        with pytest.raises(StepFailed, match=r"SHA-256 does not match|is damaged"):
            await source.snapshots.create("kept", source.request())
        assert await source.snapshots.find("kept", "shop/x-1") is None


@pytest.mark.parametrize("confirms", [True, False])
async def test_an_object_is_read_back_unless_its_store_confirms_it(
    confirms: bool, cluster: parts.Postgres, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With SSE-KMS an ETag is not the MD5 of the content."""
    fetched: list[str] = []
    put, get = S3Store.put, S3Store.get

    async def unconfirmed(store: S3Store, name: str, blocks: AsyncIterator[bytes]) -> Stored:
        return (await put(store, name, blocks))._replace(confirmed=False)

    def counted(store: S3Store, name: str) -> AsyncGenerator[bytes]:
        fetched.append(name)
        return get(store, name)

    monkeypatch.setattr(S3Store, "get", counted)
    if not confirms:
        monkeypatch.setattr(S3Store, "put", unconfirmed)
    async with source_database(cluster, tmp_path, s3=s3) as source:
        await source.script(ROWS)
        manifest = await source.snapshots.create("kept", source.request())
        archives = [name for archive in manifest.archives for name in archive.objects]
        assert [name for name in fetched if name in archives] == ([] if confirms else archives)
        await read_archives(source.snapshots.store("kept"), manifest, jobs=2)


async def test_an_archive_that_pg_restore_cannot_read_is_not_stored(
    source: SourceDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program in front of pg_dump writes something else."""
    await source.script(ROWS)
    (broken := source.directory.parent / "pg_dump").write_text(
        '#!/bin/sh\ncase "$1" in --version) exec /usr/bin/pg_dump "$1";; esac\necho PGDMP and nothing else\n'
    )
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{broken.parent}:{os.environ['PATH']}")
    with pytest.raises(StepFailed, match="pg_restore exited with 1"):
        await source.snapshots.create("kept", source.request())
    assert source.files() == []


async def test_a_differing_restored_copy_is_detected(source: SourceDatabase) -> None:
    await source.script(ROWS)
    manifest = await source.snapshots.create("kept", source.request(scratch="shop"))
    wrong = manifest.model_copy(
        update={"checksums": tuple(counted.model_copy(update={"hash": "1"}) for counted in manifest.checksums)}
    )
    with pytest.raises(StepFailed, match=r"public\.orders has 2000 rows"):
        await compare_restored(source.snapshots.postgres, source.snapshots.store("kept"), wrong, "server", jobs=2)
    assert not [name for name in await source.databases() if name.startswith("rollback_scratch")]


async def test_a_failed_dump_leaves_nothing(source: SourceDatabase) -> None:
    """The data of one table is unreadable."""
    await source.script(ROWS)
    await source.script("UPDATE pg_class SET relfilenode = 1 WHERE relname = 'paid'")
    with pytest.raises((StepFailed, Unavailable), match=r"paid|could not open"):
        await source.snapshots.create("kept", source.request())
    assert await source.snapshots.find("kept", "shop/x-1") is None
    assert not [name for name in source.files() if "manifest" in name or "unfinished" in name]


async def test_only_selected_tables_are_dumped(source: SourceDatabase) -> None:
    await source.script(ROWS)
    manifest = await source.snapshots.create("kept", source.request(tables=("public.paid",), scratch="shop"))
    assert manifest.tables == ("public.paid",)
    assert [(counted.table, counted.rows) for counted in manifest.checksums] == [("public.paid", 500)]


async def test_large_tables_are_hashed_by_sample(source: SourceDatabase) -> None:
    await source.script(ROWS)
    manifest = await source.snapshots.create("kept", source.request(scratch="shop", full_hash_up_to=200_000))
    orders, paid = manifest.checksums[:2]
    assert orders.table == "public.orders"
    assert orders.sampled_one_in > 1
    assert paid.sampled_one_in == 1


REFUSED = [
    ({"store": "nowhere"}, "", "unknown snapshot store 'nowhere'"),
    ({"database": "nowhere"}, "", "unknown database 'nowhere'"),
    ({"tables": ("public.nothing",)}, "", "unknown table public.nothing"),
    ({"tables": ("drop table",)}, "", "unknown table drop table"),
    ({}, "CREATE TABLE closed (n int)", "cannot read public.closed"),
    (
        {},
        "CREATE TABLE hides (n int); ALTER TABLE hides ENABLE ROW LEVEL SECURITY; GRANT SELECT ON hides TO PUBLIC",
        "hides rows of public.hides",
    ),
    ({"verify": "restore"}, "", "CREATEDB"),
]


@pytest.mark.parametrize(("how", "sql", "message"), REFUSED, ids=[message for _, _, message in REFUSED])
async def test_obstacles_are_reported_by_preflight(
    how: dict[str, Any], sql: str, message: str, cluster: parts.Postgres, tmp_path: Path
) -> None:
    async with source_database(cluster, tmp_path) as source:
        if sql:
            await source.script(sql)
        await source.script("DO $$ BEGIN CREATE ROLE plain LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
        settings = json.loads(json.dumps(source.settings).replace("postgres@", "plain@"))
        as_plain = await Snapshots.connect(settings_of(settings))
        snapshot = resource(**how)
        with pytest.raises(StepFailed, match=message):
            await snapshot.preflight(as_plain, snapshot.key)


def test_unknown_names_are_reported() -> None:
    assert resource().not_configured(databases=["shop"], snapshots=["kept"]) == ()
    assert resource(scratch="other").not_configured(databases=[], snapshots=[]) == (
        "no database shop is configured",
        "no snapshot store kept is configured",
        "no database other is configured",
    )


async def test_a_missing_directory_is_reported_by_preflight(source: SourceDatabase) -> None:
    source.directory.rmdir()
    with pytest.raises(StepFailed, match="is not a writable directory"):
        await resource().preflight(source.snapshots, "shop/x-1")


async def test_a_cancelled_snapshot_leaves_no_process(source: SourceDatabase) -> None:
    await source.script(ROWS)
    await source.script(
        "CREATE FUNCTION slow(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 FROM pg_sleep(0.01)'"
    )
    locked = await _locked(source)
    making = asyncio.create_task(source.snapshots.create("kept", source.request()))
    await asyncio.sleep(0.5)
    making.cancel()
    await asyncio.wait([making], timeout=5)
    assert making.cancelled()
    await locked.close()
    assert not [child for child in psutil.Process().children() if child.name() in ("pg_dump", "pg_restore")]
    assert await source.snapshots.find("kept", "shop/x-1") is None


async def test_a_lock_timeout_is_unavailable(source: SourceDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("responder.backends.postgres.snapshots.dump._LOCK_WAIT_MS", 100)
    await source.script(ROWS)
    locked = await _locked(source)
    with pytest.raises(Unavailable, match="lock timeout"):
        await source.snapshots.create("kept", source.request())
    await locked.close()
    await source.snapshots.create("kept", source.request())


async def test_a_snapshot_ends_within_its_timeout(source: SourceDatabase) -> None:
    await source.script(ROWS)
    locked = await _locked(source)
    with pytest.raises(StepFailed, match="timed out after 1 s"):
        await Gateway(_SnapshotConnections(source.snapshots)).write(resource(within=1.0), "shop/x-1", expected=None)
    await locked.close()
    assert not [child for child in psutil.Process().children() if child.name() in ("pg_dump", "pg_restore")]


async def _locked(source: SourceDatabase) -> Any:
    import asyncpg

    connection = await asyncpg.connect(source.dsn)
    await connection.execute("BEGIN")
    await connection.execute("LOCK TABLE orders")
    return connection


async def test_nothing_is_written_without_the_lease(source: SourceDatabase) -> None:
    await source.script(ROWS)
    calls = 0

    def guard() -> None:
        nonlocal calls
        calls += 1
        if calls > 4:
            raise LeaseLost("the lease has run out")

    token = acting.set(guard)
    try:
        with pytest.raises(LeaseLost):
            await source.snapshots.create("kept", source.request())
    finally:
        acting.reset(token)
    assert await source.snapshots.find("kept", "shop/x-1") is None


class _Blocks:
    def __init__(self, sizes: list[int]) -> None:
        self._sizes = sizes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for number, size in enumerate(self._sizes):
            yield bytes([number % 256]) * size


@pytest.mark.parametrize("sizes", [[], [10], [5 << 20], [6 << 20] * 4, [1 << 20] * 33])
async def test_streams_of_any_length_fit_into_s3(
    sizes: list[int], cluster: parts.Postgres, s3: S3, tmp_path: Path
) -> None:
    """With two parts per object: further parts go to the next object."""
    async with source_database(cluster, tmp_path, s3=s3) as source:
        aws = source.snapshots._aws
        store = S3Store(aws, "snapshots", tmp_path.name, part=5 << 20, parts_of_an_object=2)
        names, confirmed = await store.put("x", aiter(_Blocks(sizes)))
        assert confirmed, "the store computed the same MD5"
        whole = b"".join([block async for block in _Blocks(sizes)])
        assert len(names) == max(1, -(-len(whole) // (10 << 20)))
        assert b"".join([block for name in names async for block in store.get(name)]) == whole
        assert {stored.name for stored in await store.list("")} == set(names)

        async def breaks() -> AsyncIterator[bytes]:
            async for block in _Blocks(sizes):
                yield block
            raise StepFailed("pg_dump failed")

        await store.delete(names)
        with pytest.raises(StepFailed, match="pg_dump failed"):
            await store.put("y", breaks())
        assert await store.list("") == []
        uploads = await aws.read("s3", "list_multipart_uploads", Bucket="snapshots")
        assert not [upload for upload in uploads.get("Uploads", ()) if tmp_path.name in upload["Key"]]


async def test_a_changed_manifest_is_detected(cluster: parts.Postgres, tmp_path: Path) -> None:
    async with source_database(cluster, tmp_path, encrypt=True) as source:
        await source.script(ROWS)
        manifest = await source.snapshots.create("kept", source.request(scratch="shop"))
        file = source.directory / "shop/x-1/manifest.json"
        assert b"PGDMP" not in (source.directory / manifest.archives[0].objects[0]).read_bytes()
        file.write_text(file.read_text().replace('"rows": 2000', '"rows": 2001'))
        with pytest.raises(StepFailed, match="was modified"):
            await source.snapshots.find("kept", "shop/x-1")


@pytest.mark.soak
@pytest.mark.parametrize("where", ["directory", "s3"])
async def test_memory_does_not_grow_with_the_database(
    where: str, cluster: parts.Postgres, s3: S3, tmp_path: Path
) -> None:
    """40 and 600 MiB of incompressible data, each in a separate process; 40 and 240 MiB with S3, because the test
    server takes minutes to join many parts.
    """
    peaks = []
    few, many = 20_000, 300_000 if where == "directory" else 120_000
    for rows in (few, many):
        (directory := tmp_path / str(rows)).mkdir()
        async with source_database(cluster, directory, s3=s3 if where == "s3" else None, encrypt=True) as source:
            await source.script(
                "CREATE TABLE t (b bytea); ALTER TABLE t ALTER b SET STORAGE EXTERNAL; INSERT INTO t "
                "SELECT decode((SELECT string_agg(md5(n::text || k), '') FROM generate_series(1, 125) k), 'hex') "
                f"FROM generate_series(1, {rows}) n"
            )
            if s3_settings := source.settings["aws"]:
                s3_settings["timeout"] = "2m"  # this server joins 600 MiB before it answers
            orders = {"settings": source.settings, "at": "", "request": source.request(compress=0).model_dump()}
            (directory / "orders.json").write_text(json.dumps(orders))
            argv = [
                sys.executable,
                "-m",
                "tests.responder.backends.postgres.snapshots.traps",
                str(directory / "orders.json"),
            ]
            process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
            out, _ = await process.communicate()
            assert process.returncode == 0
            peaks.append(int(out) / 1024)
    small, large = peaks
    print(f"peak of {where}: {small:.0f} and {large:.0f} MiB")
    assert large < small + 100 * (many - few) / 280_000  # the same for any size

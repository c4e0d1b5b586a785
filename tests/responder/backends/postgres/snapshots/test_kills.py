"""After a kill of any process at any step, no incomplete snapshot counts, and the next attempt completes it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from responder.backends.postgres.snapshots.verify import read_archives
from responder.errors import StepFailed, Unavailable
from tests import parts
from tests.responder.backends.postgres.snapshots.conftest import BUCKET, S3, SourceDatabase, source_database
from tests.responder.backends.postgres.snapshots.traps import STEPS, in_small_parts, set_trap

DATA = """
CREATE TABLE orders (id int PRIMARY KEY, note text);
INSERT INTO orders SELECT n, (SELECT string_agg(md5(n::text || k), '') FROM generate_series(1, 40) k)
FROM generate_series(1, 6000) n;
CREATE TABLE customers (id int PRIMARY KEY, name text);
INSERT INTO customers SELECT n, md5(n::text) FROM generate_series(1, 1000) n;
"""
COUNT = (
    "SELECT (SELECT count(*) || md5(string_agg(note, ',' ORDER BY id)) FROM orders), (SELECT count(*) FROM customers)"
)

BEGUN, HALF, THERE, READ, RESTORED, LAST, DONE = STEPS[1:]
CASES = [
    *(("responder", "directory", step) for step in STEPS),
    *(("responder", "s3", step) for step in (HALF, LAST)),
    ("pg_dump", "directory", HALF),
    ("pg_dump", "s3", HALF),
    ("pg_restore", "directory", HALF),
    ("pg_restore", "s3", HALF),
    ("pg_restore", "directory", RESTORED),
    *(("postgres", "directory", step) for step in (STEPS[0], BEGUN, HALF, THERE, RESTORED)),
    ("postgres", "s3", HALF),
    *(("s3", "s3", step) for step in (STEPS[0], BEGUN, HALF, THERE, RESTORED, LAST)),
]

LESS_LIKELY_TO_DIFFER = {
    *(("responder", "directory", step) for step in (BEGUN, THERE)),
    *(("postgres", "directory", step) for step in (STEPS[0], BEGUN)),
    *(("s3", "s3", step) for step in (STEPS[0], THERE)),
    ("pg_restore", "s3", HALF),
}
"""Additional cases; run them with `-m soak`."""


@pytest.fixture
async def stage(cluster: parts.Postgres, s3: S3, tmp_path: Path, request: Any) -> AsyncIterator[SourceDatabase]:
    async with source_database(cluster, tmp_path, s3=s3 if request.param == "s3" else None) as source:
        await source.script(DATA)
        in_small_parts(source.snapshots.stores["kept"])
        yield source


@pytest.mark.parametrize(
    ("victim", "stage", "step"),
    [pytest.param(*case, marks=[pytest.mark.soak] if case in LESS_LIKELY_TO_DIFFER else []) for case in CASES],
    indirect=["stage"],
    ids=[" - ".join(case) for case in CASES],
)
async def test_any_killed_process_leaves_a_consistent_store(
    victim: str, stage: SourceDatabase, step: str, s3: S3
) -> None:
    store = stage.snapshots.stores["kept"]
    on_s3 = "s3" in stage.settings["stores"][0]
    before = await stage.sql(COUNT)
    earlier = await stage.snapshots.create("kept", stage.request(key="shop/x-0", tables=("public.customers",)))
    request = stage.request(compress=0, jobs=2, scratch="shop" if step == RESTORED else None)

    if victim == "responder":
        await _killed_process(stage, request, step)
    else:
        objects = store.objects
        trap = set_trap(stage.snapshots, step, lambda: _kill(victim, stage.postgres, s3))
        with contextlib.suppress(StepFailed, Unavailable):
            await stage.snapshots.create("kept", request)
            assert victim == "postgres" and step == THERE, "its end was noticed"
        assert trap.sprung
        await trap.sprung
        store.objects = objects
    await _started(stage.postgres)
    if victim == "s3":
        await s3.start()  # empty, because this server keeps everything in memory

    found = await stage.snapshots.find("kept", request.key)
    assert (found is not None) == (step == DONE), "a snapshot exists if and only if its manifest does"
    assert await stage.sql(COUNT) == before, "nothing is lost"
    if victim != "s3":
        await read_archives(store, earlier, jobs=2)

    if found is None:
        found = await stage.snapshots.create("kept", request)
    await read_archives(store, found, jobs=2)
    expected = {name for archive in found.archives for name in archive.objects} | {f"{request.key}/manifest.json"}
    assert {stored.name for stored in await store.objects.list(f"{request.key}/")} == expected, "nothing is half done"
    if on_s3:
        uploads = await stage.snapshots._aws.read("s3", "list_multipart_uploads", Bucket=BUCKET)
        assert not [upload for upload in uploads.get("Uploads", ()) if f"/{request.key}/" in upload["Key"]]
    else:
        assert not [name for name in stage.files() if name.endswith(".unfinished")]
    assert not [name for name in await stage.databases() if name.startswith("rollback_scratch_")]
    await parts.until(_programs, lambda left: not left)


async def _kill(victim: str, postgres: parts.Postgres, s3: S3) -> None:
    match victim:
        case "postgres":
            await postgres.stop("immediate")
        case "s3":
            await s3.kill()
        case _:
            killed = 0
            for child in psutil.Process().children():
                with contextlib.suppress(psutil.NoSuchProcess):
                    if child.name() == victim:
                        child.send_signal(signal.SIGKILL)
                        killed += 1
            assert killed, f"{victim} runs"


async def _started(postgres: parts.Postgres) -> None:
    """It recovers first, which takes a while on a busy machine."""
    for _ in range(4):
        with contextlib.suppress(RuntimeError):
            return await postgres.start()
    raise AssertionError("PostgreSQL does not start again")


async def _killed_process(stage: SourceDatabase, request: Any, step: str) -> None:
    """The same in a separate process that kills itself."""
    file = stage.directory.parent / "orders.json"
    orders = {"settings": stage.settings, "at": step, "request": request.model_dump()}
    file.write_text(json.dumps(orders))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.responder.backends.postgres.snapshots.traps",
        str(file),
        stderr=asyncio.subprocess.PIPE,
    )
    _, stderr = await process.communicate()
    assert process.returncode == -signal.SIGKILL, stderr.decode()


async def _programs() -> list[str]:
    """Orphaned PostgreSQL programs, except those of other tests' clusters."""
    found = []
    for process in psutil.process_iter(["name", "ppid", "pid"]):
        if process.info["name"] in ("pg_dump", "pg_restore") and process.info["ppid"] in (1, os.getpid()):
            found.append(str(process))
    return found

"""Snapshots of a pgbench database of over 2 GiB, beside plain `pg_dump -j` and an upload as `aws s3 cp -` makes it.

All use the same level of compression and the same number of jobs. Takes minutes, so it is not part of `make bench`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import psutil
from pydantic import TypeAdapter

from benchmarks.processes import Unready, program
from benchmarks.report import Table, main
from responder.backends.postgres.snapshots import dump
from responder.backends.postgres.snapshots.client import Snapshots, SnapshotSettings
from tests import parts

_SCALE, _QUICK_SCALE = 150, 8
_JOBS = 2
_COMPRESS = 1
_BUCKET = "bench"
_DIRECTORY, _UPLOAD = "pg_dump -Fd -j 2 to a directory", "pg_dump -Fc | upload_fileobj, as aws s3 cp -"


def run(quick: bool, beside: Path | None) -> list[Table]:
    program("pg_dump")
    return [asyncio.run(_run(_QUICK_SCALE, 1) if quick else _run(_SCALE, 3))]


async def _run(scale: int, rounds: int) -> Table:
    with tempfile.TemporaryDirectory(prefix="bench-snapshot-") as name:
        directory = Path(name)
        async with parts.postgres(directory) as server, _s3(directory) as url:
            dsn = await server.database("shop")
            pgbench = "/usr/lib/postgresql/15/bin/pgbench"
            await _call("pgbench" if Path("/usr/bin/pgbench").exists() else pgbench, "-iq", "-s", str(scale), dsn)
            command = ["psql", "-XAtc", "SELECT pg_database_size('shop')", dsn]
            size = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            return await asyncio.to_thread(_table, directory, dsn, url, size, rounds)


def _table(directory: Path, dsn: str, url: str, size: int, rounds: int) -> Table:
    mib = size / 2**20
    title = (
        f"snapshot: a pgbench database of {mib / 1024:.1f} GiB, {_JOBS} jobs, compression {_COMPRESS}, {rounds} rounds"
    )
    table = Table(title, ["", "median s", "MiB/s", "peak MiB", "time, ratio", "memory, ratio"])
    seen: dict[str, list[tuple[float, float]]] = {}
    _watched(
        ["pg_dump", "-Fc", "-Z0", "--no-sync", "-f", "/dev/null", dsn]
    )  # otherwise the first measurement includes the cold cache
    for _ in range(rounds):
        for name, seconds, peak in _round(directory, dsn, url):
            seen.setdefault(name, []).append((seconds, peak))
    base = base_peak = 1.0
    for name, figures in seen.items():
        took, peak = statistics.median(f[0] for f in figures), max(f[1] for f in figures)
        if name in (_DIRECTORY, _UPLOAD):
            base, base_peak = took, peak
        ratio, memory = took / base, peak / base_peak
        table.add(name, f"{took:.1f}", f"{mib / took:.0f}", f"{peak:.0f}", f"{ratio:.2f}", f"{memory:.2f}")
        table.figures[name] = {"seconds": [f[0] for f in figures], "ratio": ratio, "peak_mib": peak}
    table.notes.append(
        "Each block's ratios are to its first line. pgbench has one large table, so one stream has it all."
    )
    return table


def _round(directory: Path, dsn: str, url: str) -> Iterator[tuple[str, float, float]]:
    """Name, seconds and peak of each, one after the other."""
    plain = directory / "plain"
    shutil.rmtree(plain, ignore_errors=True)
    yield _DIRECTORY, *_watched(["pg_dump", "-Fd", f"-j{_JOBS}", f"-Z{_COMPRESS}", "-f", str(plain), dsn])
    yield from _ours(directory, dsn, "")
    yield _UPLOAD, *_watched([sys.executable, "-c", _AWS, dsn, url, _BUCKET, str(_COMPRESS)])
    yield from _ours(directory, dsn, url)


def _ours(directory: Path, dsn: str, url: str) -> Iterator[tuple[str, float, float]]:
    for encrypt in (False, True):
        file = directory / "settings.json"
        file.write_text(json.dumps(_settings(directory, dsn, url, encrypt=encrypt)))
        total, peak = _watched([sys.executable, "-m", "benchmarks.snapshot", "once", str(file)])
        name = f"responder to {'S3' if url else 'a directory'}{', encrypted' if encrypt else ''}"
        yield name, json.loads(file.with_name("done.json").read_text())["dumped"], peak
        yield f"{name}, and all read back", total, peak


def _settings(directory: Path, dsn: str, url: str, *, encrypt: bool) -> dict[str, Any]:
    kept, key = directory / "kept", directory / "key"
    kept.mkdir(exist_ok=True)
    key.write_text("ab" * 32)
    store: dict[str, Any] = {"s3": {"bucket": _BUCKET}} if url else {"directory": str(kept)}
    if encrypt:
        store["encrypt"] = {"key_file": str(key)}
    return {
        "stores": [{"name": "kept", **store}],
        "databases": [{"name": "shop", "url": dsn}],
        "aws": {"endpoint_url": url, "access_key_id": "a", "secret_access_key": "b"} if url else {},
    }


_AWS = """
import subprocess, sys, boto3
dsn, url, bucket, level = sys.argv[1:]
s3 = boto3.client("s3", endpoint_url=url, aws_access_key_id="a", aws_secret_access_key="b", region_name="us-east-1")
dump = subprocess.Popen(["pg_dump", "-Fc", "-Z" + level, dsn], stdout=subprocess.PIPE)
s3.upload_fileobj(dump.stdout, bucket, "plain.dump")
sys.exit(dump.wait())
"""


def _watched(argv: list[str]) -> tuple[float, float]:
    """Seconds that it took, and the most memory (MiB, resident) that it and its children had together."""
    began = time.monotonic()
    process = psutil.Popen(argv, stdout=subprocess.DEVNULL)
    peak, over = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not over.wait(0.05):
            now = 0
            with contextlib.suppress(psutil.NoSuchProcess):
                for child in (process, *process.children(recursive=True)):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        now += child.memory_info().rss
            peak = max(peak, now)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        code = process.wait()
    finally:
        over.set()
        watching.join()
    if code:
        raise Unready(f"{argv[0]} exited with {code}")
    return time.monotonic() - began, peak / 2**20


async def _once(file: Path) -> None:
    """One snapshot in a process of its own; tells when the dump ended and the reading back began."""
    began = time.monotonic()
    settings = json.loads(file.read_text())
    snapshots = await Snapshots.connect(TypeAdapter(SnapshotSettings).validate_python(_as_read(settings)))
    making: Any = dump
    read_archives, dumped = making.read_archives, 0.0

    async def timed(*args: Any, **more: Any) -> None:
        nonlocal dumped
        dumped = time.monotonic() - began
        await read_archives(*args, **more)

    making.read_archives = timed
    request = dump.SnapshotRequest(key="shop/bench", database="shop", jobs=_JOBS, compress=_COMPRESS)
    await snapshots.create("kept", request)
    await snapshots.store("kept").objects.clear("shop/bench/")
    await snapshots.close()
    file.with_name("done.json").write_text(json.dumps({"dumped": dumped}))


def _as_read(settings: dict[str, Any]) -> dict[str, Any]:
    return {"stores": tuple(settings["stores"]), "databases": tuple(settings["databases"]), "aws": settings["aws"]}


@contextlib.asynccontextmanager
async def _s3(directory: Path) -> AsyncIterator[str]:
    url = f"http://127.0.0.1:{(port := parts.free_port())}"
    argv = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = await parts.Process.start(argv, log=directory / "s3.log", ready=f"{url}/moto-api/data.json", within=120.0)
    try:
        with urlopen(Request(f"{url}/{_BUCKET}", method="PUT")):
            yield url
    finally:
        await server.kill()


async def _call(*argv: str) -> None:
    process = await asyncio.create_subprocess_exec(*argv, stderr=asyncio.subprocess.DEVNULL)
    if await process.wait():
        raise Unready(f"{argv[0]} failed")


if __name__ == "__main__":
    if sys.argv[1:2] == ["once"]:
        asyncio.run(_once(Path(sys.argv[2])))
    else:
        main(run)

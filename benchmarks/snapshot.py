"""`responder snapshots take` on a pgbench database of 1 GiB, beside `pg_dump -j` and an upload as by `aws s3 cp -`.

All use the same level of compression and the same number of jobs. Takes minutes, so it is not part of `make bench`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import Request, urlopen

import psutil

from benchmarks.aims import aim
from benchmarks.processes import INSTALLED, Unready, program
from benchmarks.report import Table, main
from tests import parts

_SCALE, _QUICK_SCALE = 68, 8
_ROUNDS, _QUICK_ROUNDS = 5, 1
_JOBS, _COMPRESS = 2, 1  # the defaults of `responder snapshots take`
_BUCKET = "bench"
_DIRECTORY, _UPLOAD = "`pg_dump -Fd -j 2` to a directory", "`pg_dump -Fc`, uploaded to S3 by `upload_fileobj`"


class Cost(NamedTuple):
    """What a command took."""

    seconds: float
    cpu: float  # seconds, of it and its children; without the servers
    peak: float  # MiB resident, of it and its children together


class Contest(NamedTuple):
    """What the commands work with. `checkouts`: the installed responders, by their name in the table."""

    directory: Path
    dsn: str
    s3: str
    checkouts: dict[str, Path]


def run(quick: bool, beside: Path | None) -> list[Table]:
    program("pg_dump")
    return [asyncio.run(_run(quick, beside))]


async def _run(quick: bool, beside: Path | None) -> Table:
    scale, rounds = (_QUICK_SCALE, _QUICK_ROUNDS) if quick else (_SCALE, _ROUNDS)
    checkouts = {"responder": Path(sys.executable).parent}
    if beside:
        checkouts["responder before"] = beside.absolute() / ".venv" / "bin"
    with tempfile.TemporaryDirectory(prefix="bench-snapshot-") as name:
        directory = Path(name)
        async with parts.postgres(directory) as server, _s3(directory) as url:
            dsn = await server.database("shop")
            pgbench = "/usr/lib/postgresql/15/bin/pgbench"
            await _call("pgbench" if Path("/usr/bin/pgbench").exists() else pgbench, "-iq", "-s", str(scale), dsn)
            command = ["psql", "-XAtc", "SELECT pg_database_size('shop')", dsn]
            size = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            table = await asyncio.to_thread(_table, Contest(directory, dsn, url, checkouts), size, rounds)
    if not quick:  # the start takes most of the time of a small snapshot
        for where in ("a directory", "S3"):
            figures = table.figures[f"responder to {where}"]
            table.aims.append(aim(f"snapshot to {where}, time", figures["ratio"]))
            table.aims.append(aim(f"snapshot to {where}, memory", figures["memory_ratio"]))
    return table


def _table(contest: Contest, size: int, rounds: int) -> Table:
    mib = size / 2**20
    title = f"snapshot: a pgbench database of {mib / 1024:.2f} GiB, {_JOBS} jobs, compression {_COMPRESS}"
    table = Table(
        f"{title}, medians of {rounds} rounds",
        ["", "seconds", "MiB/s", "CPU seconds", "peak MiB", "time, ratio", "memory, ratio"],
    )
    # The first measurement would include the cold cache, and the first start the compilation of the modules.
    _watched(["pg_dump", "-Fc", "-Z0", "--no-sync", "-f", "/dev/null", contest.dsn])
    costs: dict[str, list[Cost]] = {}
    for _ in range(rounds):
        for name, cost in _round(contest):
            costs.setdefault(name, []).append(cost)
    base = Cost(1.0, 1.0, 1.0)
    for name, each in costs.items():
        cost = Cost(*(statistics.median(values) for values in zip(*each, strict=True)))
        if name in (_DIRECTORY, _UPLOAD):
            base = cost
        ratio, memory = cost.seconds / base.seconds, cost.peak / base.peak
        figures = (f"{cost.seconds:.1f}", f"{mib / cost.seconds:.0f}", f"{cost.cpu:.1f}", f"{cost.peak:.0f}")
        table.add(name, *figures, f"{ratio:.2f}", f"{memory:.2f}")
        table.figures[name] = {"rounds": [c._asdict() for c in each], "ratio": ratio, "memory_ratio": memory}
    table.notes.append(
        "Ratios are to the first line of each half. pgbench has one large table, so one stream has it all."
    )
    return table


def _round(contest: Contest) -> Iterator[tuple[str, Cost]]:
    """The cost of each command, one after the other."""
    plain = contest.directory / "plain"
    shutil.rmtree(plain, ignore_errors=True)
    dump = ["pg_dump", "-Fd", f"-j{_JOBS}", f"-Z{_COMPRESS}", "-f", str(plain), contest.dsn]
    yield _DIRECTORY, _watched(dump)
    yield from _ours(contest, "")
    _empty_bucket(contest.s3)
    yield _UPLOAD, _watched([sys.executable, "-c", _AWS, contest.dsn, contest.s3, _BUCKET, str(_COMPRESS)])
    yield from _ours(contest, contest.s3)


def _ours(contest: Contest, url: str) -> Iterator[tuple[str, Cost]]:
    """The whole command, from its start, verified as by default."""
    file, kept = contest.directory / "responder.yml", contest.directory / "kept"
    for encrypt in (False, True):
        for name, programs in contest.checkouts.items():
            shutil.rmtree(kept, ignore_errors=True)
            kept.mkdir(mode=0o700)
            if url:
                _empty_bucket(url)
            file.write_text(json.dumps(_configuration(contest, url, encrypt=encrypt)))
            argv = [str(programs / "responder"), "snapshots", "take", "shop", "--config", str(file)]
            cost = _watched(argv)
            yield f"{name} to {'S3' if url else 'a directory'}{', encrypted' if encrypt else ''}", cost


def _configuration(contest: Contest, url: str, *, encrypt: bool) -> dict[str, Any]:
    key = contest.directory / "key"
    key.write_text("ab" * 32)
    key.chmod(0o600)
    store: dict[str, Any] = {"s3": {"bucket": _BUCKET}} if url else {"directory": str(contest.directory / "kept")}
    if encrypt:
        store["encrypt"] = {"key_file": str(key)}
    aws = {"endpoint_url": url, "access_key_id": "a", "secret_access_key": "b"}
    return {
        "state": f"sqlite://{contest.directory}/state.db",
        "prometheus": {"url": "http://127.0.0.1:9090"},  # not asked
        "alertmanager": {"urls": ["http://127.0.0.1:9093"]},
        "databases": [{"name": "shop", "url": contest.dsn}],
        "snapshots": [{"name": "kept", **store}],
        **({"aws": aws} if url else {}),
    }


_AWS = """
import subprocess, sys, boto3
dsn, url, bucket, level = sys.argv[1:]
s3 = boto3.client("s3", endpoint_url=url, aws_access_key_id="a", aws_secret_access_key="b", region_name="us-east-1")
dump = subprocess.Popen(["pg_dump", "-Fc", "-Z" + level, dsn], stdout=subprocess.PIPE)
s3.upload_fileobj(dump.stdout, bucket, "plain.dump")
sys.exit(dump.wait())
"""


def _watched(argv: list[str]) -> Cost:
    """Runs a command to its end. Raises Unready if it fails."""
    began = time.monotonic()
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, env={**os.environ, **INSTALLED})
    tree, peak, over = psutil.Process(process.pid), 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not over.wait(0.05):
            now = 0
            with contextlib.suppress(psutil.NoSuchProcess):
                for child in (tree, *tree.children(recursive=True)):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        now += child.memory_info().rss
            peak = max(peak, now)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.monotonic() - began
    finally:
        over.set()
        watching.join()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise Unready(f"{' '.join(argv)} exited with {process.returncode}")
    return Cost(seconds, used.ru_utime + used.ru_stime, peak / 2**20)


@contextlib.asynccontextmanager
async def _s3(directory: Path) -> AsyncIterator[str]:
    url = f"http://127.0.0.1:{(port := parts.free_port())}"
    argv = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = await parts.Process.start(argv, log=directory / "s3.log", ready=f"{url}/moto-api/data.json", within=120.0)
    try:
        yield url
    finally:
        await server.kill()


def _empty_bucket(url: str) -> None:
    for request in (Request(f"{url}/moto-api/reset", method="POST"), Request(f"{url}/{_BUCKET}", method="PUT")):
        with urlopen(request):
            pass


async def _call(*argv: str) -> None:
    process = await asyncio.create_subprocess_exec(*argv, stderr=asyncio.subprocess.DEVNULL)
    if await process.wait():
        raise Unready(f"{argv[0]} failed")


if __name__ == "__main__":
    main(run)

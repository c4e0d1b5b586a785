"""A site of many objects back to its good release, beside `aws s3 sync` on the same server (moto).

Both copy from bucket to bucket and delete nothing. Ours also compares the release with its manifest beforehand, copies
pages after all that they name, looks whether all of it arrived, and asks the edge for the version. `sync` goes by size
and time: a page of the same size that the bad release wrote later it leaves as it is, so the pages here differ in size.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from benchmarks.report import Table, main
from responder.transport.aws import Aws, AwsSettings
from tests.parts import Process, free_port
from tests.responder.harness import Rollback
from tests.responder.outside import serving

_OBJECTS = 10_000
_PAGES = 10
_AT_ONCE = 32
_BUCKET = "bench"
_KEYS = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench", "AWS_DEFAULT_REGION": "us-east-1"}


def run(quick: bool, beside: Path | None) -> list[Table]:
    objects = 500 if quick else _OBJECTS
    with tempfile.TemporaryDirectory(prefix="bench-frontend-") as directory:
        return [asyncio.run(_measured(Path(directory), objects))]


async def _measured(directory: Path, objects: int) -> Table:
    aws_cli = _cli(directory)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    argv = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = await Process.start(argv, log=directory / "moto.log", ready=f"{url}/moto-api/data.json")
    title = f"frontend: {objects:,} objects in S3 (moto), {_AT_ONCE} requests at once, back to the good release"
    table = Table(title, ["", "aws s3 sync s", "responder s", "ratio"])
    try:
        good = _release("1", objects)
        await _put(url, {f"releases/1/{path}": body for path, body in good.items()})
        for name in ("none of them is live", f"all but {_PAGES} pages are live still"):
            # The bad release's pages. As nothing is deleted, in the second round all else is there from the first.
            bad = {path: body for path, body in _release("2", _PAGES).items() if path != "manifest.json"}
            await _put(url, {f"{live}/{path}": body for live in ("theirs", "ours") for path, body in bad.items()})
            theirs, ours = await _theirs(aws_cli, directory, url), await _ours(url)
            for live in ("theirs", "ours"):
                await _is_good(url, live, good)
            table.add(name, f"{theirs:.1f}", f"{ours:.1f}", f"{ours / theirs:.2f}")
            table.figures[name] = {"sync": theirs, "responder": ours, "ratio": ours / theirs}
    finally:
        await server.terminate()
    table.notes.append(f"awscli {_version(aws_cli)}; sync leaves a page of the same size that was written later")
    return table


def _cli(directory: Path) -> Path:
    """In an environment of its own: it pins another botocore than ours."""
    venv.create(directory / "awscli", with_pip=True)
    python = directory / "awscli" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "awscli"], check=True)
    return directory / "awscli" / "bin" / "aws"


def _version(aws_cli: Path) -> str:
    output = subprocess.run([aws_cli, "--version"], check=True, capture_output=True, text=True).stdout
    return output.partition("/")[2].partition(" ")[0]


def _release(version: str, objects: int) -> dict[str, bytes]:
    files = {f"assets/{version}.{n:05}.js": f"// {version} {n}".encode() for n in range(objects - _PAGES)}
    pages = {f"page-{n}.html": f"<p>{version}{'!' * int(version)}".encode() for n in range(_PAGES - 1)}
    files |= {**pages, "version.json": json.dumps({"version": version, "was": "-" * int(version)}).encode()}
    manifest = {path: {"size": len(body), "sha256": hashlib.sha256(body).hexdigest()} for path, body in files.items()}
    return {**files, "manifest.json": json.dumps({"files": manifest}).encode()}


async def _put(url: str, objects: dict[str, bytes]) -> None:
    async with aiohttp.ClientSession() as session:
        (await session.put(f"{url}/{_BUCKET}", headers=_signed())).release()
        left = iter(objects.items())

        async def put() -> None:
            for key, body in left:
                async with session.put(f"{url}/{_BUCKET}/{key}", data=body, headers=_signed()) as answer:
                    answer.raise_for_status()

        await asyncio.gather(*(put() for _ in range(8)))


def _signed() -> dict[str, str]:
    """moto wants to know the service, and does not check the signature."""
    return {"Authorization": "AWS4-HMAC-SHA256 Credential=bench/20261126/us-east-1/s3/aws4_request, Signature=0"}


async def _theirs(aws_cli: Path, directory: Path, url: str) -> float:
    config = directory / "config"
    config.write_text(f"[default]\ns3 =\n  max_concurrent_requests = {_AT_ONCE}\n")
    argv = [str(aws_cli), "s3", "sync", f"s3://{_BUCKET}/releases/1", f"s3://{_BUCKET}/theirs", "--endpoint-url", url]
    env = {**os.environ, **_KEYS, "AWS_CONFIG_FILE": str(config)}
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        *argv, "--only-show-errors", "--exclude", "manifest.json", env=env, stdout=asyncio.subprocess.DEVNULL
    )
    if await process.wait():
        raise AssertionError(f"aws s3 sync exited with {process.returncode}")
    return time.monotonic() - began


async def _ours(url: str) -> float:
    settings = {"endpoint_url": url, "access_key_id": "bench", "secret_access_key": "bench", "connections": _AT_ONCE}
    aws = Aws(AwsSettings.model_validate(settings))
    copy = {"live": f"s3://{_BUCKET}/ours", "releases": {"s3": f"s3://{_BUCKET}/releases"}}

    async def version(request: web.Request) -> web.Response:
        found = await aws.content(_BUCKET, "ours/version.json")
        return web.Response(body=found[0] if found else b"")

    try:
        async with serving(version=version) as edge_url:
            edge: dict[str, Any] = {"version": [f"{edge_url}/version"], "hold_for": 0.0}
            strategy = {"strategy": "frontend", "web": {"copy": copy, "edge": edge}}
            rollback = Rollback(strategy, {Aws: aws}, health_checks=[{"http": f"{edge_url}/version"}])
            began = time.monotonic()
            ended = await rollback.run()
            took = time.monotonic() - began
    finally:
        await aws.close()
    if ended.outcome != "succeeded":
        raise AssertionError(ended.reason)
    return took


async def _is_good(url: str, live: str, good: dict[str, bytes]) -> None:
    async with aiohttp.ClientSession() as session:
        for path in [*list(good)[:3], *(path for path in good if path.endswith((".html", "version.json")))]:
            async with session.get(f"{url}/{_BUCKET}/{live}/{path}", headers=_signed()) as answer:
                if await answer.read() != good[path]:
                    raise AssertionError(f"{live}/{path} is not that of the good release")


if __name__ == "__main__":
    main(run)

"""`responder evidence`: what was kept of a rollback, and its files, each compared with its hash."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

from responder.cli.client import Client, place_of
from responder.cli.commands import NO, OK
from responder.cli.display import show
from responder.config.private_files import make_directory, open_file
from responder.errors import ResponderError
from responder.evidence.manifest import is_plain


async def evidence(args: argparse.Namespace, client: Client) -> int:
    path = f"{place_of(args.id)}/evidence"
    body = await client.get(path)
    fetched = await _fetch(client, path, body, args.fetch) if args.fetch else []
    if args.output == "json":
        print(json.dumps({**body, "fetched": fetched} if args.fetch else body, indent=2))
    else:
        show.console().print(show.evidence(body), markup=False)
        if args.fetch:
            show.console().print(f"{len(fetched)} files are in {args.fetch}, each with the hash of the manifest")
    return OK if body["state"] == "kept" else NO


async def _fetch(client: Client, path: str, body: dict[str, Any], into: Path) -> list[str]:
    if body["state"] != "kept":
        return []
    fetched = []
    try:
        await asyncio.to_thread(make_directory, into)
        for file in body["manifest"]["files"]:
            name = str(file["name"])
            if not is_plain(name):
                raise ResponderError(f"{name!r} is no name that a file of evidence has")
            data = await client.download(f"{path}/{quote(name)}")
            if hashlib.sha256(data).hexdigest() != file["sha256"]:
                raise ResponderError(f"{name} is not what was kept: its hash is another than in the manifest")
            await asyncio.to_thread(_write, into / name, data)
            fetched.append(name)
        manifest = json.dumps(body["manifest"], indent=1).encode()
        await asyncio.to_thread(_write, into / "manifest.json", manifest)
    except OSError as e:
        raise ResponderError(f"{e.filename or into} cannot be written: {e.strerror}") from None
    return fetched


def _write(file: Path, data: bytes) -> None:
    # Not through a link, as somebody may have laid into a directory for all, and for nobody else to read.
    with os.fdopen(open_file(file, os.O_WRONLY | os.O_TRUNC), "wb") as f:
        f.write(data)

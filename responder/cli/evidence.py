"""`evidence`: shows the evidence of a rollback and downloads its files; each must match its checksum."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

from responder.cli.client import ResponderClient, execution_path
from responder.cli.command import NO, OK, Commands
from responder.cli.display import evidence as display
from responder.cli.display.terminal import console
from responder.config.private_files import is_plain, make_directory, open_file
from responder.errors import ResponderError


def add_to(commands: Commands) -> None:
    """Declares the command."""
    parser = commands.add(
        "evidence",
        "evidence 20261123-231500-4f2a9c1b --fetch /tmp/evidence",
        evidence,
    )
    parser.add_argument("id")
    parser.add_argument("--fetch", type=Path, metavar="DIR", help="download the files and verify their checksums")


async def evidence(args: argparse.Namespace, client: ResponderClient) -> int:
    path = f"{execution_path(args.id)}/evidence"
    body = await client.get(path)
    fetched = await _fetch(client, path, body, args.fetch) if args.fetch else []
    if args.output == "json":
        print(json.dumps({**body, "fetched": fetched} if args.fetch else body, indent=2))
    else:
        console().print(display.evidence(body), markup=False)
        if args.fetch:
            console().print(f"{len(fetched)} files in {args.fetch}, all checksums match")
    return OK if body["state"] == "kept" else NO


async def _fetch(client: ResponderClient, path: str, body: dict[str, Any], into: Path) -> list[str]:
    if body["state"] != "kept":
        return []
    fetched = []
    try:
        await asyncio.to_thread(make_directory, into)
        for file in body["manifest"]["files"]:
            name = str(file["name"])
            if not is_plain(name):
                raise ResponderError(f"{name!r} is not a valid name of an evidence file")
            data = await client.download(f"{path}/{quote(name)}")
            if hashlib.sha256(data).hexdigest() != file["sha256"]:
                raise ResponderError(f"{name} does not match its checksum in the manifest")
            await asyncio.to_thread(_write, into / name, data)
            fetched.append(name)
        manifest = json.dumps(body["manifest"], indent=1).encode()
        await asyncio.to_thread(_write, into / "manifest.json", manifest)
    except OSError as e:
        raise ResponderError(f"{e.filename or into} cannot be written: {e.strerror}") from None
    return fetched


def _write(file: Path, data: bytes) -> None:
    # Private, and not through a link: in a shared directory another user may have created one.
    with os.fdopen(open_file(file, os.O_WRONLY | os.O_TRUNC), "wb") as f:
        f.write(data)

"""`evidence`: shows the evidence of a rollback and downloads its files; each must match its checksum."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from foundation.commands.command import Args
from foundation.commands.failure import NO, OK
from responder.cli.client import ResponderClient, execution_path
from responder.cli.command import FILE, CommandError, remote
from responder.cli.display import evidence as display
from responder.cli.display.terminal import console
from responder.cli.ids import ANY_ID, OPEN, find_id
from responder.config.private_files import is_plain, make_directory, open_file
from responder.config.text import counted


@remote("evidence 20261123-231500-4f2a9c1b --fetch /tmp/evidence")
@click.argument(
    "id",
    type=ANY_ID,
    required=False,
    help="ID of the rollback or its beginning, or of a decision; default: the only open rollback",
)
@click.option("--fetch", type=FILE, metavar="DIR", help="download the files and verify their checksums")
async def evidence(args: Args, client: ResponderClient) -> int:
    execution_id = await find_id(client, args.id, OPEN)
    path = f"{execution_path(execution_id)}/evidence"
    body = await client.get(path)
    fetched = await _fetch(client, path, body, args.fetch) if args.fetch else []
    if args.output == "json":
        print(json.dumps({**body, "fetched": fetched} if args.fetch else body, indent=2))
    else:
        console().print(display.evidence(body), markup=False)
        if args.fetch:
            console().print(f"{counted(len(fetched), 'file')} in {args.fetch}, all checksums match")
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
                raise CommandError("not a valid name of an evidence file", where=repr(name))
            data = await client.download(f"{path}/{quote(name)}")
            if hashlib.sha256(data).hexdigest() != file["sha256"]:
                raise CommandError("does not match its checksum in the manifest", where=name)
            await asyncio.to_thread(_write, into / name, data)
            fetched.append(name)
        manifest = json.dumps(body["manifest"], indent=1).encode()
        await asyncio.to_thread(_write, into / "manifest.json", manifest)
    except OSError as e:
        raise CommandError(f"cannot be written: {e.strerror}", where=str(e.filename or into)) from None
    return fetched


def _write(file: Path, data: bytes) -> None:
    # Private, and not through a link: in a shared directory another user may have created one.
    with os.fdopen(open_file(file, os.O_WRONLY | os.O_TRUNC), "wb") as f:
        f.write(data)

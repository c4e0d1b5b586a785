"""`responder schema` and `responder preserved`: what a database is, and what rollbacks of it have kept."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from foundation import interrupt
from responder.cli.command import NO, OK
from responder.cli.display.terminal import console

if TYPE_CHECKING:
    from responder.backends.postgres.schemas import Schemas

    Act = Callable[[argparse.Namespace, Schemas], Awaitable[int]]


def add_to(known: Any, common: argparse.ArgumentParser) -> None:
    """The two commands. They work from the configuration file alone."""

    def add(among: Any, name: str, what: str, example: str, act: Act) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = among.add_parser(
            name,
            help=what,
            description=what[0].upper() + what[1:] + ".",
            epilog=f"example: responder {example}",
            parents=[common],
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.set_defaults(act=lambda args: interrupt.run(_run(args, act)))
        parser.add_argument("database", help="one of `databases`")
        return parser

    add(
        known,
        "schema",
        "what a database's schema is, to tell with a deployment",
        'deployed database 0046 --artifact "$(responder schema shop)"',
        _schema,
    )
    made = known.add_parser(
        "preserved", help="what rollbacks have kept: list, restore", description="What rollbacks of a database kept."
    )
    made.epilog = "example: responder preserved list shop"
    inner = made.add_subparsers(metavar="COMMAND", required=True)
    add(inner, "list", "what is kept, and by which rollback", "preserved list shop", _list)
    parser = add(
        inner,
        "restore",
        "bring back what a rollback has kept, all of it or nothing",
        "preserved restore shop 20261123-231500-4f2a9c1b --dry-run",
        _restore,
    )
    parser.add_argument("id", help="the rollback")
    parser.add_argument("--overwrite", action="store_true", help="also values that are not NULL any more")
    parser.add_argument("--dry-run", action="store_true", help="do it, count the rows, and take it back")


async def _run(args: argparse.Namespace, act: Act) -> int:
    from responder.app.loading import load
    from responder.backends.postgres.schemas import Schemas  # takes time that no other command should

    config = await asyncio.to_thread(load, args.config)
    connections = config.connections()
    try:
        return await act(args, await connections.to(Schemas))
    finally:
        await connections.close()


async def _schema(args: argparse.Namespace, schemas: Schemas) -> int:
    from responder.backends.postgres.checks import fingerprint

    found = f"schema:{await fingerprint(schemas, args.database)}"
    print(json.dumps({"schema": found}) if args.output == "json" else found)
    return OK


async def _list(args: argparse.Namespace, schemas: Schemas) -> int:
    kept = await schemas.kept(args.database)
    if args.output == "json":
        print(json.dumps(kept, default=str, indent=2))
        return OK
    out = console()
    for entry in kept:
        columns = f" ({', '.join(entry['columns'])})" if entry["columns"] else ""
        where = f" in rollback_keep.{entry['keep']}" if entry["keep"] else ""
        what = f"{entry['what']} of {entry['source']}{columns}{where}"
        line = f"{entry['at']:%Y-%m-%d %H:%M} UTC {entry['execution']}: {what}"
        out.print(line, markup=False, soft_wrap=True)
    if not kept:
        out.print("nothing is kept")
    return OK


async def _restore(args: argparse.Namespace, schemas: Schemas) -> int:
    done = await schemas.bring_back(args.database, args.id, overwrite=args.overwrite, dry_run=args.dry_run)
    if args.output == "json":
        print(json.dumps(done, default=str, indent=2))
        return OK if done else NO
    out = console()
    for entry in done:
        rows = f"{entry['rows']} rows" if entry["rows"] is not None else "nothing that can be put back by itself"
        by_hand = f": {entry['back']}" if entry["what"] == "view" else ""
        out.print(f"{entry['what']} of {entry['source']}: {rows}{by_hand}", markup=False, soft_wrap=True)
    if not args.overwrite and any(entry["what"] == "columns" and entry["rows"] == 0 for entry in done):
        out.print("values that are not NULL stay as they are, without --overwrite")
    out.print("nothing was changed" if args.dry_run else "brought back" if done else f"{args.id} has kept nothing")
    return OK if done else NO

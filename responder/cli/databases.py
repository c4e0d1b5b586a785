"""`responder schema` and `responder preserved`: the fingerprint of a schema, and data that rollbacks preserved."""

from __future__ import annotations

import argparse
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from foundation import interrupt
from responder.cli.command import NO, OK, Commands, with_client
from responder.cli.display.terminal import console

if TYPE_CHECKING:
    from responder.backends.postgres.schemas import Schemas

    Act = Callable[[argparse.Namespace, Schemas], Awaitable[int]]


def add_to(commands: Commands) -> None:
    """Declares the two commands. They need the configuration file, but no running responder."""
    example = 'deployed database 0046 --artifact "$(responder schema shop)"'
    _takes_a_database(commands.add("schema", example, _with_schemas(_schema), local=True))
    group = commands.group("preserved", "Data that rollbacks of a database preserved.", "preserved list shop")
    _takes_a_database(group.add("list", "list preserved data by rollback", "list shop", _with_schemas(_list)))
    parser = group.add(
        "restore",
        "restore all data that a rollback preserved, in one transaction",
        "restore shop 20261123-231500-4f2a9c1b --dry-run",
        _with_schemas(_restore),
    )
    _takes_a_database(parser)
    parser.add_argument("id", help="ID of the rollback")
    parser.add_argument("--overwrite", action="store_true", help="also replace values that are not NULL")
    parser.add_argument("--dry-run", action="store_true", help="restore, count the rows, and undo it")


def _takes_a_database(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("database", help="one of `databases`")


def _with_schemas(act: Act) -> Callable[[argparse.Namespace], int]:
    return lambda args: interrupt.run(_run(args, act))


async def _run(args: argparse.Namespace, act: Act) -> int:
    from responder.backends.postgres.schemas import Schemas  # slow to import

    return await with_client(args, Schemas, lambda schemas: act(args, schemas))


async def _schema(args: argparse.Namespace, schemas: Schemas) -> int:
    from responder.backends.postgres.checks import fingerprint

    schema = f"schema:{await fingerprint(schemas, args.database)}"
    print(json.dumps({"schema": schema}) if args.output == "json" else schema)
    return OK


async def _list(args: argparse.Namespace, schemas: Schemas) -> int:
    records = await schemas.preserved_data(args.database)
    if args.output == "json":
        print(json.dumps(records, default=str, indent=2))
        return OK
    out = console()
    for record in records:
        columns = f" ({', '.join(record['columns'])})" if record["columns"] else ""
        table = f" in rollback_keep.{record['copy']}" if record["copy"] else ""
        description = f"{record['kind']} of {record['source']}{columns}{table}"
        line = f"{record['at']:%Y-%m-%d %H:%M} UTC {record['execution']}: {description}"
        out.print(line, markup=False, soft_wrap=True)
    if not records:
        out.print("no preserved data")
    return OK


async def _restore(args: argparse.Namespace, schemas: Schemas) -> int:
    restored = await schemas.restore_preserved(args.database, args.id, overwrite=args.overwrite, dry_run=args.dry_run)
    if args.output == "json":
        print(json.dumps(restored, default=str, indent=2))
        return OK if restored else NO
    out = console()
    for record in restored:
        rows = f"{record['rows']} rows" if record["rows"] is not None else "cannot be restored automatically"
        statement = f": {record['restore_sql']}" if record["kind"] == "view" else ""
        out.print(f"{record['kind']} of {record['source']}: {rows}{statement}", markup=False, soft_wrap=True)
    if not args.overwrite and any(record["kind"] == "columns" and record["rows"] == 0 for record in restored):
        out.print("values that are not NULL were left unchanged; pass --overwrite to replace them")
    outcome = "dry run: nothing was changed" if args.dry_run else "restored"
    out.print(outcome if restored else f"rollback {args.id} preserved no data")
    return OK if restored else NO

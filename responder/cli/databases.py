"""`responder schema` and `responder preserved`: the fingerprint of a schema, and data that rollbacks preserved."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from foundation.commands.command import Args
from foundation.commands.failure import NO, OK
from responder.cli.command import connected
from responder.cli.display.terminal import console
from responder.cli.ids import DATABASE, begins

if TYPE_CHECKING:
    from responder.backends.postgres.schemas import Schemas

_database = click.argument("database", type=DATABASE, help="one of `databases`")


def _schemas() -> type[Schemas]:
    from responder.backends.postgres.schemas import Schemas  # slow to import

    return Schemas


@connected(_schemas, 'deployed database 0046 --artifact "$(responder schema shop)"')
@_database
async def schema(args: Args, schemas: Schemas) -> int:
    from responder.backends.postgres.checks import fingerprint

    found = f"schema:{await fingerprint(schemas, args.database)}"
    print(json.dumps({"schema": found}) if args.output == "json" else found)
    return OK


preserved = click.Group("preserved")


@connected(_schemas, "preserved list shop", preserved, "list preserved data by rollback")
@_database
async def _list(args: Args, schemas: Schemas) -> int:
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


@connected(
    _schemas,
    "preserved restore shop 20261123-231500-4f2a9c1b --dry-run",
    preserved,
    "restore all data that a rollback preserved, in one transaction",
)
@_database
@click.argument("id", help="ID of the rollback or its beginning")
@click.option("--overwrite", is_flag=True, help="also replace values that are not NULL")
@click.option("--dry-run", is_flag=True, help="restore, count the rows, and undo it")
async def _restore(args: Args, schemas: Schemas) -> int:
    known = {record["execution"]: "" for record in await schemas.preserved_data(args.database)}
    execution = begins(args.id, known)
    restored = await schemas.restore_preserved(args.database, execution, overwrite=args.overwrite, dry_run=args.dry_run)
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
    out.print(outcome if restored else f"rollback {execution} preserved no data")
    return OK if restored else NO

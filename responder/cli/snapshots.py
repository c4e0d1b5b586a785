"""`responder snapshots`: needs the configuration file, but no running responder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from foundation.commands.command import Args, Many, OneOf
from responder.cli.command import connected
from responder.cli.ids import DATABASE, STORE

if TYPE_CHECKING:
    from responder.backends.postgres.snapshots.client import Snapshots

snapshots = click.Group("snapshots")

_KEY = click.Argument(["key"], help="key of the snapshot, from `list`, or its beginning")
_JOBS = click.Option(["--jobs"], type=click.IntRange(1), default=2, show_default=True, help="concurrent streams")
_TABLES = Many(
    ["--tables"], metavar="TABLE...", help="only the rows of these tables (default: all), such as public.orders"
)


def _client() -> type[Snapshots]:
    from responder.backends.postgres.snapshots.client import Snapshots  # slow to import

    return Snapshots


def _add(name: str, summary: str, example: str, function: str, *options: click.Parameter) -> None:
    """Adds the command that `function` of snapshot_commands implements."""

    async def run(args: Args, client: Snapshots) -> int:
        from responder.cli import snapshot_commands  # slow to import

        return int(await getattr(snapshot_commands, function)(args, client))

    run.__name__ = name
    store = click.Option(["--store"], type=STORE, help="name of one of `snapshots` (default: all)")
    vars(run)["__click_params__"] = [store, *reversed(options)]  # as the decorators of Click do
    connected(_client, f"snapshots {example}", snapshots, summary)(run)


_add(
    "list",
    "list snapshots; exit 1 if one cannot be read",
    "list --database shop",
    "list_stored",
    click.Option(["--database"], type=DATABASE, help="only snapshots of this database"),
)
_add(
    "verify",
    "read every archive of a snapshot; exit 1 if it is damaged",
    "verify shop/ID",
    "verify",
    _KEY,
    click.Option(
        ["--restore"],
        metavar="DATABASE",
        help="also restore it into a scratch database on the server of DATABASE, and compare the tables",
    ),
    _JOBS,
)
_add(
    "restore",
    "restore a snapshot into an empty or new database, or some columns into the live table",
    "restore shop/ID --into shop/shop_restored",
    "restore",
    _KEY,
    click.Option(
        ["--into"],
        required=True,
        metavar="DATABASE[/NAME]",
        help="one of `databases`, or another database on its server",
    ),
    _TABLES,
    click.Option(
        ["--columns"],
        metavar="TABLE:COLUMN,…",
        help="only these columns where they are NULL, by primary key, in the live table",
    ),
    click.Option(["--overwrite"], is_flag=True, help="with --columns: also replace different values"),
    click.Option(["--replace"], is_flag=True, help="drop the database first; refused for the source of the snapshot"),
    click.Option(["--no-owner"], is_flag=True, help="skip owners and privileges: the restoring role owns everything"),
    click.Option(["--dry-run"], is_flag=True, help="print what would be done"),
    _JOBS,
)
_add(
    "prune",
    "remove expired snapshots, never the newest ones",
    "prune --dry-run",
    "prune",
    click.Option(["--dry-run"], is_flag=True, help="print what would be removed"),
)
_add(
    "take",
    "take a snapshot now",
    "take shop --store vault --verify restore",
    "take",
    click.Argument(["database"], type=DATABASE, help="one of `databases`"),
    _TABLES,
    click.Option(
        ["--verify"], type=OneOf(("read", "restore")), default="read", show_default=True, help="how to verify it"
    ),
    click.Option(
        ["--scratch"],
        metavar="DATABASE",
        help="database on whose server it is restored for the comparison (default: its own)",
    ),
    _JOBS,
)

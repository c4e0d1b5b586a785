"""`responder snapshots`: needs the configuration file, but no running responder."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from foundation import interrupt
from responder.cli.command import Commands, with_client

if TYPE_CHECKING:
    from responder.backends.postgres.snapshots.client import Snapshots

    Act = Callable[[argparse.Namespace, Snapshots], Awaitable[int]]


def add_to(commands: Commands) -> None:
    """Declares the command and its subcommands."""
    group = commands.group("snapshots", "Snapshots of databases.", "snapshots list")

    def add(name: str, summary: str, example: str, choose: Callable[[Any], Act]) -> argparse.ArgumentParser:
        parser = group.add(name, summary, example, lambda args: interrupt.run(_run(args, choose)))
        parser.add_argument("--store", help="name of one of `snapshots` (default: all)")
        return parser

    parser = add(
        "list",
        "list snapshots; exit 1 if one cannot be read",
        "list --database shop",
        lambda commands: commands.list_stored,
    )
    parser.add_argument("--database", help="only snapshots of this database")
    parser = add(
        "verify",
        "read every archive of a snapshot; exit 1 if it is damaged",
        "verify shop/ID",
        lambda commands: commands.verify,
    )
    parser.add_argument("key", help="key of the snapshot, from `list`")
    parser.add_argument(
        "--restore",
        metavar="DATABASE",
        help="also restore it into a scratch database on the server of DATABASE, and compare the tables",
    )
    parser.add_argument("--jobs", type=int, default=2, help="concurrent streams")
    parser = add(
        "restore",
        "restore a snapshot into an empty or new database, or some columns into the live table",
        "restore shop/ID --into shop/shop_restored",
        lambda commands: commands.restore,
    )
    parser.add_argument("key", help="key of the snapshot, from `list`")
    parser.add_argument(
        "--into", required=True, metavar="DATABASE[/NAME]", help="one of `databases`, or another database on its server"
    )
    parser.add_argument(
        "--tables", nargs="+", default=[], metavar="TABLE", help="only the rows of these tables, such as public.orders"
    )
    parser.add_argument(
        "--columns",
        metavar="TABLE:COLUMN,…",
        help="only these columns where they are NULL, by primary key, in the live table",
    )
    parser.add_argument("--overwrite", action="store_true", help="with --columns: also replace different values")
    parser.add_argument(
        "--replace", action="store_true", help="drop the database first; refused for the source of the snapshot"
    )
    parser.add_argument(
        "--no-owner", action="store_true", help="skip owners and privileges: the restoring role owns everything"
    )
    parser.add_argument("--dry-run", action="store_true", help="print what would be done")
    parser.add_argument("--jobs", type=int, default=2, help="concurrent streams")
    parser = add(
        "prune", "remove expired snapshots, never the newest ones", "prune --dry-run", lambda commands: commands.prune
    )
    parser.add_argument("--dry-run", action="store_true", help="print what would be removed")
    parser = add(
        "take", "take a snapshot now", "take shop --store vault --verify restore", lambda commands: commands.take
    )
    parser.add_argument("database", help="one of `databases`")
    parser.add_argument(
        "--tables", nargs="+", default=[], metavar="TABLE", help="only the rows of these tables (default: all)"
    )
    parser.add_argument("--verify", choices=("read", "restore"), default="read", help="how to verify it")
    parser.add_argument(
        "--scratch",
        metavar="DATABASE",
        help="database on whose server it is restored for the comparison (default: its own)",
    )
    parser.add_argument("--jobs", type=int, default=2, help="concurrent streams")


async def _run(args: argparse.Namespace, choose: Callable[[Any], Act]) -> int:
    from responder.backends.postgres.snapshots.client import Snapshots
    from responder.cli import snapshot_commands  # slow to import

    return await with_client(args, Snapshots, lambda snapshots: choose(snapshot_commands)(args, snapshots))

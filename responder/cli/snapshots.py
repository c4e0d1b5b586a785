"""`responder snapshots`: works from the configuration file alone, because disasters do not spare the responder."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from foundation import interrupt

if TYPE_CHECKING:
    from responder.backends.postgres.snapshots.client import Snapshots

    Act = Callable[[argparse.Namespace, Snapshots], Awaitable[int]]


def add_to(known: Any, common: argparse.ArgumentParser) -> None:
    """The command and its own commands."""
    made = known.add_parser(
        "snapshots",
        help="snapshots of databases: list, verify, restore, prune, take",
        description="Snapshots of databases.",
    )
    made.epilog = "example: responder snapshots list"
    inner = made.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, what: str, example: str, choose: Callable[[Any], Act]) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = inner.add_parser(
            name,
            help=what,
            description=what[0].upper() + what[1:] + ".",
            epilog=f"example: responder snapshots {example}",
            parents=[common],
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.set_defaults(act=lambda args: interrupt.run(_run(args, choose)))
        parser.add_argument("--store", help="name of one of `snapshots` (all of them)")
        return parser

    parser = add(
        "list",
        "what is kept; exit 1 where something cannot be read",
        "list --database shop",
        lambda commands: commands.list_kept,
    )
    parser.add_argument("--database", help="only of this one")
    parser = add(
        "verify",
        "read a snapshot to its last byte; exit 1 where it is not whole",
        "verify shop/ID",
        lambda commands: commands.verify,
    )
    parser.add_argument("key", help="as `list` shows it")
    parser.add_argument(
        "--restore", metavar="DATABASE", help="also restore it on that one's server, compare, and drop it"
    )
    parser.add_argument("--jobs", type=int, default=2, help="streams at once")
    parser = add(
        "restore",
        "bring a snapshot back: into an empty or new database, or some columns into the table that lives",
        "restore shop/ID --into shop/shop_restored",
        lambda commands: commands.restore,
    )
    parser.add_argument("key", help="as `list` shows it")
    parser.add_argument(
        "--into", required=True, metavar="DATABASE[/NAME]", help="one of `databases`, or another name on its server"
    )
    parser.add_argument(
        "--tables", nargs="+", default=[], metavar="TABLE", help="only the rows of these, as public.orders"
    )
    parser.add_argument(
        "--columns",
        metavar="TABLE:COLUMN,…",
        help="only these, where they are NULL, by primary key, into what is there",
    )
    parser.add_argument("--overwrite", action="store_true", help="with --columns: also where another value is there")
    parser.add_argument(
        "--replace", action="store_true", help="drop the database first; never the one it was taken from"
    )
    parser.add_argument("--no-owner", action="store_true", help="all belongs to whom we are, without rights for others")
    parser.add_argument("--dry-run", action="store_true", help="tell what would be done")
    parser.add_argument("--jobs", type=int, default=2, help="streams at once")
    parser = add(
        "prune", "remove what has had its time, never the newest", "prune --dry-run", lambda commands: commands.prune
    )
    parser.add_argument("--dry-run", action="store_true", help="tell what would be removed")
    parser = add(
        "take", "take a snapshot now", "take shop --store vault --verify restore", lambda commands: commands.take
    )
    parser.add_argument("database", help="one of `databases`")
    parser.add_argument("--tables", nargs="+", default=[], metavar="TABLE", help="only the rows of these (all)")
    parser.add_argument("--verify", choices=("read", "restore"), default="read", help="how sure to be of it")
    parser.add_argument("--scratch", metavar="DATABASE", help="on whose server it is restored to be compared (its own)")
    parser.add_argument("--jobs", type=int, default=2, help="streams at once")


async def _run(args: argparse.Namespace, choose: Callable[[Any], Act]) -> int:
    from responder.app.loading import load
    from responder.backends.postgres.snapshots.client import Snapshots
    from responder.cli import snapshot_commands  # takes time that no other command should

    config = await asyncio.to_thread(load, args.config)
    connections = config.connections()
    try:
        return await choose(snapshot_commands)(args, await connections.to(Snapshots))
    finally:
        await connections.close()

"""What all commands share: how they are declared, their exit codes and their output."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from responder.cli.client import CONFIG, TLS_FILES
from responder.cli.display.terminal import clean, console

if TYPE_CHECKING:
    from responder.backends.connections import C

OK, NO, WRONG = 0, 1, 2
"""Exit codes: success; valid command with a negative result; wrong command or configuration."""


class Commands:
    """The subcommands of a program. Each has a summary and an example."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.subparsers: Any = parser.add_subparsers(metavar="COMMAND", required=True)
        self.local = argparse.ArgumentParser(add_help=False)
        self.local.add_argument(
            "--config", type=Path, default=CONFIG, help="configuration file (default: responder.yml)"
        )
        self.local.add_argument("--output", choices=("text", "json"), default="text", help="output format")
        self._remote = argparse.ArgumentParser(add_help=False, parents=[self.local])
        self._remote.add_argument(
            "--url", help="URL of the responder (default: RESPONDER_URL, else web.listen of the configuration file)"
        )
        self._remote.add_argument(
            "--token-file", type=Path, help="file with the bearer token (default: RESPONDER_TOKEN)"
        )
        for option, variable, what in TLS_FILES:
            self._remote.add_argument(f"--{option}", type=Path, help=f"{what} ({variable})")

    def add(self, name: str, summary: str, example: str, run: Any, *, local: bool = False) -> argparse.ArgumentParser:
        """Declares a command. A `local` one uses only the configuration file; the others get a client."""
        made = declare(self.subparsers, name, summary, example, self.local if local else self._remote)
        made.set_defaults(act=run)
        return made


def declare(
    subparsers: Any, name: str, summary: str, example: str, common: argparse.ArgumentParser
) -> argparse.ArgumentParser:
    """Declares a command with the options of `common`."""
    made: argparse.ArgumentParser = subparsers.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=f"example: responder {example}",
        parents=[common],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return made


async def with_client(args: argparse.Namespace, kind: type[C], act: Callable[[C], Awaitable[int]]) -> int:
    """Runs a command with a client of an outside system, connected as the configuration file says."""
    from responder.app.loading import load  # slow to import

    connections = (await asyncio.to_thread(load, args.config)).connections()
    try:
        return await act(await connections.to(kind))
    finally:
        await connections.close()


def out(args: argparse.Namespace, body: Any, shown: Any) -> None:
    """Prints the answer: as received with `--output json`, otherwise formatted for people."""
    if args.output == "json":
        print(json.dumps(body, indent=2))
    else:
        console().print(clean(shown) if isinstance(shown, str) else shown, markup=False)


def user_name() -> str:
    """The name for the record if no token names the user."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"

"""What all commands share: their names, how they are declared, and their exit codes. `--help` imports nothing else."""

from __future__ import annotations

import argparse
import getpass
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from responder.errors import ResponderError

if TYPE_CHECKING:
    from responder.backends.connections import C

OK, NO, WRONG = 0, 1, 2
"""Exit codes: success; valid command with a negative result; wrong command or configuration."""

CONFIG = Path("responder.yml")

TLS_FILES = (
    ("ca-file", "RESPONDER_CA_FILE", "trusted CA certificates"),
    ("cert-file", "RESPONDER_CERT_FILE", "client certificate"),
    ("key-file", "RESPONDER_KEY_FILE", "key of the client certificate"),
)
"""TLS options: name, environment variable, help."""

_WRONG_USE = (401, 403, 415)
"""Statuses of a wrong command: the token is missing, wrong or lacks a scope, or the address is not allowed."""


class Refused(ResponderError):
    """The responder answered with an error status. `body` is its answer."""

    def __init__(self, message: str, body: dict[str, Any], status: int) -> None:
        super().__init__(message)
        self.body, self.status = body, status

    @property
    def exit_code(self) -> int:
        return WRONG if self.status in _WRONG_USE else NO


class Commands:
    """The subcommands of a program. `summaries`: one line on each, by name."""

    def __init__(self, parser: argparse.ArgumentParser, summaries: Mapping[str, str]) -> None:
        self._summaries = summaries
        self._subparsers: Any = parser.add_subparsers(metavar="COMMAND", required=True)
        self._local = argparse.ArgumentParser(add_help=False)
        self._local.add_argument(
            "--config", type=Path, default=CONFIG, help="configuration file (default: responder.yml)"
        )
        self._local.add_argument("--output", choices=("text", "json"), default="text", help="output format")
        self._remote = argparse.ArgumentParser(add_help=False, parents=[self._local])
        self._remote.add_argument(
            "--url", help="URL of the responder (default: RESPONDER_URL, else web.listen of the configuration file)"
        )
        self._remote.add_argument(
            "--token-file", type=Path, help="file with the bearer token (default: RESPONDER_TOKEN)"
        )
        for option, variable, what in TLS_FILES:
            self._remote.add_argument(f"--{option}", type=Path, help=f"{what} ({variable})")

    def name(self, name: str) -> None:
        """Lists a command that this call of the program does not use."""
        self._subparsers.add_parser(name, help=self._summaries[name])

    def add(self, name: str, example: str, run: Any, *, local: bool = False) -> argparse.ArgumentParser:
        """Declares a command. A `local` one uses only the configuration file; the others get a client."""
        common = self._local if local else self._remote
        return _declare(self._subparsers, name, self._summaries[name], example, common, run)

    def group(self, name: str, description: str, example: str) -> Group:
        """Declares a command that has subcommands of its own."""
        made = self._subparsers.add_parser(
            name, help=self._summaries[name], description=description, epilog=f"example: responder {example}"
        )
        return Group(name, made, self._local)


class Group:
    """The subcommands of one command. They use only the configuration file."""

    def __init__(self, name: str, parser: argparse.ArgumentParser, local: argparse.ArgumentParser) -> None:
        self._name, self._local = name, local
        self._subparsers: Any = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(self, name: str, summary: str, example: str, run: Any) -> argparse.ArgumentParser:
        """Declares a subcommand."""
        return _declare(self._subparsers, name, summary, f"{self._name} {example}", self._local, run)


def _declare(
    subparsers: Any, name: str, summary: str, example: str, common: argparse.ArgumentParser, run: Any
) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = subparsers.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=f"example: responder {example}",
        parents=[common],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.set_defaults(act=run)
    return made


async def with_client(args: argparse.Namespace, kind: type[C], act: Callable[[C], Awaitable[int]]) -> int:
    """Runs a command with a client of an outside system, connected as the configuration file says."""
    import asyncio

    from responder.app.loading import load  # slow to import

    connections = (await asyncio.to_thread(load, args.config)).connections()
    try:
        return await act(await connections.to(kind))
    finally:
        await connections.close()


def user_name() -> str:
    """The name for the record if no token names the user."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"

"""What all commands share: how they are declared, their common options and their errors."""

from __future__ import annotations

import getpass
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from foundation import interrupt
from foundation.commands.command import Args, Command, OneOf, declare
from foundation.commands.failure import NO, WRONG
from responder.errors import ResponderError

if TYPE_CHECKING:
    from responder.backends.connections import C
    from responder.cli.client import ResponderClient

CONFIG = Path("responder.yml")

TLS_FILES = (
    ("ca-file", "RESPONDER_CA_FILE", "trusted CA certificates"),
    ("cert-file", "RESPONDER_CERT_FILE", "client certificate"),
    ("key-file", "RESPONDER_KEY_FILE", "key of the client certificate"),
)
"""TLS options: name, environment variable, help."""

FILE = click.Path(path_type=Path)


def _output(*formats: str) -> click.Option:
    return click.Option(["--output"], type=OneOf(formats), default="text", help="output format", show_default=True)


_CONFIG = click.Option(
    ["--config"], type=FILE, default=CONFIG, metavar="FILE", help="configuration file", show_default=True
)
_LOCAL = (_CONFIG, _output("text", "json"))
_REMOTE = (
    *_LOCAL,
    click.Option(
        ["--url"], help="URL of the responder (default: RESPONDER_URL, else web.listen of the configuration file)"
    ),
    click.Option(
        ["--token-file"], type=FILE, metavar="FILE", help="file with the bearer token (default: RESPONDER_TOKEN)"
    ),
    *(
        click.Option([f"--{option}"], type=FILE, metavar="FILE", help=f"{what} ({variable})")
        for option, variable, what in TLS_FILES
    ),
)

_NEGATIVE = (409, 412)
"""Statuses of a valid request with a negative answer: not possible in the current state, changed meanwhile."""


class CommandError(ResponderError):
    """A command cannot run as given. `hint` is what to do."""

    def __init__(self, message: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.where, self.hint = where, hint


class Refused(CommandError):
    """The responder answered with an error status. `body` is its answer."""

    def __init__(self, message: str, body: dict[str, Any], status: int) -> None:
        super().__init__(message, where=str(body.get("where") or ""))
        self.body, self.status = body, status

    @property
    def exit_code(self) -> int:
        return NO if self.status in _NEGATIVE else WRONG


def local(example: str, formats: Sequence[str] = ()) -> Callable[[Callable[[Args], int]], Command]:
    """Declares a command that uses only the configuration file. `formats`: of its output; default: text and JSON."""
    common = (_CONFIG, _output(*formats)) if formats else _LOCAL
    return lambda run: declare(run, run, example=f"responder {example}", common=common)


def remote(example: str) -> Callable[[Callable[[Args, ResponderClient], Awaitable[int]]], Command]:
    """Declares a command that asks a responder."""

    async def connect_and(run: Callable[[Args, ResponderClient], Awaitable[int]], args: Args) -> int:
        from responder.cli.client import connect  # slow to import

        async with connect(vars(args)) as client:
            return await run(args, client)

    def declared(run: Callable[[Args, ResponderClient], Awaitable[int]]) -> Command:
        import asyncio

        return declare(
            run, lambda args: asyncio.run(connect_and(run, args)), example=f"responder {example}", common=_REMOTE
        )

    return declared


def connected(
    kind: Callable[[], type[C]], example: str, group: click.Group | None = None, summary: str = ""
) -> Callable[[Callable[[Args, C], Awaitable[int]]], Command]:
    """Declares a command with a client of an outside system, connected as the configuration file says.

    `kind` returns the class of the client. `group`, `summary`: of a subcommand.
    """

    async def connect_and(run: Callable[[Args, C], Awaitable[int]], args: Args) -> int:
        import asyncio

        from responder.app.loading import load  # slow to import

        connections = (await asyncio.to_thread(load, args.config)).connections()
        try:
            return await run(args, await connections.to(kind()))
        finally:
            await connections.close()

    def declared(run: Callable[[Args, C], Awaitable[int]]) -> Command:
        command = declare(
            run, lambda args: interrupt.run(connect_and(run, args)), example=f"responder {example}", common=_LOCAL
        )
        if group is not None:
            command.short_help, command.help = summary, f"{summary[0].upper()}{summary[1:]}."
            group.add_command(command)
        return command

    return declared


def user_name() -> str:
    """The name for the record if no token names the user."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"

"""Parses command lines without running the command."""

from __future__ import annotations

from collections.abc import Sequence

import click

from exporters.cli import PROGRAM as EXPORTERS
from foundation.commands.program import Program
from responder.cli.main import PROGRAM as RESPONDER

PROGRAMS: dict[str, Program] = {"responder": RESPONDER, "exporters": EXPORTERS}


def usage_error(program: str, words: Sequence[str]) -> str:
    """What is wrong with the arguments; empty if nothing is."""
    try:
        context = PROGRAMS[program].make_context(program, [*words])
        while isinstance(context.command, click.Group):
            rest = [*context._protected_args, *context.args]
            name, command, rest = context.command.resolve_command(context, rest)
            assert command is not None
            context = command.make_context(name, rest, parent=context)
    except click.exceptions.Exit:  # --help
        pass
    except click.UsageError as e:
        return e.format_message()
    return ""

"""`completion`: prints the script by which a shell completes commands, options, choices and names."""

from __future__ import annotations

import click

from foundation.commands.command import Args, Command, OneOf, declare
from foundation.commands.failure import OK
from foundation.commands.program import Program


def completion_of(program: str) -> Command:
    """The command `completion` of a program."""

    @click.argument("shell", type=OneOf(("bash", "zsh", "fish")), help="shell that evaluates the script")
    def completion(args: Args) -> int:
        from click.shell_completion import get_completion_class  # slow to import

        root = click.get_current_context().find_root().command
        assert isinstance(root, Program)  # noqa: S101 - no other program has this command
        print(get_completion_class(args.shell)(root, {}, program, root.complete_variable).source())
        return OK

    return declare(completion, completion, example=f"source <({program} completion bash)")

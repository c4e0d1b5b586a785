"""A program with commands. Each is imported when it is used; `--help` and completion of names import none."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import import_module

import click

from foundation.commands.failure import WRONG, Failure, legible, wants_json
from foundation.interrupt import EXIT_CODE

_READER_IS_GONE = 141
"""The exit code that shells report for a program that SIGPIPE ended, as with `| head`."""


class Program(click.Group):
    """The commands of a program, by the module that has each as an attribute: its name and its summary.

    `failures_of`: the errors and the exit code of an exception; None if it is a bug.
    """

    def __init__(
        self,
        name: str,
        about: str,
        commands: Mapping[str, Mapping[str, str]],
        failures_of: Callable[[Exception], tuple[Sequence[Failure], int] | None],
    ) -> None:
        settings = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
        super().__init__(name, help=about, context_settings=settings)
        click.version_option(package_name="rollback-responder", message="%(prog)s %(version)s")(self)
        self._failures_of, self._modules = failures_of, {n: module for module, names in commands.items() for n in names}
        for summaries in commands.values():
            for command, summary in summaries.items():
                self.add_command(click.Command(command, short_help=summary))

    def load(self, name: str) -> click.Command:
        """Imports a command."""
        command: click.Command = getattr(import_module(self._modules[name]), name)
        summary = self.commands[name].short_help or ""
        command.help = f"{summary[:1].upper()}{summary[1:]}."
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click.Group.resolve_command."""
        name, listed, rest = super().resolve_command(ctx, args)
        return name, self.load(name) if name and listed else None, rest

    @property
    def complete_variable(self) -> str:
        """The environment variable by which the script of `completion` asks for completions."""
        return f"_{str(self.name).upper()}_COMPLETE"

    def run(self, argv: Sequence[str] | None = None) -> int:
        """Runs one command and returns its exit code."""
        argv = sys.argv[1:] if argv is None else argv
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):  # None if it is closed
                stream.reconfigure(errors="backslashreplace")  # the locale may lack a character
        try:
            code = self._run(argv)
            if sys.stdout is not None:
                sys.stdout.flush()
        except KeyboardInterrupt:
            return EXIT_CODE
        except OSError as e:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # flushed again at exit
            if isinstance(e, BrokenPipeError):
                return _READER_IS_GONE
            return self._show([Failure(e.strerror or str(e))], WRONG, as_json=False)
        return code

    def _run(self, argv: Sequence[str]) -> int:
        as_json = wants_json(argv)
        try:
            if instruction := os.environ.get(self.complete_variable):
                return self._complete(instruction)
            for word in argv:
                if word != word.encode(errors="replace").decode():
                    raise click.UsageError(f"argument {word!r} is not UTF-8")
            with self.make_context(str(self.name), [*argv]) as ctx:
                return int(self.invoke(ctx))
        except click.exceptions.Exit as e:
            return e.exit_code
        except click.exceptions.NoArgsIsHelpError as e:
            e.show()
            return WRONG
        except click.ClickException as e:
            ctx = getattr(e, "ctx", None) or self.make_context(str(self.name), ["x"], resilient_parsing=True)
            if not as_json:
                print(ctx.get_usage(), file=sys.stderr)
            return self._show([_wrong_use(e, ctx.command_path)], WRONG, as_json)
        except OSError as e:
            if e.filename is None:  # it may be the output
                raise
            return self._show([Failure(e.strerror or str(e), str(e.filename))], WRONG, as_json)
        except Exception as e:
            if (found := self._failures_of(e)) is None:
                raise
            return self._show(*found, as_json)

    def _show(self, failures: Sequence[Failure], code: int, as_json: bool) -> int:
        if as_json:
            first, *others = failures
            more = f"{len(others)} more: see the output without --output json" if others else ""
            print(replace(first, hint="; ".join(filter(None, (first.hint, more)))).json())
            return code
        for failure in failures:
            print(failure if failure.where else f"{self.name}: {failure}", file=sys.stderr)
        return code

    def _complete(self, instruction: str) -> int:
        from click.shell_completion import shell_complete  # slow to import

        return shell_complete(self, {}, str(self.name), self.complete_variable, instruction)


def _wrong_use(error: click.ClickException, command: str) -> Failure:
    where, message = command, error.format_message()
    if type(error) is click.BadParameter and isinstance(error.param, click.Option):
        where, message = error.param.opts[-1], error.message
    return Failure(legible(message).removesuffix("."), where, f"see {command} --help")

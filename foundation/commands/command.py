"""A command and the types of its options, with more checks of the arguments than Click has."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import click

from foundation.configuration.suggestions import nearest

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class Args(SimpleNamespace):
    """The values of the options and arguments of a command, by name."""


class Many(click.Option):
    """An option that takes all values up to the next option, as the shell expands `--rules *.yml`."""

    def __init__(self, declarations: Sequence[str], **settings: Any) -> None:
        super().__init__(declarations, **{**settings, "multiple": True})


class Command(click.Command):
    """A command whose options do not take another option as their value: `--reason --dry-run` is a mistake."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click.Command.parse_args."""
        options = {name: p for p in self.get_params(ctx) if isinstance(p, click.Option) for name in p.opts}
        for word, following in itertools.pairwise(args):
            if word == "--":
                break
            if word in options and not options[word].is_flag and following in options and not ctx.resilient_parsing:
                ctx.fail(
                    f"Option {word!r} needs a value, but {following!r} follows. Write {word}={following} if you mean it"
                )
        many = {name for name, option in options.items() if isinstance(option, Many)}
        return super().parse_args(ctx, list(_repeated(args, many)))


def _repeated(args: Sequence[str], many: set[str]) -> Iterator[str]:
    """The arguments with the options in `many` before each of their values."""
    option, filled = "", False
    for word in args:
        if option and filled and not word.startswith("-"):
            yield option
        if word.startswith("-"):
            option, filled = word if word in many else "", False
        else:
            filled = True
        yield word


class OneOf(click.Choice[str]):
    """One of some words. An error suggests the most similar one."""

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        """As click.Choice.get_invalid_choice_message."""
        near = nearest(str(value), self.choices)
        return super().get_invalid_choice_message(value, ctx) + (f" Did you mean {near!r}?" if near else "")


class Names(click.ParamType[str]):
    """A name that shells complete. `find` returns known names and their help, by the options so far and a beginning."""

    name = "text"

    def __init__(self, find: Callable[[Mapping[str, Any], str], Mapping[str, str]]) -> None:
        self._find = find

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[Any]]:
        """As click.ParamType.shell_complete."""
        from click.shell_completion import CompletionItem  # slow to import

        try:
            known = self._find({k: v for k, v in ctx.params.items() if v is not None}, incomplete)
        except Exception:  # whatever it is: an error would land in the middle of the user's command line
            return []
        return [CompletionItem(name, help=what) for name, what in known.items() if name.startswith(incomplete)]


def declare(run: Any, call: Callable[[Args], int], *, example: str, common: Sequence[click.Parameter] = ()) -> Command:
    """The command that `run` implements, with the options of its decorators. `call` calls it."""
    own = reversed(getattr(run, "__click_params__", []))
    return Command(
        run.__name__.strip("_"),
        callback=lambda **values: call(Args(**values)),
        params=[*own, *common],
        epilog=f"\b\nexample: {example}",
    )


def wrong_use(message: str) -> click.UsageError:
    """The error of arguments that do not fit together."""
    return click.UsageError(message, click.get_current_context(silent=True))

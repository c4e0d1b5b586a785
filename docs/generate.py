"""Writes the reference pages that the code itself knows best: `python -m docs.generate`, or `--check` to compare."""

from __future__ import annotations

import argparse
import inspect
import re
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import click
from annotated_types import Ge, Gt, Le, MinLen
from pydantic import BaseModel, HttpUrl, JsonValue, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from docs import alert_rules
from docs.rooms import architecture
from exporters.cli import PROGRAM as EXPORTERS
from foundation.commands.program import Program
from foundation.durations import Duration, format_duration
from foundation.registry import Only
from responder.app.settings import Config
from responder.backends.accessible import Accessible
from responder.backends.alertmanager.matchers import MatcherText
from responder.backends.capabilities import Versioned
from responder.backends.host.release import AbsolutePath, Argv, PlainName
from responder.backends.postgres.migrations.registry import MIGRATION_TOOLS
from responder.backends.registries import CHECKS, LOG_SOURCES, RESOURCES, AnyCheck, AnyLogSource
from responder.backends.resource import Resource
from responder.cli.main import PROGRAM as RESPONDER
from responder.config.sizes import Size, exactly
from responder.rollback.strategies import STRATEGIES, AnyStrategy
from responder.rollback.strategies.strategy import Strategy
from responder.services.service import Name

DOCS = Path(__file__).parent
MADE = "<!-- Made by `python -m docs.generate`. Change the code, not this page. -->"

# Compared one after the other, because not every annotation can be a key.
WORDS: tuple[tuple[Any, str], ...] = (
    (Duration, "duration"),
    (Size, "size"),
    (AnyLogSource, "[log source](#log-sources)"),
    (Name, "name"),
    (MatcherText, "matcher"),
    (AbsolutePath, "absolute path"),
    (PlainName, "file name"),
    (Argv, "list of string"),
    (AnyCheck, "[check](#checks)"),
    (Resource, "[resource](#resources)"),
    (AnyStrategy, "[strategy](#strategies)"),
    (JsonValue, "any value"),
    (SecretStr, "secret"),
    (HttpUrl, "URL"),
    (Path, "path"),
    (str, "string"),
    (int, "integer"),
    (float, "number"),
    (bool, "boolean"),
)
FALLBACK = {Name: "Lower-case letters, digits, `-`, `_` and `.`; at most 63 characters"}

CONFIGURATION = """\
# Configuration: responder.yml

The responder reads one YAML file at startup and at each reload. [examples/responder.yml](../../examples/responder.yml)
is a commented example. `responder check` reports every mistake with line, path and
fix, also as `--output json` or `sarif`. Top-level keys `x-…` are ignored: they hold YAML anchors.

- Unknown and duplicate keys are errors.
- **duration**: as in Prometheus, such as `500ms`, `30s`, `5m` or `1h30m`. Only `0` needs no unit.
- **size**: an integer with a unit, such as `200kB`, `8MiB` or `1GiB`.
- **matcher**: as in Alertmanager, `name="value"` with `=`, `!=`, `=~` or `!~`. Expressions are RE2 and match the whole
  value. A missing label has the empty value. One text may contain several, separated by commas. The classic grammar
  is tried before the UTF-8 one, as in Alertmanager's default mode.
- **name**: lower-case letters, digits, `-`, `_` and `.`; at most 63 characters.
- **secret**: a string that is never shown.
- **object**: a mapping; its keys follow it in the table.
- `${NAME}` is replaced by an environment variable, which must be set. `$$` is a dollar sign.
- Reload with `SIGHUP` or `POST /-/reload`. An invalid file is rejected as a whole. Changes of `state`, `web.listen`,
  `limits` and `log` require a restart.
"""

RESOURCE = """\
A strategy changes and restores resources. Paths continue the key of the strategy that contains the resource. Select one
by its keys, or with `resource: NAME`."""


def configuration() -> str:
    """docs/reference/configuration.md, from the models that read responder.yml."""
    parts = [MADE, "", CONFIGURATION, "## All keys", "", *_table(_rows(Config, ""))]
    parts += ["", "## Strategies", "", "`strategy` selects the strategy. Paths continue `services[].rollback`."]
    for name, strategy in STRATEGIES.all().items():
        parts += ["", f"### {name}", "", _summary(strategy), "", *_table(_rows(strategy, ""))]
    named = set(re.findall(r"\]\(#(\w+)\)", "\n".join(parts)))
    in_plans = [(n, r) for n, r in RESOURCES.all().items() if n not in named and not issubclass(r, Versioned)]
    parts += ["", "## Resources", "", RESOURCE]
    for name, resource in RESOURCES.all().items():
        if (name, resource) not in in_plans:
            parts += ["", f"### {name}", "", _summary(resource), "", *_table(_rows(resource, ""))]
    parts += ["", "### Resources in plans", "", "Strategies add these resources to plans. They need no configuration."]
    parts += ["", *(f"- `{name}`: {_summary(resource)}" for name, resource in in_plans)]
    parts += ["", "## Checks", "", "A check has the key that gives its section the name."]
    for name, check in CHECKS.all().items():
        parts += ["", f"### {name}", "", _summary(check), "", *_table(_rows(check, ""))]
    parts += [
        "",
        "## Log sources",
        "",
        "A log source has the key that gives its section the name. [Keep logs](../how-to/evidence.md)",
    ]
    for name, source in LOG_SOURCES.all().items():
        parts += ["", f"### {name}", "", _summary(source), "", *_table(_rows(source, ""))]
    return "\n".join(parts) + "\n"


def undescribed() -> list[str]:
    """Fields without a description, as `Policy.name`. Each needs a `Field(description=...)`."""
    models: list[type[BaseModel]] = [
        Config,
        *STRATEGIES.all().values(),
        *RESOURCES.all().values(),
        *CHECKS.all().values(),
        *LOG_SOURCES.all().values(),
    ]
    seen: list[str] = []
    for model in models:
        for owner, key, field, kind in _fields(model):
            name = f"{owner.__name__}.{key}"
            if not field.description and _model_of(kind) is None and name not in seen and not _is_tag(key):
                seen.append(name)
    return seen


def _fields(model: type[BaseModel]) -> Iterator[tuple[type[BaseModel], str, FieldInfo, Any]]:
    """Every field of a model and of the models inside it; resources and strategies have sections of their own."""
    hints = get_type_hints(model, include_extras=True)
    for name, field in model.model_fields.items():
        kind = hints[name]
        for tool in _under_own_key(kind).values():
            yield from _fields(tool)
        if _under_own_key(kind):
            continue
        yield model, field.alias or name, field, kind
        inner = _model_of(kind)
        if (field.description or "").startswith("Set by the responder"):
            continue  # a part of plans, not of the configuration
        if inner is not None and not issubclass(inner, Accessible | Strategy):
            yield from _fields(inner)


def _under_own_key(kind: Any) -> dict[str, type[BaseModel]]:
    """The models of a field that a mapping takes under their own names, as the migration tools."""
    return dict(MIGRATION_TOOLS.all()) if MIGRATION_TOOLS in getattr(kind, "__metadata__", ()) else {}


def _rows(
    model: type[BaseModel], path: str, listed: dict[tuple[type[BaseModel], str], str] | None = None
) -> Iterator[tuple[str, str, str, str]]:
    """One row per key. `listed`: the object whose rows describe a field of a class; it is not described twice."""
    listed = {} if listed is None else listed
    hints = get_type_hints(model, include_extras=True)
    for name, field in sorted(
        model.model_fields.items(), key=lambda pair: not _is_tag(pair[0]) or bool(pair[1].description)
    ):
        kind, key = hints[name], field.alias or name
        if (field.description or "").startswith("Set by the responder"):
            continue  # a part of plans, not of the configuration
        if _is_tag(name) and not field.description:
            continue  # the introduction of its section describes it
        if listed.setdefault((_owner(model, name), name), path) != path:
            continue  # a row of an earlier object describes it
        here = f"{path}{key}"
        for tool_key, tool in _under_own_key(kind).items():
            summary = _join(_summary(tool), _elsewhere(tool, f"{path}{tool_key}.", listed))
            yield f"{path}{tool_key}", "object", "none", summary
            yield from _rows(tool, f"{path}{tool_key}.", listed)
        if _under_own_key(kind):
            continue
        inner = _model_of(kind)
        default, meaning = _default(kind, field, key), _meaning(kind, field, inner)
        if inner is None or issubclass(inner, Accessible | Strategy):
            yield here, _type(kind, field), default, meaning
            continue
        many = get_origin(_bare(kind)) is tuple
        inside = f"{here}{'[]' if many else ''}."
        shown = f"list of object{_bounds(field, _number)}" if many else "object"
        yield here, shown, default, _join(meaning, _elsewhere(inner, inside, listed))
        yield from _rows(inner, inside, listed)


def _owner(model: type[BaseModel], name: str) -> type[BaseModel]:
    """The class that defines a field: the model or one of its bases."""
    return next(base for base in model.__mro__ if name in inspect.get_annotations(base))


def _elsewhere(model: type[BaseModel], path: str, listed: dict[tuple[type[BaseModel], str], str]) -> str:
    """The keys of a model that earlier rows describe, by the object of these rows."""
    keys: dict[str, list[str]] = {}
    for name, field in model.model_fields.items():
        at = listed.get((_owner(model, name), name), path)
        if at != path and not _is_tag(name):
            keys.setdefault(at.removesuffix("."), []).append(f"`{field.alias or name}`")
    parts = []
    for at, names in keys.items():
        whole = len(names) == len([name for name in model.model_fields if not _is_tag(name)])
        parts.append(f"Keys as in `{at}`" if whole else f"Also {', '.join(names)} as in `{at}`")
    return ". ".join(parts)


def _join(*sentences: str) -> str:
    return ". ".join(sentence.rstrip(".") for sentence in sentences if sentence)


def _meaning(kind: Any, field: FieldInfo, inner: type[BaseModel] | None) -> str:
    if field.description:
        return field.description
    if inner is not None:
        return _summary(inner)
    return next((meaning for known, meaning in FALLBACK.items() if kind == known), "")


def _is_tag(key: str) -> bool:
    return key in ("strategy", "resource", "tool")


def _table(rows: Iterator[tuple[str, str, str, str]]) -> list[str]:
    head = ["| key | type | default | meaning |", "|---|---|---|---|"]
    return head + [
        f"| `{path}` | {_cell(kind)} | {_cell(default)} | {_cell(meaning)} |" for path, kind, default, meaning in rows
    ]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _type(kind: Any, field: FieldInfo | None = None) -> str:
    kind = _required(kind)
    bounds = (
        _bounds(field, format_duration if kind == Duration else exactly if kind == Size else _number) if field else ""
    )
    for known, word in WORDS:
        if kind == known:
            return word + bounds
    bare, arguments = _bare(kind), get_args(_bare(kind))
    if bare != kind and any(bare == known for known, _ in WORDS):
        return _type(bare) + bounds
    match get_origin(bare):
        case origin if origin is Literal:
            return ", ".join(f"`{value}`" for value in arguments)
        case origin if origin is tuple:
            return f"list of {_type(arguments[0])}{bounds}"
        case origin if origin is dict:
            return f"map of {_type(arguments[1])}"
        case origin if origin in (Union, types.UnionType):
            return " or ".join(_type(argument) for argument in arguments if argument is not type(None)) + bounds
    if isinstance(bare, type) and issubclass(bare, Resource):
        return f"[{_tag(bare, 'resource')}](#{_tag(bare, 'resource')})"
    if isinstance(bare, type) and issubclass(bare, BaseModel):
        keys = [field.alias or name for name, field in bare.model_fields.items()]
        return "`{" + ", ".join(keys) + "}`"
    raise TypeError(f"{kind} has no name: add it to WORDS in docs/generate.py")


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _bounds(field: FieldInfo, shown: Callable[[Any], str]) -> str:
    bounds = []
    for bound in field.metadata:
        match bound:
            case Ge():
                bounds.append(f"at least {shown(bound.ge)}")
            case Gt():
                bounds.append(f"above {shown(bound.gt)}")
            case Le():
                bounds.append(f"at most {shown(bound.le)}")
            case MinLen() if bound.min_length == 1 and get_origin(field.annotation) is tuple:
                bounds.append("at least one")
    if len(bounds) == 2 and bounds[0].startswith("at least"):
        bounds = [" to ".join(bound.removeprefix("at least ").removeprefix("at most ") for bound in bounds)]
    return f"; {', '.join(bounds)}" if bounds else ""


def _default(kind: Any, field: FieldInfo, key: str) -> str:
    value = field.default
    if value is PydanticUndefined:
        return "required" if field.default_factory is None else "none"
    if key == "strategy":
        return "required"
    if value in (None, (), ""):
        return "none"
    if isinstance(value, tuple):
        return f"`[{', '.join(str(item) for item in value)}]`"
    if isinstance(value, BaseModel):
        return "as below"
    if kind == Duration:
        return f"`{format_duration(value)}`"
    if kind == Size:
        return f"`{exactly(value)}`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _required(kind: Any) -> Any:
    """Without `| None`."""
    if get_origin(kind) in (Union, types.UnionType):
        arguments = [argument for argument in get_args(kind) if argument is not type(None)]
        if len(arguments) == 1:
            return arguments[0]
    return kind


def _bare(kind: Any) -> Any:
    """Without `Annotated`, and without `| None`."""
    while get_origin(kind) is Annotated:
        kind = next((part.load() for part in kind.__metadata__ if isinstance(part, Only)), get_args(kind)[0])
    required = _required(kind)
    return kind if required is kind else _bare(required)


def _model_of(kind: Any) -> type[BaseModel] | None:
    """The model of a field, alone or in a list; None for other types and for a choice of several models."""
    bare = _bare(kind)
    if get_origin(bare) is tuple:
        bare = _bare(get_args(bare)[0])
    return bare if isinstance(bare, type) and issubclass(bare, BaseModel) else None


def _members(union: Any) -> list[type[BaseModel]]:
    return [_bare(member) for member in get_args(_bare(union))]


def _tag(model: type[BaseModel], key: str) -> str:
    return str(model.model_fields[key].default)


def _summary(model: type[BaseModel]) -> str:
    """The first paragraph of its docstring."""
    return " ".join((model.__doc__ or "").partition("\n\n")[0].split())


CLI = """\
# Command line

Commands call the HTTP API of the running responder. `serve`, `check`, `notify`, `snapshots`, `schema` and `preserved`
use the configuration file instead and have no connection options. See also [exporters](exporters.md).

Exit codes: 0 success; 1 the negative answer that the command documents (denied, not succeeded, a person is needed); 2 a
wrong command, configuration or token, or no answer from the responder; 130 Ctrl-C.

Errors are text on standard error. With `--output json`, they are one object on standard output: `error` says what
failed, `where` names the option, file or URL, `hint` says what to do.

A unique beginning of the ID of a rollback is enough, such as `20261123-23`. Without an ID, a command takes the only
rollback that is open, awaits approval or is stuck.

Completion of commands, options, choices, services, IDs and names in the configuration, for `exporters` alike:

```
echo 'source <(responder completion bash)' >> ~/.bashrc
echo 'source <(responder completion zsh)' >> ~/.zshrc      # after compinit
responder completion fish > ~/.config/fish/completions/responder.fish
```
"""
_EVERYWHERE = ("config", "output", "url", "token_file", "ca_file", "cert_file", "key_file")


def cli() -> str:
    """docs/reference/cli.md, from the commands of both programs."""
    parts = [MADE, "", CLI]
    for program in (RESPONDER, EXPORTERS):
        commands = dict(_commands(program))
        common = {p.name: p for command in commands.values() for p in command.params if p.name in _EVERYWHERE}
        parts += [f"## {program.name}", "", program.help or "", "", "Common options:", ""]
        parts += [_item(common[name]) for name in _EVERYWHERE if name in common]
        for name, command in commands.items():
            parts += ["", f"### {program.name} {name}", "", command.help or ""]
            own = [p for p in command.params if p.name not in _EVERYWHERE]
            if own:
                parts += ["", *map(_item, own)]
            example = (command.epilog or "").removeprefix("\b\nexample: ")
            parts += ["", "```", example, "```"]
        parts.append("")
    return "\n".join(parts)


def _commands(group: click.Group) -> Iterator[tuple[str, click.Command]]:
    for name in group.commands:
        command = group.load(name) if isinstance(group, Program) else group.commands[name]
        if isinstance(command, click.Group):
            yield from ((f"{name} {inner}", subcommand) for inner, subcommand in _commands(command))
        else:
            yield name, command


def _item(parameter: click.Parameter) -> str:
    meaning = _help(parameter)
    return f"- {_usage(parameter)}: {meaning}" if meaning else f"- {_usage(parameter)}"


def _usage(parameter: click.Parameter) -> str:
    if not isinstance(parameter, click.Option):
        return f"`{parameter.human_readable_name}`"
    choices = parameter.type.choices if isinstance(parameter.type, click.Choice) else ()
    value = " or ".join(choices) or ("" if parameter.is_flag else parameter.metavar or str(parameter.name).upper())
    return f"`{' '.join((parameter.opts[-1], value)).strip()}`"


def _help(parameter: click.Parameter) -> str:
    choices = "" if isinstance(parameter, click.Option) else " or ".join(getattr(parameter.type, "choices", ()))
    marks = [parameter.help or choices] if parameter.help or choices else []
    marks += ["required"] if parameter.required else []
    if isinstance(parameter, click.Option) and parameter.show_default:
        marks.append(f"default `{parameter.default}`")
    return "; ".join(marks)


PAGES: dict[str, Callable[[], str]] = {
    "reference/configuration.md": configuration,
    "reference/cli.md": cli,
    "architecture.md": architecture,
    "../deploy/kubernetes/monitoring/rules.yaml": alert_rules.manifests,
}
"""Every file that the code writes, by its path from docs/."""


def stale() -> list[str]:
    """The pages that differ from the generated text."""
    return [name for name, make in PAGES.items() if not _same(DOCS / name, make())]


def _same(file: Path, text: str) -> bool:
    return file.exists() and file.read_text() == text


def main() -> int:
    """Writes the pages; with `--check` only lists stale ones, with exit code 1."""
    parser = argparse.ArgumentParser(prog="python -m docs.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if a page is stale")
    if parser.parse_args().check:
        for name in (found := stale()):
            print(f"docs/{name} is stale: python -m docs.generate")
        return 1 if found else 0
    for name, make in PAGES.items():
        (DOCS / name).write_text(make())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""One YAML file, read whole: every mistake is told with its place, and nothing is guessed."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, SecretStr, ValidationError

from foundation.secret_files import is_reference
from responder.app.settings import Config
from responder.backends.alertmanager.alerts import path_of
from responder.config.text import meant
from responder.errors import ConfigError

_URL = "must be a URL such as http://localhost:9090"
_EXPECTED = {
    "url_parsing": _URL, "url_scheme": _URL, "url_type": _URL,
    "bool_parsing": "must be true or false", "bool_type": "must be true or false",
    "int_parsing": "must be a whole number", "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number", "float_type": "must be a number",
    "list_type": "must be a list", "tuple_type": "must be a list",
    "dict_type": "must be a mapping", "model_type": "must be a mapping", "string_type": "must be text",
}  # fmt: skip
"""What was expected, in words of YAML; pydantic speaks of arrays, objects and parsers."""


def load(file: Path, environment: Mapping[str, str] | None = None) -> Config:
    """The configuration in a file. Raises ConfigError with every mistake as `file:line: path: what is wrong`."""
    try:
        text = file.read_text()
    except OSError as e:
        raise ConfigError([f"{file}: cannot be read: {e.strerror}"]) from None
    except UnicodeDecodeError as e:
        raise ConfigError([f"{file}: cannot be read: it is not UTF-8 ({e.reason})"]) from None
    return parse(text, str(file), os.environ if environment is None else environment)


def locator(file: Path) -> Callable[[tuple[int | str, ...]], str]:
    """What turns a place in a file that was loaded into `file:line: path`."""
    lines: dict[tuple[int | str, ...], int] = {}
    if node := yaml.compose(file.read_text(), yaml.SafeLoader):
        list(_walk(node, (), lines))

    return lambda path: _located(str(file), path, lines)


def parse(text: str, name: str, environment: Mapping[str, str]) -> Config:
    """The same for a text; `name` is what the mistakes call it."""
    lines: dict[tuple[int | str, ...], int] = {}
    try:
        node = yaml.compose(text, yaml.SafeLoader)
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(
                [f"{name}: must be a mapping with state, prometheus, alertmanager, services and policies"]
            )
        mistakes = list(_walk(node, (), lines))
        raw = yaml.safe_load(text)
    except yaml.MarkedYAMLError as e:
        at = f":{e.problem_mark.line + 1}" if e.problem_mark else ""
        raise ConfigError([f"{name}{at}: not YAML: {e.problem}"]) from None
    except (yaml.YAMLError, ValueError) as e:
        raise ConfigError([f"{name}: not YAML: {str(e).splitlines()[0]}"]) from None
    except RecursionError:
        raise ConfigError([f"{name}: not YAML that can be used: an anchor refers to itself"]) from None
    data, missing = _expand(raw, environment, ())
    mistakes += missing
    if not mistakes:
        try:
            # As JSON, so that text stays text: a bare `30` must not become a duration, nor `no` a version.
            config = Config.model_validate_json(json.dumps(data, default=str))
        except ValidationError as e:
            found = [(_real(tuple(error["loc"]), data), error) for error in e.errors(include_url=False)]
            # A list whose only item is wrong is told to be too short as well: that is no news.
            inner = {path[:n] for path, _ in found for n in range(len(path))}
            reported = [(path, e) for path, e in found if e["type"] != "too_short" or path not in inner]
            # A key that is missing because it is misspelt is one mistake.
            lacking = {path for path, e in reported if e["type"] == "missing"}
            odd = [path for path, e in reported if e["type"] == "extra_forbidden"]
            meant_by = {
                p: near for p in odd for candidate in _near(str(p[-1])) if (near := (*p[:-1], candidate)) in lacking
            }
            reported = [(path, e) for path, e in reported if path not in meant_by.values()]
            # What was written, not what it stands for: that may be a secret.
            mistakes = [
                (p, f"unknown key; did you mean {meant_by[p][-1]}?" if p in meant_by else _sentence(e, raw, p))
                for p, e in reported
            ]
        else:
            found_here = (*_unexpanded(config, ()), *config.contradictions())
            mistakes = [(_real(path, data), what) for path, what in found_here]
            if not mistakes:
                return config
    raise ConfigError([f"{_located(name, path, lines)}: {what}" for path, what in mistakes])


def _walk(
    node: yaml.Node, path: tuple[int | str, ...], lines: dict[tuple[int | str, ...], int]
) -> Iterator[tuple[tuple[int | str, ...], str]]:
    """Remembers the line of every path, and finds keys that are written twice (YAML would quietly keep the last)."""
    lines[path] = node.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode):
        for i, child in enumerate(node.value):
            yield from _walk(child, (*path, i), lines)
    elif isinstance(node, yaml.MappingNode):
        for key, child in node.value:
            below = (*path, str(key.value))
            if below in lines:
                yield below, f"is written twice (first in line {lines[below]})"
            yield from _walk(child, below, lines)
            lines[below] = key.start_mark.line + 1


def _expand(data: Any, environment: Mapping[str, str], path: tuple[int | str, ...]) -> tuple[Any, list[Any]]:
    """Puts the environment in for `${NAME}`; `$$` is a dollar sign."""
    missing: list[Any] = []

    def value(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        if found[1] not in environment:
            missing.append((path, f"${{{found[1]}}} is not set in the environment"))
        return environment.get(found[1], "")

    if isinstance(data, str):
        return re.sub(r"\$\$|\$\{(\w+)\}", value, data), missing
    if isinstance(data, dict):
        pairs = [(k, _expand(v, environment, (*path, str(k)))) for k, v in data.items()]
        return {k: v for k, (v, _) in pairs}, [m for _, (_, ms) in pairs for m in ms]
    if isinstance(data, list):
        items = [_expand(v, environment, (*path, i)) for i, v in enumerate(data)]
        return [v for v, _ in items], [m for _, ms in items for m in ms]
    return data, missing


def _unexpanded(value: Any, path: tuple[int | str, ...]) -> Iterator[tuple[tuple[int | str, ...], str]]:
    """Secrets that are still a reference to one: the literal text would be valid, and known to every reader."""
    if isinstance(value, SecretStr) and is_reference(value.get_secret_value()):
        yield path, "is an unexpanded reference: only ${NAME} is filled in from the environment"
    elif path == ("state",) and is_reference(str(value)):
        yield path, "has an unexpanded reference in it: only ${NAME} is filled in from the environment"
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _unexpanded(getattr(value, name), (*path, name))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _unexpanded(item, (*path, key))
    elif isinstance(value, tuple | list):
        for i, item in enumerate(value):
            yield from _unexpanded(item, (*path, i))


def _real(location: tuple[int | str, ...], data: Any) -> tuple[int | str, ...]:
    """Pydantic's location without the names of union members, which nobody wrote."""
    path: list[int | str] = []
    for i, part in enumerate(location):
        last = i == len(location) - 1
        if isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
        elif isinstance(data, dict) and part in data:
            data = data[part]
        elif not (last and isinstance(data, dict) and re.fullmatch(r"[a-z_]+", str(part))):
            continue
        path.append(part)
    return tuple(path)


def _at(data: Any, path: tuple[int | str, ...]) -> Any:
    for part in path:
        data = data.get(part) if isinstance(data, dict) else data[int(part)] if isinstance(data, list) else None
    return data


def _sentence(error: Any, raw: Any, path: tuple[int | str, ...]) -> str:
    written = _at(raw, path)
    match error["type"]:
        case "extra_forbidden":
            return _unknown(str(error["loc"][-1]), _at(raw, path[:-1]))
        case "missing":
            return "is missing"
        case "union_tag_not_found":
            return f"needs the key {error['ctx']['discriminator']}"
        case "union_tag_invalid":
            return f"{error['ctx']['tag']!r} is none of {error['ctx']['expected_tags']}"
        case "too_short" if not written:
            return "must have at least one item"
        case "value_error":
            return str(error["ctx"]["error"])
    message = re.sub(r"^Input should (be|have)", r"must \1", error["msg"])
    expected = _EXPECTED.get(error["type"]) or f"{message[0].lower()}{message[1:]}"
    return f"{expected}, not {written!r:.80}"


def _unknown(key: str, beside: Any) -> str:
    """A key that cannot be there. Where another strategy has it, that is what the reader needs to know."""
    strategy = beside.get("strategy") if isinstance(beside, dict) else None
    if strategy and (others := [name for name, keys in _strategies().items() if key in keys]):
        return f"not an option of strategy {strategy!r} (it belongs to {', '.join(map(repr, others))})"
    known = _known_keys()
    return f"unknown key here{meant(key, known - {key})}" if key in known else f"unknown key{meant(key, known)}"


def _strategies() -> dict[str, set[str]]:
    """The keys of each strategy."""
    schemas = (part.get("properties", {}) for part in Config.model_json_schema()["$defs"].values())
    return {keys["strategy"]["const"]: set(keys) for keys in schemas if "const" in keys.get("strategy", {})}


def _known_keys() -> set[str]:
    schema = Config.model_json_schema()
    return {key for part in (schema, *schema["$defs"].values()) for key in part.get("properties", ())}


def _near(word: str) -> list[str]:
    return difflib.get_close_matches(word, _known_keys() - {word}, n=5)


def _located(name: str, path: tuple[int | str, ...], lines: dict[tuple[int | str, ...], int]) -> str:
    known = path
    while known not in lines:  # a missing key has no line: the one above it has
        known = known[:-1]
    return f"{name}:{lines[known]}: {path_of(path) or 'the file'}"

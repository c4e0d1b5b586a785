"""Converts pydantic errors to mistakes in a YAML file, in YAML terms."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from foundation.configuration.schema import ConfigurationSchema
from foundation.configuration.suggestions import meant, nearest
from foundation.configuration.yaml_document import Mistake, Path, YamlDocument, value_at
from foundation.durations import format_duration, parse_duration

_EXPECTED = {
    "url": "must be a URL such as http://localhost:9090",
    "bool": "must be true or false",
    "int": "must be a whole number",
    "float": "must be a number",
    "list": "must be a list",
    "tuple": "must be a list",
    "dict": "must be a mapping",
    "model": "must be a mapping",
    "string": "must be text",
    "path": "must be the path of a file",
}
"""The expected type in YAML terms, instead of pydantic's arrays, objects and parsers, by the begin of its error."""

_LIMITS = {
    "greater_than": "must be greater than",
    "greater_than_equal": "must be greater than or equal to",
    "less_than": "must be less than",
    "less_than_equal": "must be less than or equal to",
}

_CLOSE = 0.75
"""A similarity at which a word is a typing error, rather than a word of another place."""


def mistakes_of(
    error: ValidationError, data: Any, document: YamlDocument, schema: Mapping[str, Any], synonyms: Mapping[str, str]
) -> list[Mistake]:
    """Every mistake, once. `data`: the document with the environment expanded, which may be secret, so it is not shown.

    `synonyms`: keys of other programs, with the key that they stand for here.
    """
    return list(_Explanation(data, document, ConfigurationSchema(schema, document.data), synonyms).of(error))


def written_path(location: Path, data: Any) -> Path:
    """The location of a pydantic error without the names of union members, which are not in the file."""
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


def covered(path: Path, mistakes: Collection[Path]) -> bool:
    """Whether one of the mistakes is about the value at the path, or about a part of the file that contains it."""
    return any(path[:end] in mistakes for end in range(len(path) + 1))


class _Explanation:
    def __init__(
        self, data: Any, document: YamlDocument, schema: ConfigurationSchema, synonyms: Mapping[str, str]
    ) -> None:
        self._data, self._document, self._schema, self._synonyms = data, document, schema, synonyms

    def of(self, error: ValidationError) -> Iterator[Mistake]:
        errors = [(written_path(tuple(e["loc"]), self._data), e) for e in error.errors(include_url=False)]
        # A list whose only item is wrong is reported as too short as well.
        parents = {path[:n] for path, _ in errors for n in range(len(path))}
        errors = [(path, e) for path, e in errors if e["type"] != "too_short" or path not in parents]
        missing = {path for path, e in errors if e["type"] == "missing"}
        corrected: set[Path] = set()
        for path, e in errors:
            if e["type"] == "extra_forbidden":
                names = [str(p[-1]) for p in missing if p[:-1] == path[:-1]]
                text = self._unknown_key(path, names)
                corrected |= {(*path[:-1], name) for name in names if text.endswith(f"did you mean {name}?")}
                yield path, text
        for path, e in errors:
            if e["type"] != "extra_forbidden" and path not in corrected:
                yield self._mistake(path, e)

    def _unknown_key(self, path: Path, missing: Collection[str]) -> str:
        key, parent = str(path[-1]), path[:-1]
        known = self._schema.keys(parent)
        if (synonym := self._synonyms.get(key)) in known:
            return f"unknown key; did you mean {synonym}?"
        tag, names = self._schema.variants_with(parent, key)
        if names:
            others = " or ".join(f'"{name}"' for name in names[:4])
            own = f'option of {tag} "{self._mapping(parent).get(tag)}"' if tag else "option here"
            return f"not an {own}; it belongs to {others}"
        if near := nearest(key, missing) or nearest(key, known, cutoff=_CLOSE):
            return f"unknown key; did you mean {near}?"
        if homes := self._schema.homes(key, parent):
            return f"unknown key; it belongs to {' or '.join(homes[:2])}"
        free = [name for name in known if name not in self._mapping(parent)]
        suggestion = meant(key, free) or f"; remove it, or use one of {', '.join(free[:20])}"
        return f"unknown key{suggestion}"

    def _mistake(self, path: Path, error: ErrorDetails) -> Mistake:
        if error["type"] in ("union_tag_invalid", "union_tag_not_found"):
            path = (*path, error["ctx"]["discriminator"].strip("'"))
        text = self._sentence(path, error)
        if error["type"] == "value_error":
            path, text = self._below(path, text)
        return path, text if "; " in text else f"{text}; {self._schema.about(path) or 'correct the value'}"

    def _below(self, path: Path, text: str) -> tuple[Path, str]:
        """The path of the key that the text of an error begins with, as in `token: is too short`, or `timeout 5s`."""
        keys, separator, rest = text.partition(": ")
        below = (*path, *(keys.split(".")))
        if separator and re.fullmatch(r"[a-z_.]+", keys) and keys.split(".")[0] in self._schema.keys(path):
            return below, rest
        first = text.partition(" ")[0]
        return ((*path, first), text) if first in self._mapping(path) else (path, text)

    def _mapping(self, path: Path) -> dict[str, Any]:
        value = value_at(self._document.data, path)
        return value if isinstance(value, dict) else {}

    def _sentence(self, path: Path, error: ErrorDetails) -> str:
        kind, context = error["type"], error.get("ctx", {})
        value = value_at(self._document.data, path)
        match kind:
            case "missing" | "union_tag_not_found":
                return f"is missing; {self._addition(path)}"
            case "union_tag_invalid":
                names = _names(context["expected_tags"])
                known = f"must be one of {', '.join(names)}"
                near = meant(context["tag"], names) or "; write one of these"
                return f'unknown value "{context["tag"]}": {known}{near}'
            case "too_short" if not value:
                return "must have at least one item; write one, or remove the key"
            case "value_error":
                return str(context["error"])
            case "literal_error":
                near = meant(str(value), _names(context["expected"]))
                return f"must be {context['expected']}, not {self._shown(path)}{near}"
            case "no_registered_key" if isinstance(value, dict):
                names = context["names"].split(", ")
                near = next(filter(None, (meant(key, names) for key in value)), "; add one of these keys")
                return f"{error['msg']}{near}"
            case "string_pattern_mismatch":
                return f"{self._shown(path)} does not match {context['pattern']}; use what this pattern allows"
            case kind if kind in _LIMITS and _is_duration(value):
                (limit,) = context.values()
                return f"{_LIMITS[kind]} {format_duration(limit)}, not {value!r:.80}; {_direction(kind)}"
        return self._wrong_type(path, error)

    def _wrong_type(self, path: Path, error: ErrorDetails) -> str:
        expected = _EXPECTED.get(kind := error["type"].partition("_")[0])
        if expected is None or error["type"].endswith(("too_long", "too_short")):
            message = re.sub(r"^Input should (be|have)", r"must \1", error["msg"])
            hint = f"; {_direction(error['type'])}" if error["type"] in _LIMITS else ""
            return f"{message[0].lower()}{message[1:]}, not {self._shown(path)}{hint}"
        value = value_at(self._document.data, path)
        return f"{expected}, not {self._shown(path)}{_remedy(kind, value, self._document.source(path))}"

    def _addition(self, path: Path) -> str:
        tag, names = self._schema.variants_with(path[:-1], str(path[-1]))
        choice = f"{tag}: one of {', '.join(names)}" if tag == path[-1] else ""
        return f"add {choice or self._schema.about(path) or path[-1]}"

    def _shown(self, path: Path) -> str:
        """The value as it is written, so that a variable of the environment stays secret."""
        value = value_at(self._document.data, path)
        written = self._document.source(path)
        if value is None:
            return "empty"
        return f"{value!r:.80}" if written is None or isinstance(value, str) else f"{written:.80}"


def _remedy(kind: str, value: Any, written: str | None) -> str:
    """What to write instead."""
    if value is None:
        return ""
    if kind == "string" and isinstance(value, dict | list):
        return "; put quotes around text that begins with { or ["
    if kind == "string":
        return f"; quote it: {json.dumps(written)}"
    if kind == "url" and isinstance(value, str):
        has_scheme = re.match(r"[a-z]+:/*(?=.)", value, re.I) and not re.match(r"[\w.-]+:\d+", value)
        address = re.sub(r"^\w+(://?|//)", "", value) if has_scheme or "//" in value else value
        return f"; write http://{address} or https://{address}"
    if kind in ("list", "tuple") and isinstance(value, str | int | float):
        return f"; write [{written}]"
    if kind in ("list", "tuple"):
        return "; begin each item with -"
    if kind in ("int", "float") and isinstance(value, str):
        return "; write the number without quotes and units"
    if kind == "bool":
        return "; write true or false"
    if kind in ("dict", "model"):
        return "; write it as key: value, indented below"
    return ""


def _direction(limit: str) -> str:
    return f"write a {'larger' if limit.startswith('greater') else 'smaller'} value"


def _names(expected: str) -> list[str]:
    """The names in a text such as `'a', 'b' or 'c'`."""
    return re.findall(r"'([^']*)'", expected)


def _is_duration(value: Any) -> bool:
    """Whether it is written with a unit."""
    try:
        return isinstance(value, str) and value != "0" and parse_duration(value) >= 0
    except ValueError:
        return False

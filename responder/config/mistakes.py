"""Converts pydantic errors to mistakes in a YAML file, in YAML terms."""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, SecretStr, ValidationError

from foundation.durations import format_duration, parse_duration
from foundation.secrets import is_reference
from foundation.yaml_document import Mistake, Path, value_at

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
"""The expected type in YAML terms, instead of pydantic's arrays, objects and parsers."""

_LIMITS = {
    "greater_than": "must be greater than",
    "greater_than_equal": "must be greater than or equal to",
    "less_than": "must be less than",
    "less_than_equal": "must be less than or equal to",
}

ExplainKey = Callable[[str, Any], str]
"""Why a key is unknown, from the key and the mapping that has it."""


def mistakes_of(
    error: ValidationError, written: Any, data: Any, *, keys: Collection[str], explain_key: ExplainKey
) -> list[Mistake]:
    """Every mistake, once. `written` is the YAML, `data` the same with the environment expanded, which may be secret.

    `keys`: all known keys, to find the one that a misspelled key stands for.
    """
    errors = [(written_path(tuple(e["loc"]), data), e) for e in error.errors(include_url=False)]
    # A list whose only item is wrong is reported as too short as well.
    parents = {path[:n] for path, _ in errors for n in range(len(path))}
    errors = [(path, e) for path, e in errors if e["type"] != "too_short" or path not in parents]
    corrections = _corrections(errors, keys)
    mistakes = []
    for path, e in errors:
        if path in corrections:
            mistakes.append((path, f"unknown key; did you mean {corrections[path][-1]}?"))
        elif path not in corrections.values():
            mistakes.append((path, _sentence(e, written, path, explain_key)))
    return mistakes


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


def unexpanded(value: Any, path: Path = ()) -> Iterator[Mistake]:
    """Secrets that are still a reference: as literal text, every reader of the file would know the secret."""
    if isinstance(value, SecretStr) and is_reference(value.get_secret_value()):
        yield path, "unexpanded reference: only ${NAME} is replaced by an environment variable"
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from unexpanded(getattr(value, name), (*path, name))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from unexpanded(item, (*path, key))
    elif isinstance(value, tuple | list):
        for i, item in enumerate(value):
            yield from unexpanded(item, (*path, i))


def _corrections(errors: list[tuple[Path, Any]], keys: Collection[str]) -> dict[Path, Path]:
    """Unknown keys that stand for a missing one beside them: a misspelled key is one mistake."""
    missing = {path for path, e in errors if e["type"] == "missing"}
    found = {}
    for path, e in errors:
        if e["type"] == "extra_forbidden":
            word = str(path[-1])
            for candidate in difflib.get_close_matches(word, [key for key in keys if key != word], n=5):
                if (correction := (*path[:-1], candidate)) in missing:
                    found[path] = correction
    return found


def _sentence(error: Any, written: Any, path: Path, explain_key: ExplainKey) -> str:
    value = value_at(written, path)
    match error["type"]:
        case "extra_forbidden":
            return explain_key(str(error["loc"][-1]), value_at(written, path[:-1]))
        case "missing":
            return "is missing"
        case "union_tag_not_found":
            return f"needs the key {error['ctx']['discriminator'].strip(chr(39))}"
        case "union_tag_invalid":
            return f'unknown value "{error["ctx"]["tag"]}": must be one of {_quoted(error["ctx"]["expected_tags"])}'
        case "too_short" if not value:
            return "must have at least one item"
        case "value_error":
            return str(error["ctx"]["error"])
        case kind if kind in _LIMITS and _is_duration(value):
            (limit,) = error["ctx"].values()
            return f"{_LIMITS[error['type']]} {format_duration(limit)}, not {value!r:.80}"
    message = re.sub(r"^Input should (be|have)", r"must \1", error["msg"])
    expected = _EXPECTED.get(error["type"]) or f"{message[0].lower()}{message[1:]}"
    return f"{expected}, not {value!r:.80}"


def _is_duration(value: Any) -> bool:
    """Whether it is written with a unit."""
    with contextlib.suppress(ValueError):
        return isinstance(value, str) and value != "0" and parse_duration(value) >= 0
    return False


def _quoted(names: str) -> str:
    return names.replace("'", '"')

"""YAML documents: the line of every value, repeated keys, and `${NAME}` from the environment."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

KeyPath = tuple[str | int, ...]
"""The keys and indexes that lead to a value."""

_REFERENCE = re.compile(r"\$\$|\$\{(\w+)\}")


class DocumentError(Exception):
    """A text that is not a usable YAML document. `line` is None where no line is to blame."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.message, self.line = message, line


@dataclass(frozen=True)
class Document:
    """One YAML document. `repeated` holds the path of each repeated key with the line of its first use."""

    data: Any = None
    lines: dict[KeyPath, int] = field(default_factory=dict)
    repeated: tuple[tuple[KeyPath, int], ...] = ()

    def line(self, path: KeyPath) -> int | None:
        """Returns the line of the value, or of the nearest value that contains it."""
        return next((self.lines[path[:end]] for end in range(len(path), -1, -1) if path[:end] in self.lines), None)


def read_document(file: Path) -> Document:
    """Reads a file. Raises DocumentError, also where the file cannot be read."""
    try:
        return parse_document(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise DocumentError(f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DocumentError(f"cannot be read: not UTF-8 ({error.reason})") from error


def parse_document(text: str) -> Document:
    """Parses one YAML document; an empty text has the data None. Raises DocumentError."""
    lines: dict[KeyPath, int] = {}
    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return Document()
            repeated = tuple(_walk(node, (), lines))
            return Document(loader.construct_document(node), lines, repeated)
        finally:
            loader.dispose()
    except RecursionError as error:
        raise DocumentError("not YAML: nested too deeply, or an anchor refers to itself") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise DocumentError(f"not YAML: {error.problem}", line) from error
    except (yaml.YAMLError, ValueError) as error:
        raise DocumentError(f"not YAML: {str(error).splitlines()[0]}") from error


def _walk(node: yaml.Node, path: KeyPath, lines: dict[KeyPath, int]) -> Iterator[tuple[KeyPath, int]]:
    """Records the line of every path. Yields repeated keys, of which YAML silently keeps the last."""
    lines[path] = node.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _walk(item, (*path, index), lines)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            key_path = (*path, str(key.value))
            if key_path in lines:
                yield key_path, lines[key_path]
            yield from _walk(value, key_path, lines)
            lines[key_path] = key.start_mark.line + 1


def expand(data: Any, value_of: Callable[[KeyPath, str], str], path: KeyPath = ()) -> Any:
    """Returns the data with `value_of(path, NAME)` in place of each `${NAME}`, and `$` in place of `$$`."""
    if isinstance(data, dict):
        return {key: expand(item, value_of, (*path, str(key))) for key, item in data.items()}
    if isinstance(data, list):
        return [expand(item, value_of, (*path, index)) for index, item in enumerate(data)]
    if isinstance(data, str):
        return _REFERENCE.sub(lambda match: value_of(path, match[1]) if match[1] else "$", data)
    return data


def format_path(path: KeyPath) -> str:
    """Returns `checks[2].timeout` for ("checks", 2, "timeout")."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")

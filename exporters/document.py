"""Reads a YAML file so that every value knows its line and every `${ENV}` is filled in or refused."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from exporters.errors import ConfigError, Problem

Place = tuple[str | int, ...]
REFERENCE = re.compile(r"\$(\$\{|\{([A-Za-z_]\w*)\})")
PUBLIC = {"id", "service", "environment", "labels", "listen", "advertise"}
"""Values that end in labels and addresses: what the environment gives them is not taken to be a secret."""


@dataclass
class Document:
    """The data of one file, the line of each place in it, and what was filled in from outside."""

    file: str
    data: object = None
    lines: dict[Place, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    secrets: set[str] = field(default_factory=set)

    def line(self, path: Place) -> int | None:
        """The line of that path, else of its nearest parent."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.lines:
                return self.lines[path[:end]]
        return None

    def mistake(self, path: Place, message: str) -> None:
        """Notes a mistake at that path."""
        self.problems.append(Problem(self.file, self.line(path), written(path), message))


def written(path: Place) -> str:
    """`("checks", 2, "timeout")` as `checks[2].timeout`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def read(path: Path, environment: Mapping[str, str] | None = None) -> Document:
    """The document in that file. ConfigError if it cannot be read or is not YAML; smaller mistakes are collected."""
    document = Document(str(path))
    try:
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
        try:
            node = loader.get_single_node()
            if node is not None:
                document.lines.update(_lines(node, (), document))
                document.data = loader.construct_document(node)
        finally:
            loader.dispose()
    except RecursionError as error:
        why = "is nested too deep, or an anchor in it refers to itself"
        raise ConfigError([Problem(str(path), None, "", why)]) from error
    except OSError as error:
        raise ConfigError([Problem(str(path), None, "", f"cannot be read: {error.strerror}")]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([Problem(str(path), None, "", "is not UTF-8 text")]) from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise ConfigError([Problem(str(path), line, "", f"is not YAML: {error.problem}")]) from error
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError([Problem(str(path), None, "", f"is not YAML: {error}")]) from error
    document.data = _filled(document, document.data, (), os.environ if environment is None else environment)
    return document


def _lines(node: yaml.Node, path: Place, document: Document) -> Iterator[tuple[Place, int]]:
    # YAML itself lets a second key silently replace the first.
    if isinstance(node, yaml.MappingNode):
        seen: set[object] = set()
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else str(key)
            key_path = (*path, name)
            if name in seen:
                document.problems.append(
                    Problem(document.file, key.start_mark.line + 1, written(key_path), "is given twice")
                )
            seen.add(name)
            yield key_path, key.start_mark.line + 1
            yield from _lines(value, key_path, document)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*path, index), value.start_mark.line + 1
            yield from _lines(value, (*path, index), document)


def _filled(document: Document, value: object, path: Place, environment: Mapping[str, str]) -> object:
    if isinstance(value, dict):
        return {key: _filled(document, item, (*path, key), environment) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(document, item, (*path, index), environment) for index, item in enumerate(value)]
    if not isinstance(value, str) or "${" not in value:
        return value

    def fill(match: re.Match[str]) -> str:
        name = match.group(2)
        if name is None:
            return "${"
        if not environment.get(name):
            document.mistake(path, f"${{{name}}} is not set in the environment")
            return ""
        if not PUBLIC.intersection(path):
            document.secrets.add(environment[name])
        return environment[name]

    return REFERENCE.sub(fill, value)

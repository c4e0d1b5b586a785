"""A YAML document that knows the line of every value, so that each mistake can name its place."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

Path = tuple[int | str, ...]
"""Keys and indexes from the top of a document to a value."""

Mistake = tuple[Path, str]
"""The path of a value, and what is wrong with it."""


class UnreadableYaml(ValueError):
    """The text is not usable YAML. The message names the file, and the line if it is known."""


class YamlDocument:
    """One document. `name` is the file name for messages."""

    def __init__(self, text: str, name: str) -> None:
        """Parses the text. Raises UnreadableYaml."""
        self.name = name
        self._lines: dict[Path, int] = {}
        try:
            node = yaml.compose(text, yaml.SafeLoader)
            self.duplicates = list(self._walk(node, ())) if node else []
            self.data: Any = yaml.safe_load(text)
        except yaml.MarkedYAMLError as e:
            at = f":{e.problem_mark.line + 1}" if e.problem_mark else ""
            raise UnreadableYaml(f"{name}{at}: not YAML: {e.problem}") from None
        except (yaml.YAMLError, ValueError) as e:
            raise UnreadableYaml(f"{name}: not YAML: {str(e).splitlines()[0]}") from None
        except RecursionError:
            raise UnreadableYaml(f"{name}: an anchor contains itself") from None

    def locate(self, path: Path) -> str:
        """`file:line path`. The line of a missing value is that of its parent."""
        known = path
        while known and known not in self._lines:
            known = known[:-1]
        place = f"{self.name}:{self._lines.get(known, 1)}"
        return f"{place} {path_text(path)}" if path else place

    def _walk(self, node: yaml.Node, path: Path) -> Iterator[Mistake]:
        """Records the line of every path. Finds duplicate keys, of which YAML would silently keep the last."""
        self._lines[path] = node.start_mark.line + 1
        if isinstance(node, yaml.SequenceNode):
            for i, child in enumerate(node.value):
                yield from self._walk(child, (*path, i))
        elif isinstance(node, yaml.MappingNode):
            for key, child in node.value:
                below = (*path, str(key.value))
                if below in self._lines:
                    yield below, f"duplicate key (first in line {self._lines[below]})"
                yield from self._walk(child, below)
                self._lines[below] = key.start_mark.line + 1


def path_text(path: Path) -> str:
    """A path as people write it, such as `services[1].rollback.batch_size`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def value_at(data: Any, path: Path) -> Any:
    """The value at a path; None if there is none."""
    for part in path:
        data = data.get(part) if isinstance(data, dict) else data[int(part)] if isinstance(data, list) else None
    return data


def expand(data: Any, environment: Mapping[str, str], path: Path = ()) -> tuple[Any, list[Mistake]]:
    """The data with `${NAME}` replaced by environment variables and `$$` by `$`, and every variable that is not set."""
    mistakes: list[Mistake] = []

    def value(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        if found[1] not in environment:
            mistakes.append((path, f"${{{found[1]}}} is not set in the environment"))
        return environment.get(found[1], "")

    def inner(item: Any, key: int | str) -> Any:
        expanded, more = expand(item, environment, (*path, key))
        mistakes.extend(more)
        return expanded

    if isinstance(data, str):
        data = re.sub(r"\$\$|\$\{(\w+)\}", value, data)
    elif isinstance(data, dict):
        data = {key: inner(item, str(key)) for key, item in data.items()}
    elif isinstance(data, list):
        data = [inner(item, i) for i, item in enumerate(data)]
    return data, mistakes

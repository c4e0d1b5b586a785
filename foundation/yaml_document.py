"""A YAML document that knows the line of every value, so that each mistake can name its position."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import yaml

Path = tuple[int | str, ...]
"""Keys and indexes from the top of a document to a value."""

Mistake = tuple[Path, str]
"""The path of a value, and what is wrong with it."""

_REFERENCE = re.compile(r"\$\$|\$\{(\w+)\}")


class UnreadableYaml(ValueError):
    """The text is not usable YAML. The text of the error names the file, and the line if it is known."""

    def __init__(self, name: str, problem: str, line: int | None = None) -> None:
        super().__init__(f"{name}{'' if line is None else f':{line}'}: {problem}")
        self.problem, self.line = problem, line


class YamlDocument:
    """One document. `name` is the file name for messages."""

    def __init__(self, text: str, name: str) -> None:
        """Parses the text. Raises UnreadableYaml."""
        self.name = name
        self._lines: dict[Path, int] = {}
        self.data: Any = None
        self.duplicates: list[Mistake] = []
        try:
            loader = yaml.SafeLoader(text)
            if node := loader.get_single_node():
                self.duplicates = list(self._walk(node, ()))
                self.data = loader.construct_document(node)
        except yaml.MarkedYAMLError as e:
            line = e.problem_mark.line + 1 if e.problem_mark else None
            raise UnreadableYaml(name, f"invalid YAML: {e.problem}", line) from None
        except (yaml.YAMLError, ValueError) as e:
            raise UnreadableYaml(name, f"invalid YAML: {str(e).splitlines()[0]}") from None
        except RecursionError:
            raise UnreadableYaml(name, "nested too deeply, or an anchor contains itself") from None

    def line(self, path: Path) -> int:
        """Returns the line of a value. That of a missing value is the line of its parent."""
        return next((self._lines[path[:end]] for end in range(len(path), -1, -1) if path[:end] in self._lines), 1)

    def locate(self, path: Path) -> str:
        """Returns `file:line path`."""
        position = f"{self.name}:{self.line(path)}"
        return f"{position} {path_text(path)}" if path else position

    def _walk(self, node: yaml.Node, path: Path) -> Iterator[Mistake]:
        """Records the line of every path. Yields duplicate keys, of which YAML silently keeps the last."""
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
    """Returns a path as people write it, such as `services[1].rollback.batch_size`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def value_at(data: Any, path: Path) -> Any:
    """Returns the value at a path, or None if there is none."""
    for part in path:
        data = data.get(part) if isinstance(data, dict) else data[int(part)] if isinstance(data, list) else None
    return data


def expand(data: Any, value_of: Callable[[Path, str], str], path: Path = ()) -> Any:
    """Returns the data with `value_of(path, NAME)` in place of each `${NAME}`, and `$` in place of `$$`."""
    if isinstance(data, dict):
        return {key: expand(item, value_of, (*path, str(key))) for key, item in data.items()}
    if isinstance(data, list):
        return [expand(item, value_of, (*path, i)) for i, item in enumerate(data)]
    if isinstance(data, str):
        return _REFERENCE.sub(lambda found: value_of(path, found[1]) if found[1] else "$", data)
    return data

"""A YAML document that knows the line of every value, so that each mistake can name its position."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import yaml

from foundation.configuration.findings import Finding, Severity, finding_of
from foundation.configuration.syntax_errors import explain

Path = tuple[int | str, ...]
"""Keys and indexes from the top of a document to a value."""

Mistake = tuple[Path, str]
"""The path of a value, and `what is wrong; what to do`."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TEXT, _MERGE = "tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"
_REFERENCE = re.compile(r"\$\$|\$\{(\w+)\}")

_DEEPEST = 100
"""Levels. libyaml crashes the process on the way to a hundred thousand."""

_MOST_VALUES = 1_000_000
"""Values that aliases may add. Nine levels of nine aliases are 400 million."""


class UnreadableYaml(ValueError):
    """The text is not usable YAML."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(str(finding))
        self.finding = finding


class YamlDocument:
    """One document. `name` is the file name for messages. Keys are text: `1.10: x` has the key "1.10"."""

    def __init__(self, text: str, name: str) -> None:
        """Parses the text, in time that is linear in its size. Raises UnreadableYaml."""
        self.name = name
        self.data: Any = None
        self.duplicates: list[Mistake] = []
        self._root: yaml.Node | None = None
        self._sizes: dict[int, int] = {}
        try:
            with _without_collector():
                _refuse_depth(text, name)
                self._root = (loader := _LOADER(text)).get_single_node()
                if self._root is not None:
                    self._check_size(text)
                    self.data = _without_extensions(loader.construct_document(self._root))
        except UnreadableYaml:
            raise
        except yaml.MarkedYAMLError as error:
            line, problem = explain(error, text)
            raise self._unreadable(problem, line) from None
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            hint = "save the file as UTF-8 text without control characters"
            code = error.character if isinstance(error.character, int) else ord(error.character)
            raise self._unreadable(f"the character U+{code:04X} is not text; {hint}", line) from None
        except (yaml.YAMLError, ValueError) as error:
            raise self._unreadable(f"{str(error).splitlines()[0]}; quote the value") from None

    def line(self, path: Path) -> int:
        """Returns the line of a value. That of a missing value is the line of its parent."""
        line = 1
        for marked, _ in self._nodes(path):
            line = _line(marked)
        return line

    def source(self, path: Path) -> str | None:
        """Returns a scalar as it is written, without quotes. None if the path leads to no scalar."""
        nodes = [node for _, node in self._nodes(path)]
        return str(nodes[-1].value) if len(nodes) > len(path) and isinstance(nodes[-1], yaml.ScalarNode) else None

    def finding(self, path: Path, text: str, severity: Severity = "error") -> Finding:
        """Returns a finding at the position of a value."""
        return finding_of(text, path=path_text(path), file=self.name, line=self.line(path), severity=severity)

    def misread(self, path: Path) -> Iterator[Mistake]:
        """The values of a mapping that YAML reads as another number than the text: 2.10 becomes 2.1."""
        values = value_at(self.data, path)
        for key, value in values.items() if isinstance(values, dict) else ():
            written = self.source((*path, key))
            if isinstance(value, int | float) and not isinstance(value, bool) and written != str(value):
                yield (*path, key), f'{written} is read as the number {value}; quote it: "{written}"'

    def _unreadable(self, problem: str, line: int | None = None) -> UnreadableYaml:
        return UnreadableYaml(finding_of(f"invalid YAML: {problem}", file=self.name, line=line))

    def _nodes(self, path: Path) -> Iterator[tuple[yaml.Node, yaml.Node]]:
        """The node that marks the position, and the node of the value, of each part of the path that exists."""
        node = self._root
        if node is None:
            return
        yield node, node
        for part in path:
            if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
                marked = node = node.value[part]
            elif isinstance(node, yaml.MappingNode):
                # The last of equal keys counts. Merged keys come first.
                found = next((pair for pair in reversed(node.value) if pair[0].value == str(part)), None)
                if found is None:
                    return
                marked, node = found
            else:
                return
            yield marked, node

    def _check_size(self, text: str) -> None:
        size = self._size(self._root, ())
        if size > len(text) + _MOST_VALUES:
            hint = "write the values out, or use fewer levels of aliases"
            raise self._unreadable(f"the aliases stand for {size:,} values, of at most {_MOST_VALUES:,}; {hint}")

    def _size(self, node: yaml.Node | None, path: Path) -> int:
        """The number of values below, counting each alias. Collects duplicate keys: YAML silently keeps the last."""
        if not isinstance(node, yaml.CollectionNode):
            return 1
        if (known := self._sizes.get(id(node))) is not None:
            if not known:
                hint = "write the inner value out"
                raise self._unreadable(f"the anchor contains itself; {hint}", _line(node))
            return known
        self._sizes[id(node)] = 0
        if isinstance(node, yaml.SequenceNode):
            size = 1 + sum(self._size(child, (*path, i)) for i, child in enumerate(node.value))
        else:
            size = 1 + self._size_of_mapping(node, path)
        self._sizes[id(node)] = size
        return size

    def _size_of_mapping(self, node: yaml.Node, path: Path) -> int:
        size, first = 0, dict[str, int]()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
                key.tag = _TEXT
                if key.value in first:
                    mistake = f"duplicate key, first in line {first[key.value]}; remove one"
                    self.duplicates.append(((*path, key.value), mistake))
                first.setdefault(key.value, _line(key))
            size += 1 + self._size(value, (*path, str(key.value)))
        return size


def path_text(path: Path) -> str:
    """Returns a path as people write it, such as `services[1].rollback.batch_size`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def value_at(data: Any, path: Path) -> Any:
    """Returns the value at a path, or None if there is none."""
    for part in path:
        if isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
        else:
            data = data.get(part) if isinstance(data, dict) else None
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


def _without_extensions(data: Any) -> Any:
    """Without the keys `x-…` at the top, which hold anchors, as in Compose files."""
    return {key: part for key, part in data.items() if not key.startswith("x-")} if isinstance(data, dict) else data


def _line(node: Any) -> int:
    return int(node.start_mark.line) + 1


def _refuse_depth(text: str, name: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _DEEPEST:
                problem = f"invalid YAML: nested more than {_DEEPEST} levels deep; close the brackets that are open"
                raise UnreadableYaml(finding_of(problem, file=name, line=_line(event)))
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


@contextmanager
def _without_collector() -> Iterator[None]:
    """Without garbage collection, which would visit all nodes again and again: 40,000 services take half the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()

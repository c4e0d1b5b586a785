"""What a JSON schema allows at a path of a document, and where else a key belongs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from foundation.configuration.yaml_document import Path, value_at

Schema = Mapping[str, Any]


class ConfigurationSchema:
    """The schema of a configuration, and the configuration as it is written."""

    def __init__(self, schema: Schema, data: Any) -> None:
        self._top, self._data = schema, data

    def keys(self, path: Path) -> dict[str, Schema]:
        """The keys that the mapping at the path can have, each with its schema."""
        fitting = _fitting(self._variants(path), value_at(self._data, path))
        return {key: part for variant in fitting for key, part in _properties(variant).items()}

    def about(self, path: Path) -> str:
        """The last key of the path with its description, as `soak: Time without trouble`; empty if it has none."""
        while path and not isinstance(path[-1], str):
            path = path[:-1]
        part = self.keys(path[:-1]).get(str(path[-1]), {}) if path else {}
        first = str(part.get("description", "")).partition("; ")[0].partition(". ")[0]
        return f"{path[-1]}: {first}" if first else ""

    def variants_with(self, path: Path, key: str) -> tuple[str, list[str]]:
        """The tag of the mapping, such as `strategy`, and the values of the tag with which it takes the key.

        The first key that it needs distinguishes a mapping without a tag, such as a check: then the tag is empty.
        """
        tag, names = "", list[str]()
        for variant in self._variants(path):
            properties = _properties(variant)
            constant = next((name for name, part in properties.items() if "const" in part), "")
            tag = tag or constant
            if key in properties:
                names += [str(properties[constant]["const"])] if constant else variant.get("required", ())[:1]
        return tag, list(dict.fromkeys(names))

    def homes(self, key: str, path: Path) -> list[str]:
        """The mappings that take the key, the nearest to the path first, such as `services[].rollback`."""
        near = _generic(path)

        def distance(home: tuple[str, ...]) -> tuple[int, int]:
            shared = 0
            while shared < min(len(home), len(near)) and home[shared] == near[shared]:
                shared += 1
            return len(home) + len(near) - 2 * shared, len(home)

        found = dict.fromkeys(self._homes(key, self._top, (), frozenset()))
        return [".".join(home).replace(".[]", "[]") for home in sorted(found, key=distance) if home]

    def _homes(self, key: str, node: Schema, path: tuple[str, ...], above: frozenset[str]) -> Iterator[tuple[str, ...]]:
        for name, variant in self._named(node):
            if name in above:
                continue
            properties = _properties(variant)
            if key in properties:
                yield path
            below = above | {name} if name else above
            for part, child in properties.items():
                yield from self._homes(key, child, (*path, part), below)
            if "items" in variant:
                yield from self._homes(key, variant["items"], (*path, "[]"), below)

    def _variants(self, path: Path) -> list[Schema]:
        """The schemas of which the value at the path must fit one."""
        nodes: list[Schema] = [variant for _, variant in self._named(self._top)]
        for end, part in enumerate(path):
            fitting = _fitting(nodes, value_at(self._data, path[:end]))
            children = [child for node in fitting if (child := _child(node, part)) is not None]
            nodes = [variant for child in children for _, variant in self._named(child)]
            if isinstance(value_at(self._data, path[: end + 1]), dict):  # a list of one can be written without brackets
                items = [node["items"] for node in nodes if "items" in node]
                nodes += [variant for item in items for _, variant in self._named(item)]
        return nodes

    def _named(self, node: Schema) -> Iterator[tuple[str, Schema]]:
        """The alternatives of a schema, each with the name of its definition."""
        if reference := node.get("$ref"):
            name = str(reference).rpartition("/")[2]
            for inner, variant in self._named(self._top["$defs"][name]):
                yield inner or name, variant
            return
        options = [option for key in ("anyOf", "oneOf", "allOf") for option in node.get(key, ())]
        for option in options:
            yield from self._named(option)
        if not options:
            yield "", node


def _properties(node: Schema) -> Mapping[str, Schema]:
    found: Mapping[str, Schema] = node.get("properties", {})
    return found


def _child(node: Schema, part: int | str) -> Schema | None:
    if isinstance(part, int):
        return node.get("items")
    others = [*node.get("patternProperties", {}).values(), node.get("additionalProperties")]
    fallback = next((other for other in others if isinstance(other, Mapping)), None)
    return _properties(node).get(part, fallback)


def _fitting(variants: list[Schema], value: Any) -> list[Schema]:
    """The variants that a mapping stands for, by its tag or by the keys that it has; all of them if that is unclear."""
    if not isinstance(value, dict):
        return variants
    tagged = [
        variant
        for variant in variants
        if any(part.get("const", _properties) == value.get(key) for key, part in _properties(variant).items())
    ]
    return tagged or [variant for variant in variants if {*variant.get("required", ())} <= value.keys()] or variants


def _generic(path: Path) -> tuple[str, ...]:
    return tuple("[]" if isinstance(part, int) else part for part in path)

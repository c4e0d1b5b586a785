"""Registries: named implementations of one kind, built in or from other distributions, imported when first used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, PydanticKnownError, core_schema, to_json

T = TypeVar("T", bound=BaseModel)


class Registry(Generic[T]):
    """The models of one kind, each under its name.

    As an annotation (`Annotated[Resource, RESOURCES]`) it validates a mapping with the model that the mapping names,
    and imports only that model. A mapping names its model by the value of the field `tag`: `resource: pod_template`.
    Without a tag it is the one key of the mapping that is a registered name, as `promql: up`.

    `builtin`: import paths (`package.module:Class`) by name. Other distributions add entry points of `group`.
    """

    def __init__(self, kind: str, *, group: str, builtin: Mapping[str, str], tag: str | None = None) -> None:
        self.kind, self.group, self.tag = kind, group, tag
        self._builtin = dict(builtin)
        self._loaded: dict[str, type[T]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Every registered name: built in, then of other distributions."""
        return (*self._builtin, *(name for name in self._others if name not in self._builtin))

    def load(self, name: str) -> type[T]:
        """The model of that name. Raises KeyError if nothing has registered it."""
        if name not in self._loaded:
            if name in self._builtin:
                module, _, attribute = self._builtin[name].partition(":")
                self._loaded[name] = getattr(import_module(module), attribute)
            else:
                self._loaded[name] = self._others[name].load()
        return self._loaded[name]

    def only(self, name: str) -> Only[T]:
        """As an annotation: the model of that name, for a key that takes no other."""
        return Only(self, name)

    def all(self) -> dict[str, type[T]]:
        """Every model by its name. Imports all of them."""
        return {name: self.load(name) for name in self.names}

    def name_of(self, value: object) -> str | None:
        """The registered name that a mapping or a model carries; None if it carries none."""
        has = value.__contains__ if isinstance(value, Mapping) else lambda key: hasattr(value, key)
        if self.tag is None:
            return next((name for name in self.names if has(name)), None)
        return (value.get(self.tag) if isinstance(value, Mapping) else getattr(value, self.tag, None)) or None

    @cached_property
    def _others(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=self.group)}

    def _validate(self, value: Any, info: ValidationInfo) -> Any:
        name = self.name_of(value)
        if name is None and self.tag is not None:
            raise PydanticKnownError("union_tag_not_found", {"discriminator": repr(self.tag)})
        if name is None:
            raise PydanticCustomError(
                "no_registered_key",
                "a {kind} has one of the keys {names}",
                {"kind": self.kind, "names": ", ".join(self.names)},
            )
        if not isinstance(name, str) or (name not in self._builtin and name not in self._others):
            names = ", ".join(map(repr, self.names))
            raise PydanticKnownError(
                "union_tag_invalid", {"discriminator": repr(self.tag), "tag": str(name), "expected_tags": names}
            )
        return _validated(self.load(name), value, info)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(self._validate)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return _described(self.all().values(), handler)


@dataclass(frozen=True)
class Only(Generic[T]):
    """One model of a registry, as an annotation. It is imported when a value is validated."""

    registry: Registry[T]
    name: str

    def load(self) -> type[T]:
        """The model."""
        return self.registry.load(self.name)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(lambda value, info: _validated(self.load(), value, info))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return _described([self.load()], handler)


def _validated(model: type[T], value: Any, info: ValidationInfo) -> T:
    if isinstance(value, model):
        return value
    if info.mode == "json":  # types that read JSON more strictly than Python values must still see JSON
        return model.model_validate_json(to_json(value), context=info.context)
    return model.model_validate(value, context=info.context)


def _described(models: Iterable[type[BaseModel]], handler: GetJsonSchemaHandler) -> JsonSchemaValue:
    return handler(core_schema.union_schema([model.__pydantic_core_schema__ for model in models]))

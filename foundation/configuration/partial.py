"""Models of a configuration that has mistakes: of each part, what can be used."""

from __future__ import annotations

import json
from collections.abc import Container
from functools import cache
from inspect import isabstract
from typing import Any, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

_EMPTY: dict[Any, Any] = {tuple: (), dict: {}}


def partial(model: type[BaseModel], data: Any) -> Any:
    """The model with every field that is right, so that checks across parts can run beside the mistakes in one part.

    Lists keep their positions. Every other field has its default, or is empty. No validator of a whole model runs.
    """
    try:
        return model.model_validate_json(json.dumps(data, default=str))
    except ValidationError as error:
        values = data if isinstance(data, dict) else {}
        wrong = {details["loc"][0] for details in error.errors(include_url=False) if details["loc"]}
        fields = {name: _field(model, name, field, values, wrong) for name, field in model.model_fields.items()}
        return model.model_construct(**fields)


def _field(model: type[BaseModel], name: str, field: FieldInfo, values: dict[str, Any], wrong: Container[Any]) -> Any:
    key = field.alias if field.alias in values else name
    if key in wrong and (parts := _parts(field.annotation, values.get(key))) is not None:
        return parts
    if key in values and key not in wrong:
        return _adapter(model, name).validate_json(json.dumps(values[key], default=str))
    default = field.get_default(call_default_factory=True, validated_data={})
    return _EMPTY.get(get_origin(field.annotation)) if field.is_required() else default


def _parts(annotation: Any, value: Any) -> Any:
    """A model, or a list of models, as far as it is right. None for any other type."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel) and not isabstract(annotation):
        return partial(annotation, value)
    (item, *rest) = get_args(annotation) or (None,)
    is_list = get_origin(annotation) is tuple and rest == [...] and isinstance(value, list)
    if is_list and isinstance(item, type) and issubclass(item, BaseModel):
        return tuple(partial(item, part) for part in value)
    return None


@cache
def _adapter(model: type[BaseModel], name: str) -> TypeAdapter[Any]:
    return TypeAdapter(model.model_fields[name].rebuild_annotation())

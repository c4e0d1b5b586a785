"""Every registered model has its name and its client, and round-trips."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from foundation.registry import Registry
from responder.backends.registries import CHECKS, LOG_SOURCES, RESOURCES, AnyCheck

CHECK: TypeAdapter[Any] = TypeAdapter(AnyCheck)
REGISTERED = [(registry, name) for registry in (RESOURCES, CHECKS, LOG_SOURCES) for name in registry.names]


@pytest.mark.parametrize(("registry", "name"), REGISTERED, ids=[name for _, name in REGISTERED])
def test_a_model_has_its_name_and_its_client(registry: Registry[Any], name: str) -> None:
    model = registry.load(name)
    if registry.tag:
        assert model.model_fields[registry.tag].default == name
    else:
        assert model.model_fields[name].is_required()
        assert [other for other in registry.names if other in model.model_fields] == [name]
    assert hasattr(model.client, "connect"), "name the client in the type arguments of the base class"


@pytest.mark.parametrize("namespace", ["", "shop/pods/x", "../kube-system", "Shop", "a b"])
def test_a_namespace_is_validated_as_a_name(namespace: str) -> None:
    with pytest.raises(ValidationError, match="should match pattern"):
        CHECK.validate_python({"pods": {"namespace": namespace, "labels": {"app": "x"}}})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{}", "a check has one of the keys promql, http"),
        ('{"quel": "select 1"}', "a check has one of the keys promql, http"),
        ("5", "a check has one of the keys promql, http"),
        ('{"promql": "up"}', "needs at least one of at_least"),
        ('{"promql": "", "at_least": 1}', "at least 1 character"),
        ('{"promql": "up", "at_least": "many"}', "number"),
        ('{"promql": "up", "at_least": 1, "http": "http://x"}', "Extra inputs"),
        ('{"http": "ftp://x"}', "URL scheme"),
        ('{"http": "nonsense"}', "URL"),
        ('{"http": "http://x", "body": "("}', "is not a valid RE2 regular expression"),
        ('{"http": "http://x", "timeout": 5}', "needs a unit"),
        ('{"http": "http://x", "timeout": "0s"}', "greater than 0"),
        ('{"http": "http://x", "status": 99}', "100"),
    ],
)
def test_an_invalid_check_is_refused(text: str, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        CHECK.validate_json(text)


@pytest.mark.parametrize(
    "text", ['{"promql": "up", "at_least": 1, "below": 5}', '{"http": "http://x/health", "fields": {"a.b": [1, null]}}']
)
def test_a_check_round_trips(text: str) -> None:
    check = CHECK.validate_json(text)
    assert CHECK.validate_json(CHECK.dump_json(check)) == check

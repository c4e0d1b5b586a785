"""Registries import a model when a mapping names it, and find the models of other distributions."""

from __future__ import annotations

import json
import sys
from importlib.metadata import EntryPoint
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, BeforeValidator, ValidationError, create_model

from foundation import registry as module
from foundation.registry import Registry


class Link(BaseModel):
    resource: Literal["link"] = "link"
    path: str


class Query(BaseModel):
    promql: str
    at_least: float


class Beacon(BaseModel):
    resource: Literal["beacon"] = "beacon"
    light: bool


class Mode(BaseModel):
    mode: Annotated[str, BeforeValidator(lambda value, info: info.mode)]


RESOURCES: Registry[Any] = Registry(
    "resource", group="test.resources", builtin={"link": f"{__name__}:Link"}, tag="resource"
)
CHECKS: Registry[Any] = Registry(
    "check", group="test.checks", builtin={"promql": f"{__name__}:Query", "mode": f"{__name__}:Mode"}
)


class Settings(BaseModel):
    release: Annotated[Any, RESOURCES]
    checks: tuple[Annotated[Any, CHECKS], ...] = ()


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, __name__, sys.modules[Link.__module__])
    monkeypatch.setattr(
        module,
        "entry_points",
        lambda group: [EntryPoint("beacon", f"{__name__}:Beacon", group)] if "resources" in group else [],
    )


def test_a_mapping_becomes_the_model_that_it_names() -> None:
    read = Settings.model_validate(
        {"release": {"resource": "link", "path": "/x"}, "checks": [{"promql": "up", "at_least": 1}]}
    )
    assert (read.release, read.checks) == (Link(path="/x"), (Query(promql="up", at_least=1),))


def test_models_of_other_distributions_are_found() -> None:
    assert RESOURCES.names == ("link", "beacon")
    assert Settings(release={"resource": "beacon", "light": True}).release == Beacon(light=True)


def test_a_model_is_kept_and_serialized_with_all_its_fields() -> None:
    beacon = Beacon(light=True)
    assert Settings(release=beacon).release is beacon
    assert Settings(release=beacon).model_dump_json() == '{"release":{"resource":"beacon","light":true},"checks":[]}'
    assert Settings.model_validate_json(Settings(release=beacon).model_dump_json()).release == beacon


@pytest.mark.parametrize(
    ("settings", "where", "message"),
    [
        ({"release": {"path": "/x"}}, ("release",), "Unable to extract tag using discriminator 'resource'"),
        ({"release": {"resource": "rope"}}, ("release",), "expected tags: 'link', 'beacon'"),
        ({"release": {"resource": "link"}}, ("release", "path"), "Field required"),
        (
            {"release": Link(path="x"), "checks": [{"sql": "1"}]},
            ("checks", 0),
            "one of the keys promql, mode",
        ),
        ({"release": "x"}, ("release",), "Unable to extract tag"),
        ({"release": None}, ("release",), "Unable to extract tag"),
    ],
)
def test_mistakes_name_their_path(settings: Any, where: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValidationError) as raised:
        Settings.model_validate(settings)
    (error,) = raised.value.errors()
    assert (error["loc"], message in error["msg"]) == (where, True), error


def test_the_schema_describes_every_model() -> None:
    schema = Settings.model_json_schema()
    release, checks = schema["properties"]["release"], schema["properties"]["checks"]["items"]
    assert [model["$ref"] for model in release["anyOf"]] == ["#/$defs/Link", "#/$defs/Beacon"]
    assert {"$ref": "#/$defs/Query"} in checks["anyOf"]
    assert {"Link", "Beacon", "Query"} <= schema["$defs"].keys()


def test_an_unknown_name_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        RESOURCES.load("rope")


@pytest.mark.parametrize("mode", ["python", "json"])
def test_a_model_is_validated_in_the_mode_of_its_source(mode: str) -> None:
    """Types such as durations read JSON more strictly than values of our own code."""
    written: dict[str, Any] = {"release": {"resource": "link", "path": "x"}, "checks": [{"mode": ""}]}
    read = Settings.model_validate_json(json.dumps(written)) if mode == "json" else Settings.model_validate(written)
    assert read.checks[0].mode == mode


def test_a_key_for_one_model_imports_it_when_a_value_is_validated() -> None:
    registry: Registry[Any] = Registry(
        "check", group="test.checks", builtin={"query": f"{__name__}:Query", "gone": "no:X"}
    )
    fields = {name: (Annotated[Any, registry.only(name)], None) for name in registry.names}
    settings: type[BaseModel] = create_model("Settings", **fields)  # type: ignore[call-overload]
    read = settings.model_validate({"query": {"promql": "up", "at_least": 1}})
    assert read.query == Query(promql="up", at_least=1)  # type: ignore[attr-defined]
    with pytest.raises(ValidationError, match=r"query\.promql"):
        settings.model_validate({"query": {}})
    assert settings.model_validate(read).query is read.query  # type: ignore[attr-defined]
    with pytest.raises(ModuleNotFoundError):
        settings.model_validate({"gone": {}})

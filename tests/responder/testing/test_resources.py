"""The published laws of a resource find resources that break them."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from responder.backends.problems import Problem
from responder.backends.registries import RESOURCES
from responder.backends.resource import Resource
from responder.errors import Drift
from responder.testing.resources import ResourceCase, check_laws


class Memory:
    """The outside system: one value."""

    def __init__(self) -> None:
        self.value: Any = "2"
        self.notes: list[Any] = []


class Sound(Resource[Memory]):
    """Keeps every law."""

    client: ClassVar[type[Any]] = Memory
    resource: str = "sound"

    async def read(self, client: Memory) -> Any:
        return client.value

    async def write(self, client: Memory, value: Any, *, expected: Any) -> None:
        self.must_be(client.value, value, expected)
        client.value = value

    async def check_access(self, client: Memory) -> list[Problem]:
        return []

    def __str__(self) -> str:
        return "value in memory"


class Overwriting(Sound):
    """Overwrites what someone else has set."""

    async def write(self, client: Memory, value: Any, *, expected: Any) -> None:
        client.value = value


class OnlyOnce(Sound):
    """Does not recognize its own unfinished write."""

    async def write(self, client: Memory, value: Any, *, expected: Any) -> None:
        self.must_be(client.value, expected)
        client.value = value


class Forgetful(Sound):
    """Does not write."""

    async def write(self, client: Memory, value: Any, *, expected: Any) -> None:
        self.must_be(client.value, value, expected)


class Touching(Sound):
    """Changes the value in its check of the access."""

    async def check_access(self, client: Memory) -> list[Problem]:
        client.value = "touched"
        return []


class Littering(Sound):
    """Leaves a note of every change."""

    async def write(self, client: Memory, value: Any, *, expected: Any) -> None:
        await super().write(client, value, expected=expected)
        client.notes = [*client.notes, value]


class Preparing(Sound):
    """Leaves something behind in its check of the access, but not in the value."""

    async def check_access(self, client: Memory) -> list[Problem]:
        client.notes = ["checked"]
        return []


class Unreadable(Sound):
    """Is shown on two lines."""

    def __str__(self) -> str:
        return "value\nin memory"


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    for model in (Sound, Overwriting, OnlyOnce, Forgetful, Touching, Littering, Preparing, Unreadable):
        monkeypatch.setitem(RESOURCES._loaded, model.__name__.lower(), model)
        monkeypatch.setitem(RESOURCES._builtin, model.__name__.lower(), "unused")


def case(model: type[Sound]) -> ResourceCase:
    resource = model.model_construct(resource=model.__name__.lower())
    memory = Memory()
    return ResourceCase(resource, memory, "2", "1", "hotfix", state=lambda: {**vars(memory), "reads": 7})


async def test_a_sound_resource_passes() -> None:
    await check_laws(case(Sound))


@pytest.mark.parametrize(
    ("model", "error", "law"),
    [
        (Overwriting, AssertionError, "did not raise Drift"),
        (OnlyOnce, Drift, "value in memory is '1'"),
        (Forgetful, AssertionError, "after a write the value is '2'"),
        (Touching, AssertionError, "after check_access the value is 'touched'"),
        (Littering, AssertionError, r"after a write of the first value .*\n/notes: \[\] → \['1', '1', '2'\]"),
        (Preparing, AssertionError, r"after check_access .*\n/notes: \[\] → \['checked'\]"),
        (Unreadable, AssertionError, "expected one line"),
    ],
)
async def test_a_broken_resource_fails(model: type[Sound], error: type[Exception], law: str) -> None:
    with pytest.raises(error, match=law):
        await check_laws(case(model))

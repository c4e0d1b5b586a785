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
        self.writes = 0


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
    """Leaves a note of the first value."""

    async def write(self, client: Memory, value: Any, *, expected: Any) -> None:
        await super().write(client, value, expected=expected)
        client.notes = ["2 is back"] if value == "2" else []


class Meddling(Sound):
    """Changes something else together with the value, and changes it back."""

    async def write(self, client: Memory, value: Any, *, expected: Any) -> None:
        await super().write(client, value, expected=expected)
        client.notes = [] if value == "2" else [value]


class Counting(Sound):
    """Leaves a note of every write, also of a repeated one."""

    async def write(self, client: Memory, value: Any, *, expected: Any) -> None:
        await super().write(client, value, expected=expected)
        client.writes += 1


class Reporting(Sound):
    """Leaves a note when it finds drift."""

    async def write(self, client: Memory, value: Any, *, expected: Any) -> None:
        client.notes = ["drift"] if client.value not in (value, expected) else []
        await super().write(client, value, expected=expected)


class Reading(Sound):
    """Leaves a note of a read."""

    async def read(self, client: Memory) -> Any:
        client.notes = ["read"]
        return client.value


class OneWay(Sound):
    """Cannot go back."""

    async def write(self, client: Memory, value: Any, *, expected: Any) -> None:
        if value == "2":
            raise Drift("2 is gone")
        await super().write(client, value, expected=expected)


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
    for model in (Sound, *Sound.__subclasses__()):
        monkeypatch.setitem(RESOURCES._loaded, model.__name__.lower(), model)
        monkeypatch.setitem(RESOURCES._builtin, model.__name__.lower(), "unused")


def case(model: type[Sound], **more: Any) -> ResourceCase:
    resource, memory = model.model_construct(resource=model.__name__.lower()), Memory()
    fields: dict[str, Any] = {"state": lambda: vars(memory), "version": ["/value"], **more}
    return ResourceCase(resource, memory, "2", "1", "hotfix", **fields)


async def test_a_sound_resource_passes() -> None:
    await check_laws(case(Sound))


async def test_the_state_may_take_time() -> None:
    memory = Memory()

    async def state() -> Any:
        return vars(memory)

    resource = Sound.model_construct(resource="sound")
    await check_laws(ResourceCase(resource, memory, "2", "1", state=state, version=["/value"]))


async def test_a_value_that_cannot_be_restored_keeps_the_other_laws() -> None:
    await check_laws(case(OneWay, one_way=True))
    with pytest.raises(AssertionError, match="after a second write"):
        await check_laws(case(Counting, version=["/value", "/writes"], one_way=True))


async def test_every_write_may_be_counted() -> None:
    await check_laws(case(Counting, may_differ={"/writes": "counts the writes"}))


@pytest.mark.parametrize(
    ("more", "error", "refusal"),
    [
        ({}, TypeError, "'state' and 'version'"),
        ({"state": lambda: None, "version": ["/value"]}, AssertionError, "return a state that contains the value"),
        ({"state": lambda: {"reads": 7}, "version": ["/value"]}, AssertionError, "that contains the value"),
        ({"version": ["/other"], "may_differ": {"/value": "hidden"}}, AssertionError, "in `version`"),
        ({"version": ["*"]}, AssertionError, r"the pattern '\*' covers the whole state"),
        ({"version": ["/*"]}, AssertionError, "covers the whole state"),
        ({"version": ["/value"], "may_differ": {"/notes": " "}}, AssertionError, r"\['/notes'\] have no reason"),
    ],
)
async def test_a_case_that_sees_nothing_is_refused(more: Any, error: type[Exception], refusal: str) -> None:
    memory = Memory()
    seen = {"state": lambda: vars(memory), **more} if more else {}
    with pytest.raises(error, match=refusal):
        await check_laws(ResourceCase(Sound.model_construct(resource="sound"), memory, "2", "1", **seen))


@pytest.mark.parametrize(
    ("model", "error", "law"),
    [
        (Overwriting, AssertionError, "did not raise Drift"),
        (OnlyOnce, Drift, "value in memory is '1'"),
        (Forgetful, AssertionError, "after a write the value is '2'"),
        (Touching, AssertionError, "after check_access the value is 'touched'"),
        (Littering, AssertionError, r"after a write of the first value .*\n/notes: \[\] → \['2 is back'\]"),
        (Meddling, AssertionError, r"after a write the outside differs:\n/notes: \[\] → \['1'\]"),
        (Counting, AssertionError, "after a write the outside differs:\n/writes: 0 → 1"),
        (Reporting, AssertionError, r"after a write that raised Drift .*\n/notes: \[\] → \['drift'\]"),
        (Reading, AssertionError, r"after a read .*\n/notes: \[\] → \['read'\]"),
        (Preparing, AssertionError, r"after check_access .*\n/notes: \[\] → \['checked'\]"),
        (Unreadable, AssertionError, "expected one line"),
    ],
)
async def test_a_broken_resource_fails(model: type[Sound], error: type[Exception], law: str) -> None:
    with pytest.raises(error, match=law):
        await check_laws(case(model))

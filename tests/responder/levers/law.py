"""The laws that every lever keeps; a new lever joins with one entry in the table of its test."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter

from responder.errors import Drift
from responder.levers import AnyLever
from responder.levers.lever import Lever

_ANY: TypeAdapter[Any] = TypeAdapter(AnyLever)


async def keeps_the_laws(lever: Lever, client: Any, *, was: Any, to: Any, stranger: Any) -> None:
    """`was` is there now. Leaves `was` there."""
    assert await lever.read(client) == was, "the test's own beginning"

    await lever.write(client, to, was=was)
    assert await lever.read(client) == to, "read after write"
    assert await lever.settled(client, to)

    await lever.write(client, to, was=was)
    assert await lever.read(client) == to, "writing twice is writing once"

    await lever.write(client, was, was=to)
    assert await lever.read(client) == was, "writing `was` back restores"
    assert await lever.settled(client, was)

    await lever.write(client, stranger, was=was)
    with pytest.raises(Drift):
        await lever.write(client, to, was=was)
    assert await lever.read(client) == stranger, "what somebody else set stays"
    await lever.write(client, was, was=stranger)

    assert _ANY.validate_json(lever.model_dump_json()) == lever, "a plan in the journal is read back as it was"
    assert str(lever) and "\n" not in str(lever)
    assert lever.patience > 0

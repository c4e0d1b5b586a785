"""The laws that every resource keeps; a new resource joins with one entry in the table of its test."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter

from responder.backends.registries import AnyResource
from responder.backends.resource import Resource
from responder.errors import Drift
from responder.rollback.gateway import Gateway
from tests.responder.harness import FixedConnections

_ANY: TypeAdapter[Any] = TypeAdapter(AnyResource)


async def has_converged(resource: Resource, client: Any, value: Any) -> bool:
    """As the gateway asks it: not every resource says by itself when it has converged."""
    return await Gateway(FixedConnections({resource.client: client})).converged(resource, value)


async def keeps_the_laws(resource: Resource, client: Any, *, expected: Any, to: Any, stranger: Any) -> None:
    """`was` is there now. Leaves `was` there."""
    assert await resource.read(client) == expected, "the test's own beginning"

    await resource.write(client, to, expected=expected)
    assert await resource.read(client) == to, "read after write"
    assert await has_converged(resource, client, to)

    await resource.write(client, to, expected=expected)
    assert await resource.read(client) == to, "writing twice is writing once"

    await resource.write(client, expected, expected=to)
    assert await resource.read(client) == expected, "writing `was` back restores"
    assert await has_converged(resource, client, expected)

    await resource.write(client, stranger, expected=expected)
    with pytest.raises(Drift):
        await resource.write(client, to, expected=expected)
    assert await resource.read(client) == stranger, "what somebody else set stays"
    await resource.write(client, expected, expected=stranger)

    assert _ANY.validate_json(resource.model_dump_json()) == resource, "a plan in the journal is read back as it was"
    assert str(resource) and "\n" not in str(resource)
    assert resource.timeout > 0

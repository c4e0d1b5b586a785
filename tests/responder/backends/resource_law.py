"""The published laws of a resource, for the tests of the built-in ones."""

from __future__ import annotations

from typing import Any

from responder.backends.resource import Resource
from responder.testing.resources import ResourceCase, check_laws, has_converged

__all__ = ["has_converged", "keeps_the_laws"]


async def keeps_the_laws(
    resource: Resource, client: Any, *, expected: Any, to: Any, stranger: Any, **more: Any
) -> None:
    """`expected` is the current value. Leaves it in place. `more`: other fields of the case."""
    await check_laws(ResourceCase(resource, client, before=expected, after=to, other=stranger, **more))

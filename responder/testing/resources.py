"""The laws of a resource.

async def test_laws():
    async with stand_in() as service:
        await check_laws(ResourceCase(resource, client, before="2", after="1", other="hotfix"))
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import JsonValue, TypeAdapter

from responder.backends.capabilities import Assisted, Attributed, Preflight
from responder.backends.connections import Connections
from responder.backends.registries import AnyResource
from responder.backends.resource import Resource
from responder.errors import Drift
from responder.rollback.gateway import Gateway
from responder.testing.comparison import expect_unchanged
from responder.testing.expect import expect, expect_error

_ANY: TypeAdapter[Resource] = TypeAdapter(AnyResource)


@dataclass(frozen=True)
class ResourceCase:
    """A resource with a stand-in for its outside system.

    `before`: the current value. `after` and `other`: two further values that it can have; `other` is None if it has
    two values only. `settle`: lets the outside system catch up with a write. `state`: everything outside that the
    resource could change, as JSON; `may_differ`: paths in it that differ after a revert, each with the reason.
    """

    resource: Resource
    client: Any
    before: JsonValue
    after: JsonValue
    other: JsonValue = None
    settle: Callable[[], None] = lambda: None
    state: Callable[[], Any] = lambda: None
    may_differ: Mapping[str, str] = field(default_factory=dict)

    def current(self) -> Any:
        """A copy of the state now."""
        self.settle()
        return copy.deepcopy(self.state())


async def check_laws(case: ResourceCase) -> None:
    """Checks every law. Leaves the resource at `before`. Raises AssertionError with the first law that is broken."""
    resource, client, before, after = case.resource, case.client, case.before, case.after
    await _expect_value(case, before, "before the first write")
    outside = case.current()
    await resource.write(client, after, expected=before)
    await _expect_value(case, after, "after a write")
    await _expect_converged(case, after)
    await resource.write(client, after, expected=before)
    await _expect_value(case, after, "after a second write of the same value")
    await resource.write(client, before, expected=after)
    await _expect_value(case, before, "after a write of the first value")
    await _expect_converged(case, before)
    expect_unchanged(outside, case.current(), "after a write of the first value", case.may_differ)
    if case.other is not None:
        await _expect_drift(case)
    await _expect_capabilities(case)
    _expect_text(resource)


async def _expect_drift(case: ResourceCase) -> None:
    resource, client, other = case.resource, case.client, case.other
    await resource.write(client, other, expected=case.before)
    with expect_error(Drift, f"a write over the value {other!r} of someone else did not raise Drift"):
        await resource.write(client, case.after, expected=case.before)
    await _expect_value(case, other, "after a write that raised Drift")
    await resource.write(client, case.before, expected=other)


async def _expect_capabilities(case: ResourceCase) -> None:
    """What a resource can do besides reading and writing changes nothing."""
    resource, client, before = case.resource, case.client, case.before
    outside = case.current()

    async def expect_same(moment: str) -> None:
        await _expect_value(case, before, moment)
        expect_unchanged(outside, case.current(), moment)

    await resource.check_access(client)
    await expect_same("after check_access")
    if isinstance(resource, Preflight):
        await resource.preflight(client, case.after)
        await expect_same("after preflight")
    if isinstance(resource, Attributed):
        await resource.last_modified_by(client)
        await expect_same("after last_modified_by")
    if isinstance(resource, Assisted):
        await resource.assist(client, before)
        await expect_same("after assist")


def _expect_text(resource: Resource) -> None:
    text = str(resource)
    expect(bool(text) and "\n" not in text, f"the resource is shown as {text!r}; expected one line")
    expect(resource.timeout > 0, f"timeout is {resource.timeout}; expected seconds above 0")
    read = _ANY.validate_json(resource.model_dump_json())
    expect(read == resource, f"the journal reads the resource back as {read!r}; expected {resource!r}")


async def _expect_value(case: ResourceCase, value: JsonValue, moment: str) -> None:
    found = await case.resource.read(case.client)
    expect(case.resource.same(found, value), f"{moment} the value is {found!r}; expected {value!r}")


async def _expect_converged(case: ResourceCase, value: JsonValue) -> None:
    case.settle()
    expect(await has_converged(case.resource, case.client, value), f"the resource has not converged to {value!r}")


async def has_converged(resource: Resource, client: Any, value: JsonValue) -> bool:
    """Whether the resource has converged, as in the gateway: not every resource implements `Converges`."""
    return await Gateway(FixedConnections({resource.client: client})).converged(resource, value)


class FixedConnections(Connections):
    """These clients, already connected."""

    def __init__(self, clients: dict[type[Any], Any]) -> None:
        super().__init__()
        self._clients = clients

    async def to(self, kind: Any) -> Any:
        return self._clients[kind]

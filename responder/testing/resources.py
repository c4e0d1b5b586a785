"""The laws of a resource.

async def test_laws():
    async with stand_in() as service:
        case = ResourceCase(
            resource, client, before="2", after="1", other="hotfix", state=service.everything, version=["/job/version"]
        )
        await check_laws(case)
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import KW_ONLY, dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from pydantic import JsonValue, TypeAdapter

from responder.backends.capabilities import Assisted, Attributed, Observable, Preflight, Versioned
from responder.backends.connections import Connections
from responder.backends.registries import AnyResource
from responder.backends.resource import Resource
from responder.errors import Drift
from responder.rollback.gateway import Gateway
from responder.testing.comparison import covers, differences, expect_unchanged
from responder.testing.expect import expect, expect_error

_ANY: TypeAdapter[Resource] = TypeAdapter(AnyResource)


@dataclass(frozen=True)
class ResourceCase:
    """A resource with a stand-in for its outside system, or with the real system.

    `before`: the current value. `after` and `other`: two further values that it can have; `other` is None if it has
    two values only. `state`: everything outside that the resource could change, as JSON; it may be a coroutine.
    `version`: patterns of the paths in it that belong to the value, as in `expect_unchanged`. `may_differ`: other
    paths that a write changes, each with the reason. `one_way`: the outside system cannot set `before` again.
    `settle`: lets the outside system catch up with a write.
    """

    resource: Resource
    client: Any
    before: JsonValue
    after: JsonValue
    other: JsonValue = None
    _: KW_ONLY
    state: Callable[[], Any]
    version: Collection[str]
    may_differ: Mapping[str, str] = field(default_factory=dict)
    one_way: bool = False
    settle: Callable[[], None] = lambda: None

    async def current(self) -> Any:
        """A copy of the state now."""
        self.settle()
        found = self.state()
        return copy.deepcopy(await found if inspect.isawaitable(found) else found)

    @property
    def written(self) -> dict[str, str]:
        """Every path that a write may change."""
        return {**self.may_differ, **dict.fromkeys(self.version, "belongs to the value")}


async def check_laws(case: ResourceCase) -> None:
    """Checks every law. Leaves the resource at `before`. Raises AssertionError with the first law that is broken."""
    _expect_narrow(case)
    resource, client, before, after = case.resource, case.client, case.before, case.after
    await _expect_capabilities(case, before)
    outside = await case.current()
    await resource.write(client, after, expected=before)
    await _expect_value(case, after, "after a write")
    await _expect_converged(case, after)
    changed = await case.current()
    _expect_seen(case, outside, changed)
    expect_unchanged(outside, changed, "after a write", case.written)
    await resource.write(client, after, expected=before)
    await _expect_value(case, after, "after a second write of the same value")
    expect_unchanged(changed, await case.current(), "after a second write of the same value", case.may_differ)
    await _expect_capabilities(case, after)
    if not case.one_way:
        await _expect_return(case, outside)
    _expect_text(resource)


async def _expect_return(case: ResourceCase, outside: Any) -> None:
    """Writing the first value restores everything, also after a write of someone else."""
    resource, client, before = case.resource, case.client, case.before
    await resource.write(client, before, expected=case.after)
    await _expect_value(case, before, "after a write of the first value")
    await _expect_converged(case, before)
    expect_unchanged(outside, await case.current(), "after a write of the first value", case.may_differ)
    if case.other is not None:
        await _expect_drift(case)
        await resource.write(client, before, expected=case.other)
        await _expect_converged(case, before)
        expect_unchanged(outside, await case.current(), "after a second write of the first value", case.may_differ)


async def _expect_drift(case: ResourceCase) -> None:
    resource, client, other = case.resource, case.client, case.other
    await resource.write(client, other, expected=case.before)
    outside = await case.current()
    with expect_error(Drift, f"a write over the value {other!r} of someone else did not raise Drift"):
        await resource.write(client, case.after, expected=case.before)
    await _expect_value(case, other, "after a write that raised Drift")
    expect_unchanged(outside, await case.current(), "after a write that raised Drift")


async def _expect_capabilities(case: ResourceCase, value: JsonValue) -> None:
    """What a resource can do besides writing changes nothing, at `before` and at `after`."""
    resource, client = case.resource, case.client
    other = case.after if value == case.before else case.before
    outside = await case.current()

    async def expect_same(moment: str) -> None:
        await _expect_value(case, value, moment)
        expect_unchanged(outside, await case.current(), moment)

    await expect_same("after a read")
    await resource.check_access(client)
    await expect_same("after check_access")
    if isinstance(resource, Preflight) and not (case.one_way and other == case.before):
        await resource.preflight(client, other)
        await expect_same("after preflight")
    if isinstance(resource, Observable) and isinstance(resource, Versioned):
        version, artifact = await resource.version_of(client, value)
        shown = not version or await resource.runs(client, value, version, artifact)
        expect(shown, f"version_of shows {version!r} {artifact!r}, but runs is False for them")
        await expect_same("after version_of")
    if isinstance(resource, Attributed):
        await resource.last_modified_by(client)
        await expect_same("after last_modified_by")
    if isinstance(resource, Assisted):
        await resource.assist(client, value)
        await expect_same("after assist")


def _expect_narrow(case: ResourceCase) -> None:
    """The patterns of the case leave something to compare."""
    for pattern in case.written:
        everything = any(fnmatchcase(path, pattern) for path in ("", "/"))
        expect(not everything, f"the pattern {pattern!r} covers the whole state; name the paths that a write changes")
    unexplained = [pattern for pattern, reason in case.may_differ.items() if not reason.strip()]
    expect(not unexplained, f"may_differ: {unexplained} have no reason; say why a write changes them")


def _expect_seen(case: ResourceCase, outside: Any, changed: Any) -> None:
    """The state of the case contains the value."""
    seen = [path for path, _ in differences(outside, changed, {})]
    hidden = f"the state of the case differs at {seen} after a write, at none of {list(case.version)}"
    expect(bool(seen), "the state of the case is the same after a write; return a state that contains the value")
    belongs = any(covers(pattern, path) for path in seen for pattern in case.version)
    expect(belongs, f"{hidden}; name the paths that belong to the value in `version`")


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

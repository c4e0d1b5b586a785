"""Detects resources that someone else changed. Drift is reported with its author and never overwritten."""

from __future__ import annotations

from pydantic import JsonValue

from responder.errors import Drift
from responder.rollback.execution import Execution
from responder.rollback.gateway import Gateway
from responder.rollback.plan import Change

_SOMEONE = "someone else"


async def require_in_place(execution: Execution, gateway: Gateway) -> None:
    """Raises Drift if a resource no longer has the value that this execution set."""
    for change in execution.in_place:
        found = await gateway.read(change.resource)
        if not change.resource.equivalent(found, change.after):
            raise await drift_from(change, found, gateway)


async def require_known(change: Change, found: JsonValue, gateway: Gateway) -> None:
    """Raises Drift if the found value is neither the value before the change nor the value after it."""
    resource = change.resource
    if resource.equivalent(found, change.before) or resource.equivalent(found, change.after):
        return
    author = await gateway.last_modified_by(resource)
    before, after = resource.describe(change.before), resource.describe(change.after)
    raise Drift(
        f"the {resource} is {resource.describe(found)}, neither {before} nor {after}: "
        f"changed by {author or _SOMEONE}; the rollback makes no further changes",
        by=author,
    )


async def drift_from(change: Change, found: JsonValue, gateway: Gateway) -> Drift:
    """The error for a resource that this change set and that has another value now."""
    resource = change.resource
    author = await gateway.last_modified_by(resource)
    return Drift(
        f"the {resource} was set to {resource.describe(change.after)} and is {resource.describe(found)} now: "
        f"changed by {author or _SOMEONE}",
        by=author,
    )

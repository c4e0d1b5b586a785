"""A pointer swapped by its ETag never overwrites another change, at whichever call that happens."""

from __future__ import annotations

import pytest

from responder.backends.sites.cloudfront import CloudfrontKey, OriginPath
from responder.backends.sites.pointer_object import PointerObject
from responder.rollback.plan import Change
from responder.testing.faults import Point
from tests.responder.rollback.crash import frontend
from tests.responder.rollback.crash.drill import CrashDrill
from tests.responder.rollback.crash.test_crash import DrillFactory, drills  # noqa: F401

_SWAPPED = (CloudfrontKey, OriginPath, PointerObject)
STAGES = {name: frontend.STAGES[name] for name in ("frontend_key", "frontend_origin_path", "frontend_object")}
pytestmark = pytest.mark.parametrize("make", STAGES.values(), ids=STAGES)


async def test_drift_at_every_call_of_a_change_freezes(drills: DrillFactory) -> None:  # noqa: F811
    drill, begun = await drills.start(), Point()
    plan = (await drill.run(begun)).plan
    assert plan is not None
    appends = [i for i, name in enumerate(begun.names) if name == "append"]
    number, resource = next(
        (n, step.resource)
        for n, step in enumerate(plan.steps)
        if isinstance(step, Change) and isinstance(step.resource, _SWAPPED)
    )
    calls = range(appends[number] + 1, appends[number + 1])
    assert "write" in [begun.names[at] for at in calls]
    for at in calls:
        for after in (False, True):
            drill = await drills.start()

            async def meddle(drill: CrashDrill = drill) -> None:
                await drill.stage.stranger(resource)

            ended = await drill.run(Point(at=at, after=after, act=meddle))
            assert ended.state == "stuck", f"the foreign change came {'after' if after else 'before'} {begun.names[at]}"
            assert "changed by" in ended.reason
            assert await resource.read(drill.stage.clients[resource.client]) == "3"

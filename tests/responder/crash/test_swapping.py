"""Whoever comes between, at whichever call: a pointer that is swapped by its ETag is never written over."""

from __future__ import annotations

import pytest

from responder.levers.web import CloudfrontKey, OriginPath, PointerObject
from responder.plan import Move
from tests.responder.crash import frontend
from tests.responder.crash.drill import CrashDrill, Point
from tests.responder.crash.test_crash import DrillFactory, drills  # noqa: F401

_SWAPPED = (CloudfrontKey, OriginPath, PointerObject)
STAGES = {name: frontend.STAGES[name] for name in ("frontend_key", "frontend_origin_path", "frontend_object")}
pytestmark = pytest.mark.parametrize("make", STAGES.values(), ids=STAGES)


async def test_drift_at_every_call_of_a_move_freezes(drills: DrillFactory) -> None:  # noqa: F811
    drill, begun = await drills.start(), Point()
    plan = (await drill.run(begun)).plan
    assert plan is not None
    appends = [i for i, name in enumerate(begun.names) if name == "append"]
    number, lever = next(
        (n, step.lever)
        for n, step in enumerate(plan.steps)
        if isinstance(step, Move) and isinstance(step.lever, _SWAPPED)
    )
    calls = range(appends[number] + 1, appends[number + 1])
    assert "write" in [begun.names[at] for at in calls]
    for at in calls:
        for after in (False, True):
            drill = await drills.start()

            async def meddle(drill: CrashDrill = drill) -> None:
                await drill.stage.stranger(lever)

            ended = await drill.run(Point(at=at, after=after, act=meddle))
            assert ended.state == "stuck", f"the stranger came {'after' if after else 'before'} {begun.names[at]}"
            assert "moved it" in ended.reason
            assert await lever.read(drill.stage.clients[lever.client]) == "3"

"""A rollback that crashes at any call, even twice, ends like an undisturbed one: once, complete and recorded."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from responder import errors
from responder.backends.resource import Resource
from responder.errors import LeaseLost
from responder.journal import Database
from responder.rollback.events import StepFailed, StepStarted
from responder.rollback.plan import Change, Gate
from responder.testing.faults import Crash, Point, lapsed
from tests.journals import forget_everything
from tests.responder.rollback.crash import databases, docker, frontend, kubernetes, stores
from tests.responder.rollback.crash.drill import CrashDrill
from tests.responder.rollback.crash.stages import STAGES as PLAIN
from tests.responder.rollback.crash.stages import RollbackScenario

STAGES = {**PLAIN, **kubernetes.STAGES, **docker.STAGES, **frontend.STAGES, **databases.STAGES, **stores.STAGES}
pytestmark = pytest.mark.parametrize("make", STAGES.values(), ids=STAGES)
Make = Callable[[Path], RollbackScenario]
_LOOKS_AT_DATABASES = ("rows", "sessions", "unfinished", "scripts", "evict")


class DrillFactory:
    """Provides drills, each with its own stage and journal."""

    def __init__(self, make: Make, state: str, directory: Path, fresh: Callable[[], object]) -> None:
        self._make, self._directory, self._fresh, self._n = make, directory, fresh, 0
        self._drill: CrashDrill | None = None

    async def start(self) -> CrashDrill:
        self._n += 1
        directory = self._directory / f"drill-{self._n}"
        directory.mkdir()
        journal: Database = await self._fresh()  # type: ignore[misc]
        await self.leave()
        drill = self._drill = CrashDrill(self._make(directory), journal)
        await drill.accept()
        return drill

    async def leave(self) -> None:
        if self._drill and self._drill.stage.leave:
            await self._drill.stage.leave()


@pytest.fixture
async def drills(make: Make, journal: Database, tmp_path: Path) -> AsyncIterator[DrillFactory]:
    async def fresh() -> Database:
        # Truncating is a hundred times cheaper than a new database for each of thousands of drills.
        await journal.transaction(forget_everything)
        return journal

    drills = DrillFactory(make, "", tmp_path, fresh)
    yield drills
    await drills.leave()


async def calls_of_an_undisturbed_run(drills: DrillFactory) -> int:
    drill, point = await drills.start(), Point()
    ended = await drill.run(point)
    assert ended.outcome == drill.stage.outcome
    return point.seen


async def assert_rolled_back_once(drill: CrashDrill, changes: int) -> None:
    ended = await drill.run_to_the_end()
    assert (ended.state, ended.outcome) == ("closed", drill.stage.outcome), ended.reason
    assert drill.stage.outside() == drill.stage.rolled_back
    assert drill.effects.writes == changes
    assert await drill.status_of(drill.stage.from_version) == "bad"
    assert await drill.status_of(drill.stage.to_version) == "good"
    assert [d.version for d in await drill.running()] == [drill.stage.to_version]
    assert (await drill.load()).changed


async def moves_of(drills: DrillFactory) -> int:
    drill = await drills.start()
    await drill.run(Point())
    return drill.effects.writes


async def test_undisturbed(drills: DrillFactory) -> None:
    drill = await drills.start()
    ended = await drill.run(Point())
    assert ended.plan is not None
    # A value already in place is not written, such as a purge that only a revert needs.
    changes = [step for step in ended.plan.steps if isinstance(step, Change) and step.after is not None]
    assert drill.effects.writes == len(changes)
    await assert_rolled_back_once(drill, drill.effects.writes)


async def test_a_crash_at_every_call(drills: DrillFactory) -> None:
    calls, changes = await calls_of_an_undisturbed_run(drills), await moves_of(drills)
    assert calls > 8
    for at in range(calls):
        for after in (False, True):
            drill = await drills.start()
            with pytest.raises(Crash):
                await drill.run(Point(at=at, after=after))
            await assert_rolled_back_once(drill, changes)


@pytest.mark.soak
async def test_a_crash_at_every_call_and_again_in_the_resumed_run(drills: DrillFactory) -> None:
    await crash_twice(drills, every=1)


async def test_a_crash_at_some_calls_and_again_in_the_resumed_run(drills: DrillFactory) -> None:
    calls = await calls_of_an_undisturbed_run(drills)
    await crash_twice(drills, every=1 + calls // 10)


async def crash_twice(drills: DrillFactory, *, every: int) -> None:
    calls, changes = await calls_of_an_undisturbed_run(drills), await moves_of(drills)
    for first in range(0, calls, every):
        second, over = first % every, False
        while not over:
            drill = await drills.start()
            with pytest.raises(Crash):
                await drill.run(Point(at=first, after=True))
            if (await drill.load()).live:
                again = Point(at=second, after=second % 2 == 0)
                try:
                    await drill.run(again)
                    over = True
                except Crash:
                    second += every
            else:
                over = True
            await assert_rolled_back_once(drill, changes)


async def test_a_failing_gate_at_every_gate(drills: DrillFactory) -> None:
    drill = await drills.start()
    plan = (await drill.run(Point())).plan
    assert plan is not None
    gates = [step for step in plan.steps if isinstance(step, Gate)]
    assert gates[-1].otherwise == "freeze"
    for gate in gates:
        drill = await drills.start()
        drill.health.sick = {str(check.http.host) for check in gate.checks if hasattr(check, "http")}
        ended = await drill.run(Point())
        if gate.otherwise == "revert":
            assert (ended.state, ended.outcome) == ("closed", "reverted")
            assert drill.stage.outside() == drill.stage.before
            assert await drill.status_of(drill.stage.to_version) == "good"
        else:
            assert (ended.state, ended.outcome) == ("stuck", None)
            assert ended.verification_failed
            assert drill.stage.outside() == drill.stage.rolled_back  # unchanged: no ping-pong
            assert await drill.status_of(drill.stage.from_version) == "suspect"
            assert await drill.status_of(drill.stage.to_version) == "suspect"


async def test_a_failing_gate_and_a_crash_at_every_call_of_the_revert(drills: DrillFactory) -> None:
    drill = await drills.start()
    plan = (await drill.run(Point())).plan
    assert plan is not None
    gate = next((s for s in plan.steps if isinstance(s, Gate) and s.otherwise == "revert"), None)
    at, over = 0, gate is None  # a strategy without gates has no reason to revert
    while not over:
        drill = await drills.start()
        drill.health.sick = {str(check.http.host) for check in gate.checks if hasattr(check, "http")}
        try:
            await drill.run(Point(at=at, after=at % 2 == 1))
            over = True
        except Crash:
            at += 1
        ended = await drill.run_to_the_end()
        assert (ended.state, ended.outcome) in (("closed", "reverted"), ("closed", "failed")), ended.reason
        assert drill.stage.outside() == drill.stage.before


async def test_a_late_stop_and_a_crash_at_every_call_of_the_revert(drills: DrillFactory) -> None:
    """For strategies without a gate that reverts: stopped after all changes, before the verification."""
    undisturbed, whole = await drills.start(), Point()
    await undisturbed.run(whole)

    async def stopped() -> CrashDrill:
        drill = await drills.start()
        drill.stop_signal.stop_at = undisturbed.stop_signal.looks - 1
        return drill

    turned = Point()
    await (await stopped()).run(turned)
    there = next(n for n, (left, right) in enumerate(zip(whole.names, turned.names, strict=False)) if left != right)
    for at in range(there, turned.seen):
        drill = await stopped()
        with pytest.raises(Crash):
            await drill.run(Point(at=at, after=at % 2 == 1))
        ended = await drill.run_to_the_end()
        assert (ended.state, ended.outcome) == ("closed", "cancelled"), ended.reason
        assert drill.stage.outside() == drill.stage.before


async def test_drift_at_every_resource_freezes(drills: DrillFactory) -> None:
    drill, begun = await drills.start(), Point()
    plan = (await drill.run(begun)).plan
    assert plan is not None
    appends = [i for i, name in enumerate(begun.names) if name == "append"]
    for number, step in enumerate(plan.steps):
        if not isinstance(step, Change):
            continue
        # The foreign change comes right after the start of the step. If a resource has only two values,
        # the found value is one of ours: then it is changed back after the step has set it.
        for at in (appends[number], appends[number + 1]):
            drill = await drills.start()
            resource, left = step.resource.model_validate(_drifted(step.resource, drill)), []

            async def meddle(
                drill: CrashDrill = drill, resource: Resource = resource, left: list[object] = left
            ) -> None:
                left.append(await drill.stage.stranger(resource))

            ended = await drill.run(Point(at=at, after=True, act=meddle))
            if left != [None]:
                break
        else:
            continue  # not possible: the change cannot be undone
        assert ended.state == "stuck"
        assert "changed by" in ended.reason
        found = await resource.read(drill.stage.clients[resource.client])
        assert found == left[0]  # automation never reverts a hotfix


def _drifted(resource: Resource, drill: CrashDrill) -> dict[str, object]:
    """The same resource in the directory of another drill."""
    text = resource.model_dump_json()
    here = [part for part in text.split("/") if part.startswith("drill-")]
    there = [part for part in drill.stage.service.model_dump_json().split("/") if part.startswith("drill-")]
    return dict(json.loads(text.replace(f"/{here[0]}/", f"/{there[0]}/") if here else text))


async def test_a_second_worker_at_every_call(drills: DrillFactory) -> None:
    """A paused worker resumes after another one has finished its work: it writes nothing more, here or outside."""
    calls, changes = await calls_of_an_undisturbed_run(drills), await moves_of(drills)
    for at in range(calls):
        drill = await drills.start()
        worker, execution = await drill.claim()
        after_pause = {"lapsed": False}

        async def another_goes_on(drill: CrashDrill = drill, state: dict[str, bool] = after_pause) -> None:
            await assert_rolled_back_once(drill, changes)
            state["lapsed"] = True

        def guard(state: dict[str, bool] = after_pause) -> None:
            if state["lapsed"]:
                lapsed()

        try:
            await drill.go_on(worker, execution, Point(at=at, act=another_goes_on), guard=guard)
        except LeaseLost:
            pass
        else:
            pytest.fail(f"the paused worker went on after call {at}")
        await assert_rolled_back_once(drill, changes)


async def test_the_fence_holds_without_the_guard(drills: DrillFactory) -> None:
    """If a pause occurs between guard and write, the number of the event still stops it, or else the version
    of the object. (What a worker reads after its pause it never acts on: the guard comes after that.)
    """
    undisturbed, changes = Point(), await moves_of(drills)
    await (await drills.start()).run(undisturbed)
    for at, name in enumerate(undisturbed.names):
        if name in (
            "get",
            "list",
            "may",
            "container",
            "containers",
            "image",
            "read",
            "content",
            "changes",
            "stat",
            "archive",
            *_LOOKS_AT_DATABASES,
        ):
            continue
        drill = await drills.start()
        worker, execution = await drill.claim()

        left: list[bool] = []  # how often the guard still allows after the pause: it allowed once before

        async def another_goes_on(drill: CrashDrill = drill, left: list[bool] = left) -> None:
            await assert_rolled_back_once(drill, changes)
            left += [False, True]

        def guard(left: list[bool] = left) -> None:
            if left and not left.pop():
                left.append(False)
                lapsed()

        with pytest.raises(LeaseLost):
            await drill.go_on(worker, execution, Point(at=at, act=another_goes_on), guard=guard)
        await assert_rolled_back_once(drill, changes)


async def test_a_stop_at_every_safe_point_reverts(drills: DrillFactory) -> None:
    undisturbed = await drills.start()
    await undisturbed.run(Point())
    for at in range(undisturbed.stop_signal.looks):
        drill = await drills.start()
        drill.stop_signal.stop_at = at
        ended = await drill.run(Point())
        assert (ended.state, ended.outcome) == ("closed", "cancelled")
        assert drill.stage.outside() == drill.stage.before
        assert "alice" in ended.reason


async def test_a_failed_step_is_reverted(drills: DrillFactory) -> None:
    drill, begun = await drills.start(), Point()
    plan = (await drill.run(begun)).plan
    assert plan is not None
    appends = [i for i, name in enumerate(begun.names) if name == "append"]
    for number, step in enumerate(plan.steps):
        if not isinstance(step, Change) or step.after is None:
            continue  # a purge that only a revert needs does nothing in the rollback
        drill = await drills.start()
        acts = ("run", "run_script", "run_tool", "patch", "create", "write")
        run = next(i for i, name in enumerate(begun.names) if i > appends[number] and name in acts)

        async def fails() -> None:
            raise errors.StepFailed("the restart failed")

        ended = await drill.run(Point(at=run, act=fails))
        assert (ended.state, ended.outcome) in (("closed", "reverted"), ("closed", "failed"))
        assert drill.stage.outside() == drill.stage.before
        events = await drill.events()
        assert any(isinstance(event, StepFailed) and "the restart failed" in event.reason for event in events)
        assert [event.step for event in events if isinstance(event, StepStarted)] == sorted(
            event.step for event in events if isinstance(event, StepStarted)
        )

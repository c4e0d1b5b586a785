"""A rollback changes only what its plan names, a revert leaves nothing behind, and planning touches nothing."""

from __future__ import annotations

from responder.backends.http.client import Http
from responder.cli.checking.live import targets_of
from responder.decisions.policies import Policy
from responder.decisions.policy_set import PolicySet
from responder.operations.planning import plan_rollback
from responder.rollback.gateway import Gateway
from responder.testing.comparison import expect_unchanged
from responder.testing.faults import Point
from tests.responder.harness import FixedConnections
from tests.responder.rollback.crash.drill import CrashDrill
from tests.responder.rollback.crash.test_crash import DrillFactory, drills, pytestmark  # noqa: F401


async def look(drill: CrashDrill) -> None:
    """All that asks before a rollback: dry run, explain and `check --live`."""
    stage = drill.stage
    services = (stage.service, *stage.beside)
    gateway = Gateway(FixedConnections({**stage.clients, Http: drill.health}), retry_every=0.0)
    execution = await drill.load()
    versions = [part.model_copy(update={"execution": execution.id}) for part in execution.accepted.parts]
    await plan_rollback(
        versions,
        policy=Policy.model_validate({"name": "drill", "match": ['alertname="Drill"'], "roll_back": ["shop"]}),
        policy_set=PolicySet(services=services),
        alerts=(),
        journal=drill.journal,
        gateway=gateway,
    )
    for service in services:
        for target in targets_of((), service, gateway):
            await target.ask()


async def test_planning_touches_nothing(drills: DrillFactory) -> None:  # noqa: F811
    drill = await drills.start()
    before = drill.stage.everything.contents()
    await look(drill)
    expect_unchanged(before, drill.stage.everything.contents(), "after planning")


async def test_a_rollback_changes_only_what_the_plan_names(drills: DrillFactory) -> None:  # noqa: F811
    drill = await drills.start()
    everything = drill.stage.everything
    before = everything.contents()
    ended = await drill.run(Point())
    assert ended.outcome == drill.stage.outcome, ended.reason
    named = dict.fromkeys(everything.changes, "the plan changes it")
    expect_unchanged(before, everything.contents(), "after a rollback", {**everything.may_differ, **named})


async def test_a_revert_leaves_nothing_behind(drills: DrillFactory) -> None:  # noqa: F811
    """Stopped after the last change."""
    undisturbed = await drills.start()
    await undisturbed.run(Point())
    drill = await drills.start()
    everything = drill.stage.everything
    before = everything.contents()
    drill.stop_signal.stop_at = undisturbed.stop_signal.looks - 1
    ended = await drill.run(Point())
    assert ended.outcome == "cancelled", ended.reason
    may_differ = {**everything.may_differ, **everything.stays}
    expect_unchanged(before, everything.contents(), "after a revert", may_differ)

"""An engineer stops, approves and reconfigures, and always sees the result."""

from __future__ import annotations

import signal as signals
from typing import Any

from tests.acceptance.conftest import SetUp
from tests.acceptance.notation import (
    Act,
    after,
    alert,
    at,
    at_once,
    between,
    command,
    deploy,
    do,
    expect,
    play,
    post,
    push,
    resolve,
    signal,
    soon,
    throughout,
)
from tests.acceptance.sights import (
    answers,
    marked,
    metric,
    no_rollback,
    outcome,
    refused,
    started_as,
    state,
    verifying,
    whole,
)
from tests.acceptance.stage import BAD, GOOD, Installation


async def test_the_kill_switch(stage: Installation) -> None:
    await play(
        stage,
        deploy(at(0)),
        command(at_once, "stop", "--all", "--reason", "data center move"),
        push(at_once, alert()),
        expect(soon, refused("kill_switch", "data center move"), no_rollback(), metric("responder_armed", 0)),
        command(at_once, "status", code=1),
        post(at_once, alert(), answers={202}),
        throughout(between(0, 1.5), no_rollback()),
        command(at_once, "close", "--all", "--reason", "we have moved"),
        # Alertmanager repeats it.
        expect(soon, outcome("succeeded"), answers(GOOD), metric("responder_armed", 1)),
        command(at_once, "status"),
        command(at_once, "close", "--all", "--reason", "twice", code=1),
    )


async def test_a_running_rollback_is_stopped_and_reverted(stage_with: SetUp) -> None:
    await play(
        await stage_with(verify_for="15s", verify_within="40s"),
        deploy(at(0)),
        push(at_once, alert()),
        expect(soon, verifying(), answers(GOOD)),
        command(at_once, "stop", "{id}", "--reason", "it is the network"),
        expect(soon, outcome("cancelled"), answers(BAD), started_as(GOOD, BAD, GOOD, BAD)),
        # It is still repeated every second, but was decided once.
        throughout(between(0, 2.5), outcome("cancelled"), started_as(GOOD, BAD, GOOD, BAD)),
        expect(soon, marked(GOOD, "good"), refused("duplicate_alert")),
        command(at_once, "stop", "{id}", code=1),
    )


async def test_the_kill_switch_reverts_running_rollbacks(stage_with: SetUp) -> None:
    await play(
        await stage_with(verify_for="15s", verify_within="40s"),
        deploy(at(0)),
        push(at_once, alert()),
        expect(soon, verifying(), answers(GOOD)),
        command(at_once, "stop", "--all", "--reason", "everybody out"),
        expect(soon, outcome("cancelled"), answers(BAD), started_as(GOOD, BAD, GOOD, BAD)),
    )


async def test_a_plan_awaits_approval(stage_with: SetUp) -> None:
    await play(
        await stage_with(mode="approve"),
        deploy(at(0)),
        push(at_once, alert()),
        expect(soon, state("awaiting_approval"), metric("responder_executions_active", 1, state="awaiting_approval")),
        throughout(between(0, 2), state("awaiting_approval"), started_as(GOOD, BAD)),
        command(at_once, "approve", "{id}", "--plan", "000000000000", code=1),
        expect(soon, state("awaiting_approval")),
        command(at_once, "approve", "{id}", "--plan", "{plan}"),
        expect(soon, outcome("succeeded"), answers(GOOD), started_as(GOOD, BAD, GOOD), whole()),
    )


async def test_an_unapproved_plan_is_cancelled_once_the_trouble_is_over(stage_with: SetUp) -> None:
    await play(
        await stage_with(mode="approve", approve_within="2s"),
        deploy(at(0)),
        push(at_once, alert()),
        expect(soon, state("awaiting_approval")),
        throughout(between(0, 3), state("awaiting_approval")),
        resolve(at_once, alert()),
        expect(soon, state("closed", "not approved in time"), outcome("cancelled")),
        command(at_once, "approve", "{id}", code=1),
        throughout(between(0, 1.5), outcome("cancelled"), answers(BAD), started_as(GOOD, BAD)),
    )


async def test_an_unapproved_plan_can_be_stopped(stage_with: SetUp) -> None:
    await play(
        await stage_with(mode="approve"),
        deploy(at(0)),
        push(at_once, alert()),
        expect(soon, state("awaiting_approval")),
        command(at_once, "stop", "{id}", "--reason", "not now"),
        expect(soon, outcome("cancelled"), started_as(GOOD, BAD)),
    )


RELOADED = "responder_config_last_reload_successful"


def _write(**changes: Any) -> Act:
    async def write(stage: Installation) -> None:
        stage.responder.write({**stage.responder.config, **changes})

    return do(at_once, f"write {', '.join(changes)}", write)


def _reload(status: int, *words: str) -> Act:
    async def reload(stage: Installation) -> str:
        answer = await stage.responder.post("/-/reload", None)
        assert answer.status == status, f"{answer}"
        assert all(word in str(answer.body) for word in words), f"{answer}"
        return f"{answer.body}"

    return do(at_once, "reload", reload)


def _policies(*names: str) -> Act:
    async def look(stage: Installation) -> None:
        policies = (await stage.responder.get("/api/v1/status")).body["policies"]
        assert tuple(policy["name"] for policy in policies) == names, policies

    return do(at_once, f"policies {names}", look)


async def test_an_invalid_file_keeps_the_running_configuration(stage: Installation) -> None:
    policy = stage.responder.config["policies"][0]
    quiet = {**policy, "name": "shop-watched", "mode": "observe"}
    await play(
        stage,
        deploy(at(0)),
        expect(soon, metric(RELOADED, 1)),
        _write(policies=[{**policy, "coldown": "1h"}], limits={"lease": "soon"}),
        signal(at_once, signals.SIGHUP),
        expect(soon, metric(RELOADED, 0)),
        _policies("shop-broken"),
        _reload(400, "policies[0].coldown", "did you mean cooldown?", "limits.lease"),
        # `check` also reports it beforehand, with every mistake.
        command(at_once, "check", code=2),
        _write(policies=[quiet]),
        signal(at_once, signals.SIGHUP),
        expect(soon, metric(RELOADED, 1)),
        _policies("shop-watched"),
        push(at_once, alert()),
        expect(soon, refused("mode", "would have acted"), no_rollback()),
        _write(limits={"lease": "9s"}),
        _reload(400, "limits: cannot change without a restart"),
        expect(soon, metric(RELOADED, 0)),
        _write(),
        _reload(200),
        expect(soon, metric(RELOADED, 1)),
        _policies("shop-broken"),
        expect(soon, outcome("succeeded"), answers(GOOD), started_as(GOOD, BAD, GOOD)),
    )


async def test_a_reload_during_a_rollback(stage_with: SetUp) -> None:
    """The plan is in the journal: a new configuration does not change a running rollback."""
    stage = await stage_with(verify_for="3s")
    await play(
        stage,
        deploy(at(0)),
        push(at_once, alert()),
        expect(soon, verifying()),
        _write(policies=[]),
        signal(after(0.2), signals.SIGHUP),
        _policies(),
        expect(soon, outcome("succeeded"), answers(GOOD), started_as(GOOD, BAD, GOOD), whole()),
    )

"""The commands of an engineer at 3 a.m. work on the running process: stop, close, approve, reload."""

from __future__ import annotations

import signal as signals

from tests.acceptance.conftest import SetUp
from tests.acceptance.notation import (
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
    push,
    resolve,
    soon,
    throughout,
)
from tests.acceptance.sights import answers, metric, no_rollback, outcome, refused, started_as, state, verifying
from tests.acceptance.stage import BAD, GOOD, Installation


async def test_the_kill_switch(stage: Installation) -> None:
    await play(
        stage,
        command(at(0), "stop", "--all", "--reason", "maintenance"),
        deploy(at_once),
        push(at_once, alert()),
        expect(soon, refused("kill_switch", "maintenance")),
        command(at_once, "status", code=1),
        throughout(between(0, 2), no_rollback(), started_as(GOOD, BAD)),
        command(at_once, "close", "--all", "--reason", "over"),
        expect(soon, outcome("succeeded"), answers(GOOD)),
    )


async def test_a_stop_during_verification_reverts(stage_with: SetUp) -> None:
    await play(
        await stage_with(verify_for="30s", verify_within="60s"),
        deploy(at(0)),
        push(at_once, alert()),
        expect(soon, verifying()),
        command(at_once, "stop", "{id}", "--reason", "not now"),
        expect(soon, outcome("cancelled"), answers(BAD), started_as(GOOD, BAD, GOOD, BAD)),
    )


async def test_approval(stage_with: SetUp) -> None:
    await play(
        await stage_with(mode="approve"),
        deploy(at(0)),
        push(at_once, alert()),
        expect(soon, state("awaiting_approval")),
        throughout(between(0, 1), started_as(GOOD, BAD)),
        command(at_once, "approve", "{id}", "--plan", "000000000000", code=1),
        command(at_once, "approve", "{id}", "--plan", "{plan}"),
        expect(soon, outcome("succeeded"), answers(GOOD)),
    )


async def test_an_unapproved_plan(stage_with: SetUp) -> None:
    await play(
        await stage_with(mode="approve", approve_within="1s"),
        deploy(at(0)),
        push(at_once, alert()),
        expect(soon, state("awaiting_approval")),
        resolve(at_once, alert()),
        expect(soon, outcome("cancelled")),
        throughout(between(0, 1), started_as(GOOD, BAD)),
    )


async def test_reload(stage: Installation) -> None:
    good = dict(stage.responder.config)

    async def break_the_file(stage: Installation) -> None:
        stage.responder.write({**good, "polices": []})
        stage.responder.signal(signals.SIGHUP)

    async def ask_for_it(stage: Installation) -> str:
        answer = await stage.responder.post("/-/reload", {})
        assert answer.status == 400, answer
        assert "did you mean policies?" in str(answer.body)
        return str(answer.body)

    async def fix_the_file(stage: Installation) -> None:
        stage.responder.write({**good, "policies": []})
        answer = await stage.responder.post("/-/reload", {})
        assert answer.status == 200, answer

    await play(
        stage,
        deploy(at(0)),
        do(at_once, "break the file", break_the_file),
        expect(soon, metric("responder_config_last_reload_successful", 0)),
        do(at_once, "ask for it", ask_for_it),
        do(at_once, "fix the file, without policies", fix_the_file),
        expect(soon, metric("responder_config_last_reload_successful", 1)),
        push(at_once, alert()),
        throughout(after_a_while, no_rollback()),
    )


after_a_while = between(0, 2)


async def test_a_second_process_on_the_same_file_is_refused(stage: Installation) -> None:
    async def start_a_second(stage: Installation) -> str:
        result = await stage.responder.command("serve")
        assert (result.code, "in use by another responder" in result.err) == (2, True), result
        assert "Traceback" not in result.err
        return result.err

    await play(stage, do(at(0), "start a second", start_a_second))


async def test_a_manual_rollback_with_wait(stage: Installation) -> None:
    await play(
        stage,
        deploy(at(0)),
        command(at_once, "rollback", "shop", "--reason", "a drill", "--dry-run"),
        throughout(between(0, 0.5), no_rollback(), started_as(GOOD, BAD)),
        command(at_once, "rollback", "shop", "--reason", "a drill", "--wait"),
        expect(soon, outcome("succeeded"), answers(GOOD)),
        command(after(0), "rollback", "shop", "--reason", "again", code=1),
    )

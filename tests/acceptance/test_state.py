"""Without the journal, nothing is accepted and nothing is lost; and one file belongs to one process."""

from __future__ import annotations

from typing import Any

from tests.acceptance.conftest import SetUp
from tests.acceptance.notation import (
    after,
    alert,
    at,
    at_once,
    deploy,
    do,
    expect,
    expire_silences,
    kill,
    play,
    post,
    postgres_crashes,
    postgres_starts,
    push,
    silence,
    soon,
    start,
)
from tests.acceptance.sights import (
    answers,
    healthy,
    logged,
    marked,
    metric,
    outcome,
    ready,
    refused,
    started_as,
    verifying,
    whole,
)
from tests.acceptance.stage import BAD, GOOD, Installation, ResponderProcess


async def test_postgres_crashes_while_a_rollback_verifies(stage_with: SetUp) -> None:
    before: list[dict[str, Any]] = []

    async def remember(stage: Installation) -> None:
        before.extend((await stage.executions())[0]["events"])

    async def nothing_lost(stage: Installation) -> str:
        events = (await stage.executions())[0]["events"]
        assert events[: len(before)] == before
        return f"{len(before)} of {len(events)} events were there before"

    await play(
        await stage_with(postgres=True, verify_for="3s"),
        deploy(at(0)),
        push(at_once, alert()),
        expect(soon, verifying()),
        do(at_once, "remember", remember),
        postgres_crashes(at_once),
        expect(soon, metric("responder_journal_up", 0)),
        postgres_starts(after(2.5)),  # longer than its lease
        expect(soon, outcome("succeeded"), answers(GOOD), started_as(GOOD, BAD, GOOD), whole()),
        expect(soon, marked(BAD, "bad"), marked(GOOD, "good"), ready()),
        do(at_once, "nothing was lost", nothing_lost),
    )


async def test_postgres_crashes_and_restarts_at_once(stage_with: SetUp) -> None:
    await play(
        await stage_with(postgres=True),
        deploy(at(0)),
        push(at_once, alert()),
        expect(soon, verifying()),
        postgres_crashes(at_once),
        postgres_starts(at_once),
        expect(soon, outcome("succeeded"), answers(GOOD), started_as(GOOD, BAD, GOOD), whole()),
    )


async def test_it_starts_without_postgres_and_acts_once_postgres_is_up(stage_with: SetUp) -> None:
    async def unused(stage: Installation) -> None:
        """A database without tables."""
        assert stage.postgres
        responder = stage.responder
        responder.write({**responder.config, "state": await stage.postgres.database("unused")})

    async def check(stage: Installation) -> str:
        result = await stage.responder.command("check", "--live")
        assert result.code == 1, result
        assert "PostgreSQL cannot be used: ConnectionRefusedError" in result.out
        return result.out

    await play(
        await stage_with(postgres=True),
        kill(at_once),
        do(at_once, "an unused database", unused),
        postgres_crashes(at_once),
        start(at_once, wait=False),
        expect(soon, healthy(), ready("a", 503, "the journal cannot be used: ConnectionRefusedError")),
        do(at_once, "check --live", check),
        expect(soon, metric("responder_journal_up", 0), logged("waiting for the journal")),
        postgres_starts(at_once),
        expect(soon, ready(), logged("journal ready")),
        do(at_once, "the good release", lambda stage: stage.deployed(GOOD, ago=60, good=True)),
        deploy(at_once),
        push(at_once, alert()),
        expect(soon, outcome("succeeded"), answers(GOOD), started_as(GOOD, BAD, GOOD), whole()),
    )


async def test_alertmanager_gets_503_while_the_journal_is_unavailable(stage_with: SetUp) -> None:
    await play(
        await stage_with(postgres=True),
        deploy(at(0)),
        silence(at_once, alert(), by="tests", comment="until the journal is away"),
        push(at_once, alert()),
        postgres_crashes(at_once),
        expect(soon, ready("a", 503)),
        post(at_once, alert(), answers={503}, within=15),
        expire_silences(at_once),
        # Alertmanager's own request, and one retry after the answer.
        expect(soon, metric("responder_webhooks_total", 3, at_least=True, outcome="unavailable")),
        expect(soon, metric("responder_journal_up", 0), answers(BAD)),
        postgres_starts(at_once),
        expect(soon, outcome("succeeded"), answers(GOOD), started_as(GOOD, BAD, GOOD), whole()),
        expect(soon, refused("duplicate_alert")),
    )


async def test_a_second_process_on_the_same_file_is_refused(stage: Installation) -> None:
    second = ResponderProcess(stage.directory, "second", stage.responder.config)
    result = await second.command("serve")
    assert result.code == 2
    assert "state.db is in use by another responder" in result.err
    assert len(result.err.strip().splitlines()) == 1, result.err
    await play(stage, deploy(at(0)), push(at_once, alert()), expect(soon, outcome("succeeded"), answers(GOOD)))

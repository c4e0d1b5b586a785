"""A bad release is rolled back once, however many requests arrive, and never despite a silence."""

from __future__ import annotations

from tests.acceptance.conftest import SetUp
from tests.acceptance.notation import (
    after,
    alert,
    at,
    at_once,
    between,
    deploy,
    do,
    expect,
    expire_silences,
    play,
    post,
    push,
    resolve,
    silence,
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
    rollback_is_the_newest_deployment,
    started_as,
    whole,
)
from tests.acceptance.stage import BAD, GOOD, Installation


async def test_from_a_rule_to_the_last_good_release(stage_with: SetUp) -> None:
    stage = await stage_with(prometheus=True)
    assert stage.prometheus is not None
    # A new Prometheus needs some seconds to discover its Alertmanager.
    await stage.prometheus.alertmanagers(1, within=60)
    await play(
        stage,
        deploy(at(0)),
        expect(between(0, 90), outcome("succeeded"), answers(GOOD)),
        expect(soon, marked(BAD, "bad"), marked(GOOD, "good"), rollback_is_the_newest_deployment(GOOD), whole()),
        expect(soon, metric("responder_executions_total", 1, service="shop", outcome="succeeded")),
        # The rule no longer fires, and nothing more happens.
        throughout(between(0, 2), outcome("succeeded"), started_as(GOOD, BAD, GOOD)),
    )


async def test_a_silence_stops_the_rollback_and_its_end_allows_it(stage: Installation) -> None:
    await play(
        stage,
        deploy(at(0)),
        silence(at_once, alert(), by="alice", comment="the new cart goes live"),
        push(at_once, alert()),
        # Alertmanager does not send silenced alerts; a body that still arrives is late, replayed or forged.
        throughout(between(0, 3), no_rollback()),
        post(at_once, alert(), answers={202}),
        expect(soon, refused("still_firing", "alice", "the new cart goes live"), no_rollback(), started_as(GOOD, BAD)),
        expire_silences(at_once),
        expect(soon, outcome("succeeded"), started_as(GOOD, BAD, GOOD)),
    )


async def test_a_body_delayed_until_the_alert_resolved_is_denied(stage: Installation) -> None:
    kept = {}

    async def keep(stage: Installation) -> None:
        kept.update(await stage.body(dict(alert().labels)))

    async def replay(stage: Installation) -> str:
        answer = await stage.responder.post("/api/v1/alerts", kept)
        return f"{answer.status} {answer.body}"

    await play(
        stage,
        deploy(at(0)),
        silence(at_once, alert(), by="alice", comment="so that Alertmanager does not send it"),
        push(at_once, alert()),
        do(at_once, "keep the body", keep),
        resolve(at_once, alert()),
        do(after(0.5), "replay it", replay),
        expect(soon, refused("still_firing"), no_rollback(), started_as(GOOD, BAD)),
    )


async def test_two_independent_alertmanagers(stage_with: SetUp) -> None:
    await play(
        await stage_with(alertmanagers=2),
        deploy(at(0)),
        push(at_once, alert()),
        expect(soon, outcome("succeeded"), answers(GOOD)),
        # Both repeat it every second.
        throughout(between(0, 4), outcome("succeeded"), started_as(GOOD, BAD, GOOD)),
        expect(soon, refused("duplicate_alert")),
    )


async def test_two_replicas_and_two_alertmanagers(stage_with: SetUp) -> None:
    await play(
        await stage_with(postgres=True, replicas=2, alertmanagers=2),
        deploy(at(0)),
        push(at_once, alert()),
        expect(soon, outcome("succeeded"), answers(GOOD), whole()),
        throughout(between(0, 3), outcome("succeeded"), started_as(GOOD, BAD, GOOD)),
    )


async def test_the_same_body_fifty_times_at_once(stage: Installation) -> None:
    await play(
        stage,
        deploy(at(0)),
        push(at_once, alert()),
        post(at_once, alert(), times=50, answers={202, 503}),
        expect(soon, outcome("succeeded"), started_as(GOOD, BAD, GOOD), whole()),
        post(at_once, alert(), times=50, answers={202}),
        expect(soon, outcome("succeeded"), started_as(GOOD, BAD, GOOD)),
    )


async def test_the_same_body_fifty_times_at_once_to_two_replicas(stage_with: SetUp) -> None:
    await play(
        await stage_with(postgres=True, replicas=2),
        deploy(at(0)),
        push(at_once, alert()),
        post(at_once, alert(), times=25, answers={202, 503}),
        expect(soon, outcome("succeeded"), started_as(GOOD, BAD, GOOD), whole()),
    )

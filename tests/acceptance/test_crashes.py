"""Killed, paused, restarted or without its journal at any moment: the rollback happens once, and nothing is lost."""

from __future__ import annotations

import asyncio
import random
import signal as signals
from itertools import groupby

from tests.acceptance.conftest import SetUp
from tests.acceptance.notation import (
    after,
    alert,
    at,
    at_once,
    between,
    deploy,
    do,
    kill,
    play,
    postgres_crashes,
    postgres_starts,
    push,
    soon,
    start,
    terminate,
    throughout,
    want,
)
from tests.acceptance.sights import Sight, answers, outcome, ready, resumed, verifying, whole
from tests.acceptance.stage import BAD, GOOD, Stage


def followed(*versions: str) -> Sight:
    """The service ran these, one after the other. A restart that a crash cut off may be given once more."""

    async def look(stage: Stage) -> tuple[bool, str]:
        seen = [version for version, _ in groupby(stage.shop.versions())]
        return seen == list(versions), " → ".join(seen)

    return Sight(f"followed({' → '.join(versions)})", look)


async def test_killed_twenty_times_at_random_moments(stage: Stage) -> None:
    seed = random.randrange(10**6)
    dice = random.Random(seed)  # printed, so that a failure can be played again
    print("seed", seed)
    stage.shop.restart_takes(0.2)

    async def kill_and_start_again(stage: Stage) -> str:
        for _ in range(20):
            await asyncio.sleep(dice.uniform(0, 0.25))
            await stage.responder.end(signals.SIGKILL)
            await stage.responder.start(wait=dice.random() < 0.7)
        return f"seed {seed}"

    await play(
        stage,
        deploy(at(0)),
        push(at_once, alert()),
        do(after(dice.uniform(0, 0.2)), "kill it 20 times", kill_and_start_again),
        want(soon, ready(), outcome("succeeded"), answers(GOOD), whole()),
        want(soon, followed(GOOD, BAD, GOOD)),
    )


async def test_killed_while_it_verifies(stage_with: SetUp) -> None:
    await play(
        await stage_with(verify_for="4s"),
        deploy(at(0)),
        push(at_once, alert()),
        want(soon, verifying()),
        kill(at_once),
        start(at_once),
        want(soon, outcome("succeeded"), resumed(1), answers(GOOD), whole(), followed(GOOD, BAD, GOOD)),
    )


async def test_another_replica_goes_on(stage_with: SetUp) -> None:
    stage = await stage_with(postgres=True, replicas=2, verify_for="8s", verify_within="60s")

    async def kill_the_owner(stage: Stage) -> str:
        owner = stage.owner((await stage.executions())[0]["id"])
        await stage.responders[owner].end(signals.SIGKILL)
        return owner

    await play(
        stage,
        deploy(at(0)),
        push(at_once, alert()),
        want(soon, verifying()),
        do(at_once, "kill the owner", kill_the_owner),
        want(soon, outcome("succeeded"), resumed(1), answers(GOOD), whole(), followed(GOOD, BAD, GOOD)),
    )


async def test_paused_for_longer_than_its_lease(stage_with: SetUp) -> None:
    stage = await stage_with(postgres=True, replicas=2, verify_for="5s", verify_within="60s")
    paused: list[str] = []

    async def pause_the_owner(stage: Stage) -> str:
        paused.append(stage.owner((await stage.executions())[0]["id"]))
        stage.responders[paused[0]].signal(signals.SIGSTOP)
        return paused[0]

    async def wake_it_up(stage: Stage) -> None:
        stage.responders[paused[0]].signal(signals.SIGCONT)

    await play(
        stage,
        deploy(at(0)),
        push(at_once, alert()),
        want(soon, verifying()),
        do(at_once, "pause the owner", pause_the_owner),
        want(soon, outcome("succeeded"), resumed(1)),
        do(at_once, "wake it up", wake_it_up),
        throughout(between(0, 3), outcome("succeeded"), whole(), followed(GOOD, BAD, GOOD)),
    )


async def test_terminated_in_good_order(stage_with: SetUp) -> None:
    await play(
        await stage_with(verify_for="8s", verify_within="60s"),
        deploy(at(0)),
        push(at_once, alert()),
        want(soon, verifying()),
        terminate(at_once, within=15.0),
        start(at_once),
        want(soon, outcome("succeeded"), resumed(1), answers(GOOD), whole(), followed(GOOD, BAD, GOOD)),
    )


async def test_postgres_goes_away_midway(stage_with: SetUp) -> None:
    await play(
        await stage_with(postgres=True, verify_for="4s", verify_within="60s"),
        deploy(at(0)),
        push(at_once, alert()),
        want(soon, verifying()),
        postgres_crashes(at_once),
        postgres_starts(after(1)),
        want(soon, outcome("succeeded"), answers(GOOD), whole(), followed(GOOD, BAD, GOOD)),
    )


async def test_without_a_journal_nothing_is_accepted_and_nothing_is_lost(stage_with: SetUp) -> None:
    async def post_a_body(stage: Stage) -> str:
        answer = await stage.responder.post("/api/v1/alerts", await stage.body(dict(alert().labels)))
        assert answer.status == 503, f"answered {answer.status} {answer.body}"
        return "503"

    await play(
        await stage_with(postgres=True),
        deploy(at(0)),
        postgres_crashes(at_once),
        push(at_once, alert()),
        want(soon, ready(status=503)),
        do(at_once, "post a body", post_a_body),
        postgres_starts(after(1)),
        # Alertmanager was told to come back, and does.
        want(soon, outcome("succeeded"), answers(GOOD), whole(), followed(GOOD, BAD, GOOD)),
    )

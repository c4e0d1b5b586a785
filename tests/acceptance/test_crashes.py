"""A replica that is killed, paused or terminated at any moment: the rollback still completes, exactly once."""

from __future__ import annotations

import os
import random
import signal as signals

import pytest

from tests.acceptance.conftest import SetUp
from tests.acceptance.notation import (
    Act,
    after,
    alert,
    at,
    at_once,
    between,
    deploy,
    do,
    expect,
    kill,
    play,
    push,
    resolve,
    signal,
    soon,
    start,
    terminate,
    throughout,
)
from tests.acceptance.sights import (
    answers,
    logged,
    marked,
    moving,
    outcome,
    ready,
    resumed,
    started_as,
    state,
    verifying,
    whole,
)
from tests.acceptance.stage import BAD, GOOD, Installation

ROUNDS, KILLS = 5, 4
"""Twenty kills in total; a rollback that was resumed more than five times is given up, which has its own test."""


@pytest.fixture
def chance() -> random.Random:
    """ACCEPTANCE_SEED repeats a run; a failed test shows its seed."""
    seed = int(os.environ.get("ACCEPTANCE_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"ACCEPTANCE_SEED={seed}")
    return random.Random(seed)


async def test_killed_twenty_times_at_random_moments(stage_with: SetUp, chance: random.Random) -> None:
    # The same policy acts repeatedly here, each time on another release.
    stage = await stage_with(cooldown="0s")
    history = [GOOD]
    for n in range(1, ROUNDS + 1):
        bad, what = f"{BAD}.{n}", alert(round=str(n))
        history += [bad, GOOD]
        moments = [chance.uniform(0, 0.5), *(chance.uniform(0, 2) for _ in range(KILLS - 1))]
        # Each is started without waiting, so that some kills occur during the start.
        kills = [act for moment in moments for act in (kill(after(moment)), start(at_once, wait=False))]
        await play(
            stage,
            expect(soon, ready()),
            deploy(at_once, bad),
            push(at_once, what),
            *kills,
            expect(soon, outcome("succeeded", rollbacks=n), answers(GOOD), started_as(*history)),
            expect(soon, marked(bad, "bad"), marked(GOOD, "good"), whole()),
            resolve(at_once, what),
        )


async def test_repeated_kills_page_a_human(stage_with: SetUp) -> None:
    """A rollback that keeps killing its worker becomes stuck and says so; the service is unchanged."""
    deaths = [act for n in range(6) for act in (expect(soon, verifying(), resumed(n)), kill(at_once), start(at_once))]
    await play(
        await stage_with(verify_for="5s"),
        deploy(at(0)),
        push(at_once, alert()),
        *deaths,
        expect(soon, state("stuck", "resumed 6 times"), answers(GOOD), started_as(GOOD, BAD, GOOD)),
        throughout(between(0, 1), state("stuck")),
    )


async def test_another_replica_resumes_after_a_kill(stage_with: SetUp, chance: random.Random) -> None:
    stage = await stage_with(postgres=True, replicas=2, cooldown="0s")
    history = [GOOD]
    for n in range(1, 4):
        bad, what = f"{BAD}.{n}", alert(round=str(n))
        history += [bad, GOOD]
        await play(
            stage,
            expect(soon, ready("a"), ready("b")),
            deploy(at_once, bad),
            push(at_once, what),
            _owner_dies(chance.uniform(0, 1)),
            expect(soon, outcome("succeeded", rollbacks=n), answers(GOOD), started_as(*history)),
            expect(soon, marked(bad, "bad"), marked(GOOD, "good"), whole()),
            resolve(at_once, what),
            do(at_once, "start who died", _start_the_dead),
        )


def _owner_dies(moment: float) -> Act:
    """The replica that executes it now; replica a if it is closed or not yet claimed."""

    async def dies(stage: Installation) -> str:
        found = [execution for execution in await stage.executions() if execution["state"] != "closed"]
        try:
            name = stage.owner(found[0]["id"]) if found else "a"
        except ValueError:
            name = "a"
        await stage.responders[name].end(signals.SIGKILL)
        return f"{name} in {found[0]['state'] if found else 'nothing'}"

    return do(after(moment), "kill the owner", dies)


async def _start_the_dead(stage: Installation) -> None:
    for responder in stage.responders.values():
        if not responder.running:
            await responder.start()


@pytest.mark.parametrize("under_way", [moving(), verifying()], ids=["moving", "verifying"])
async def test_paused_for_longer_than_its_lease(stage_with: SetUp, under_way) -> None:  # type: ignore[no-untyped-def]
    """The other replica finishes; the resumed one writes nothing more, neither outside nor to the journal."""
    stage = await stage_with(postgres=True, replicas=2, verify_for="3s")
    stage.shop.restart_takes(1.0)
    paused, ended = [], []

    async def pause(stage: Installation) -> str:
        owner = stage.owner((await stage.executions())[0]["id"])
        stage.responders[owner].signal(signals.SIGSTOP)
        paused.append(owner)
        # From now on, only the other one is queried.
        stage.responders = {name: stage.responders[name] for name in sorted(stage.responders, key=lambda n: n == owner)}
        return owner

    async def remember(stage: Installation) -> None:
        ended.extend(await stage.executions())

    async def wake(stage: Installation) -> None:
        stage.responders[paused[0]].signal(signals.SIGCONT)

    async def unchanged(stage: Installation) -> None:
        assert await stage.executions() == ended

    async def is_back(stage: Installation) -> str:
        [sleeper] = paused
        await expect(soon, ready(sleeper), logged("lease lost", sleeper)).do(stage)
        return sleeper

    await play(
        stage,
        deploy(at(0)),
        push(at_once, alert()),
        expect(soon, under_way),
        do(at_once, "pause the owner", pause),
        expect(soon, outcome("succeeded"), answers(GOOD), started_as(GOOD, BAD, GOOD), resumed(1), whole()),
        do(at_once, "remember", remember),
        do(at_once, "wake it", wake),
        do(at_once, "it takes a new lease", is_back),
        throughout(between(0, 3), outcome("succeeded"), started_as(GOOD, BAD, GOOD)),
        do(at_once, "nothing was written", unchanged),
    )


async def test_terminated_during_verification(stage_with: SetUp) -> None:
    await play(
        # Longer than the grace period for running rollbacks.
        await stage_with(verify_for="7s", verify_within="40s"),
        deploy(at(0)),
        push(at_once, alert()),
        expect(soon, verifying()),
        terminate(at_once, within=25),
        start(at_once),
        expect(soon, outcome("succeeded"), answers(GOOD), started_as(GOOD, BAD, GOOD), resumed(1), whole()),
    )


async def test_terminated_while_restarting_the_service(stage: Installation) -> None:
    stage.shop.restart_takes(1.0)
    await play(
        stage,
        deploy(at(0)),
        push(at_once, alert()),
        expect(soon, moving()),
        terminate(at_once, within=25),
        start(at_once),
        expect(soon, outcome("succeeded"), answers(GOOD), started_as(GOOD, BAD, GOOD), whole()),
    )


async def test_killed_while_the_service_restarts(stage: Installation) -> None:
    """The link is switched but the restart not complete: the service must not stay on the bad release unnoticed."""
    stage.shop.restart_takes(1.0)
    await play(
        stage,
        deploy(at(0)),
        push(at_once, alert()),
        expect(soon, moving()),
        kill(after(0.3)),
        start(at_once),
        signal(at_once, signals.SIGHUP),  # a reload during the rollback changes nothing
        expect(soon, outcome("succeeded"), answers(GOOD), started_as(GOOD, BAD, GOOD), resumed(1), whole()),
    )

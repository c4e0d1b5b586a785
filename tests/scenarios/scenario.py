"""The scenario notation: what happens when, and what must have been decided and done. README.md tells every key."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from foundation.durations import Duration, parse_duration

START = datetime(2026, 11, 23, 22, 0, tzinfo=UTC)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Given(_Strict):
    """How this house differs from the usual one: a backend, one policy in auto mode, one in which one forces."""

    start: datetime = START
    services: list[str] = ["backend"]  # in production; `backend@staging` is another one
    strategies: dict[str, str] = {}
    alternatives: dict[str, str] = {}
    depends_on: dict[str, list[str]] = {}
    service: dict[str, Any] = {}  # of every service
    policy: dict[str, Any] = {}
    policies: list[dict[str, Any]] = []  # before the usual ones
    limits: dict[str, Any] = {}
    watchdog: dict[str, Any] | None = None
    watchdog_heard: bool = True  # it came at the very beginning, and comes at its interval
    freezes: list[dict[str, Any]] = []
    traffic: bool = False  # whether the services say what shows that they are used
    recorded: list[str] = []  # alerts whose rules record their trouble, also as it is now; others are users' own
    sick: list[str] = ["2.1"]  # versions that are not healthy
    good_before: list[str] = ["2.0"]  # versions that are known good, the newest last: it runs


class ExpectedDecision(_Strict):
    """Part of a decision on record. `reason` must be contained."""

    service: str | None = None
    environment: str | None = None
    policy: str | None = None
    result: str
    guard: str | None = None
    reason: str = ""
    times: int | None = None
    needs_human: bool | None = None

    def seen_in(self, found: dict[str, Any]) -> bool:
        exact = self.model_dump(exclude={"reason"}, exclude_none=True)
        return all(found[name] == value for name, value in exact.items()) and self.reason in found["reason"]


class Expect(_Strict):
    """`rollbacks` is all of them, oldest first, as `backend 2.1 -> 2.0 succeeded`; what is left out is not asked."""

    decisions: list[ExpectedDecision] = []
    never: list[ExpectedDecision] = []
    rollbacks: list[str] | None = None
    reason: str = ""  # contained in the reason of the newest rollback
    events: list[str] | None = None  # of the newest rollback, as [accepted, planned, held]
    running: dict[str, str] = {}
    deployed: dict[str, str] = {}  # what the registry takes for running
    versions: dict[str, dict[str, str]] = {}  # of each service, what is known of them
    armed: bool | None = None
    would_have_acted: dict[str, int] = {}  # of each policy in observe mode
    silences: int | None = None  # of ours, that stand


class Step(_Strict):
    """One thing that happens, at its time."""

    at: Duration
    act: str
    argument: Any

    @model_validator(mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        if not isinstance(value, dict) or len(value) != 1:
            raise ValueError("a step is one time with one act, as `5m: {fires: {service: backend}}`")
        [(at, what)] = value.items()
        act, argument = (what, {}) if isinstance(what, str) else next(iter(what.items()))
        return {"at": parse_duration(str(at)), "act": act, "argument": argument}


class Scenario(_Strict):
    name: str
    because: str
    real: bool = Field(default=False, description="also played on real processes with real clocks")
    given: Given = Given()
    timeline: list[Step]
    expect: Expect


class ScenarioRunner(Protocol):
    """Where a scenario is played: every act of the notation is a method `act_NAME`."""

    async def wait_until(self, second: float) -> None: ...

    async def see(self) -> Observation: ...


class Observation(BaseModel):
    """What can be seen from outside."""

    decisions: list[dict[str, Any]]
    executions: list[dict[str, Any]]  # oldest first, with their events
    running: dict[str, str]
    deployed: dict[str, str] = {}
    versions: dict[str, dict[str, str]] = {}
    armed: bool
    would_have_acted: dict[str, int] = {}
    silences: int


def load(file: Path) -> list[Scenario]:
    return [Scenario.model_validate(scenario) for scenario in yaml.safe_load(file.read_text())]


def mistakes(expect: Expect, observed: Observation) -> list[str]:
    """Every difference between what was observed and what was expected, a sentence each."""
    return [*_of_decisions(expect, observed), *_of_rollbacks(expect, observed), *_of_services(expect, observed)]


def _of_decisions(expect: Expect, observed: Observation) -> Iterator[str]:
    for wanted in expect.decisions:
        if not any(wanted.seen_in(found) for found in observed.decisions):
            yield f"no decision {wanted.model_dump(exclude_none=True)}"
    for wanted in expect.never:
        yield from (f"a decision that must never be: {f}" for f in observed.decisions if wanted.seen_in(f))
    for policy, times in expect.would_have_acted.items():
        if (found_times := observed.would_have_acted.get(policy)) != times:
            yield f"{policy} would have acted {found_times} times, not {times}"
    if expect.armed is not None and observed.armed != expect.armed:
        yield f"armed is {observed.armed}"
    if expect.silences is not None and observed.silences != expect.silences:
        yield f"{observed.silences} silences of ours stand, not {expect.silences}"


def _of_rollbacks(expect: Expect, observed: Observation) -> Iterator[str]:
    actual = [
        f"{x['service']} {x['from_version']} -> {x['to_version']} {x['outcome'] or x['state']}"
        for x in observed.executions
    ]
    if expect.rollbacks is not None and actual != expect.rollbacks:
        yield f"the rollbacks are {actual}, not {expect.rollbacks}"
    newest = observed.executions[-1] if observed.executions else {"reason": "", "events": []}
    if expect.reason not in newest["reason"]:
        yield f"the newest rollback's reason is {newest['reason']!r}, without {expect.reason!r}"
    if expect.events is not None and (types := [event["type"] for event in newest["events"]]) != expect.events:
        yield f"its events are {types}, not {expect.events}"


def _of_services(expect: Expect, observed: Observation) -> Iterator[str]:
    for service, version in expect.running.items():
        if observed.running.get(service) != version:
            yield f"{service} runs {observed.running.get(service)}, not {version}"
    for service, version in expect.deployed.items():
        if observed.deployed.get(service) != version:
            yield f"the registry says that {service} runs {observed.deployed.get(service)}, not {version}"
    for service, known in expect.versions.items():
        recorded = observed.versions.get(service, {})
        for version, status in known.items():
            if recorded.get(version) != status:
                yield f"{service} {version} is {recorded.get(version)}, not {status}"


async def play(scenario: Scenario, runner: ScenarioRunner) -> None:
    """Lets it happen. Raises AssertionError with every mistake, and all decisions that were made."""
    for number, step in enumerate(scenario.timeline):
        await runner.wait_until(step.at)
        if step.act == "nothing":
            continue
        if step.act == "expect":
            _check(Expect.model_validate(step.argument), await runner.see(), f"{scenario.name}, step {number}")
            continue
        act = getattr(runner, f"act_{step.act}", None)
        assert act is not None, f"{scenario.name}: there is no act {step.act!r}"
        await act(step.argument)
    final = scenario.expect
    # It acts exactly when it should: what is not expected must not have happened.
    expected = final if final.rollbacks is not None else final.model_copy(update={"rollbacks": []})
    _check(expected, await runner.see(), scenario.name)


def _check(expect: Expect, observed: Observation, where: str) -> None:
    if wrong := mistakes(expect, observed):
        keys = ("service", "policy", "result", "guard", "reason", "times")
        decided = [" ".join(f"{d[key]}" for key in keys) for d in observed.decisions]
        raise AssertionError("\n  ".join([f"{where}:", *wrong, "decisions, newest first:", *decided]))

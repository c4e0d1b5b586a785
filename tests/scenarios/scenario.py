"""The scenario notation: a timeline, and the expected decisions and changes. README.md describes every key."""

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
    """Differences from the defaults: a backend, one policy in auto mode, and one with `force`."""

    start: datetime = START
    services: list[str] = ["backend"]  # in production; `backend@staging` is in staging
    strategies: dict[str, str] = {}
    alternatives: dict[str, str] = {}
    depends_on: dict[str, list[str]] = {}
    service: dict[str, Any] = {}  # settings of every service
    policy: dict[str, Any] = {}
    policies: list[dict[str, Any]] = []  # before the default ones
    limits: dict[str, Any] = {}
    watchdog: dict[str, Any] | None = None
    watchdog_heard: bool = True  # it arrives at the start and then at its interval
    freezes: list[dict[str, Any]] = []
    traffic: bool = False  # whether the services have traffic checks
    recorded: list[str] = []  # alerts whose rules record the current trouble; others belong to a user's own rules
    unhealthy: list[str] = ["2.1"]  # unhealthy versions
    good_before: list[str] = ["2.0"]  # known-good versions, oldest first; the last one runs


class ExpectedDecision(_Strict):
    """Part of a recorded decision. `reason` is a substring."""

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
    """`rollbacks` lists all, oldest first, such as `backend 2.1 -> 2.0 succeeded`; omitted fields are not checked."""

    decisions: list[ExpectedDecision] = []
    never: list[ExpectedDecision] = []
    rollbacks: list[str] | None = None
    reason: str = ""  # substring of the reason of the newest rollback
    events: list[str] | None = None  # of the newest rollback, such as [accepted, planned]
    running: dict[str, str] = {}
    deployed: dict[str, str] = {}  # the running versions according to the registry
    versions: dict[str, dict[str, str]] = {}  # the status of each version, by service
    armed: bool | None = None
    would_have_acted: dict[str, int] = {}  # by policy in observe mode
    silences: int | None = None  # active silences of the responder


class Step(_Strict):
    """One act at its time."""

    at: Duration
    act: str
    argument: Any

    @model_validator(mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        if not isinstance(value, dict) or len(value) != 1:
            raise ValueError("a step is one time with one act, such as `5m: {fires: {service: backend}}`")
        [(at, what)] = value.items()
        act, argument = (what, {}) if isinstance(what, str) else next(iter(what.items()))
        return {"at": parse_duration(str(at)), "act": act, "argument": argument}


class Scenario(_Strict):
    name: str
    because: str
    real: bool = Field(default=False, description="also runs on real processes with real clocks")
    given: Given = Given()
    timeline: list[Step]
    expect: Expect


class ScenarioRunner(Protocol):
    """Runs a scenario: every act of the notation is a method `act_NAME`."""

    async def wait_until(self, second: float) -> None: ...

    async def see(self) -> Observation: ...


class Observation(BaseModel):
    """The state as seen from outside."""

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
    """Every difference between what was observed and what was expected, one sentence each."""
    return [*_of_decisions(expect, observed), *_of_rollbacks(expect, observed), *_of_services(expect, observed)]


def _of_decisions(expect: Expect, observed: Observation) -> Iterator[str]:
    for wanted in expect.decisions:
        if not any(wanted.seen_in(found) for found in observed.decisions):
            yield f"no decision {wanted.model_dump(exclude_none=True)}"
    for wanted in expect.never:
        yield from (f"unexpected decision: {f}" for f in observed.decisions if wanted.seen_in(f))
    for policy, times in expect.would_have_acted.items():
        if (found_times := observed.would_have_acted.get(policy)) != times:
            yield f"{policy} would have acted {found_times} times, not {times}"
    if expect.armed is not None and observed.armed != expect.armed:
        yield f"armed is {observed.armed}"
    if expect.silences is not None and observed.silences != expect.silences:
        yield f"{observed.silences} silences of the responder are active, not {expect.silences}"


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
    """Runs a scenario. Raises AssertionError with every difference and all decisions."""
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
    # Without expected rollbacks, none may have happened.
    expected = final if final.rollbacks is not None else final.model_copy(update={"rollbacks": []})
    _check(expected, await runner.see(), scenario.name)


def _check(expect: Expect, observed: Observation, where: str) -> None:
    if wrong := mistakes(expect, observed):
        keys = ("service", "policy", "result", "guard", "reason", "times")
        decided = [" ".join(f"{d[key]}" for key in keys) for d in observed.decisions]
        raise AssertionError("\n  ".join([f"{where}:", *wrong, "decisions, newest first:", *decided]))

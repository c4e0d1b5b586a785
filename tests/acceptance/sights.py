"""Observations from outside: over HTTP, on the service, in the logs; never in the database."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.acceptance.stage import Installation, ResponderProcess


@dataclass(frozen=True)
class Expectation:
    """Whether it is true, and the observed value."""

    title: str
    look: Callable[[Installation], Awaitable[tuple[bool, str]]]


def answers(version: str) -> Expectation:
    """The service itself reports its release."""

    async def look(stage: Installation) -> tuple[bool, str]:
        running = await stage.shop.version()
        return running == version, f"the shop answers as {running or 'none'}"

    return Expectation(f"answers({version})", look)


def started_as(*versions: str) -> Expectation:
    """Every release that it ever ran, in order: a repeated change would show here."""

    async def look(stage: Installation) -> tuple[bool, str]:
        seen = stage.shop.versions()
        return seen == list(versions), f"it was started as {' → '.join(seen)}"

    return Expectation(f"started_as({', '.join(versions)})", look)


def outcome(wanted: str, *, rollbacks: int = 1) -> Expectation:
    """The newest rollback is closed with this outcome, and this is the total number."""

    async def look(stage: Installation) -> tuple[bool, str]:
        found = await stage.executions()
        summary = [
            f"{execution['id']} {execution['state']} {execution['outcome']} ({execution['reason']})"
            for execution in found
        ] or ["none"]
        closed = all(execution["state"] == "closed" for execution in found)
        return closed and len(found) == rollbacks and found[0]["outcome"] == wanted, "; ".join(summary)

    return Expectation(f"outcome({wanted})", look)


def state(wanted: str, because: str = "") -> Expectation:
    async def look(stage: Installation) -> tuple[bool, str]:
        newest = (await stage.executions())[0]
        return newest["state"] == wanted and because in newest["reason"], f"{newest['state']}: {newest['reason']}"

    return Expectation(f"state({wanted})", look)


def no_rollback() -> Expectation:
    async def look(stage: Installation) -> tuple[bool, str]:
        found = await stage.executions()
        return not found, f"{len(found)} rollbacks"

    return Expectation("no_rollback", look)


def _under_way(title: str) -> Callable[[Installation], Awaitable[tuple[bool, str]]]:
    async def look(stage: Installation) -> tuple[bool, str]:
        newest = (await stage.executions())[0]
        events = [event for event in newest["events"] if event["type"] != "resumed"]
        last = events[-1]
        return last["type"] == "step_started" and title in last["title"], f"{last['type']} {last.get('title', '')}"

    return look


def verifying() -> Expectation:
    """All changes are made, and the verification is in progress."""
    return Expectation("verifying", _under_way("is healthy"))


def moving() -> Expectation:
    """The release is being switched, or the service restarted."""
    return Expectation("moving", _under_way("release"))


def resumed(times: int) -> Expectation:
    """It was resumed that often, by the same replica after a crash or by another one."""

    async def look(stage: Installation) -> tuple[bool, str]:
        seen = (await stage.executions())[0]["resumptions"]
        return seen >= times, f"resumed {seen} times"

    return Expectation(f"resumed({times})", look)


def whole() -> Expectation:
    """The newest history has no gaps or repetitions: steps start in order, and it is closed exactly once."""

    async def look(stage: Installation) -> tuple[bool, str]:
        events = (await stage.executions())[0]["events"]
        types = [event["type"] for event in events]
        done = [event["step"] for event in events if event["type"] == "step_completed"]
        good = (
            types[0] == "accepted"
            and types[-1] == "closed"
            and types.count("closed") == types.count("planned") == 1
            and done == sorted(set(done))
        )
        return good, " ".join(types)

    return Expectation("whole", look)


def marked(version: str, status: str) -> Expectation:
    async def look(stage: Installation) -> tuple[bool, str]:
        found = (await stage.responder.get("/api/v1/versions/shop")).body["versions"]
        known = {row["version"]: row["status"] for row in found}
        return known.get(version) == status, f"{known}"

    return Expectation(f"marked({version}, {status})", look)


def rollback_is_the_newest_deployment(version: str) -> Expectation:
    async def look(stage: Installation) -> tuple[bool, str]:
        newest = (await stage.responder.get("/api/v1/deployments")).body["deployments"][0]
        execution = (await stage.executions())[0]["id"]
        summary = f"{newest['version']} by {newest['recorded_by']}, {newest['rolled_back_by']}"
        return newest["version"] == version and newest["rolled_back_by"] == execution, summary

    return Expectation(f"rollback_is_the_newest_deployment({version})", look)


def refused(guard: str, *words: str) -> Expectation:
    """A recorded decision with this guard, and all these words in its reason."""

    async def look(stage: Installation) -> tuple[bool, str]:
        found = (await stage.responder.get("/api/v1/decisions")).body["decisions"]
        summary = [f"{decision['result']} by {decision['guard']}: {decision['reason']}" for decision in found]
        hit = [
            decision
            for decision in found
            if decision["result"] == "deny"
            and decision["guard"] == guard
            and all(word in decision["reason"] for word in words)
        ]
        return bool(hit), "; ".join(summary) or "no decision"

    return Expectation(f"refused({guard})", look)


async def series(responder: ResponderProcess, name: str, **labels: str) -> float:
    """The sum of the samples of a series."""
    text = (await responder.get("/metrics")).body
    samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
    return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())


def metric(name: str, value: float, *, at_least: bool = False, **labels: str) -> Expectation:
    async def look(stage: Installation) -> tuple[bool, str]:
        seen = await series(stage.responder, name, **labels)
        return (seen >= value if at_least else seen == value), f"{name} is {seen:g}"

    return Expectation(f"{name} {'>=' if at_least else '='} {value:g}", look)


def healthy(name: str = "a") -> Expectation:
    async def look(stage: Installation) -> tuple[bool, str]:
        answer = await stage.responders[name].get("/-/healthy")
        return answer.status == 200, f"{name} answers {answer.status}"

    return Expectation(f"healthy({name})", look)


def ready(name: str = "a", status: int = 200, because: str = "") -> Expectation:
    async def look(stage: Installation) -> tuple[bool, str]:
        answer = await stage.responders[name].get("/-/ready")
        seen = answer.status == status and because in str(answer.body)
        return seen, f"{name} answers {answer.status}: {answer.body!s:.90}"

    return Expectation(f"ready({name}, {status})", look)


def logged(event: str, name: str = "a") -> Expectation:
    async def look(stage: Installation) -> tuple[bool, str]:
        events: list[Any] = [line["event"] for line in stage.responders[name].log_lines()]
        return event in events, f"{name} said {events[-5:]}"

    return Expectation(f"logged({event!r})", look)

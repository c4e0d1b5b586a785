"""The gateway retries while a system is unavailable, stops at the deadline, and calls the guard each time."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from pydantic import JsonValue

from responder.backends.connections import Connections
from responder.backends.http.http_check import HttpCheck
from responder.backends.problems import Problem
from responder.backends.prometheus.promql_check import PromqlCheck
from responder.backends.resource import Resource
from responder.errors import Drift, LeaseLost, Outdated, StepFailed, Unavailable
from responder.rollback.gateway import Gateway
from responder.transport.acting import acting


class Switch:
    """A client with scripted answers: a value or an exception."""

    def __init__(self, *answers: Any) -> None:
        self.answers, self.written = list(answers), []  # type: ignore[var-annotated]

    @classmethod
    async def connect(cls, settings: Any) -> Switch:
        return settings  # type: ignore[no-any-return]

    async def close(self) -> None: ...

    def answer(self) -> Any:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


class SwitchResource(Resource[Switch, JsonValue]):
    worth: float = 5.0

    @property
    def timeout(self) -> float:
        return self.worth

    async def read(self, client: Switch) -> JsonValue:
        return client.answer()  # type: ignore[no-any-return]

    async def write(self, client: Switch, value: JsonValue, *, expected: JsonValue) -> None:
        acting.get()()  # as every client does right before a change
        client.answer()
        client.written.append(value)

    async def check_access(self, client: Switch) -> list[Problem]:
        return [Problem("switch", str(client.answer()))]

    def __str__(self) -> str:
        return "switch"


def gateway(switch: Switch, **more: Any) -> Gateway:
    return Gateway(Connections({Switch: switch}.get), retry_every=0.0, **more)


async def test_it_retries_while_the_system_is_unavailable() -> None:
    switch = Switch(Unavailable("away"), Unavailable("away"), "on")
    assert await gateway(switch).read(SwitchResource()) == "on"


async def test_what_is_outdated_is_read_again_at_once() -> None:
    changed = Outdated("changed at the same time")
    hasty = Gateway(Connections({Switch: Switch(changed, changed, "on")}.get), retry_every=3600.0)
    assert await hasty.read(SwitchResource(worth=30.0)) == "on"


async def test_it_fails_at_the_deadline_with_the_last_reason() -> None:
    with pytest.raises(StepFailed, match=r"reading the switch timed out after 0.05 s: still away"):
        await gateway(Switch(Unavailable("still away"))).read(SwitchResource(worth=0.05))


@pytest.mark.parametrize("error", [StepFailed("no"), Drift("moved"), LeaseLost("gone"), ZeroDivisionError()])
async def test_other_errors_are_raised_at_once(error: Exception) -> None:
    switch = Switch(error, "on")
    with pytest.raises(type(error)):
        await gateway(switch).write(SwitchResource(), "off", expected="on")
    assert switch.answers == ["on"]


async def test_the_guard_is_called_before_every_attempt_of_a_write() -> None:
    checks = 0

    def guard() -> None:
        nonlocal checks
        checks += 1
        if checks == 3:
            raise LeaseLost("the lease has expired")

    switch = Switch(Unavailable("away"))
    with pytest.raises(LeaseLost):
        await gateway(switch, guard=guard).write(SwitchResource(), "off", expected="on")
    assert (checks, switch.written) == (3, [])


async def test_reading_needs_no_guard() -> None:
    def guard() -> None:
        raise LeaseLost("the lease has expired")

    assert await gateway(Switch("on"), guard=guard).read(SwitchResource()) == "on"


async def test_a_check_without_an_answer_does_not_hold() -> None:
    connections = Connections()
    finding = await Gateway(connections).holds(HttpCheck(http="http://127.0.0.1:1/"))  # type: ignore[arg-type]
    await connections.close()
    assert not finding.holds
    assert "127.0.0.1:1" in finding.reason


async def test_a_failed_connection_is_opened_again() -> None:
    class Late(Switch):
        tries = 0

        @classmethod
        async def connect(cls, settings: Any) -> Late:
            cls.tries += 1
            if cls.tries < 3:
                raise Unavailable("not yet")
            return cls("on")

    class LateSwitch(SwitchResource):
        client: ClassVar[type] = Late

    assert await Gateway(Connections(), retry_every=0.0).read(LateSwitch()) == "on"
    assert Late.tries == 3


async def test_listeners_get_the_finding_of_every_check(free_port: int) -> None:
    seen: list[tuple[str, bool, bool]] = []
    connections = Connections()
    gateway = Gateway(connections, saw=lambda check, f: seen.append((type(check).__name__, f.holds, f.answered)))
    await gateway.holds(HttpCheck(http=f"http://127.0.0.1:{free_port}/"))
    await gateway.holds(PromqlCheck(promql="up", at_least=1.0))
    await connections.close()
    assert seen == [("HttpCheck", False, True), ("PromqlCheck", False, False)]


class SlowSwitch(SwitchResource):
    """Writing may take an hour, reading may not."""

    worth: float = 3600.0

    @property
    def read_timeout(self) -> float:
        return 0.05


async def test_a_read_ends_early_if_only_a_write_takes_long() -> None:
    away = gateway(Switch(Unavailable("away")))
    for look in (away.read(SlowSwitch()), away.converged(SlowSwitch(), "on")):
        with pytest.raises(StepFailed, match=r"timed out after 0\.05 s: away"):
            await look

"""Answers of Alertmanager are read in parts, however they arrive."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from responder.backends.alertmanager.live_alerts import LiveAlert, LiveAlerts, State, read_alerts


def raw(fingerprint: str = "1" * 16, state: State = "active", **more: Any) -> dict[str, Any]:
    status = {"state": state, "silencedBy": [], "inhibitedBy": []}
    return {"fingerprint": fingerprint, "labels": {"service": "backend"}, "status": status, **more}


async def read(body: bytes, size: int = 1 << 16) -> list[LiveAlert]:
    """The alerts in a body that arrives in chunks of so many bytes."""

    async def chunks() -> AsyncIterator[bytes]:
        for begin in range(0, len(body), size):
            yield body[begin : begin + size]

    return await read_alerts(chunks())


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("count", [0, 1, 3])
async def test_every_alert_is_read(count: int, indent: int | None) -> None:
    body = json.dumps([raw(f"{n:016x}") for n in range(count)], indent=indent)
    assert [alert.fingerprint for alert in await read(f" {body}\n".encode())] == [f"{n:016x}" for n in range(count)]


@pytest.mark.parametrize("size", [100, 5_000, 100_000, 1 << 22])
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
async def test_a_long_answer_is_read_in_parts(size: int, separators: tuple[str, str]) -> None:
    tricky = '},{"annotations":{"a":"b"}}'
    sent = [{"annotations": {"text": tricky}, **raw(f"{n:016x}", labels={"pod": f"{n} {tricky}"})} for n in range(2000)]
    read_back = await read(json.dumps(sent, separators=separators).encode(), size)
    assert [(alert.fingerprint, alert.labels) for alert in read_back] == [(a["fingerprint"], a["labels"]) for a in sent]


async def test_a_damaged_part_refuses_the_whole_answer() -> None:
    sent = [{"annotations": {}, **raw(f"{n:016x}")} for n in range(2000)]
    with pytest.raises(ValueError):
        await read(json.dumps([*sent, {"annotations": {}, "labels": {}}, *sent], separators=(",", ":")).encode())


async def test_other_tasks_run_while_a_long_answer_is_read() -> None:
    body = json.dumps([{"annotations": {}, **raw(f"{n:016x}")} for n in range(20_000)], separators=(",", ":")).encode()
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(others())
    await read(body)
    other.cancel()
    assert turns > 2


async def test_the_start_is_in_utc() -> None:
    (alert,) = await read(json.dumps([raw(startsAt="2026-11-30T10:00:00.123456789+02:00")]).encode())
    assert alert.starts_at == datetime(2026, 11, 30, 8, 0, 0, 123456, tzinfo=UTC)


@pytest.mark.parametrize("body", ["", "[", "[1", "{}", "[{}]", '"[]"', "[1 2]", "[1,]", "\udcff"])
async def test_anything_else_is_refused(body: str) -> None:
    with pytest.raises(ValueError):
        await read(body.encode(errors="surrogateescape"))


def test_an_alert_that_one_of_several_peers_suppresses_is_suppressed() -> None:
    states: tuple[State, ...] = ("active", "suppressed", "active")
    (alert,) = LiveAlerts(LiveAlert("1", state, {}) for state in states)
    assert alert.state == "suppressed"


def test_what_is_derived_is_kept_for_one_source() -> None:
    alerts, sources = LiveAlerts([]), [object(), object()]
    made = [alerts.derived(source, lambda _: object()) for source in (*sources, sources[1], sources[0])]
    assert made[1] is made[2]
    assert len(set(map(id, made))) == 3

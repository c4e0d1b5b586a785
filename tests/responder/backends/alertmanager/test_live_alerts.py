"""Answers of Alertmanager are read in parts, however they arrive."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from responder.backends.alertmanager.live_alerts import AlertQuery, LiveAlert, LiveAlerts, State


def raw(fingerprint: str = "1" * 16, state: State = "active", **more: Any) -> dict[str, Any]:
    status = {"state": state, "silencedBy": [], "inhibitedBy": []}
    return {"fingerprint": fingerprint, "labels": {"service": "backend"}, "status": status, **more}


async def read(body: bytes, size: int = 1 << 16, query: AlertQuery | None = None) -> list[LiveAlert]:
    """The alerts in a body that arrives in chunks of so many bytes."""

    async def chunks() -> AsyncIterator[bytes]:
        for begin in range(0, len(body), size):
            yield body[begin : begin + size]

    return await (query or AlertQuery()).read("peer", chunks())


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


def text_of(alerts: list[dict[str, Any]]) -> bytes:
    return json.dumps([{"annotations": {}, **alert} for alert in alerts], separators=(",", ":")).encode()


@pytest.mark.parametrize("seed", range(5))
async def test_a_query_that_is_repeated_reads_every_change(seed: int) -> None:
    rng, query = random.Random(seed), AlertQuery()
    sent = [raw(f"{n:016x}", labels={"pod": "p" * rng.randrange(300)}) for n in range(400)]
    for _ in range(8):
        assert await read(text_of(sent), query=query) == await read(text_of(sent))
        for _ in range(rng.randrange(5)):
            state = rng.choice(["active", "suppressed"])
            sent[rng.randrange(len(sent))] |= {"status": {"state": state, "silencedBy": ["s"], "inhibitedBy": []}}
        del sent[: rng.randrange(3)]
        sent.insert(rng.randrange(len(sent)), raw(f"{rng.randrange(1 << 60):016x}"))


async def test_what_is_derived_is_kept_until_an_alert_changes() -> None:
    query, left, right = AlertQuery(), raw("1" * 16), raw("2" * 16)

    async def answer(*alerts: dict[str, Any]) -> LiveAlerts:
        return query.of([await read(text_of(list(alerts)), query=query)])

    first = await answer(left, right)
    assert await answer(left, right | {"updatedAt": "2026-11-30T10:00:00Z"}) is first
    assert await answer(left) is not first
    (suppressed,) = await answer(left | {"status": {"state": "suppressed", "silencedBy": ["s"], "inhibitedBy": []}})
    assert suppressed.state == "suppressed"


async def test_an_answer_that_is_damaged_leaves_the_next_one_readable() -> None:
    query, good = AlertQuery(), text_of([raw("1" * 16), raw("2" * 16)])
    for body in (good, good[:-9], good[:-2] + b",]", good.replace(b'"state"', b'"stale"'), good):
        try:
            found = await read(body, query=query)
        except ValueError:
            assert body != good
        else:
            assert [alert.fingerprint for alert in found] == ["1" * 16, "2" * 16]

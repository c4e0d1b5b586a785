from __future__ import annotations

import asyncio

import pytest

from exporters.clients.connections import Connections, Lookups


async def test_each_name_has_one_lookup_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    resolved: list[str] = []
    gate = asyncio.Event()

    async def getaddrinfo(host: str, port: int, **_: object) -> list[object]:
        resolved.append(host)
        await gate.wait()
        return []

    lookups = Lookups()
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    waiting = [asyncio.create_task(lookups.addresses("a", 1)) for _ in range(50)]
    await asyncio.sleep(0)
    waiting[0].cancel()  # the first caller is cancelled: the others still get their answer
    await asyncio.sleep(0)
    gate.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert resolved == ["a"]
    assert results[1:] == [[]] * 49
    await lookups.addresses("a", 1)
    assert resolved == ["a", "a"], "nothing is cached"


class CountingSession:
    def __init__(self) -> None:
        self.closed = 0

    async def ask(self, query: str) -> str | None:
        return query

    async def close(self) -> None:
        await asyncio.sleep(0)
        self.closed += 1

    drop = close


async def test_no_kept_session_is_lost(connections: Connections) -> None:
    sessions = [CountingSession() for _ in range(5)]
    assert await connections.take("it", fresh_every=9) is None
    await asyncio.gather(*(connections.keep("it", session) for session in sessions))
    assert [session.closed for session in sessions] == [1, 1, 1, 1, 0]
    assert await connections.take("it", fresh_every=9) is sessions[-1]
    assert await connections.take("it", fresh_every=9) is None

"""Callers share an answer only if it was requested after they began."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from responder.transport import shared_answers
from responder.transport.shared_answers import SharedAnswers


class Server:
    """Answers requests with their number, once the test lets it."""

    def __init__(self) -> None:
        self.requests = 0
        self.answers: dict[int, asyncio.Event] = {}

    async def ask(self) -> int:
        self.requests += 1
        number = self.requests
        await self.answers.setdefault(number, asyncio.Event()).wait()
        return number

    def answer(self, number: int) -> None:
        self.answers.setdefault(number, asyncio.Event()).set()

    async def received(self, count: int) -> None:
        async with asyncio.timeout(60):
            while self.requests < count:
                await asyncio.sleep(0)


@pytest.fixture
async def shared() -> AsyncIterator[SharedAnswers[int]]:
    made: SharedAnswers[int] = SharedAnswers()
    yield made
    await made.close()


@pytest.fixture
def server() -> Server:
    return Server()


async def test_callers_at_the_same_time_share_one_request(shared: SharedAnswers[int], server: Server) -> None:
    server.answer(1)
    assert await asyncio.gather(*(shared.get("k", server.ask) for _ in range(5))) == [1] * 5


async def test_a_caller_never_gets_an_answer_requested_before_it_began(
    shared: SharedAnswers[int], server: Server
) -> None:
    first = asyncio.create_task(shared.get("k", server.ask))
    await server.received(1)
    later = [asyncio.create_task(shared.get("k", server.ask)) for _ in range(3)]
    await asyncio.sleep(0)
    server.answer(1)
    server.answer(2)
    assert await first == 1
    assert await asyncio.gather(*later) == [2, 2, 2]
    assert server.requests == 2


async def test_a_hanging_request_does_not_hold_up_the_next(shared: SharedAnswers[int], server: Server) -> None:
    hanging = asyncio.create_task(shared.get("k", server.ask))
    await server.received(1)
    server.answer(2)
    assert await shared.get("k", server.ask) == 2
    server.answer(1)
    assert await hanging == 1


async def test_the_next_request_waits_in_proportion_to_the_last_answer(
    shared: SharedAnswers[int], server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_answers, "_WAIT", 0.0)
    monkeypatch.setattr(shared_answers, "_TIMES_AS_LONG", 1e9)
    server.answer(1)
    assert await shared.get("k", server.ask) == 1
    second = asyncio.create_task(shared.get("k", server.ask))
    await server.received(2)
    third = asyncio.create_task(shared.get("k", server.ask))
    for _ in range(100):
        await asyncio.sleep(0)
    assert server.requests == 2
    server.answer(2)
    server.answer(3)
    assert (await second, await third) == (2, 3)


async def test_other_keys_are_other_requests(shared: SharedAnswers[int], server: Server) -> None:
    for number in (1, 2):
        server.answer(number)
    assert sorted(await asyncio.gather(shared.get("a", server.ask), shared.get("b", server.ask))) == [1, 2]


async def test_every_caller_gets_the_error_and_the_next_asks_again(shared: SharedAnswers[int], server: Server) -> None:
    async def fail() -> int:
        raise ValueError("no answer")

    failed = await asyncio.gather(*(shared.get("k", fail) for _ in range(2)), return_exceptions=True)
    assert [str(error) for error in failed] == ["no answer"] * 2
    server.answer(1)
    assert await shared.get("k", server.ask) == 1


async def test_a_caller_that_gives_up_does_not_take_the_answer_from_others(
    shared: SharedAnswers[int], server: Server
) -> None:
    impatient = asyncio.create_task(shared.get("k", server.ask))
    patient = asyncio.create_task(shared.get("k", server.ask))
    await server.received(1)
    impatient.cancel()
    await asyncio.sleep(0)
    server.answer(1)
    assert await patient == 1


async def test_closing_ends_all_requests(server: Server) -> None:
    shared: SharedAnswers[int] = SharedAnswers()
    callers = [asyncio.create_task(shared.get(key, server.ask)) for key in ("a", "b", "a")]
    await server.received(2)
    callers.append(asyncio.create_task(shared.get("a", server.ask)))
    await asyncio.sleep(0)
    await shared.close()
    results = await asyncio.gather(*callers, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results)

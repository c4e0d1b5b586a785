"""One process: a failed background part is reported, and a failed worker ends the process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from responder.app.loading import load
from responder.app.serve import App
from responder.notify import Dispatcher
from responder.runtime.worker import Worker


@pytest.fixture
def app(tmp_path: Path, free_port: int) -> App:
    file = tmp_path / "responder.yml"
    file.write_text(
        f"state: sqlite:///{tmp_path}/state.db\n"
        f"prometheus: {{url: 'http://127.0.0.1:{free_port}'}}\n"
        f"alertmanager: {{urls: ['http://127.0.0.1:{free_port}']}}\n"
        "web: {listen: '127.0.0.1:0'}\n"
    )
    return App(load(file), file)


@asynccontextmanager
async def running(app: App) -> AsyncIterator[asyncio.Task[None]]:
    ready = asyncio.Event()
    task = asyncio.create_task(app.run(ready=ready))
    try:
        async with asyncio.timeout(60):
            await ready.wait()
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def on_error(app: App) -> float | None:
    return app._metrics.registry.get_sample_value("responder_loop_failures_total", {"loop": "notifications"})


async def test_a_crashed_dispatcher_is_reported_and_ends_nothing(
    app: App, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def ends(self: Any) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(Dispatcher, "run", ends)
    async with running(app) as task:
        await asyncio.wait([task], timeout=0.3)
        assert not task.done()
        assert on_error(app) == 1
        assert "notification dispatcher crashed; restart required" in caplog.messages


async def test_a_bug_in_the_dispatcher_is_counted(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(self: Any) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(Dispatcher, "round", fails)
    async with running(app):
        async with asyncio.timeout(60):
            while not on_error(app):
                await asyncio.sleep(0.01)


@pytest.mark.parametrize(("error", "message"), [(ZeroDivisionError("a bug"), "a bug"), (None, "the worker has ended")])
async def test_a_worker_that_ends_ends_the_process_with_an_error(
    app: App, monkeypatch: pytest.MonkeyPatch, error: Exception | None, message: str
) -> None:
    async def ends(self: Any) -> None:
        await asyncio.sleep(0.2)
        if error:
            raise error

    monkeypatch.setattr(Worker, "run", ends)
    async with running(app) as task:
        async with asyncio.timeout(60):
            await asyncio.wait([task])
    assert isinstance(failed := task.exception(), RuntimeError | ZeroDivisionError)
    assert message in str(failed)


async def test_it_shuts_down_in_order(app: App) -> None:
    async with running(app):
        pass
    async with running(app):  # the lock on the state is free again
        pass

"""A stage for each test, which leaves no process running."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.acceptance.stage import Installation, set_up

SetUp = Callable[..., Awaitable[Installation]]


@pytest.fixture
async def stage_with(tmp_path: Path) -> AsyncIterator[SetUp]:
    """Creates the stage; called once per test, with its settings."""
    stages: list[Installation] = []
    try:
        async with contextlib.AsyncExitStack() as leaving:

            async def build(**special: Any) -> Installation:
                stages.append(await leaving.enter_async_context(set_up(tmp_path, **special)))
                return stages[-1]

            yield build
    finally:
        left = _left_behind(tmp_path)
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
    assert not left, f"still running: {left}"
    complaints = {name: r.complaints() for stage in stages for name, r in stage.responders.items() if r.complaints()}
    assert not complaints, f"in the logs of {tmp_path}: {complaints}"


@pytest.fixture
async def stage(stage_with: SetUp) -> Installation:
    """The default stage: SQLite, one Alertmanager."""
    return await stage_with()


def _left_behind(directory: Path, within: float = 15.0) -> list[psutil.Process]:
    """Processes with the directory on their command line. The restart of a killed responder may take a moment."""
    end = time.monotonic() + within
    while (left := _naming(str(directory))) and time.monotonic() < end:
        time.sleep(0.05)
    return left


def _naming(text: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        line = process.info["cmdline"] or []
        if process.info["status"] != psutil.STATUS_ZOMBIE and any(text in word for word in line):
            found.append(process)
    return found

"""Fixtures for all tests: a journal of either kind, and fixes for incompatible libraries."""

from __future__ import annotations

import asyncio
import signal
from typing import Any
from unittest.mock import Mock

import aiohttp
import aioresponses.core
import pytest
from xdist.scheduler.loadscope import LoadScopeScheduling

from tests import few_cases
from tests.journals import postgres_server  # noqa: F401


class _ClientResponse(aiohttp.ClientResponse):
    # aiohttp 3.14 made `stream_writer` a required argument, which aioresponses 0.7.9 does not hand over
    # (pnuckowski/aioresponses#289).
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("stream_writer", Mock(output_size=0))
        super().__init__(*args, **kwargs)


aioresponses.core.ClientResponse = _ClientResponse  # type: ignore[misc,assignment]

# pytest-asyncio requests the previous loop and so creates one that is never closed; warnings are errors here.
# This makes it believe that there was none, for the whole run.
asyncio.set_event_loop(None)

# A shell starts what it puts into the background with SIGINT ignored, and every process that a test starts would ignore
# it too: no Ctrl-C, and no fast shutdown of PostgreSQL.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


class _Sharing(LoadScopeScheduling):  # type: ignore[misc]
    """Assigns tests that share an expensive server to one worker, so that it is started once."""

    def _split_scope(self, nodeid: str) -> str:
        if "tests/responder/backends/docker/" in nodeid or "-docker_" in nodeid:
            return "the engine"
        return nodeid.partition("::")[0] if "test_to_alert" in nodeid else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _Sharing:
    return _Sharing(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    few_cases.mark_the_rest(items)

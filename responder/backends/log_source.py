"""The interface of a log source: it lists the logs of a service and reads each within its limits."""

from __future__ import annotations

import contextlib
import json
from abc import abstractmethod
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime
from typing import Any, Generic, NamedTuple

from pydantic import Field

from foundation.durations import Duration
from responder.backends.accessible import Accessible, C
from responder.backends.problems import Problem
from responder.config.sizes import Size
from responder.errors import StepFailed, Unavailable

MAX_LINES = 20_000
"""Newest lines that are requested of a log that is read line by line. The cap in bytes applies as well."""

MAX_LOGS = 30
"""Logs that are kept of one source. The most recently written, or most restarted, come first."""

EVER = datetime(2000, 1, 1, tzinfo=UTC)
"""A start time before every log."""

_TRIED = 5
"""Logs of a source that `check_access` opens."""


class Skipped(NamedTuple):
    """Bytes that were left out before the end of a log that is longer than its cap."""

    bytes: int


Chunks = AsyncGenerator[bytes | Skipped, None]


class Log(NamedTuple):
    """One log of a source. Nothing is read before `chunks` is called."""

    name: str  # becomes a file name
    origin: str  # for people
    chunks: Callable[[], Chunks]
    suffix: str = "log"


class LogSource(Accessible[C], Generic[C]):
    """The logs of a service in one system."""

    cap: Size = Field(
        default=4 << 20,
        ge=1 << 10,
        le=64 << 20,
        description="Size kept of each log; of a longer log, the end",
    )
    within: Duration = Field(
        default=5.0, gt=0, description="Deadline for the source; data that arrived by then is kept"
    )

    @abstractmethod
    async def logs(self, client: C, since: datetime) -> list[Log]:
        """Returns the logs with entries since that time, the most useful first. Raises StepFailed and Unavailable."""

    @abstractmethod
    def __str__(self) -> str:
        """The source in an engineer's words, as `journald backend.service`."""

    async def unreadable(self, client: C, since: datetime, fix: str) -> list[Problem]:
        """Opens the first few logs; returns one problem for each that cannot be read."""
        problems = []
        for log in (await self.logs(client, since))[:_TRIED]:
            try:
                async with contextlib.aclosing(log.chunks()) as chunks:
                    await anext(chunks, b"")
            except (StepFailed, Unavailable) as e:
                problems.append(Problem(log.origin, str(e), fix))
        return problems


async def newest(lines: AsyncGenerator[bytes, None]) -> Chunks:
    """Yields the lines. Raises StepFailed at their end if there may have been more than were requested."""
    count = 0
    async with contextlib.aclosing(lines) as chunks:
        async for chunk in chunks:
            count += chunk.count(b"\n")
            yield chunk
    if count >= MAX_LINES:
        raise StepFailed(f"only its newest {MAX_LINES} lines were requested")


def as_json(name: str, origin: str, value: Any) -> Log:
    """A log that consists of one JSON document."""

    async def chunks() -> Chunks:
        yield json.dumps(value, indent=1, default=str).encode()

    return Log(name, origin, chunks, "json")

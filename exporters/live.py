"""Holds the configuration in use: a reload swaps the whole value, or the old one stays and the series says so."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from exporters.config import Config, load
from exporters.connections import Connections
from exporters.errors import ConfigError, Problem
from exporters.metrics import OwnMetrics
from exporters.probing import History

log = logging.getLogger(__name__)


@dataclass
class Value:
    """One configuration with its connections, alive until replaced and the last of its probes is done."""

    config: Config
    reach: Connections
    in_use: int = 0
    retired: asyncio.Event = field(default_factory=asyncio.Event)


class Live:
    """The value in use, and the only way to change it. Make it inside the event loop."""

    def __init__(self, path: Path, metrics: OwnMetrics, *, listen: str | None = None) -> None:
        loaded = load(path)
        self.path = path
        self.metrics = metrics
        self.history = History()
        self.listen = listen or loaded.config.listen
        self._given = listen is not None
        self._closing: set[asyncio.Task[None]] = set()
        self.value = Value(loaded.config, Connections(loaded.redact))
        metrics.loaded(len(loaded.config.checks))

    @property
    def advertised(self) -> str:
        """The address under which Prometheus finds this exporter."""
        return self.value.config.advertise or self.listen

    @contextmanager
    def borrowed(self) -> Iterator[Value]:
        """The value in use; it stays open for as long as it is borrowed, through any reload."""
        value = self.value
        value.in_use += 1
        try:
            yield value
        finally:
            value.in_use -= 1
            if value is not self.value and not value.in_use:
                value.retired.set()

    async def reload(self) -> None:
        """Load the file again. ConfigError if it cannot be used: then everything stays as it was."""
        try:
            # Reading certificates takes milliseconds that the probes under way should not feel.
            loaded = await asyncio.to_thread(load, self.path)
            if not self._given and loaded.config.listen != self.listen:
                why = f"cannot change from {self.listen} while running: restart the exporter"
                raise ConfigError([Problem(str(self.path), None, "listen", why)])
        except ConfigError as error:
            self.metrics.reloaded.set(0)
            log.error("configuration not reloaded, the old one stays", extra={"problems": [*map(str, error.problems)]})
            raise
        before, self.value = self.value, Value(loaded.config, Connections(loaded.redact))
        self.history.forget_all_but(self.value.config.by_id)
        self.metrics.loaded(len(loaded.config.checks))
        task = asyncio.create_task(_close_when_done(before))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        log.info("configuration reloaded", extra={"checks": len(loaded.config.checks)})

    async def close(self) -> None:
        """Close the connections of the value in use and of those that still wait for their last probe."""
        for task in [*self._closing]:
            task.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)
        await self.value.reach.close()


async def _close_when_done(value: Value) -> None:
    try:
        if value.in_use:
            await value.retired.wait()
    finally:
        await value.reach.close()

"""The configuration in use. A reload replaces all of it, or keeps the old one and reports the failure."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from exporters.clients.connections import Connections
from exporters.config import Config, load
from exporters.errors import ConfigError
from exporters.history import History
from exporters.metrics import OwnMetrics
from foundation.configuration.findings import finding_of
from foundation.logging import say

log = logging.getLogger(__name__)


@dataclass
class Generation:
    """One configuration with its connections. Stays open until it is replaced and its last probe has ended."""

    config: Config
    connections: Connections
    in_use: int = 0
    retired: asyncio.Event = field(default_factory=asyncio.Event)


class Live:
    """The current configuration. Needs a running event loop. Raises ConfigError if the file cannot be used."""

    def __init__(self, path: Path, metrics: OwnMetrics, *, listen: str | None = None) -> None:
        loaded = load(path)
        self.path = path
        self.metrics = metrics
        self.history = History()
        self.listen = listen or loaded.config.listen
        self._listen_overridden = listen is not None
        self._closing: set[asyncio.Task[None]] = set()
        self.current = Generation(loaded.config, Connections(loaded.redact))
        metrics.loaded(len(loaded.config.checks))

    @property
    def config(self) -> Config:
        """The current configuration."""
        return self.current.config

    @property
    def advertised(self) -> str:
        """The address under which Prometheus reaches this exporter."""
        return self.config.advertise or self.listen

    @contextmanager
    def borrowed(self) -> Iterator[Generation]:
        """The current generation, which stays open until the end of the block, also after a reload."""
        generation = self.current
        generation.in_use += 1
        try:
            yield generation
        finally:
            generation.in_use -= 1
            if generation is not self.current and not generation.in_use:
                generation.retired.set()

    async def reload(self) -> None:
        """Loads the file again. Raises ConfigError, and changes nothing, if it cannot be used."""
        try:
            # In a thread: reading certificates takes milliseconds, which would delay running probes.
            loaded = await asyncio.to_thread(load, self.path)
            if not self._listen_overridden and loaded.config.listen != self.listen:
                why = f"cannot change from {self.listen} while running; restart the exporter"
                raise ConfigError([finding_of(why, file=str(self.path), path="listen")])
        except ConfigError as error:
            self.metrics.reloaded.set(0)
            problems = [*map(str, error.findings)]
            say(log, "configuration reload failed", level=logging.ERROR, problems=problems)
            raise
        before, self.current = self.current, Generation(loaded.config, Connections(loaded.redact))
        self.history.forget_all_but(self.config.by_id)
        self.metrics.loaded(len(loaded.config.checks))
        task = asyncio.create_task(_close_when_unused(before))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        say(log, "configuration reloaded", checks=len(loaded.config.checks))

    async def close(self) -> None:
        """Closes the connections of every generation."""
        for task in [*self._closing]:
            task.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)
        await self.current.connections.close()


async def _close_when_unused(generation: Generation) -> None:
    try:
        if generation.in_use:
            await generation.retired.wait()
    finally:
        await generation.connections.close()

"""The state of the journal for `/metrics`, read in the background: a scrape never waits for the journal."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from prometheus_client.core import Metric

from foundation.exposition import with_units
from responder.decisions.policy_set import PolicySet
from responder.errors import JournalUnavailable
from responder.journal import Database
from responder.runtime.journal_metrics import JournalMetrics, JournalSnapshot, take_snapshot
from responder.transport.background import OnError, run_loop
from responder.transport.turns import Turn

_EVERY = 5.0
"""Seconds between two reads."""

_SHARE = 20.0
"""The pause is at least so many times as long as the last read, so that a large fleet takes 5% of a core at most."""

_OUTDATED = 3
"""Pauses after which a snapshot counts as unreadable: a read hangs, or the loop fails."""

_MOST_FORMATS = 4
_EOF = b"# EOF\n"


class Families(NamedTuple):
    """Series that prometheus_client can encode."""

    metrics: Iterable[Metric]

    def collect(self) -> Iterator[Metric]:
        """See Collector.collect."""
        return with_units(self.metrics)


Encode = Callable[[Any], bytes]
"""An encoder of prometheus_client."""


class JournalState:
    """The last snapshot of the journal that this replica read, and the series of its services."""

    def __init__(
        self, journal: Database, policy_set: Callable[[], PolicySet], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._journal, self._policy_set, self._clock = journal, policy_set, clock
        self._snapshot: JournalSnapshot | None = None
        self._began, self._pause = clock(), _EVERY
        self._encoded: dict[str, tuple[Encode, bytes]] = {}
        self.tried = asyncio.Event()
        """Set after the first attempt to read the journal."""
        self.read_in = 0.0
        """Seconds that the last read, or attempt, took."""

    @property
    def age(self) -> float:
        """Seconds since the journal was read."""
        return self._clock() - self._began

    @property
    def snapshot(self) -> JournalSnapshot | None:
        """None if the last read failed, or is outdated."""
        return self._snapshot if self.age <= _OUTDATED * self._pause else None

    async def refresh(self) -> float:
        """Reads the journal now. Returns the seconds until the next read."""
        try:
            return await self._refresh()
        finally:
            self.tried.set()

    async def _refresh(self) -> float:
        began = self._clock()
        try:
            snapshot = await self._journal.read(take_snapshot, self._policy_set(), self._journal.now())
        except JournalUnavailable:
            snapshot = None
        read_in = self._clock() - began
        formats = {name: encode for name, (encode, _) in self._encoded.items()}
        encoded = {name: (encode, await self._encode(encode, snapshot)) for name, encode in formats.items()}
        # Replaced at once, so that no scrape mixes two reads.
        self._snapshot, self._encoded, self._began, self.read_in = snapshot, encoded, began, read_in
        self._pause = max(_EVERY, _SHARE * self.age)
        return self._pause

    async def run(self, on_error: OnError) -> None:
        """Reads the journal again and again until cancelled."""
        await run_loop("metrics", self.refresh, every=_EVERY, on_error=on_error)

    async def exposition(self, encode: Encode, content_type: str, others: Iterable[Metric]) -> bytes:
        """The other series, and those of the services, which are encoded once after each read."""
        encoded = self._encoded  # of one read: the next one replaces it
        if content_type not in encoded:
            if len(encoded) >= _MOST_FORMATS:
                encoded.pop(next(iter(encoded)))
            encoded[content_type] = encode, await self._encode(encode, self._snapshot)
        _, of_services = encoded[content_type]
        body = encode(Families(others))
        end = _EOF if body.endswith(_EOF) else b""
        return body.removesuffix(end) + (of_services if self.snapshot else b"") + end

    async def _encode(self, encode: Encode, snapshot: JournalSnapshot | None) -> bytes:
        parts, turn = list[bytes](), Turn()
        for metric in JournalMetrics(snapshot, self._policy_set()).of_services():
            parts.append(encode(Families([metric])).removesuffix(_EOF))
            await turn.pass_on()
        return b"".join(parts)

"""Reads the sources of one case, and redacts, compresses and stores what they return."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import logging
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime
from typing import NamedTuple

from foundation.durations import format_duration
from responder.backends.connections import Connections
from responder.backends.log_source import MAX_LOGS, Log, LogSource, Skipped
from responder.backends.prometheus.client import Prometheus
from responder.config.private_files import plain
from responder.config.sizes import format_size
from responder.errors import ResponderError, StepFailed, Unavailable
from responder.evidence.manifest import KeptFile, MissingFile
from responder.evidence.plots import PlotMark
from responder.evidence.redaction import Redactor
from responder.evidence.series import Query, look_back
from responder.evidence.settings import EvidenceSettings
from responder.transport.daemon_threads import in_daemon

log = logging.getLogger("responder.evidence")

_READ_BY, _STORED_BY = 0.7, 0.9
_AT_ONCE = 8


class _Packed(NamedTuple):
    data: bytes
    unpacked: int
    redacted: int


class _Tail:
    """The last `most` bytes of a log."""

    def __init__(self, most: int) -> None:
        self._most, self._parts, self._size = most, deque[bytes](), 0
        self.skipped = 0

    def add(self, part: bytes | Skipped) -> None:
        if isinstance(part, Skipped):
            self.skipped += part.bytes
            return
        self._parts.append(part)
        self._size += len(part)
        while self._size - len(self._parts[0]) >= self._most:
            dropped = len(self._parts.popleft())
            self._size -= dropped
            self.skipped += dropped

    def lines(self) -> bytes:
        text = b"".join(self._parts)
        if over := max(len(text) - self._most, 0):
            self.skipped += over
            text = text[over:]
        if self.skipped and (end := text.find(b"\n")) >= 0:
            self.skipped += end + 1
            text = text[end + 1 :]
        return text


class Collection:
    """The collected and the pending items."""

    def __init__(
        self, settings: EvidenceSettings, put: Callable[[str, bytes], Awaitable[None]], since: datetime, started: float
    ) -> None:
        self._settings, self._put, self._since = settings, put, since
        self.read_by = started + settings.within * _READ_BY
        self.stored_by = started + settings.within * _STORED_BY
        self._redactor = Redactor(settings.redact)
        self._at_once = asyncio.Semaphore(_AT_ONCE)
        self._packing = asyncio.Semaphore(2)
        # A store that hangs must not use all connections to AWS, which the rollback needs as well.
        self._storing = asyncio.Semaphore(_AT_ONCE)
        self._names: Counter[str] = Counter()
        self._total = 0
        self.files: list[KeptFile] = []
        self._missing: list[MissingFile] = []
        self._pending: Counter[str] = Counter()

    def missing(self) -> list[MissingFile]:
        late = f"not stored within {format_duration(self._settings.within)}"
        return self._missing + [MissingFile(origin=origin, reason=late) for origin in self._pending.elements()]

    def _add_missing(self, origin: str, reason: str) -> None:
        self._missing.append(MissingFile(origin=origin, reason=reason))

    @contextlib.asynccontextmanager
    async def _collecting(self, origin: str) -> AsyncIterator[None]:
        """Any error inside becomes a missing item: evidence never stops a rollback."""
        self._pending[origin] += 1
        try:
            yield
        except ResponderError as e:
            self._add_missing(origin, str(e))
        except Exception as e:
            log.exception("evidence item failed unexpectedly", extra={"fields": {"origin": origin}})
            self._add_missing(origin, f"{type(e).__name__}: {e}")
        self._pending[origin] -= 1

    async def small(self, name: str, origin: str, make: Callable[[], Awaitable[bytes]]) -> None:
        async with self._collecting(origin):
            await self._keep(name, "json", origin, await make())

    async def series(
        self,
        number: int,
        query: Query,
        onset: datetime,
        marks: Sequence[PlotMark],
        now: datetime,
        connections: Connections,
    ) -> None:
        origin = f"series of {query.name}"
        async with self._collecting(origin):
            try:
                async with asyncio.timeout_at(self.read_by):
                    prometheus = await connections.to(Prometheus)
                    files = await look_back(prometheus, query, onset=onset, now=now, marks=marks)
            except TimeoutError:
                raise StepFailed("Prometheus did not answer in time") from None
            for suffix, content in files:
                await self._keep(f"series-{number}-{query.name}", suffix, origin, content)

    async def source(self, source: LogSource, connections: Connections) -> None:
        async with self._collecting(str(source)):
            until = min(asyncio.get_running_loop().time() + source.within, self.read_by)
            late = f"did not answer within {format_duration(min(source.within, self._settings.within * _READ_BY))}"
            try:
                async with asyncio.timeout_at(until):
                    client = await connections.to(source.client)
                    logs = await source.logs(client, self._since)
            except TimeoutError:
                raise StepFailed(late) from None
            if len(logs) > MAX_LOGS:
                self._add_missing(
                    str(source), f"{len(logs) - MAX_LOGS} of its {len(logs)} logs: at most {MAX_LOGS} are kept"
                )
            await asyncio.gather(*(self._log(source, log, until, late) for log in logs[:MAX_LOGS]))

    async def _log(self, source: LogSource, log: Log, until: float, late: str) -> None:
        async with self._collecting(log.origin):
            tail, cut_off = _Tail(source.cap), ""
            try:
                async with asyncio.timeout_at(until), self._at_once, contextlib.aclosing(log.chunks()) as chunks:
                    async for chunk in chunks:
                        tail.add(chunk)
            except TimeoutError:
                cut_off = late
            except (StepFailed, Unavailable) as e:
                cut_off = str(e)
            text = tail.lines()
            if not text:
                raise StepFailed(cut_off or "the log is empty")
            await self._keep(log.name, log.suffix, log.origin, text, skipped=tail.skipped, cut_off=cut_off)

    async def _keep(
        self, name: str, suffix: str, origin: str, content: bytes, *, skipped: int = 0, cut_off: str = ""
    ) -> None:
        if self._total + len(content) > self._settings.total:
            raise StepFailed(f"{format_size(len(content))} exceed the total of {format_size(self._settings.total)}")
        self._total += len(content)
        async with self._packing:
            packed = await in_daemon(_pack, self._redactor, content)
        file = self._named(name, suffix)
        async with self._storing:
            await self._put(file, packed.data)
        self.files.append(
            KeptFile(
                name=file,
                origin=origin,
                sha256=hashlib.sha256(packed.data).hexdigest(),
                bytes=len(packed.data),
                unpacked_bytes=packed.unpacked,
                skipped_bytes=skipped,
                cut_off=cut_off,
                redacted=packed.redacted,
            )
        )

    def _named(self, name: str, suffix: str) -> str:
        name = plain(name.removesuffix(f".{suffix}"))
        self._names[f"{name}.{suffix}"] += 1
        count = self._names[f"{name}.{suffix}"]
        return f"{name}.{suffix}.gz" if count == 1 else f"{name}.{count}.{suffix}.gz"


def _pack(redactor: Redactor, content: bytes) -> _Packed:
    clean, redacted = redactor.clean(content)
    return _Packed(gzip.compress(clean, 5, mtime=0), len(clean), redacted)

"""Collects all that is known of one case into its store, in parallel, and in no more time than it was given.

Reading ends after seven tenths of that time, storing after nine; the rest is the manifest's. Whatever is not there by
then is named in it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import json
import logging
import socket
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from responder.backends.alertmanager.alerts import Alert
from responder.backends.connections import Connections
from responder.backends.host.logs_client import in_daemon
from responder.backends.log_source import MAX_LOGS, Log, LogSource, Skipped
from responder.backends.prometheus.client import Prometheus
from responder.backends.registries import AnyLogSource
from responder.config.durations import format_duration
from responder.config.sizes import format_size
from responder.errors import ResponderError, StepFailed, Unavailable
from responder.evidence.manifest import FORMAT, MANIFEST, KeptFile, Manifest, Missing, plain, where
from responder.evidence.plots import Mark
from responder.evidence.redaction import Redactor
from responder.evidence.series import Query, look_back
from responder.evidence.settings import EvidenceSettings
from responder.evidence.stores import Store

log = logging.getLogger("responder.evidence")

_READ_BY, _STORED_BY = 0.7, 0.9
_AT_ONCE = 8


class Case(BaseModel):
    """Whose evidence, and where to look for it."""

    model_config = ConfigDict(frozen=True)

    id: str
    execution: str | None = None  # None: the logs are kept by themselves
    service: str
    environment: str
    policy: str
    deployment_id: str
    deployed_at: datetime | None = None
    version: str = ""  # the one that runs
    reason: str
    onset: datetime
    alerts: tuple[Alert, ...] = ()
    sources: tuple[AnyLogSource, ...] = ()
    queries: tuple[Query, ...] = ()

    @property
    def marks(self) -> list[Mark]:
        deployed = [Mark(name=f"deployment of {self.version}", at=self.deployed_at)] if self.deployed_at else []
        return [*deployed, Mark(name="onset", at=self.onset)]


async def collect(
    case: Case,
    *,
    settings: EvidenceSettings,
    store: Store,
    connections: Connections,
    guard: Callable[[], None] = lambda: None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Manifest:
    """The manifest; the one of before a crash, where everything had been kept already.

    Raises Halt and Unavailable where nothing could be kept. Of the sources it raises nothing. `guard` raises
    `LeaseLost` where somebody else goes on with the case meanwhile.
    """
    try:
        async with asyncio.timeout(settings.within):
            return await _collect(case, settings, store, connections, guard, now)
    except TimeoutError:
        raise Unavailable(f"nothing could be stored within {format_duration(settings.within)}") from None


async def _collect(
    case: Case,
    settings: EvidenceSettings,
    store: Store,
    connections: Connections,
    guard: Callable[[], None],
    now: Callable[[], datetime],
) -> Manifest:
    started, began_at = asyncio.get_running_loop().time(), now()
    folder = where(case.deployment_id, case.id)
    if found := await store.get(folder, MANIFEST):
        return Manifest.model_validate_json(found)
    begun = {"format": FORMAT, "id": case.id, "service": case.service, "began_at": began_at.isoformat()}
    await store.begin(folder, json.dumps(begun).encode())

    async def put(name: str, data: bytes) -> None:
        await store.put(folder, name, data)

    since = case.onset - timedelta(seconds=settings.before)
    basket = _Basket(settings, put, since, started)
    parts = [
        basket.small("alerts", "the alerts", lambda: _alerts(case)),
        *(basket.series(n, query, case, now(), connections) for n, query in enumerate(case.queries, 1)),
        *(basket.source(source, connections) for source in case.sources),
    ]
    working = [asyncio.ensure_future(part) for part in parts]
    await _until(working, basket.stored_by)
    manifest = Manifest(
        id=case.id,
        execution=case.execution,
        service=case.service,
        environment=case.environment,
        policy=case.policy,
        deployment_id=case.deployment_id,
        reason=case.reason,
        kept_on=socket.gethostname(),
        logs_since=since,
        began_at=began_at,
        ended_at=now(),
        location=store.location(folder),
        files=tuple(sorted(basket.files, key=lambda file: file.name)),
        missing=tuple(sorted(basket.missing(), key=lambda gap: gap.origin)),
    )
    guard()
    await store.finish(folder, manifest.model_dump_json(indent=1).encode())
    return manifest


async def _until(working: Sequence[asyncio.Future[None]], deadline: float) -> None:
    try:
        async with asyncio.timeout_at(deadline):
            await asyncio.gather(*working)
    except TimeoutError:
        pass
    finally:
        for future in working:
            future.cancel()


async def _alerts(case: Case) -> bytes:
    return json.dumps([alert.model_dump(mode="json") for alert in case.alerts], indent=1).encode()


class _Packed(NamedTuple):
    data: bytes
    unpacked: int
    redacted: int


class _Tail:
    """The last so many bytes of what is put in."""

    def __init__(self, most: int) -> None:
        self._most, self._parts, self._held = most, deque[bytes](), 0
        self.skipped = 0

    def add(self, part: bytes | Skipped) -> None:
        if isinstance(part, Skipped):
            self.skipped += part.bytes
            return
        self._parts.append(part)
        self._held += len(part)
        while self._held - len(self._parts[0]) >= self._most:
            dropped = len(self._parts.popleft())
            self._held -= dropped
            self.skipped += dropped

    def whole_lines(self) -> bytes:
        text = b"".join(self._parts)
        if over := max(len(text) - self._most, 0):
            self.skipped += over
            text = text[over:]
        if self.skipped and (end := text.find(b"\n")) >= 0:
            self.skipped += end + 1
            text = text[end + 1 :]
        return text


class _Basket:
    """What has been kept so far, and what is still to come."""

    def __init__(
        self, settings: EvidenceSettings, put: Callable[[str, bytes], Awaitable[None]], since: datetime, started: float
    ) -> None:
        self._settings, self._put, self._since = settings, put, since
        self.read_by = started + settings.within * _READ_BY
        self.stored_by = started + settings.within * _STORED_BY
        self._redactor = Redactor(settings.redact)
        self._at_once = asyncio.Semaphore(_AT_ONCE)
        self._packing = asyncio.Semaphore(2)
        # A store that hangs must not take all connections to Amazon, which resources of the rollback need as well.
        self._storing = asyncio.Semaphore(_AT_ONCE)
        self._names: Counter[str] = Counter()
        self._total = 0
        self.files: list[KeptFile] = []
        self._missing: list[Missing] = []
        self._waited_for: Counter[str] = Counter()

    def missing(self) -> list[Missing]:
        late = f"not stored within {format_duration(self._settings.within)}"
        return self._missing + [Missing(origin=origin, reason=late) for origin in self._waited_for.elements()]

    def _lacks(self, origin: str, reason: str) -> None:
        self._missing.append(Missing(origin=origin, reason=reason))

    @contextlib.asynccontextmanager
    async def _wanted(self, origin: str) -> AsyncIterator[None]:
        """Whatever goes wrong inside is a thing that is missing, and no more: evidence never stops a rollback."""
        self._waited_for[origin] += 1
        try:
            yield
        except ResponderError as e:
            self._lacks(origin, str(e))
        except Exception as e:
            log.exception("evidence", extra={"fields": {"origin": origin}})
            self._lacks(origin, f"{type(e).__name__}: {e}")
        self._waited_for[origin] -= 1

    async def small(self, name: str, origin: str, make: Callable[[], Awaitable[bytes]]) -> None:
        async with self._wanted(origin):
            await self._keep(name, "json", origin, await make())

    async def series(self, number: int, query: Query, case: Case, now: datetime, connections: Connections) -> None:
        origin = f"series of {query.name}"
        async with self._wanted(origin):
            try:
                async with asyncio.timeout_at(self.read_by):
                    prometheus = await connections.to(Prometheus)
                    files = await look_back(prometheus, query, onset=case.onset, now=now, marks=case.marks)
            except TimeoutError:
                raise StepFailed("Prometheus did not answer in time") from None
            for suffix, content in files:
                await self._keep(f"series-{number}-{query.name}", suffix, origin, content)

    async def source(self, source: LogSource, connections: Connections) -> None:
        async with self._wanted(str(source)):
            until = min(asyncio.get_running_loop().time() + source.within, self.read_by)
            late = f"did not answer within {format_duration(min(source.within, self._settings.within * _READ_BY))}"
            try:
                async with asyncio.timeout_at(until):
                    client = await connections.to(source.client)
                    logs = await source.logs(client, self._since)
            except TimeoutError:
                raise StepFailed(late) from None
            if len(logs) > MAX_LOGS:
                self._lacks(str(source), f"{len(logs) - MAX_LOGS} of its {len(logs)} logs: at most {MAX_LOGS} are kept")
            await asyncio.gather(*(self._log(source, log, until, late) for log in logs[:MAX_LOGS]))

    async def _log(self, source: LogSource, log: Log, until: float, late: str) -> None:
        async with self._wanted(log.origin):
            tail, cut_off = _Tail(source.cap), ""
            try:
                async with asyncio.timeout_at(until), self._at_once, contextlib.aclosing(log.chunks()) as chunks:
                    async for chunk in chunks:
                        tail.add(chunk)
            except TimeoutError:
                cut_off = late
            except (StepFailed, Unavailable) as e:
                cut_off = str(e)
            text = tail.whole_lines()
            if not text:
                raise StepFailed(cut_off or "it is empty")
            await self._keep(log.name, log.suffix, log.origin, text, skipped=tail.skipped, cut_off=cut_off)

    async def _keep(
        self, name: str, suffix: str, origin: str, content: bytes, *, skipped: int = 0, cut_off: str = ""
    ) -> None:
        if self._total + len(content) > self._settings.total:
            raise StepFailed(f"{format_size(len(content))} more than the {format_size(self._settings.total)} in all")
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

"""Server-sent events of rollbacks. A client resumes after the last event that it received."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import web

from responder.errors import Invalid, JournalUnavailable
from responder.journal import executions
from responder.rollback.events import Accepted, Event, Planned
from responder.rollback.execution import Execution, fold
from responder.runtime.worker import Worker
from responder.web.access.access import WHO, error
from responder.web.access.permission import demand_execution, sees
from responder.web.broadcast import RECENTLY, EventSubscription, ExecutionBroadcast, TooManySubscribers
from responder.web.http.requests import answer
from responder.web.http.routes import EXECUTION, Handlers, Route, get

_HEADERS = {"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_SKEW = timedelta(seconds=10)
"""Tolerated clock difference between replicas, so that a resumed stream of all rollbacks misses nothing."""


def event_body(execution: Execution, event: Event) -> dict[str, Any]:
    """One event with its number and the resulting state; a plan as text, and alerts only as a number."""
    body: dict[str, Any] = {
        "execution": execution.id,
        "seq": execution.seq,
        "state": execution.state,
        **event.model_dump(mode="json", exclude={"plan", "alerts"}),
    }
    if isinstance(event, Planned):
        plan = event.plan
        steps = [str(step) for step in plan.steps]
        body["plan"] = {
            "hash": plan.hash,
            "strategy": plan.parts[0].version.strategy,
            "steps": steps,
            "notes": list(plan.notes),
        }
    if isinstance(event, Accepted):
        body["total_alerts"] = len(event.alerts) + event.truncated_alerts
    return body


def unfold(execution_id: str, events: list[Event]) -> list[tuple[Execution, Event]]:
    """Every event with the execution after the event."""
    execution = fold(execution_id, events[:1])
    pairs = [(execution, events[0])]
    for event in events[1:]:
        execution = execution.after(event)
        pairs.append((execution, event))
    return pairs


class Events(Handlers):
    """`GET /api/v1/executions/{id}/events` and `GET /api/v1/events`."""

    def __init__(
        self,
        broadcast: ExecutionBroadcast,
        worker: Worker,
        may_read: Callable[[web.Request], bool] = lambda request: True,
        *,
        heartbeat: float = 15.0,
        look: float = 1.0,
        write_within: float = 10.0,
    ) -> None:
        self._broadcast, self._worker, self._may_read = broadcast, worker, may_read
        self._heartbeat, self._look, self._write_within = heartbeat, look, write_within

    def routes(self) -> Iterable[Route]:
        return get(f"{EXECUTION}/events", "read", self.execution), get("/api/v1/events", "read", self.everything)

    async def shutdown(self, app: web.Application) -> None:
        self._broadcast.close()

    async def execution(self, request: web.Request) -> web.StreamResponse:
        """`GET /api/v1/executions/{id}/events[?after=SEQ]`: a stream until the rollback is closed.

        It starts after `Last-Event-ID` (or `after`). With `Accept: application/json`: the events so far.
        """
        execution_id, after = request.match_info["id"], _number(request)
        await self._broadcast.read(demand_execution, request, execution_id)
        pairs = unfold(execution_id, await self._broadcast.read(executions.events_of, execution_id))
        execution = pairs[-1][0]
        new = [event_body(*pair) for pair in pairs if pair[0].seq > after]
        if request.headers.get("Accept") == "application/json":
            state = {"execution": execution_id, "state": execution.state, "outcome": execution.outcome}
            return answer({**state, "events": new, "checks": self._findings(execution)})

        async def follow(out: _Stream, subscription: EventSubscription) -> None:
            nonlocal execution
            await out.send((str(body["seq"]), body["type"], body) for body in new)
            shown: list[dict[str, Any]] = []
            while execution.state != "closed" and out.open:
                if await subscription.changed(self._look):
                    for execution, event in await self._after(execution_id, execution):  # noqa: B020
                        await out.send([(str(execution.seq), event.type, event_body(execution, event))])
                if (now := self._findings(execution)) != shown and now:
                    await out.send([(None, "checks", {"execution": execution_id, "findings": now})])
                shown = now

        return await self._stream(request, execution_id, follow)

    async def everything(self, request: web.Request) -> web.StreamResponse:
        """`GET /api/v1/events`: the events of all open rollbacks, then every new event.

        The ID of an event is its time. A client that resumes with it (`Last-Event-ID`) may receive events twice;
        `execution` and `seq` identify them.
        """
        since = _time(request)

        async def follow(out: _Stream, subscription: EventSubscription) -> None:
            known = await self._broadcast.read(executions.heads, since or self._broadcast.now() - RECENTLY)
            before = {i for i, row in known.items() if row["ended_at"]} if since is None else set()
            missed = await self._broadcast.read(executions.ended_since, since) if since else []
            at: dict[str, Execution] = {}
            fresh = [i for i in dict.fromkeys((*missed, *known)) if i not in before]
            while out.open:
                for execution_id in fresh:
                    pairs = await self._after(execution_id, at.get(execution_id))
                    if pairs and not sees(request[WHO], pairs[-1][0].accepted):
                        before.add(execution_id)
                        continue
                    if pairs:
                        at[execution_id] = pairs[-1][0]
                    new = [event_body(*pair) for pair in pairs if since is None or pair[1].at >= since]
                    await out.send((body["at"], body["type"], body) for body in new)
                heads = self._broadcast.heads
                at = {i: execution for i, execution in at.items() if execution.state != "closed" or i in heads}
                await subscription.changed(self._heartbeat)
                fresh = [i for i, seq in heads.items() if i not in before and (i not in at or seq > at[i].seq)]

        return await self._stream(request, None, follow)

    async def _after(self, execution_id: str, execution: Execution | None) -> list[tuple[Execution, Event]]:
        if execution is None:
            return unfold(execution_id, await self._broadcast.read(executions.events_of, execution_id))
        pairs = []
        for event in await self._broadcast.read(executions.events_after, execution_id, execution.seq):
            execution = execution.after(event)
            pairs.append((execution, event))
        return pairs

    def _findings(self, execution: Execution) -> list[dict[str, Any]]:
        """The latest findings of the current step, if this replica executes it."""
        findings = self._worker.findings(execution.id) if execution.current else []
        return [finding.model_dump(include={"holds", "reason"}) for finding in findings]

    async def _stream(self, request: web.Request, execution_id: str | None, follow: Any) -> web.StreamResponse:
        try:
            with self._broadcast.subscribe(execution_id) as subscription:
                # Evaluated before every event: a token that a reload removed loses the stream.
                allowed = lambda: not self._broadcast.closing and self._may_read(request)  # noqa: E731
                out = _Stream(request, self._heartbeat, self._write_within, allowed)
                await out.begin()
                beating = asyncio.create_task(out.beat(), name="heartbeat")
                try:
                    await follow(out, subscription)
                except (TimeoutError, ConnectionError):
                    out.cut()  # too slow, or disconnected: the client can resume
                except JournalUnavailable:
                    pass  # the stream ends; a new request answers why
                finally:
                    beating.cancel()
                return out.response
        except TooManySubscribers:
            return error(503, "too many streams: poll with Accept: application/json", **{"Retry-After": "5"})


class _Stream:
    """The stream to one client. A client that reads too slowly is disconnected."""

    def __init__(
        self, request: web.Request, heartbeat: float, write_within: float, allowed: Callable[[], bool]
    ) -> None:
        self._request, self._allowed = request, allowed
        self._heartbeat, self._write_within = heartbeat, write_within
        self._writing = asyncio.Lock()
        self.response = web.StreamResponse(headers=_HEADERS)

    @property
    def open(self) -> bool:
        transport = self._request.transport
        return self._allowed() and transport is not None and not transport.is_closing()

    async def begin(self) -> None:
        await self.response.prepare(self._request)
        await self._write("retry: 1000\n\n")

    async def send(self, events: Iterable[tuple[str | None, str, dict[str, Any]]]) -> None:
        for event_id, kind, body in events:
            head = f"id: {event_id}\n" if event_id is not None else ""
            await self._write(f"{head}event: {kind}\ndata: {json.dumps(body)}\n\n")

    async def beat(self) -> None:
        """Sends heartbeats, so that proxies do not close an idle connection."""
        while True:
            await asyncio.sleep(self._heartbeat)
            try:
                await self._write(": heartbeat\n\n")
            except (TimeoutError, ConnectionError):
                self.cut()
                return

    async def _write(self, text: str) -> None:
        async with self._writing, asyncio.timeout(self._write_within):
            await self.response.write(text.encode())

    def cut(self) -> None:
        if self._request.transport is not None:
            self._request.transport.abort()


def _number(request: web.Request) -> int:
    text = request.headers.get("Last-Event-ID") or request.query.get("after", "-1")
    if not re.fullmatch("-1|[0-9]{1,9}", text):
        raise Invalid(f"must be the number of an event, not {text!r:.50}", "Last-Event-ID")
    return int(text)


def _time(request: web.Request) -> datetime | None:
    text = request.headers.get("Last-Event-ID")
    if not text:
        return None
    try:
        return datetime.fromisoformat(text).astimezone(UTC) - _SKEW
    except (ValueError, OverflowError):
        raise Invalid(f"must be the ID of an event, which is a time, not {text!r:.50}", "Last-Event-ID") from None

"""`POST /api/v1/alerts`: 202 only once the journal holds the decisions, 503 if the sender should retry."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from datetime import datetime

from aiohttp import web

from responder.backends.alertmanager.alerts import AlertGroup
from responder.backends.alertmanager.webhook import read_body
from responder.errors import Conflict, Invalid, JournalUnavailable
from responder.journal import Bulk
from responder.logging import say
from responder.operations.alerts import receive_alerts
from responder.operations.decided import Decided
from responder.runtime.metrics import Metrics
from responder.web.access.access import WHO, Who, error
from responder.web.http.bodies import MOST_BYTES, READ_WITHIN, body_of
from responder.web.http.budget import Budget
from responder.web.http.routes import Route, post
from responder.web.process import Process, ProcessHandlers

__all__ = ["MOST_AT_ONCE", "MOST_BYTES", "READ_WITHIN", "Receiver"]

log = logging.getLogger("responder.decisions")

MOST_AT_ONCE = 500
"""Concurrent requests. One more is answered 503, because Alertmanager retries 5xx and never 429."""

MOST_WAITING = 8 * MOST_BYTES
"""Bytes of their bodies together."""

_DECIDED_AT_ONCE = 3 << 19
"""Bytes of the bodies that are parsed and decided at once. Parsed, they take several times as much memory."""

_OFF_THE_LOOP = 1 << 16
"""Bytes; a larger body is parsed in a thread."""


class Receiver(ProcessHandlers):
    """Takes the bodies of Alertmanager, Grafana Alerting and vmalert."""

    def __init__(self, process: Process, metrics: Metrics) -> None:
        super().__init__(process)
        self._metrics, self._concurrent, self._bytes = metrics, 0, 0
        self._deciding = Budget(_DECIDED_AT_ONCE)
        self._bulk = Bulk(process.journal)

    def routes(self) -> Iterable[Route]:
        # Version 2 is where vmalert and Prometheus post to their notifiers.
        paths = [f"/api/{version}/alerts" for version in ("v1", "v2")]
        return tuple(post(path, "alerts", self.post, refused=self._refused) for path in paths)

    def _refused(self) -> None:
        self._metrics.webhooks.labels("invalid").inc()

    async def post(self, request: web.Request) -> web.Response:
        """`POST /api/v1/alerts`: 202 even if everything was denied, because the decisions are recorded."""
        outcome, size = "failed", _most_bytes(request)
        if self._concurrent >= MOST_AT_ONCE or self._bytes + size > MOST_WAITING:
            self._metrics.webhooks.labels("overloaded").inc()
            most = f"more than {MOST_AT_ONCE} requests, or {MOST_WAITING >> 20} MiB of alerts, at once"
            return error(503, f"{most}: try again", **{"Retry-After": "5"})
        self._concurrent += 1
        self._bytes += size
        began = time.monotonic()
        try:
            body = await body_of(request, READ_WITHIN)
            self._bytes += len(body) - size
            size = len(body)
            async with self._deciding.share(len(body)):
                group = await _parsed(body, self._journal.now())
                answer = await self._receive(group, request[WHO])
            outcome = "accepted"
            return web.json_response(answer, status=202)
        except Conflict as e:  # another request changed the same rows: the retry is decided on again
            outcome = "unavailable"
            raise JournalUnavailable(str(e)) from e
        except JournalUnavailable:
            outcome = "unavailable"
            raise
        except (Invalid, web.HTTPException):
            outcome = "invalid"
            raise
        finally:
            self._concurrent -= 1
            self._bytes -= size
            self._metrics.webhooks.labels(outcome).inc()
            self._metrics.answers.observe(time.monotonic() - began)

    async def _receive(self, group: AlertGroup, who: Who) -> dict[str, object]:
        for alert in group.alerts:
            self._metrics.alerts.labels(alert.status).inc()
        self._metrics.alerts.labels("refused").inc(len(group.refused))
        if group.truncated_alerts:
            say(log, "alerts truncated: set max_alerts to 0", level=logging.WARNING, missing=group.truncated_alerts)
        decided, answers = await receive_alerts(
            group,
            who.name,
            who.permitted,
            policy_set=self._policy_set(),
            journal=self._bulk,
            connections=self._connections(),
            claimer=self._worker.claimer,
            begin=self.begin,
        )
        return {"alerts": len(group.alerts), "decisions": [*answers, *(result.payload() for result in decided)]}

    def begin(self, decided: list[Decided]) -> None:
        """Counts the decisions, and starts what was accepted for the worker of this process."""
        self._metrics.decided(decided)
        self._worker.begin(decided)


def _most_bytes(request: web.Request) -> int:
    """The size of the body; the limit if it is unknown, or known only compressed."""
    known = "Content-Encoding" not in request.headers
    return min(request.content_length or 0, MOST_BYTES) if known and request.content_length else MOST_BYTES


async def _parsed(body: bytes, now: datetime) -> AlertGroup:
    return read_body(body, now) if len(body) < _OFF_THE_LOOP else await asyncio.to_thread(read_body, body, now)

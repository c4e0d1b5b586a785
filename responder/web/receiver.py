"""`POST /api/v1/alerts`: 202 only once the journal holds it, 503 where the sender should come back."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from datetime import datetime

from aiohttp import web

from responder.backends.alertmanager.alerts import AlertGroup, UndatedAlert, read_body
from responder.backends.alertmanager.matchers import all_match
from responder.backends.connections import Connections
from responder.decisions import alert_times
from responder.decisions.incidents import match_alerts, only_told
from responder.decisions.journal_facts import WATCHDOG
from responder.decisions.limits import Watchdog
from responder.decisions.policy_set import PolicySet
from responder.errors import Conflict, Invalid, JournalUnavailable
from responder.journal import Database, decisions
from responder.logging import say
from responder.operations.refused_alerts import note_refused
from responder.operations.respond import Decided, note_not_permitted, note_told, note_unwanted, respond
from responder.runtime.metrics import Metrics
from responder.runtime.worker import Worker
from responder.web.access.access import WHO, Who, error
from responder.web.access.permission import permits, sort_out
from responder.web.http.bodies import MOST_BYTES, READ_WITHIN, body_of
from responder.web.http.routes import Handlers, Route, post

__all__ = ["MOST_AT_ONCE", "MOST_BYTES", "READ_WITHIN", "Receiver"]

log = logging.getLogger("responder.decisions")

MOST_AT_ONCE = 200
"""Requests under way; one more is told to come back (503), because Alertmanager retries 5xx and never 429."""


_OFF_THE_LOOP = 1 << 16
"""Bytes; a larger body is parsed in a thread."""


class Receiver(Handlers):
    """Takes the bodies of Alertmanager, Grafana Alerting and vmalert."""

    def __init__(
        self,
        journal: Database,
        policy_set: Callable[[], PolicySet],
        connections: Callable[[], Connections],
        worker: Worker,
        metrics: Metrics,
    ) -> None:
        self._journal, self._mandate, self._connections = journal, policy_set, connections
        self._worker, self._metrics = worker, metrics
        self._under_way = 0

    def routes(self) -> Iterable[Route]:
        """As Page.places."""
        # Version 2 is where vmalert and Prometheus post to their notifiers.
        paths = [f"/api/{version}/alerts" for version in ("v1", "v2")]
        return tuple(post(path, "alerts", self.post, refused=self._refused) for path in paths)

    def _refused(self) -> None:
        self._metrics.webhooks.labels("invalid").inc()

    async def post(self, request: web.Request) -> web.Response:
        """The handler. What is refused for a reason is a 202 as well: it was understood, and it is on record."""
        outcome = "failed"
        if self._under_way >= MOST_AT_ONCE:
            self._metrics.webhooks.labels("overloaded").inc()
            return error(503, "too much at once", **{"Retry-After": "5"})
        self._under_way += 1
        began = time.monotonic()
        try:
            group = await _body(request, self._journal.now())
            answer = await self._take(group, request[WHO])
            outcome = "accepted"
            return web.json_response(answer, status=202)
        except Conflict as e:  # somebody else was quicker in the very same moment: judged anew when it comes again
            outcome = "unavailable"
            raise JournalUnavailable(str(e)) from e
        except JournalUnavailable:
            outcome = "unavailable"
            raise
        except (Invalid, web.HTTPException):
            outcome = "invalid"
            raise
        finally:
            self._under_way -= 1
            self._metrics.webhooks.labels(outcome).inc()
            self._metrics.answers.observe(time.monotonic() - began)

    async def _take(self, group: AlertGroup, who: Who) -> dict[str, object]:
        now = self._journal.now()
        for alert in group.alerts:
            self._metrics.alerts.labels(alert.status).inc()
        self._metrics.alerts.labels("refused").inc(len(group.refused))
        if group.truncated_alerts:
            say(log, "alerts were cut off: set max_alerts to 0", level=logging.WARNING, missing=group.truncated_alerts)
        policy_set = self._mandate()
        alerts = [alert for alert in group.alerts if not policy_set.is_watchdog(alert)]
        if any(isinstance(alert, UndatedAlert) for alert in alerts):
            alerts = await self._journal.transaction(alert_times.remember, alerts, now)
        watched = any(alert.status == "firing" and policy_set.is_watchdog(alert) for alert in group.alerts)
        if watched and who.permitted.limited:
            say(log, "watchdog ignored: the token is limited", level=logging.WARNING, token=who.name)
        elif watched:
            await self._journal.transaction(decisions.record_heartbeat, WATCHDOG, now)
        incidents, unwanted = match_alerts(
            alerts, policy_set.policies, now, sender=who.name, truncated=group.truncated_alerts
        )
        recorded = await note_refused(self._journal, group.refused, now)
        incidents, foreign = sort_out(who, incidents, policy_set)
        # It only proves that alerts arrive: where no watchdog is configured, nobody misses a rollback for it.
        unwanted = [alert for alert in unwanted if not all_match(Watchdog().match, alert.labels)]
        recorded += [await note_unwanted(self._journal, unwanted, now)] if unwanted else []
        recorded += [await note_not_permitted(self._journal, incident, who.name, now) for incident in foreign]
        permitted = [alert for alert in alerts if permits(who, alert)]
        recorded += [await note_told(self._journal, *match, now) for match in only_told(permitted, policy_set.policies)]
        if incidents:
            decided = await respond(
                incidents,
                policy_set=policy_set,
                journal=self._journal,
                connections=self._connections(),
                claimer=self._worker.claimer,
            )
            self.begin(decided)
            recorded += [result.payload() for result in decided]
        return {"alerts": len(group.alerts), "decisions": recorded}

    def begin(self, decided: list[Decided]) -> None:
        """Counts each verdict, and hands all of them to the worker."""
        self._metrics.decided(decided)
        self._worker.begin(decided)


async def _body(request: web.Request, now: datetime) -> AlertGroup:
    body = await body_of(request, READ_WITHIN)
    return read_body(body, now) if len(body) < _OFF_THE_LOOP else await asyncio.to_thread(read_body, body, now)

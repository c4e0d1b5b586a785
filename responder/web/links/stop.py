"""`/stop/{id}`: the page behind a stop link. It shows the rollback; a button stops it at the next safe point."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from html import escape

from aiohttp import web

from responder.errors import Conflict, ResponderError
from responder.journal import Database, executions
from responder.operations.stop import STOPPABLE, effect_of_stop, stop
from responder.rollback.execution import Execution
from responder.web.http.bodies import form_of
from responder.web.http.routes import Handlers, Route, get, post
from responder.web.links.signing import Links
from responder.web.pages.page import page


class StopPage(Handlers):
    """`GET /stop/{id}` shows the rollback, `POST` stops it."""

    def __init__(self, journal: Database, links: Callable[[], Links]) -> None:
        self._journal, self._links = journal, links

    def routes(self) -> Iterable[Route]:
        # The signed link is the permission.
        return get("/stop/{id}", None, self.show), post("/stop/{id}", None, self.stop, body="form")

    async def show(self, request: web.Request) -> web.Response:
        try:
            execution = await self._execution(request)
        except ResponderError as e:
            return page("This rollback cannot be stopped", f"<p>{escape(str(e))}</p>", status=403)
        accepted = execution.accepted
        body = (
            f"<dl><dt>Reason</dt><dd>{escape(accepted.reason)}</dd>"
            f"<dt>Versions</dt><dd>{escape(accepted.from_version)} → {escape(accepted.to_version)}</dd>"
            f"<dt>State</dt><dd>{execution.state}</dd>"
            f"<dt>If it stops now</dt><dd>{escape(effect_of_stop(execution))}</dd></dl>"
            "<p>A rollback stops between two steps.</p>"
            '<form method="post"><label>Your name <input name="name" required maxlength="80" autofocus></label>'
            '<label>Reason for the stop <input name="reason" maxlength="500"></label>'
            "<button>Stop this rollback</button></form>"
        )
        return page(f"Stop the rollback of {accepted.service} in {accepted.environment}?", body)

    async def stop(self, request: web.Request) -> web.Response:
        try:
            execution = await self._execution(request)
            form = await form_of(request)
            name, reason = (str(form.get(key, "")).strip() for key in ("name", "reason"))
            if not name:
                raise Conflict("enter your name, for the record")
            by = f"{name[:80]} (by link)"
            _, effect = await stop(execution.id, by, reason[:500], journal=self._journal)
        except ResponderError as e:
            return page("This rollback cannot be stopped", f"<p>{escape(str(e))}</p>", status=409)
        return page(
            "Stopping",
            f"<p>Stop requested by {escape(by)}. Rollback {escape(execution.id)} stops between two steps. "
            f"If it stops now: {escape(effect)}.</p>",
        )

    async def _execution(self, request: web.Request) -> Execution:
        execution_id, query = request.match_info["id"], request.query
        signed = (execution_id, query.get("until", ""), query.get("signature", ""))
        if not self._links().allows_stop(*signed, self._journal.now()):
            raise Conflict("this link is not valid or has expired")
        execution = await self._journal.read(executions.load, execution_id)
        if execution.state not in STOPPABLE:
            raise Conflict(f"rollback {execution_id} is {execution.state}: it can no longer be stopped")
        return execution

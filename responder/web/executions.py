"""Shows executions, and approves, stops and closes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, get_args

from aiohttp import web
from pydantic import Field

from responder.decisions.evaluation import GuardDenial
from responder.errors import Invalid
from responder.journal import Transaction, executions
from responder.operations.approve import approve, blocked_by
from responder.operations.close import close, resume_all
from responder.operations.stop import STOPPABLE, effect_of_stop, stop, stop_all
from responder.rollback.events import Event, Outcome, note_of
from responder.rollback.execution import Execution, State, fold
from responder.web.access.access import WHO, who_asks
from responder.web.access.permission import demand, demand_execution, demand_unlimited, permitted
from responder.web.http.requests import ApiRequest, answer, limit, read, since
from responder.web.http.routes import EXECUTION, Route, get, post
from responder.web.process import Process, ProcessHandlers


class _Stop(ApiRequest):
    reason: str = Field(default="", max_length=1000)


class _Close(ApiRequest):
    outcome: Outcome = "failed"
    reason: str = Field(min_length=1, max_length=1000)


class _Approve(ApiRequest):
    plan_hash: str
    although_resolved: bool = False  # also if the trouble is no longer visible


def _shown(event: Event) -> dict[str, Any]:
    return {**event.model_dump(mode="json"), "text": note_of(event) or ""}


class Executions(ProcessHandlers):
    """`/api/v1/executions` and the operations on one of them. The ID `all` stands for the kill switch."""

    def __init__(self, process: Process, approve_link: Callable[[Execution], str | None]) -> None:
        super().__init__(process)
        self._approve_link = approve_link

    def routes(self) -> Iterable[Route]:
        return (
            get("/api/v1/executions", "read", self.find),
            get(EXECUTION, "read", self.show),
            post(f"{EXECUTION}/approve", "approve", self.approve),
            post(f"{EXECUTION}/stop", "operate", self.stop),
            post(f"{EXECUTION}/close", "operate", self.close),
        )

    async def find(self, request: web.Request) -> web.Response:
        """`GET /api/v1/executions[?service=&state=&since=&before=&limit=]`, newest first; `before`: the last ID.

        Or `?id=&limit=`: those whose IDs begin like this.
        """
        query = request.query
        beginning = query.get("id", "")
        if beginning and (others := query.keys() - {"id", "limit"}):
            raise Invalid(f"excludes {', '.join(sorted(others))}", "id")
        if query.get("state", "closed") not in get_args(State):
            raise Invalid(f"must be one of {', '.join(get_args(State))}, not {query['state']!r}", "state")
        demand(request, query.get("service"), None)
        found = await self._journal.read(
            executions.find,
            service=query.get("service"),
            state=query.get("state"),
            since=since(request),
            before=query.get("before"),
            beginning=beginning,
            most=limit(request),
            permitted=permitted(request),
        )
        return answer({"executions": found})

    async def show(self, request: web.Request) -> web.Response:
        """`GET /api/v1/executions/{id}`: its row, its plan, all its events and its notifications."""
        execution_id = request.match_info["id"]

        async def find(tx: Transaction) -> dict[str, Any]:
            await demand_execution(tx, request, execution_id)
            row = await tx.first("execution", id=execution_id)
            if row and row["archived_in"]:
                return {**row, "events": [], "effect_of_stop": "", "messages": []}
            events = await executions.events_of(tx, execution_id)
            execution = fold(execution_id, events)
            link = self._approve_link(execution) if "approve" in request[WHO].scopes else None
            body = {**(row or {}), "events": [_shown(event) for event in events]}
            body["effect_of_stop"] = effect_of_stop(execution) if execution.state in STOPPABLE else ""
            body["messages"] = await tx.all("messages_of", subject=execution_id)
            return {**body, "approve_url": link} if link else body

        return answer(await self._journal.read(find))

    async def approve(self, request: web.Request) -> web.Response:
        """`POST /api/v1/executions/{id}/approve`: approves exactly the plan with this hash."""
        body = await read(request, _Approve)
        execution_id = await self._permitted(request)
        by = who_asks(request, body.model_dump())
        return answer(
            await self.approve_plan(execution_id, body.plan_hash, by, although_resolved=body.although_resolved)
        )

    async def approve_plan(
        self, execution_id: str, plan_hash: str, by: str, *, although_resolved: bool = False
    ) -> dict[str, Any]:
        """Approves a plan, as the operation `approve`; returns the state of the execution."""
        approved = await approve(
            execution_id, plan_hash, by, although_resolved=although_resolved, **self._context(), now=self._journal.now()
        )
        return self._publish(*approved)

    async def blocked_by(self, execution: Execution) -> GuardDenial | None:
        """As the operation `blocked_by`."""
        return await blocked_by(execution, **self._context(), now=self._journal.now())

    async def stop(self, request: web.Request) -> web.Response:
        """`POST /api/v1/executions/{id}/stop`: stops at the next safe point; the ID `all` throws the kill switch."""
        body = await read(request, _Stop)
        by = who_asks(request, body.model_dump())
        if request.match_info["id"] == "all":
            demand_unlimited(request, "stopping all automation")
            reason = await stop_all(by, body.reason, journal=self._journal)
            return answer({"stopped": "all", "by": by, "reason": reason}, status=202)
        execution_id = await self._permitted(request)
        reason, effect = await stop(execution_id, by, body.reason, journal=self._journal)
        return answer({"stopped": execution_id, "by": by, "reason": reason, "effect": effect}, status=202)

    async def close(self, request: web.Request) -> web.Response:
        """`POST /api/v1/executions/{id}/close`: closes a stuck execution; the ID `all` releases the kill switch."""
        body = await read(request, _Close)
        by = who_asks(request, body.model_dump())
        if request.match_info["id"] == "all":
            demand_unlimited(request, "releasing the kill switch")
            await resume_all(journal=self._journal)
            return answer({"closed": "all", "by": by})
        execution_id = await self._permitted(request)
        closed = await close(execution_id, body.outcome, by, body.reason, journal=self._journal)
        return answer(self._publish(*closed))

    async def _permitted(self, request: web.Request) -> str:
        await self._journal.read(demand_execution, request, request.match_info["id"])
        return request.match_info["id"]

    def _context(self) -> dict[str, Any]:
        return {
            "policy_set": self._policy_set(), "journal": self._journal, "connections": self._connections()
        }  # fmt: skip

    def _publish(self, execution: Execution, event: Event) -> dict[str, Any]:
        self._worker.publish(execution, (event,))  # counted and logged like the events of a worker
        return execution.model_dump(mode="json", include={"id", "seq", "state", "outcome", "reason"})

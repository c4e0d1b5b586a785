"""Fake servers on real sockets: Alertmanager's API v2 and Prometheus' query API."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(**handlers: Handler) -> AsyncIterator[str]:
    """A server on a free port with routes `/name`; yields its base URL."""
    app = web.Application()
    for name, handler in handlers.items():
        app.router.add_route("*", f"/{name}", handler)
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/")


class FakeServer:
    """A server with scripted answers; `requests` lists what it received."""

    path = ""

    def __init__(self) -> None:
        self.requests: list[web.Request] = []
        self.status = 200
        self.raw: bytes | None = None
        self.content_type = "application/json"
        self.hangs = self.packed = self.broken_off = False
        self.url = ""
        self._released = asyncio.Event()

    @asynccontextmanager
    async def up(self) -> AsyncIterator[Any]:
        app = web.Application()
        app.router.add_get("/{rest:.*}", self._answer)
        async with TestServer(app) as server:
            self.url = str(server.make_url("")).rstrip("/")
            yield self
            self._released.set()

    def release(self) -> None:
        """Answers what hangs."""
        self._released.set()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        if self.hangs:
            await self._released.wait()
        if self.raw is not None and self.broken_off:
            begun = web.StreamResponse(headers={"Content-Length": str(len(self.raw) + 1)})
            await begun.prepare(request)
            await begun.write(self.raw)
            assert request.transport
            request.transport.close()
            return begun
        if self.raw is not None and self.packed:
            packed = gzip.compress(self.raw)
            return web.Response(body=packed, headers={"Content-Encoding": "gzip", "Content-Type": self.content_type})
        if self.raw is not None:
            return web.Response(body=self.raw, status=self.status, content_type=self.content_type)
        if self.status != 200:
            return web.json_response({"status": "error", "error": "as scripted"}, status=self.status)
        return self.answer(request)

    def answer(self, request: web.Request) -> web.StreamResponse:
        raise NotImplementedError


class FakeAlertmanager(FakeServer):
    """Stores alerts and silences, and answers `/api/v2/alerts` with filters like the real one."""

    def __init__(self) -> None:
        super().__init__()
        self.alerts: list[dict[str, Any]] = []
        self.silences: dict[str, dict[str, Any]] = {}

    def fires(
        self,
        labels: dict[str, str],
        fingerprint: str,
        *,
        state: str = "active",
        silenced_by: tuple[str, ...] = (),
        inhibited_by: tuple[str, ...] = (),
    ) -> None:
        status = {"state": state, "silencedBy": list(silenced_by), "inhibitedBy": list(inhibited_by), "mutedBy": []}
        self.alerts.append({"labels": labels, "fingerprint": fingerprint, "status": status})

    def answer(self, request: web.Request) -> web.StreamResponse:
        if request.path.startswith("/api/v2/silence/"):
            silence = self.silences.get(request.path.rpartition("/")[2])
            return web.json_response(silence) if silence else web.Response(status=404)
        if request.path == "/api/v2/silences":
            return web.json_response(list(self.silences.values()))
        wanted = [text.partition("=") for text in request.query.getall("filter", [])]
        found = [a for a in self.alerts if all(f'"{a["labels"].get(name, "")}"' == value for name, _, value in wanted)]
        return web.json_response(found)


def many_series(count: int, points: int = 240) -> bytes:
    """An answer of Prometheus with that many series over the last half hour."""
    end = datetime.now(UTC).timestamp()
    values = [[end - 1800 * n / points, str(n)] for n in range(points, -1, -1)]
    result = [{"metric": {"__name__": "up", "instance": f"i-{n}"}, "values": values} for n in range(count)]
    return json.dumps({"status": "success", "data": {"resultType": "matrix", "result": result}}).encode()


class FakePrometheus(FakeServer):
    """Answers `/api/v1/query` with the vector that the test set for the query; an unset query has no data.

    `history` is what it was before: the value of a query at a time, where it is asked about one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.vectors: dict[str, list[tuple[dict[str, str], str]]] = {}
        self.results: dict[str, dict[str, Any]] = {}
        self.history: dict[str, Callable[[datetime], str]] = {}
        self.recorded: list[dict[str, str]] = []
        self.evaluated: set[str] = set()

    def sees(self, labels: dict[str, str]) -> None:
        """The rules record the trouble of an alert with these labels, and it is visible now."""
        self.recorded.append({n: labels[n] for n in ("alertname", "service", "environment")})
        self.evaluates(labels)

    def evaluates(self, labels: dict[str, str]) -> None:
        """The rules of this alert are evaluated, whether or not they see trouble."""
        self.evaluated.add(labels["alertname"])

    def answer(self, request: web.Request) -> web.StreamResponse:
        promql = request.query.get("query", "")
        if promql in self.history and "time" in request.query:
            value = self.history[promql](datetime.fromtimestamp(float(request.query["time"]), UTC))
            data = {"resultType": "vector", "result": [{"metric": {}, "value": [1e9, value]}]}
        elif promql in self.results:
            data = self.results[promql]
        elif "service_environment:trouble:now" in promql:
            samples = self.vectors.get(promql, []) + self._visible()
            data = {"resultType": "vector", "result": [{"metric": m, "value": [1e9, v]} for m, v in samples]}
        else:
            vector = [{"metric": labels, "value": [1e9, value]} for labels, value in self.vectors.get(promql, [])]
            data = {"resultType": "vector", "result": vector}
        return web.json_response({"status": "success", "data": data})

    def _visible(self) -> list[tuple[dict[str, str], str]]:
        clock = str(datetime.now(UTC).timestamp())
        now = [({**labels, "question": "now"}, clock) for labels in self.recorded]
        evaluated = [({"alertname": name, "question": "evaluated"}, clock) for name in sorted(self.evaluated)]
        return [*now, *evaluated, ({"question": "clock"}, clock)]

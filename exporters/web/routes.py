"""The HTTP endpoints. Requests name a check by its ID, never a target."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from time import perf_counter, time

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.aiohttp import make_aiohttp_handler

from exporters.errors import ConfigError, Unable
from exporters.live import Live
from exporters.output import CONTENT_TYPE, Collected, ProbeOutput
from exporters.probes.check import Check
from exporters.resources.collector import Resources
from exporters.runner import SCRAPE_MARGIN, Result, run
from exporters.web import page
from foundation.connections import under_way
from foundation.durations import format_duration
from foundation.logging import say
from foundation.sparingly import Sparingly

log = logging.getLogger(__name__)

MOST_AT_ONCE = 8  # running probes of one check: more scrapers than that are not Prometheus
MOST_COLLECTIONS = 8
SCRAPE_TIMEOUT = "X-Prometheus-Scrape-Timeout-Seconds"
NO_SCRIPTS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'", "Cache-Control": "no-store"}


class Routes:
    """The HTTP endpoints of a live configuration."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._running: Counter[str] = Counter()
        self._collecting = asyncio.Semaphore(MOST_COLLECTIONS)
        # Any client that reaches this address can trigger probes at any rate.
        self._sparing = Sparingly(lambda event, **fields: say(log, event, level=logging.ERROR, **fields))

    def app(self) -> web.Application:
        """Returns the aiohttp application."""
        app = web.Application(client_max_size=1024, middlewares=[under_way])
        app.add_routes(
            [
                web.get("/", self.page),
                web.get("/probe", self.probe),
                web.get("/sd", self.discovery),
                web.get("/metrics", self.metrics),
                web.get("/-/healthy", self.healthy),
                web.get("/-/ready", self.healthy),
                web.post("/-/reload", self.reload),
            ]
        )
        return app

    async def probe(self, request: web.Request) -> web.StreamResponse:
        """Runs one check now. Answers 404 for an unknown check, and 503 if the target is not at fault."""
        arrived = perf_counter()
        try:
            scrape_timeout = _scrape_timeout(request)
        except ValueError:
            return web.Response(status=400, text=f"{SCRAPE_TIMEOUT} is not a time in seconds\n")
        with self._live.borrowed() as generation:
            check = generation.config.by_id.get(request.query.get("check", ""))
            if check is None:
                return web.Response(status=404, text="no check with that ID is configured; see /sd for the list\n")
            if self._running[check.id] >= MOST_AT_ONCE:
                return web.Response(status=503, text=f"{MOST_AT_ONCE} probes of this check are running\n")
            self._running[check.id] += 1
            try:
                result, output = await run(check, generation.connections, scrape_timeout=scrape_timeout)
            except Unable as unable:
                why = generation.connections.redact(str(unable))
                self._count_error(check, "unable", "probe could not be made", check.id, why=why)
                return web.Response(status=503, text=f"{why}\n")
            except Exception as bug:
                # Without its text, which may hold secrets.
                name, at = type(bug).__name__, _where(bug)
                self._count_error(check, "bug", "probe crashed", f"{check.id} {name} {at}", error=name, at=at)
                return web.Response(status=500, text=f"a bug in the exporter: {name} at {at}\n")
            finally:
                self._running[check.id] -= 1
        self._record(check, result)
        if request.query.get("debug") == "true":
            return web.Response(text=_debug(check, result, output), headers={"Cache-Control": "no-store"})
        response = web.Response(body=output.text.encode(), headers={"Content-Type": CONTENT_TYPE})
        self._live.metrics.overhead.observe(max(0.0, perf_counter() - arrived - result.duration))
        return response

    def _count_error(self, check: Check, outcome: str, event: str, kind: str, **fields: str) -> None:
        self._live.metrics.probes.labels(check.type, outcome).inc()
        self._sparing.warn(event, kind, check=check.id, **fields)

    def _record(self, check: Check, result: Result) -> None:
        self._live.metrics.probes.labels(check.type, "success" if result.success else "failure").inc()
        if self._live.history.record(result):
            event = "check succeeds again" if result.success else "check failed"
            say(log, event, level=logging.WARNING, check=check.id, reason=result.reason, why=result.why)

    async def discovery(self, _: web.Request) -> web.Response:
        """Lists the checks as targets for the HTTP service discovery of Prometheus."""
        return web.json_response([self._target(check) for check in self._live.config.checks])

    def _target(self, check: Check) -> dict[str, object]:
        # The scrape must outlast the probe: otherwise Prometheus drops the answer that reports the timeout.
        scrape_timeout = min(check.interval, check.time_limit + SCRAPE_MARGIN)
        labels = {
            **check.labels,
            "__metrics_path__": "/probe",
            "__param_check": check.id,
            "__scrape_interval__": format_duration(check.interval),
            "__scrape_timeout__": format_duration(scrape_timeout),
            "service": check.service,
            "environment": check.environment,
            "check_id": check.id,
        }
        return {"targets": [self._live.advertised], "labels": labels}

    async def metrics(self, request: web.Request) -> web.StreamResponse:
        """Answers with the resources of the host and the exporter's own series."""
        if self._collecting.locked():
            return web.Response(status=503, text=f"{MOST_COLLECTIONS} earlier scrapes still wait for the host\n")
        resources = Resources(self._live.config.resources)
        # In a thread: a slow disk must not delay running probes. The number is limited, because a disk that never
        # answers would occupy every thread that looks up names.
        async with self._collecting:
            families = await asyncio.to_thread(lambda: list(resources.collect()))
        registry = CollectorRegistry(auto_describe=False)
        registry.register(Collected([*families, *self._live.metrics.registry.collect()]))
        return await make_aiohttp_handler(registry)(request)

    async def page(self, request: web.Request) -> web.Response:
        """Answers with the status page, or with the page of one check for `?check=ID`."""
        check_id, config = request.query.get("check"), self._live.config
        redact = self._live.current.connections.redact
        if check_id is None:
            text = page.overview(config.checks, self._live.history, time())
        elif (check := config.by_id.get(check_id)) is not None:
            text = page.detail(check, redact(check.shown_target), self._live.history.of(check.id), time())
        else:
            raise web.HTTPNotFound(text="no check with that ID is configured\n")
        return web.Response(text=text, content_type="text/html", headers=NO_SCRIPTS)

    async def healthy(self, _: web.Request) -> web.Response:
        """Answers 200: the exporter listens only once the configuration is loaded."""
        return web.Response(text="ok\n")

    async def reload(self, request: web.Request) -> web.Response:
        """Reloads the configuration. Answers 400 with every error if it cannot be used, and 403 to a web page.

        Only browsers send these headers, and no page of the exporters uses this endpoint.
        """
        if "Origin" in request.headers or request.headers.get("Sec-Fetch-Site", "none") != "none":
            return web.json_response({"error": "a web page sent this: send SIGHUP, or POST without Origin"}, status=403)
        try:
            await self._live.reload()
        except ConfigError as error:
            return web.json_response({"error": str(error), "where": str(self._live.path)}, status=400)
        return web.json_response({"checks": len(self._live.config.checks)})


def _scrape_timeout(request: web.Request) -> float | None:
    """Returns the timeout of the scrape in seconds, or None without the header. Raises ValueError."""
    if SCRAPE_TIMEOUT not in request.headers:
        return None
    seconds = float(request.headers[SCRAPE_TIMEOUT])
    if not 0 < seconds < 86400:
        raise ValueError
    return seconds


def _debug(check: Check, result: Result, output: ProbeOutput) -> str:
    outcome = "succeeded" if result.success else f"failed ({result.reason}): {result.why}"
    return (
        f"{check.id} {outcome}\n{output.redact(check.shown_target)}\n\nLog:\n{page.log_text(result)}\n\n"
        f"Series:\n{output.text}"
    )


def _where(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "unknown"

"""What Prometheus scrapes and people read; a check is only ever named here, its target never."""

from __future__ import annotations

import asyncio
import logging
from time import perf_counter, time

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.aiohttp import make_aiohttp_handler
from prometheus_client.exposition import generate_latest

from exporters import page
from exporters.check import Check
from exporters.durations import written
from exporters.errors import ConfigError, Unable
from exporters.live import Live
from exporters.metrics import Collected
from exporters.notes import Notes
from exporters.probing import KEPT_BACK, Result, run
from exporters.resources import Resources
from foundation.connections import under_way
from foundation.sparingly import Sparingly

log = logging.getLogger(__name__)

MOST_AT_ONCE = 8  # probes of one check under way: more scrapers than that are not Prometheus
MOST_COLLECTIONS = 8
SCRAPE_TIMEOUT = "X-Prometheus-Scrape-Timeout-Seconds"
NO_SCRIPTS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'", "Cache-Control": "no-store"}


class Web:
    """The HTTP endpoints over a live configuration."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._under_way: dict[str, int] = {}
        self._collecting = asyncio.Semaphore(MOST_COLLECTIONS)
        # Whoever reaches this address can have any check probed, as often as they like.
        self._sparing = Sparingly(lambda event, **fields: log.error(event, extra=fields))

    def app(self) -> web.Application:
        """The aiohttp application."""
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
        """Run the named check now. 404 for one that is not configured, 503 when it is not the target's fault."""
        arrived = perf_counter()
        check_id = request.query.get("check", "")
        try:
            scrape_timeout = float(request.headers[SCRAPE_TIMEOUT]) if SCRAPE_TIMEOUT in request.headers else None
        except ValueError:
            scrape_timeout = -1.0
        if scrape_timeout is not None and not 0 < scrape_timeout < 86400:
            return web.Response(status=400, text=f"{SCRAPE_TIMEOUT} is not a time in seconds\n")
        with self._live.borrowed() as value:
            check = value.config.by_id.get(check_id)
            if check is None:
                return web.Response(status=404, text="no check of that id is configured; see /sd for those that are\n")
            if self._under_way.get(check.id, 0) >= MOST_AT_ONCE:
                return web.Response(status=503, text=f"{MOST_AT_ONCE} probes of this check are under way\n")
            self._under_way[check.id] = self._under_way.get(check.id, 0) + 1
            try:
                result, notes = await run(check, value.reach, scrape_timeout=scrape_timeout)
            except Unable as unable:
                self._live.metrics.probes.labels(check.type, "unable").inc()
                why = value.reach.redact(str(unable))
                self._sparing.warn("a probe could not be made", check.id, check=check.id, why=why)
                return web.Response(status=503, text=f"{why}\n")
            except Exception as bug:
                self._live.metrics.probes.labels(check.type, "bug").inc()
                # Without its text: that of an error nobody foresaw may hold anything.
                name, at = type(bug).__name__, _where(bug)
                self._sparing.warn("a bug in a probe", f"{check.id} {name} {at}", check=check.id, error=name, at=at)
                return web.Response(status=500, text=f"a bug in the exporter: {name} at {at}\n")
            finally:
                self._under_way[check.id] -= 1
        self._remember(check, result)
        registry = CollectorRegistry(auto_describe=False)
        registry.register(notes)
        if request.query.get("debug") == "true":
            return web.Response(text=_debug(check, result, notes), headers={"Cache-Control": "no-store"})
        answer = await make_aiohttp_handler(registry, disable_compression=True)(request)
        self._live.metrics.overhead.observe(max(0.0, perf_counter() - arrived - result.duration))
        return answer

    def _remember(self, check: Check, result: Result) -> None:
        self._live.metrics.probes.labels(check.type, "success" if result.success else "failure").inc()
        if self._live.history.record(result):
            state = "the check succeeds again" if result.success else "the check fails"
            log.warning(state, extra={"check": check.id, "reason": result.reason, "why": result.why})

    async def discovery(self, _: web.Request) -> web.Response:
        """The checks as targets for Prometheus' HTTP service discovery."""
        return web.json_response([self._target(check) for check in self._live.value.config.checks])

    def _target(self, check: Check) -> dict[str, object]:
        # The scrape must outlast the probe, else Prometheus hangs up on the very answer that says "it hangs".
        scrape_timeout = min(check.interval, check.patience + KEPT_BACK)
        labels = {
            **check.labels,
            "__metrics_path__": "/probe",
            "__param_check": check.id,
            "__scrape_interval__": written(check.interval),
            "__scrape_timeout__": written(scrape_timeout),
            "service": check.service,
            "environment": check.environment,
            "check_id": check.id,
        }
        return {"targets": [self._live.advertised], "labels": labels}

    async def metrics(self, request: web.Request) -> web.StreamResponse:
        """Resources of the host, and the exporter's own series."""
        if self._collecting.locked():
            return web.Response(status=503, text=f"{MOST_COLLECTIONS} earlier scrapes still wait for the host\n")
        resources = Resources(self._live.value.config.resources)
        # In a thread: a disk that answers slowly must not hold up the probes under way. And only so many of them,
        # or a disk that never answers would take every thread that looks up names.
        async with self._collecting:
            families = await asyncio.to_thread(lambda: list(resources.collect()))
        registry = CollectorRegistry(auto_describe=False)
        registry.register(Collected([*families, *self._live.metrics.registry.collect()]))
        return await make_aiohttp_handler(registry)(request)

    async def page(self, request: web.Request) -> web.Response:
        """The page for people; with `?check=`, what is remembered of that check."""
        wanted, config = request.query.get("check"), self._live.value.config
        redact = self._live.value.reach.redact
        if wanted is None:
            text = page.overview(config.checks, self._live.history, time())
        elif (check := config.by_id.get(wanted)) is not None:
            text = page.detail(check, redact(check.shown_target), self._live.history.of(check.id), time())
        else:
            raise web.HTTPNotFound(text="no check of that id is configured\n")
        return web.Response(text=text, content_type="text/html", headers=NO_SCRIPTS)

    async def healthy(self, _: web.Request) -> web.Response:
        """We only listen once the configuration is in use: who gets an answer gets this one."""
        return web.Response(text="ok\n")

    async def reload(self, request: web.Request) -> web.Response:
        """Load the configuration again. 400 with every mistake if it cannot be used; 403 for a web page.

        No page of ours asks for it, and only browsers send these headers.
        """
        if "Origin" in request.headers or request.headers.get("Sec-Fetch-Site", "none") != "none":
            return web.json_response({"error": "a web page sent this: send SIGHUP, or POST without Origin"}, status=403)
        try:
            await self._live.reload()
        except ConfigError as error:
            return web.json_response({"error": str(error), "where": str(self._live.path)}, status=400)
        return web.json_response({"checks": len(self._live.value.config.checks)})


def _debug(check: Check, result: Result, notes: Notes) -> str:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(notes)
    verdict = "succeeded" if result.success else f"failed ({result.reason}): {result.why}"
    return (
        f"{check.id} {verdict}\n{notes.redact(check.shown_target)}\n\nLog:\n{page.log_text(result)}\n\n"
        f"Series:\n{generate_latest(registry).decode()}"
    )


def _where(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "unknown"

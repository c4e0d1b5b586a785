"""The process: listens once all is well, reloads on SIGHUP and is gone within a second of SIGTERM."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiohttp import web
from prometheus_client import disable_created_metrics

from exporters.errors import ConfigError, Problem
from exporters.live import Live
from exporters.metrics import OwnMetrics
from exporters.probes.tcp import host_and_port
from exporters.web import Web
from foundation.connections import Cause, Site, allow_many_files
from foundation.sparingly import Sparingly

log = logging.getLogger(__name__)

LOOKUPS = "lookup"
LOOKUP_THREADS = 256  # name servers that hang, at most one thread for each name
KEEP_ALIVE = 600  # seconds: longer than Prometheus keeps an idle connection, so that we never close one under its hands
HOW: dict[str, Any] = {"access_log": None, "keepalive_timeout": KEEP_ALIVE, "auto_decompress": False}
STANDARD = set(logging.makeLogRecord({}).__dict__) | {"message", "taskName"}


class JsonLines(logging.Formatter):
    """One JSON object per line, so that no text can forge another line."""

    def format(self, record: logging.LogRecord) -> str:
        """As Formatter.format."""
        line = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "msg": record.getMessage(),
            **{key: value for key, value in record.__dict__.items() if key not in STANDARD},
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class Lookups(ThreadPoolExecutor):
    """Threads for name lookups: one that hangs must not keep the process from leaving."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As Executor.shutdown, but never waits."""
        super().shutdown(wait=False, cancel_futures=True)


def leave(code: int) -> None:
    """Exit now if a lookup still hangs: Python itself would wait for its thread."""
    if any(thread.name.startswith(LOOKUPS) for thread in threading.enumerate()):
        logging.shutdown()
        os._exit(code)


async def serve(path: Path, *, listen: str | None = None, started: Callable[[str], None] | None = None) -> None:
    """Serve until SIGTERM or SIGINT. ConfigError if the configuration, or the address, cannot be used.

    `started` is told the address in use, which is news when the port was 0.
    """
    disable_created_metrics()  # type: ignore[no-untyped-call]
    allow_many_files()
    loop = asyncio.get_running_loop()
    loop.set_default_executor(Lookups(LOOKUP_THREADS, thread_name_prefix=LOOKUPS))
    metrics = OwnMetrics()
    live = Live(path, metrics, listen=listen)
    runner = web.AppRunner(Web(live).app(), shutdown_timeout=0.3, **HOW)
    stop, reloads = asyncio.Event(), set[asyncio.Task[None]]()

    def reload() -> None:
        task = loop.create_task(_reload(live))
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    try:
        await runner.setup()
        await _listen(runner, live, path)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGHUP, reload)
        # A full collection walks everything we loaded, 50 ms for 1,000 checks; none of it is garbage.
        gc.collect()
        gc.freeze()
        lag = loop.create_task(metrics.watch_lag())
        log.info("listening", extra={"address": live.listen, "checks": len(live.value.config.checks)})
        if started is not None:
            started(live.listen)
        await stop.wait()
        log.info("stopping")
        lag.cancel()
    finally:
        await runner.cleanup()
        await live.close()


async def _listen(runner: web.AppRunner, live: Live, path: Path) -> None:
    host, port = host_and_port(live.listen)
    sparing = Sparingly(lambda event, **fields: log.warning(event, extra=fields))

    def ended(cause: Cause) -> None:
        live.metrics.connections_ended.labels(cause).inc()
        sparing.warn("connections ended", cause, cause=cause)

    def scrapers() -> int:
        """Prometheus has a connection for each check, and there may be several of it behind one address."""
        return 4 * len(live.value.config.checks)

    try:
        await Site(runner, host, port, ended=ended, room_for=scrapers, **HOW).start()
    except OSError as error:
        why = f"cannot listen on {live.listen}: {error.strerror}"
        raise ConfigError([Problem(str(path), None, "listen", why)]) from error


async def _reload(live: Live) -> None:
    with suppress(ConfigError):  # Live has logged it and set the series
        await live.reload()


def log_to_stderr(level: int = logging.INFO) -> None:
    """Send all logs to stderr as JSON lines."""
    stream = logging.StreamHandler(sys.stderr)
    stream.setFormatter(JsonLines())
    logging.basicConfig(level=level, handlers=[stream], force=True)

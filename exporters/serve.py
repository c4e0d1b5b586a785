"""The server process: listens, reloads on SIGHUP, and ends within a second of SIGTERM."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from aiohttp import web
from prometheus_client import disable_created_metrics

from exporters.clients.address import host_and_port
from exporters.errors import ConfigError
from exporters.live import Live
from exporters.metrics import OwnMetrics
from exporters.web.routes import Routes
from foundation.configuration.findings import finding_of
from foundation.connections import Cause, Site, allow_many_files
from foundation.logging import say
from foundation.sparingly import Sparingly

log = logging.getLogger(__name__)

LOOKUPS = "lookup"
LOOKUP_THREADS = 256  # a hanging name server occupies at most one thread for each name
KEEP_ALIVE = 600  # seconds: longer than Prometheus keeps an idle connection, so that Prometheus closes it first
SERVER_OPTIONS: dict[str, Any] = {"access_log": None, "keepalive_timeout": KEEP_ALIVE, "auto_decompress": False}


class LookupThreads(ThreadPoolExecutor):
    """Threads for name lookups. Shutdown does not wait for a lookup that hangs."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """See Executor.shutdown. Never waits."""
        super().shutdown(wait=False, cancel_futures=True)


def exit_if_lookups_hang(code: int) -> None:
    """Exits the process now if a lookup still runs. Python would wait for its thread."""
    if any(thread.name.startswith(LOOKUPS) for thread in threading.enumerate()):
        logging.shutdown()
        os._exit(code)


async def serve(path: Path, *, listen: str | None = None, started: Callable[[str], None] | None = None) -> None:
    """Serves until SIGTERM or SIGINT. Raises ConfigError if the configuration or its address cannot be used.

    `started` is called with the address in use, which has the actual port where port 0 is configured.
    """
    disable_created_metrics()  # type: ignore[no-untyped-call]
    allow_many_files()
    loop = asyncio.get_running_loop()
    loop.set_default_executor(LookupThreads(LOOKUP_THREADS, thread_name_prefix=LOOKUPS))
    metrics = OwnMetrics()
    live = Live(path, metrics, listen=listen)
    runner = web.AppRunner(Routes(live).app(), shutdown_timeout=0.3, **SERVER_OPTIONS)
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
        # A full collection walks every loaded object, which takes 50 ms with 1,000 checks. None of them is garbage.
        gc.collect()
        gc.freeze()
        lag = loop.create_task(metrics.watch_lag())
        say(log, "listening", address=live.listen, checks=len(live.config.checks))
        if started is not None:
            started(live.listen)
        await stop.wait()
        say(log, "stopping")
        lag.cancel()
    finally:
        await runner.cleanup()
        await live.close()


async def _listen(runner: web.AppRunner, live: Live, path: Path) -> None:
    host, port = host_and_port(live.listen)
    sparing = Sparingly(lambda event, **fields: say(log, event, level=logging.WARNING, **fields))

    def ended(cause: Cause) -> None:
        live.metrics.connections_ended.labels(cause).inc()
        sparing.warn("connections ended", cause, cause=cause)

    def scrapers() -> int:
        """Prometheus has one connection for each check. Several servers may share an address."""
        return 4 * len(live.config.checks)

    try:
        await Site(runner, host, port, ended=ended, room_for=scrapers, **SERVER_OPTIONS).start()
    except OSError as error:
        why = f"cannot listen on {live.listen}: {error.strerror}"
        raise ConfigError([finding_of(why, file=str(path), path="listen")]) from error


async def _reload(live: Live) -> None:
    with suppress(ConfigError):  # Live has logged it and set the series
        await live.reload()

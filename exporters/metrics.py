"""The exporter's own series: probes by outcome, overhead, event loop lag and the state of the configuration."""

from __future__ import annotations

import asyncio
from itertools import product
from time import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.process_collector import ProcessCollector

from exporters.probes import PROBES
from foundation.connections import CAUSES

OVERHEAD_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
LAG_INTERVAL = 0.5


class OwnMetrics:
    """Series of one exporter, in their own registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.probes = Counter(
            "exporter_probes",
            "Probes by check type and outcome: success, failure, unable (fault of the exporter or its host), bug.",
            ["type", "outcome"],
            registry=self.registry,
        )
        for kind, outcome in product(PROBES.names, ("success", "failure", "unable", "bug")):
            self.probes.labels(kind, outcome)  # starts at 0: otherwise a rate misses the first probe
        self.overhead = Histogram(
            "exporter_overhead_seconds",
            "Time to answer /probe, without the probe itself.",
            buckets=OVERHEAD_BUCKETS,
            registry=self.registry,
        )
        self.lag = Histogram(
            "exporter_event_loop_lag_seconds",
            "Delay of event loop wakeups; it makes durations and timeouts of probes inaccurate.",
            buckets=OVERHEAD_BUCKETS,
            registry=self.registry,
        )
        self.connections_ended = Counter(
            "exporter_http_connections_ended",
            "Connections closed early: too_many, headers (incomplete request), malformed, hang_up.",
            ["cause"],
            registry=self.registry,
        )
        for cause in CAUSES:
            if cause != "tls":  # the exporters speak plain HTTP
                self.connections_ended.labels(cause)
        self.checks = Gauge("exporter_checks", "Configured checks.", registry=self.registry)
        self.reloaded = Gauge(
            "exporter_config_last_reload_successful",
            "1 if the last load of the configuration succeeded.",
            registry=self.registry,
        )
        self.reloaded_at = Gauge(
            "exporter_config_last_reload_success_timestamp_seconds",
            "Unix time of the last successful load of the configuration.",
            registry=self.registry,
        )

    def loaded(self, checks: int) -> None:
        """Records a successful load of the configuration."""
        self.checks.set(checks)
        self.reloaded.set(1)
        self.reloaded_at.set(time())

    async def watch_lag(self) -> None:
        """Measures the lag of this event loop until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_INTERVAL
            await asyncio.sleep(LAG_INTERVAL)
            self.lag.observe(max(0.0, loop.time() - due))

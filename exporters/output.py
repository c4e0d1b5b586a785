"""The output of one probe: its series, and its log without secrets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import perf_counter

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

LONGEST_LINE = 500


class ProbeOutput(Collector):
    """The gauges and the log of one probe. A gauge that this probe did not set is absent."""

    def __init__(self, redact: Callable[[str], str]) -> None:
        self.redact = redact
        self.lines: list[tuple[float, str]] = []
        self._families: dict[str, GaugeMetricFamily] = {}
        self._began = perf_counter()

    def gauge(self, name: str, meaning: str, value: float, **labels: str) -> None:
        """Sets one gauge. Another call with the same name and other labels adds a series."""
        family = self._families.get(name)
        if family is None:
            family = self._families[name] = GaugeMetricFamily(name, meaning, labels=tuple(labels))
        family.add_metric(tuple(labels.values()), value)

    def log(self, text: str) -> None:
        """Adds a line with the seconds since the start of the probe. Secrets are masked before long lines are cut."""
        self.lines.append((perf_counter() - self._began, self.redact(text)[:LONGEST_LINE]))

    def collect(self) -> Iterator[Metric]:
        """Yields the gauges in the order in which they were first set."""
        yield from self._families.values()

    @property
    def registry(self) -> CollectorRegistry:
        """A registry that holds only these gauges."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return registry

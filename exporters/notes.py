"""What one probe writes down: its series, and its log without secrets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import perf_counter

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

LONGEST_LINE = 500


class Notes(Collector):
    """The gauges of one scrape, made fresh for it: what a probe did not see this time is not there."""

    def __init__(self, redact: Callable[[str], str]) -> None:
        self.redact = redact
        self.lines: list[tuple[float, str]] = []
        self._families: dict[str, GaugeMetricFamily] = {}
        self._began = perf_counter()

    def gauge(self, name: str, meaning: str, value: float, **labels: str) -> None:
        """Publish one gauge; called again with the same name and other labels it adds a series."""
        family = self._families.get(name)
        if family is None:
            family = self._families[name] = GaugeMetricFamily(name, meaning, labels=tuple(labels))
        family.add_metric(tuple(labels.values()), value)

    def say(self, text: str) -> None:
        """Add a line to the log of this probe, with the seconds since it began. Secrets go before the cut."""
        self.lines.append((perf_counter() - self._began, self.redact(text)[:LONGEST_LINE]))

    def collect(self) -> Iterator[Metric]:
        """The gauges in the order in which they were first set."""
        yield from self._families.values()

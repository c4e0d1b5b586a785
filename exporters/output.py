"""The output of one probe: its series, and its log without secrets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from time import perf_counter

from prometheus_client import generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from foundation.exposition import with_units

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LONGEST_LINE = 500
Labels = tuple[tuple[str, str], ...]
_number: Callable[[float], str] = floatToGoString


class Collected(Collector):
    """Families that were already collected, for example in a thread."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterator[Metric]:
        """Yields the families."""
        yield from with_units(self._families)


class ProbeOutput(Collector):
    """The gauges and the log of one probe. A gauge that this probe did not set is absent."""

    def __init__(self, redact: Callable[[str], str]) -> None:
        self.redact = redact
        self.lines: list[tuple[float, str]] = []
        self._gauges: dict[str, tuple[str, list[tuple[Labels, float]]]] = {}
        self._began = perf_counter()

    def gauge(self, name: str, meaning: str, value: float, **labels: str) -> None:
        """Sets one gauge. Another call with the same name and other labels adds a series."""
        _, samples = self._gauges.setdefault(name, (meaning, []))
        samples.append((tuple(labels.items()), value))

    def log(self, text: str) -> None:
        """Adds a line with the seconds since the start of the probe. Secrets are masked before long lines are cut."""
        self.lines.append((perf_counter() - self._began, self.redact(text)[:LONGEST_LINE]))

    def collect(self) -> Iterator[Metric]:
        """Yields the gauges in the order in which they were first set."""
        for name, (meaning, samples) in self._gauges.items():
            family = GaugeMetricFamily(name, meaning, labels=tuple(key for key, _ in samples[0][0]))
            for labels, value in samples:
                family.add_metric(tuple(text for _, text in labels), value)
            yield family

    @property
    def text(self) -> str:
        """The series in the text format of Prometheus."""
        parts = []
        for name, (meaning, samples) in self._gauges.items():
            parts.append(_head(name, meaning))
            parts += [f"{_series(name, labels)} {_number(value)}\n" for labels, value in samples]
        return "".join(parts)


# Each probe sets the same gauges, so these parts are made once.
@lru_cache(maxsize=1024)
def _head(name: str, meaning: str) -> str:
    """The lines HELP and TYPE."""
    return _exposed(GaugeMetricFamily(name, meaning))


@lru_cache(maxsize=4096)
def _series(name: str, labels: Labels) -> str:
    """The name of a series with its labels."""
    family = GaugeMetricFamily(name, "", labels=tuple(key for key, _ in labels))
    family.add_metric(tuple(value for _, value in labels), 0.0)
    return _exposed(family).split("\n")[-2].rpartition(" ")[0]


def _exposed(family: Metric) -> str:
    return generate_latest(Collected([family])).decode()

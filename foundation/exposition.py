"""What both programs expose to Prometheus beyond the samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client.core import Metric

_UNITS = ("seconds", "bytes")


def with_units(metrics: Iterable[Metric]) -> Iterator[Metric]:
    """The metrics with the unit that their name ends with. Only OpenMetrics shows it."""
    for metric in metrics:
        unit = metric.name.rpartition("_")[2]
        metric.unit = unit if unit in _UNITS and metric.type not in ("info", "stateset") else metric.unit
        yield metric

"""A check that evaluates a PromQL query."""

from __future__ import annotations

import math
from datetime import datetime

from pydantic import Field, model_validator

from responder.backends.check import Check, Finding
from responder.backends.problems import Problem
from responder.backends.prometheus.client import Prometheus, Sample


class PromqlCheck(Check[Prometheus]):
    """Every series of an instant query is within the bounds. No data and NaN never hold."""

    promql: str = Field(min_length=1, description="Instant query; every result must be within the bounds")
    name: str = Field(default="", max_length=100, description="Name in messages; default: the query")
    at_least: float | None = Field(default=None, description="Lower bound, inclusive")
    at_most: float | None = Field(default=None, description="Upper bound, inclusive")
    above: float | None = Field(default=None, description="Lower bound, exclusive")
    below: float | None = Field(default=None, description="Upper bound, exclusive")

    @model_validator(mode="after")
    def _says_what_is_good(self) -> PromqlCheck:
        if all(bound is None for bound in (self.at_least, self.at_most, self.above, self.below)):
            raise ValueError("needs at least one of at_least, at_most, above, below")
        return self

    def _within(self, value: float) -> bool:
        return (
            (self.at_least is None or value >= self.at_least)
            and (self.at_most is None or value <= self.at_most)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )

    async def check_access(self, prometheus: Prometheus) -> list[Problem]:
        """Raises StepFailed if Prometheus refuses the query. Whether it has data is for `holds`."""
        await prometheus.query(self.promql)
        return []

    async def holds(self, prometheus: Prometheus, at: datetime | None = None) -> Finding:
        samples = await prometheus.query(self.promql, at=at)
        if all(math.isnan(sample.value) for sample in samples):
            return Finding(holds=False, answered=False, reason=f"{self.name or self.promql} has no data")
        wrong = [s for s in samples if not self._within(s.value)]
        values = "; ".join(f"{s.value:g}{self._labels(s)}" for s in (wrong or samples)[:3])
        return Finding(holds=not wrong, reason=f"{self.name or self.promql} is {values}, expected {self._expected()}")

    def _labels(self, sample: Sample) -> str:
        """Those that the query does not name itself, as ` (instance=a)`; it names the metric."""
        labels = {name: value for name, value in sample.labels.items() if name != "__name__"}
        shown = [f"{name}={value}" for name, value in labels.items() if f'{name}="{value}"' not in self.promql]
        return f" ({', '.join(shown)})" if shown else ""

    def _expected(self) -> str:
        bounds = (("at least", self.at_least), ("at most", self.at_most), ("above", self.above), ("below", self.below))
        return " and ".join(f"{word} {bound:g}" for word, bound in bounds if bound is not None)

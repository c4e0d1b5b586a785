"""How the CPU of one decision grows with firing alerts, with configured services and with past rollbacks.

`python -m benchmarks.growth` also draws docs/growth.svg; `--quick` measures fewer sizes and draws nothing.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from pathlib import Path

from benchmarks.bodies import body
from benchmarks.contestants import HERE, Contestant
from benchmarks.report import Table, main, share
from benchmarks.storm import cost, one_site, started
from responder.evidence.plots import load_pygal, render
from tests.histories import fill

_ALERTS, _SERVICES, _ROLLBACKS = "firing alerts", "services, one alert each", "past rollbacks"
_SIZES = {_ALERTS: (10, 100, 1000, 10_000), _SERVICES: (10, 100, 1000), _ROLLBACKS: (1000, 10_000, 100_000)}
_FEW = 10
"""Services in each body, so that a measurement is of ten times as many decisions as `_BODIES`."""
_BODIES = 60
_SVG = HERE / "docs" / "growth.svg"

Costs = Mapping[str, Mapping[int, float]]
"""Milliseconds of CPU by what grows and by its number."""


def run(quick: bool, beside: Path | None) -> list[Table]:
    costs = {what: {n: _cost(what, n) for n in sizes[: 2 if quick else None]} for what, sizes in _SIZES.items()}
    table = Table("CPU of one decision", ["", "number", "CPU ms", "ratio"])
    for what, found in costs.items():
        first = next(iter(found.values()))
        for n, value in found.items():
            table.add(what, f"{n:,}", f"{value:.1f}", share(value / first))
        table.figures[what] = {str(n): value for n, value in found.items()}
    if not quick:
        _SVG.write_text(_plot(costs))
    return [table]


def _cost(what: str, n: int) -> float:
    services, instances = {_ALERTS: (_FEW, n // _FEW), _SERVICES: (n, 1), _ROLLBACKS: (_FEW, 1)}[what]
    responder = Contestant("responder", "responder")
    with one_site(services, instances) as (site, alerts):
        if what == _ROLLBACKS:
            asyncio.run(fill(f"sqlite:///{responder.journal(site)}", executions=n, services=_FEW))
        with started(responder, site) as server:
            firsts = [of_service[0] for of_service in alerts.values()]
            return cost(responder, server, site, alerts, [body(firsts[:_FEW])] * _BODIES)


def _plot(costs: Costs) -> str:
    """A point of a line is a size; the axis of the numbers is logarithmic."""
    pygal = load_pygal()
    chart = pygal.XY(
        width=960,
        height=420,
        title="CPU of one decision",
        x_title="number",
        y_title="milliseconds",
        js=(),
        disable_xml_declaration=True,
        legend_at_bottom=True,
        range=(0, 1.2 * max(value for found in costs.values() for value in found.values())),
        x_labels=list(range(1, 6)),
        x_value_formatter=lambda power: f"{10**power:,.0f}",
        value_formatter=lambda value: f"{value:.3g}",
        style=pygal.style.CleanStyle,
    )
    for what, found in costs.items():
        chart.add(what, [(math.log10(n), value) for n, value in found.items()])
    return render(chart)


if __name__ == "__main__":
    main(run)

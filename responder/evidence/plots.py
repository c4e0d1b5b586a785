"""Draws series as SVG: what the responder saw, and when."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from foundation.models import FrozenModel

MOST_LINES = 8
"""More lines cannot be distinguished."""

_LINE_COLORS = ("#1f77b4", "#9467bd", "#17a2b8", "#e7a500", "#5c4033", "#bcbd22", "#e377c2", "#7f7f7f")
_MARK_COLORS = ("#d62728", "#ff7f0e", "#8c564b", "#444444", "#2ca02c", "#777777")
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)

_CSS = "inline:.line.reactive{stroke-width:inherit!important;stroke-opacity:1!important}"


class PlotLine(FrozenModel):
    """One series. Gaps between points are not drawn."""

    name: str
    points: tuple[tuple[datetime, float], ...]


class PlotMark(FrozenModel):
    """An important time."""

    name: str
    at: datetime


def plot(
    title: str, lines: Sequence[PlotLine], marks: Sequence[PlotMark], start: datetime, end: datetime, *, step: float
) -> str:
    """The lines from start to end, with a dashed vertical line at every mark. `step`: seconds between two points.

    The SVG loads nothing and runs no script.
    """
    title = _shown(title)  # characters that XML does not allow would break the SVG
    shown = [
        drawable
        for line in lines[:MOST_LINES]
        if (drawable := line.model_copy(update={"points": _finite(line)})).points
    ]
    inside = [PlotMark(name=_shown(mark.name), at=mark.at) for mark in marks if start <= mark.at <= end]
    low, high = _reach([value for line in shown for _, value in line.points])
    pygal = load_pygal()
    columns = 2
    rows = math.ceil((max(len(shown), 1) + len(inside)) / columns)
    chart = pygal.XY(
        width=960,
        height=360 + 18 * rows,
        margin_bottom=30,
        css=("file://style.css", "file://graph.css", _CSS),
        title=title + (f" (the first {MOST_LINES} of {len(lines)} series)" if len(lines) > MOST_LINES else ""),
        x_title="UTC",
        style=pygal.style.Style(**_style(max(len(shown), 1), len(inside))),
        js=(),
        disable_xml_declaration=True,
        show_dots=False,
        allow_interruptions=True,
        legend_at_bottom=True,
        legend_at_bottom_columns=columns,
        truncate_legend=60,
        print_labels=True,
        no_data_text="no data",
        range=(low, high),
        xrange=(start.timestamp(), end.timestamp()),
        x_labels=_ticks(start, end),
        x_value_formatter=lambda seconds: f"{datetime.fromtimestamp(seconds, UTC):%H:%M:%S}",
        value_formatter=lambda value: f"{value:.6g}",
        show_x_guides=False,
        margin_right=90,  # for the name of a mark at the end
        include_x_axis=False,
    )
    for line in shown:
        chart.add(_shown(line.name), _with_gaps(line, step), stroke_style={"width": 2.5})
    if not shown:
        chart.add("no data", [(start.timestamp(), low), (end.timestamp(), low)], stroke_style={"width": 0})
    for n, mark in enumerate(inside):
        # Names at different heights: marks that are close must not overlap.
        top = high - (high - low) * 0.08 * (n % 5)
        foot, head = (
            {"value": (mark.at.timestamp(), low)},
            {"value": (mark.at.timestamp(), top), "label": mark.name},
        )
        dashed = {"width": 1.5, "dasharray": "5, 4"}
        chart.add(f"{mark.name} {mark.at:%H:%M:%S}", [foot, head], stroke_style=dashed, show_dots=True, dots_size=0)
    return render(chart)


def render(chart: Any) -> str:
    """The SVG of a pygal chart, without the scripts that it includes."""
    return re.sub("<script.*?</script>", "", chart.render(is_unicode=True), flags=re.DOTALL)


def _shown(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)


def _finite(line: PlotLine) -> tuple[tuple[datetime, float], ...]:
    # The axis cannot show larger values, and nothing measures them.
    return tuple((at, value) for at, value in line.points if abs(value) < 1e100)


def _with_gaps(line: PlotLine, step: float) -> list[tuple[float, float] | None]:
    points: list[tuple[float, float] | None] = []
    before: float | None = None
    for at, value in line.points:
        if before is not None and at.timestamp() - before > step * 1.5:
            points.append(None)
        before = at.timestamp()
        points.append((before, value))
    return points


def _reach(values: Sequence[float]) -> tuple[float, float]:
    """The range of the axis: from 0 if no value is negative, so that small changes look small; with space above."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    low = 0.0 if 0 <= low <= high else low
    room = (high - low) * 0.3 or abs(high) * 0.3 or 1.0
    return low, high + room


def _ticks(start: datetime, end: datetime) -> list[float]:
    width = (end - start).total_seconds()
    step = next((step for step in _STEPS if width / step <= 8), _STEPS[-1])
    first = math.ceil(start.timestamp() / step)
    return [float(n * step) for n in range(first, int(end.timestamp() // step) + 1)]


def _style(lines: int, marks: int) -> dict[str, Any]:
    return {
        "background": "#ffffff",
        "plot_background": "#ffffff",
        "foreground": "#333333",
        "foreground_strong": "#111111",
        "foreground_subtle": "#cccccc",
        "font_family": "system-ui, 'DejaVu Sans', sans-serif",
        "title_font_size": 15,
        "label_font_size": 11,
        "major_label_font_size": 11,
        "legend_font_size": 12,
        "guide_stroke_color": "#e5e5e5",
        "major_guide_stroke_color": "#e5e5e5",
        "opacity": ".0",
        "opacity_hover": ".1",
        "value_colors": ("#333333",) * (lines + marks),
        "value_label_font_size": 12,
        "colors": (*_LINE_COLORS[:lines], *_MARK_COLORS[:marks]),
    }


def load_pygal() -> Any:
    """Imports it when first needed, without its import hook, about which Python warns."""
    import pygal
    import pygal.style

    sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__name__ != "PluginImportFixer"]
    return pygal

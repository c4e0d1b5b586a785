"""Series as a picture: SVG text in which a human sees what the responder saw, and when."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

MOST_LINES = 8
"""More than these nobody tells apart."""

_LINE_COLOURS = ("#1f77b4", "#9467bd", "#17a2b8", "#e7a500", "#5c4033", "#bcbd22", "#e377c2", "#7f7f7f")
_MARK_COLOURS = ("#d62728", "#ff7f0e", "#8c564b", "#444444", "#2ca02c", "#777777")
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)

_CSS = "inline:.line.reactive{stroke-width:inherit!important;stroke-opacity:1!important}"


class Line(BaseModel):
    """One series. Where points are farther apart than usual, nothing is drawn between them."""

    model_config = ConfigDict(frozen=True)

    name: str
    points: tuple[tuple[datetime, float], ...]


class Mark(BaseModel):
    """A moment that matters."""

    model_config = ConfigDict(frozen=True)

    name: str
    at: datetime


def plot(
    title: str, lines: Sequence[Line], marks: Sequence[Mark], start: datetime, end: datetime, *, step: float
) -> str:
    """The lines over the time from start to end, with a dashed upright at every mark. `step` is how far two points
    are apart. It loads nothing from elsewhere and runs no script.
    """
    title = _shown(title)  # what XML has no place for would spoil the whole picture
    shown = [
        drawable
        for line in lines[:MOST_LINES]
        if (drawable := line.model_copy(update={"points": _finite(line)})).points
    ]
    inside = [Mark(name=_shown(mark.name), at=mark.at) for mark in marks if start <= mark.at <= end]
    low, high = _reach([value for line in shown for _, value in line.points])
    pygal = _pygal()
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
        margin_right=90,  # for the name of a moment at the end
        include_x_axis=False,
    )
    for line in shown:
        chart.add(_shown(line.name), _with_gaps(line, step), stroke_style={"width": 2.5})
    if not shown:
        chart.add("no data", [(start.timestamp(), low), (end.timestamp(), low)], stroke_style={"width": 0})
    for n, mark in enumerate(inside):
        # Each name at a height of its own: moments that are close must not write over each other.
        top = high - (high - low) * 0.08 * (n % 5)
        foot, head = (
            {"value": (mark.at.timestamp(), low)},
            {"value": (mark.at.timestamp(), top), "label": mark.name},
        )
        dashed = {"width": 1.5, "dasharray": "5, 4"}
        chart.add(f"{mark.name} {mark.at:%H:%M:%S}", [foot, head], stroke_style=dashed, show_dots=True, dots_size=0)
    return re.sub("<script.*?</script>", "", chart.render(is_unicode=True), flags=re.DOTALL)


def _shown(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)


def _finite(line: Line) -> tuple[tuple[datetime, float], ...]:
    # Beyond what can be squared there is no axis; nothing that is measured is there.
    return tuple((at, value) for at, value in line.points if abs(value) < 1e100)


def _with_gaps(line: Line, step: float) -> list[tuple[float, float] | None]:
    points: list[tuple[float, float] | None] = []
    before: float | None = None
    for at, value in line.points:
        if before is not None and at.timestamp() - before > step * 1.5:
            points.append(None)
        before = at.timestamp()
        points.append((before, value))
    return points


def _reach(values: Sequence[float]) -> tuple[float, float]:
    """From nought where that is near, so that a small wobble does not look like an outage; with room above."""
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
        "colors": (*_LINE_COLOURS[:lines], *_MARK_COLOURS[:marks]),
    }


def _pygal() -> Any:
    """Imported when it is first needed. It hooks itself into all later imports, in a way that Python warns of."""
    import pygal
    import pygal.style

    sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__name__ != "PluginImportFixer"]
    return pygal

"""A small plot of what a query was around a deployment, in an SVG that needs nothing from anywhere."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from xml.etree import ElementTree

import pygal
from pygal.style import Style

from responder.clients.prometheus import Series
from responder.evidence.series import Mark, worth_a_look

_MOST_LINES = 8
_LONGEST_LEGEND = 60
_STYLE = Style(
    background="white",
    plot_background="white",
    font_family="sans-serif",
    title_font_size=15,
    label_font_size=12,
    major_label_font_size=12,
    legend_font_size=12,
    stroke_width="2",
    guide_stroke_color="#e4e4e4",
    guide_stroke_dasharray="1,0",
    major_guide_stroke_color="#e4e4e4",
    major_guide_stroke_dasharray="1,0",
    colors=("#1f77b4", "#ff7f0e", "#2ca02c", "#9467bd", "#8c564b", "#e377c2", "#17becf", "#7f7f7f"),
)
_MARKS = ("#d62728", "#444444", "#bcbd22")


def plot(name: str, promql: str, found: list[Series], marks: list[Mark], start: datetime, end: datetime) -> bytes:
    """The series that change most, with the moments that matter as lines from top to bottom. Times are UTC."""
    shown = [one for one in worth_a_look(found, _MOST_LINES) if any(_is_number(value) for _, value in one.points)]
    values = [value for one in shown for _, value in one.points if _is_number(value)] or [0.0]
    low, high = min(0.0, *values), max(values)
    high = high if high > low else low + 1.0
    colours = (*_STYLE.colors[: len(shown)], *_MARKS)
    more = f" ({len(shown)} of {len(found)} series)" if len(shown) < len(found) else ""
    chart = pygal.DateTimeLine(
        width=900,
        height=420,
        style=Style(**{**_STYLE.__dict__, "colors": colours}),
        title=f"{name}{more}\n{_short(promql, 90)}",
        show_dots=False,
        legend_at_bottom=True,
        legend_at_bottom_columns=2,
        truncate_legend=-1,
        show_x_guides=False,
        x_value_formatter=lambda at: at.strftime("%H:%M"),
        x_labels=_ticks(start, end),
        x_label_rotation=0,
        range=(low, high),
        value_formatter=lambda value: f"{value:g}",
    )
    for one in shown:
        chart.add(_legend(one), _with_gaps(one))
    for mark in marks:
        if start <= mark.at <= end:
            line = [(mark.at, low), (mark.at, high)]
            chart.add(f"{mark.name} {mark.at:%H:%M:%S}", line, stroke_style={"width": 2, "dasharray": "7, 4"})
    tree = chart.render_tree()
    for above in list(tree.iter()):
        for script in [one for one in above if str(one.tag).rpartition("}")[2] == "script"]:
            above.remove(script)  # for tooltips: an attachment must not run anything
    drawn: bytes = ElementTree.tostring(tree, "utf-8", xml_declaration=True)
    return drawn


def _ticks(start: datetime, end: datetime) -> list[datetime]:
    every = (end - start) / 6
    return [start + n * every for n in range(7)]


def _with_gaps(one: Series) -> list[tuple[datetime, float | None]]:
    """Where there was no data, there is no line."""
    if not one.points:
        return []
    steps = sorted(b[0] - a[0] for a, b in pairwise(one.points))
    usual = steps[0] if steps else 0.0
    drawn: list[tuple[datetime, float | None]] = []
    for n, (at, value) in enumerate(one.points):
        when = datetime.fromtimestamp(at, UTC)
        if n and at - one.points[n - 1][0] > 1.5 * usual:
            drawn.append((when, None))
        drawn.append((when, value if _is_number(value) else None))
    return drawn


def _is_number(value: float) -> bool:
    return value - value == 0  # neither NaN nor infinity


def _legend(one: Series) -> str:
    name = one.labels.get("__name__", "")
    labels = ", ".join(f"{k}={v}" for k, v in one.labels.items() if k != "__name__")
    return _short(f"{name}{{{labels}}}" if labels else name or "value", _LONGEST_LEGEND)


def _short(text: str, most: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[: most - 1]}…"

"""The plot has the values, the marks and their names, and neither loads nor runs anything."""

from __future__ import annotations

import math
import sys
import warnings
from datetime import timedelta
from xml.etree import ElementTree

import pytest

from responder.evidence.plots import MOST_LINES, PlotLine, PlotMark, plot
from tests.responder.examples import NOW, ago

SVG = "{http://www.w3.org/2000/svg}"
START, END = ago(600), NOW


def line(name: str = "up", *, values: tuple[float, ...] = (1, 0, 1), step: float = 100) -> PlotLine:
    points = tuple((START + timedelta(seconds=n * step), value) for n, value in enumerate(values))
    return PlotLine(name=name, points=points)


def drawn(*lines: PlotLine, marks: tuple[PlotMark, ...] = (), title: str = "up") -> ElementTree.Element:
    return ElementTree.fromstring(plot(title, lines, marks, START, END, step=100))


def texts(svg: ElementTree.Element) -> list[str]:
    return [(element.text or "") for element in svg.iter(f"{SVG}text")]


def paths(svg: ElementTree.Element) -> list[str]:
    return [
        p.get("d", "") for p in svg.iter(f"{SVG}path") if "line" in p.get("class", "").split() and "M" in p.get("d", "")
    ]


def test_lines_and_marks_are_drawn_with_their_names() -> None:
    marks = (PlotMark(name="onset", at=ago(300)), PlotMark(name="acted", at=ago(120)))
    svg = drawn(line("one"), line("two", values=(0, 5, 7)), marks=marks)
    labels = texts(svg)
    assert labels.count("onset") == labels.count("acted") == 1
    assert {"one", "two", "onset 21:55:00", "acted 21:58:00"} <= set(labels)
    # Two series, and a vertical line to its name for each mark.
    drawn_lines = [path for path in paths(svg) if path.count(" ") >= 1]
    assert len(drawn_lines) >= 4


def test_a_label_at_the_end_fits_into_the_plot() -> None:
    svg = drawn(line("one"), marks=(PlotMark(name="turned back", at=END),))
    overlay = next(g for g in svg.iter(f"{SVG}g") if g.get("class") == "plot text-overlay")
    left = float(overlay.get("transform", "").removeprefix("translate(").split(",")[0])
    (name,) = [element for element in overlay.iter(f"{SVG}text") if element.text == "turned back"]
    assert left + float(name.get("x", "")) + 7 * len("turned back") <= 960, "about 7 pixels a letter"


def test_a_mark_outside_the_time_range_is_not_drawn() -> None:
    svg = drawn(line(), marks=(PlotMark(name="deployed", at=ago(9999)),))
    assert not any("deployed" in text for text in texts(svg))


def test_gaps_are_not_drawn() -> None:
    points = line(values=(1, 1, 1, 1, 1, 1)).points
    whole = plot("up", [PlotLine(name="up", points=points)], [], START, END, step=100)
    gap = plot("up", [PlotLine(name="up", points=(*points[:2], *points[4:]))], [], START, END, step=100)
    assert whole.count("M") < gap.count("M")


@pytest.mark.parametrize("values", [(), (math.nan,), (math.inf, 1), (5, 5, 5), (0, 0), (-3, -1), (1e300, 1)])
def test_any_values_can_be_drawn(values: tuple[float, ...]) -> None:
    svg = drawn(line(values=values), marks=(PlotMark(name="onset", at=ago(300)),))
    assert "nan" not in "".join(paths(svg)).lower()
    assert "onset" in texts(svg)


def test_without_series_the_marks_are_drawn() -> None:
    assert "onset" in texts(drawn(marks=(PlotMark(name="onset", at=ago(300)),)))
    assert "no data" in texts(drawn())


def test_omitted_lines_are_reported() -> None:
    svg = drawn(*(line(f"series-{n}") for n in range(MOST_LINES + 3)))
    assert any(f"the first {MOST_LINES} of {MOST_LINES + 3} series" in text for text in texts(svg))
    assert f"series-{MOST_LINES}" not in texts(svg)


def test_the_svg_loads_nothing_and_escapes_text() -> None:
    evil = '<script>alert(1)</script>" onload="x'
    text = plot(evil, [line(evil)], [PlotMark(name=evil, at=ago(300))], START, END, step=100)
    svg = ElementTree.fromstring(text)
    assert not any(element.tag.endswith("script") or "onload" in element.attrib for element in svg.iter())
    assert any(element.text == evil for element in svg.iter(f"{SVG}text"))
    assert "xlink:href" not in text
    assert "url(" not in text


def test_values_that_cannot_be_drawn_are_skipped() -> None:
    svg = drawn(line("a\x1b[2J\x00"), marks=(PlotMark(name="2.1\x07", at=ago(300)),), title="up\x0b")
    assert "2.1  21:55:00" in " ".join(svg.itertext())


def test_the_plot_library_leaves_no_import_hook() -> None:
    drawn(line())
    assert not any(type(finder).__name__ == "PluginImportFixer" for finder in sys.meta_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sys.modules.pop("colorsys", None)
        import colorsys  # noqa: F401

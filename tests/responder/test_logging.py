"""One event is one log line: no text from a sender, a person or a program can forge a second one."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from responder.logging import LogSettings, say, set_up

log = logging.getLogger("responder.test")
FORGED = "12:00:00.000 INFO    decision result=allow"
EVIL = ["\n", "\r", "\r\n", "\x1b[2J", "\x00", "\x07", "\x85", "\u2028", "\u2029", "\u202e", "\x7f", "\ud800"]


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    root, access = logging.getLogger(), logging.getLogger("aiohttp.access")
    handlers, level, access_level = root.handlers[:], root.level, access.level
    yield
    root.handlers[:], root.level = handlers, level
    access.setLevel(access_level)


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    out, err = capsys.readouterr()
    assert out == "", "the log goes to standard error"
    return err.split("\n")[:-1]


def test_the_console_shows_time_level_event_and_fields(capsys: pytest.CaptureFixture[str]) -> None:
    set_up(LogSettings(style="console", level="info"))
    say(log, "decision", service="backend", reason="no data", n=3, nothing=None, empty="", ok=True)
    (line,) = lines(capsys)
    time, _, rest = line.partition(" ")
    assert len(time) == len("22:00:00.000")
    assert rest == 'INFO    decision service=backend reason="no data" n=3 empty="" ok=true'


def test_json_has_one_object_per_line(capsys: pytest.CaptureFixture[str]) -> None:
    set_up(LogSettings(style="json", level="debug"))
    say(log, "decision", level=logging.WARNING, service="backend", mistakes=["a", "b"], nothing=None)
    (line,) = lines(capsys)
    entry = json.loads(line)
    assert entry.pop("at").endswith("+00:00")
    assert entry == {
        "level": "warning",
        "event": "decision",
        "service": "backend",
        "mistakes": ["a", "b"],
        "nothing": None,
    }


@pytest.mark.parametrize("style", ["console", "json"])
@pytest.mark.parametrize("evil", EVIL, ids=ascii)
def test_text_from_a_sender_stays_within_its_line(
    style: Literal["console", "json"], evil: str, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up(LogSettings(style=style, level="info"))
    say(log, f"webhook{evil}{FORGED}", reason=f"x{evil}{FORGED}", labels={"a": f"x{evil}{FORGED}"}, n=[evil])
    (line,) = lines(capsys)
    assert line.isprintable()


@pytest.mark.parametrize("style", ["console", "json"])
def test_an_error_cannot_forge_a_line_either(
    style: Literal["console", "json"], capsys: pytest.CaptureFixture[str]
) -> None:
    set_up(LogSettings(style=style, level="info"))
    try:
        raise ValueError(f"bad label\n{FORGED}\x1b[2J")
    except ValueError:
        say(log, "request failed", level=logging.ERROR, error=True)
    printed = lines(capsys)
    assert "request failed" in printed[0]
    assert any("ValueError: bad label" in line for line in printed), "the error itself is logged"
    assert FORGED not in printed
    assert all("\x1b" not in line for line in printed)


def test_a_value_cannot_look_like_another_field(capsys: pytest.CaptureFixture[str]) -> None:
    set_up(LogSettings(style="console", level="info"))
    say(log, "decision", reason='x" result=allow', result="deny")
    assert lines(capsys)[0].endswith(r'decision reason="x\" result=allow" result=deny')


def test_a_field_cannot_replace_the_event(capsys: pytest.CaptureFixture[str]) -> None:
    set_up(LogSettings(style="json", level="info"))
    log.info("real", extra={"fields": {"event": "forged", "level": "debug", "at": "never"}})
    entry = json.loads(lines(capsys)[0])
    assert (entry["event"], entry["level"]) == ("real", "info")


def test_a_long_value_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    set_up(LogSettings(style="console", level="info"))
    say(log, "decision", reason="x" * 100_000)
    assert len(lines(capsys)[0]) < 2100


def test_events_below_the_level_are_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    set_up(LogSettings(style="console", level="warning"))
    say(log, "quiet")
    say(log, "loud", level=logging.WARNING)
    assert [line.split()[-1] for line in lines(capsys)] == ["loud"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(), st.text())
def test_any_text_becomes_one_printable_line(capsys: pytest.CaptureFixture[str], event: str, value: str) -> None:
    set_up(LogSettings(style="console", level="info"))
    say(log, "event", value=value, more={"k": event})
    (line,) = lines(capsys)
    assert line.isprintable()

"""Durations have the same meaning as in Prometheus, and a bare number is rejected."""

from __future__ import annotations

import json
import random
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from foundation.durations import Duration, format_duration, parse_duration
from tests import parts


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30.0),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("250ms", 0.25),
        ("1d", 86400.0),
        ("1w", 604800.0),
        ("1y", 31536000.0),
        ("1y2w3d4h5m6s7ms", 31536000 + 2 * 604800 + 3 * 86400 + 4 * 3600 + 300 + 6 + 0.007),
        ("90m", 5400.0),
        ("0", 0.0),
        (0, 0.0),
        ("0s", 0.0),
        ("007m", 420.0),
        ("292y24w3d23h47m16s854ms", 9223372036.854),
    ],
)
def test_reads_what_prometheus_reads(text: object, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    ["", "5", "s", "1.5h", "-5s", " 5s", "5s ", "5s\n", "1m1h", "5s5s", "5 s", "5S", "5sec", "1h30", "ms", "\u0661s"],
)
def test_rejects_what_prometheus_rejects(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration such as 30s, 5m or 1h30m"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["293y", "9999y", "292y99w", "9223372036855ms", "9" * 99 + "s"])
def test_rejects_what_is_longer_than_prometheus_can_count(text: str) -> None:
    with pytest.raises(ValueError, match="is longer than about 292 years"):
        parse_duration(text)


def _text(rng: random.Random) -> str:
    """Mostly a duration, sometimes damaged."""
    units = [unit for unit in ("y", "w", "d", "h", "m", "s", "ms") if rng.random() < 0.3] or ["s"]
    text = "".join(f"{rng.randrange(10 ** rng.choices([1, 2, 3, 20], [40, 40, 15, 1])[0])}{unit}" for unit in units)
    if rng.random() < 0.4:
        at = rng.randrange(len(text) + 1)
        text = text[:at] + rng.choice([*"0059smhdwyu.,-+ \n\u0665µ²", "", "1y", "5ms"]) + text[at + rng.randrange(2) :]
    return text


async def test_five_thousand_durations_are_read_as_by_prometheus(tmp_path: Path) -> None:
    parts.need("promtool", "prometheus")
    rng = random.Random(1)
    texts = list(dict.fromkeys(_text(rng) for _ in range(9000)))[:5000]
    rules = [{"alert": f"Number{n}", "expr": "vector(1)", "for": text} for n, text in enumerate(texts)]
    for n, rule in enumerate(rules):
        (tmp_path / str(n)).write_text(json.dumps({"groups": [{"name": "all", "rules": [rule]}]}))
    ran = subprocess.run(
        [parts.program("promtool") or "", "check", "rules", *map(str, range(len(texts)))],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    checked = re.findall(r"Checking [0-9]+\n +(SUCCESS|FAILED)", ran.stdout.decode())
    accepted = [n for n, answer in enumerate(checked) if answer == "SUCCESS"]
    read = {n: seconds for n, text in enumerate(texts) if (seconds := _read(text)) is not None}
    assert len(checked) == len(texts)
    assert [texts[n] for n in sorted({*accepted} ^ read.keys())] == [], "accepted by one only"
    assert 2000 < len(read) < 4500
    loaded = json.dumps({"groups": [{"name": "all", "interval": "1y", "rules": [rules[n] for n in accepted]}]})
    async with parts.prometheus(tmp_path, "global: {}", rules={"rules.yml": loaded}) as prometheus:
        (group,) = (await prometheus.rules())["groups"]
    assert [rule["duration"] for rule in group["rules"]] == list(read.values())


def _read(text: str) -> float | None:
    try:
        return parse_duration(text)
    except ValueError:
        return None


@pytest.mark.parametrize("value", [5, 0.0, 30.0, None, True, False, [], {}, b"5s"])
def test_a_value_without_a_unit_is_rejected(value: object) -> None:
    with pytest.raises(ValueError, match="a duration needs a unit, such as 30s or 5m"):
        parse_duration(value)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0s"),
        (0.25, "250ms"),
        (30.0, "30s"),
        (90.0, "1m30s"),
        (5400.0, "1h30m"),
        (86400.0, "1d"),
        (604800.0, "7d"),
        (90061.5, "1d1h1m1s500ms"),
    ],
)
def test_writes_the_shortest_form(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.integers(min_value=0, max_value=10**12))
def test_a_written_duration_is_read_back_to_the_millisecond(milliseconds: int) -> None:
    assert round(parse_duration(format_duration(milliseconds / 1000)) * 1000) == milliseconds


class _Holder(BaseModel):
    wait: Duration


def test_a_duration_is_text_in_yaml_and_seconds_in_the_code() -> None:
    assert _Holder.model_validate_json('{"wait": "5m"}').wait == 300.0
    assert _Holder(wait=300.0).wait == 300.0
    assert _Holder(wait=300.0).model_dump_json() == '{"wait":"5m"}'


@pytest.mark.parametrize(
    "text", ['{"wait": 30}', '{"wait": 30.0}', '{"wait": true}', '{"wait": false}', '{"wait": null}']
)
def test_a_bare_number_in_yaml_is_rejected(text: str) -> None:
    with pytest.raises(ValidationError, match="needs a unit"):
        _Holder.model_validate_json(text)

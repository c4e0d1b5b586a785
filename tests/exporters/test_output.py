from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as some
from prometheus_client import generate_latest

from exporters.output import LONGEST_LINE, ProbeOutput
from foundation.redaction import Redactor


def test_series_of_one_name_are_one_family() -> None:
    output = ProbeOutput(Redactor())
    output.gauge("phase_seconds", "Each phase.", 1, phase="a")
    output.gauge("phase_seconds", "Each phase.", 2, phase="b")
    (family,) = output.collect()
    assert [(sample.labels, sample.value) for sample in family.samples] == [({"phase": "a"}, 1), ({"phase": "b"}, 2)]


def test_a_secret_at_the_cut_is_masked_completely() -> None:
    output = ProbeOutput(Redactor(["s3cret-token"]))
    output.log("x" * (LONGEST_LINE - 4) + "s3cret-token")
    assert "s3c" not in output.lines[0][1]
    assert len(output.lines[0][1]) <= LONGEST_LINE


@given(
    some.lists(
        some.tuples(
            some.sampled_from(["probe_success", "phase_seconds", "a:b"]),
            some.floats() | some.integers(-(10**6), 10**12) | some.sampled_from([1e20, math.inf, -0.0, 0.1]),
            some.dictionaries(some.sampled_from(["phase", "code", "z"]), some.text(max_size=5), max_size=3),
        ),
        max_size=6,
        unique_by=lambda sample: sample[0],
    ),
    some.text(max_size=10),
)
def test_the_text_is_what_prometheus_client_makes(
    samples: list[tuple[str, float, dict[str, str]]], meaning: str
) -> None:
    output = ProbeOutput(Redactor())
    for name, value, labels in samples:
        output.gauge(name, meaning, value, **labels)
        output.gauge(name, meaning, 1.0, **labels)
    assert output.text == generate_latest(output).decode()

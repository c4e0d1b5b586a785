from __future__ import annotations

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

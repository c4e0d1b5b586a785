from __future__ import annotations

from exporters.notes import LONGEST_LINE, Notes
from exporters.redaction import Redactor


def test_series_with_one_name_make_one_family() -> None:
    notes = Notes(Redactor())
    notes.gauge("phase_seconds", "Each phase.", 1, phase="a")
    notes.gauge("phase_seconds", "Each phase.", 2, phase="b")
    (family,) = notes.collect()
    assert [(sample.labels, sample.value) for sample in family.samples] == [({"phase": "a"}, 1), ({"phase": "b"}, 2)]


def test_a_secret_at_the_cut_does_not_leave_its_first_half() -> None:
    notes = Notes(Redactor(["s3cret-token"]))
    notes.say("x" * (LONGEST_LINE - 4) + "s3cret-token")
    assert "s3c" not in notes.lines[0][1]
    assert len(notes.lines[0][1]) <= LONGEST_LINE

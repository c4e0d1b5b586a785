from __future__ import annotations

from pathlib import Path

import pytest

from exporters.document import Document, read, written
from exporters.errors import ConfigError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "f.yml"


@pytest.mark.parametrize(
    ("path", "text"), [(("checks", 2, "timeout"), "checks[2].timeout"), (("a", "b"), "a.b"), ((0,), "[0]"), ((), "")]
)
def test_places_are_written_as_users_read_them(path: tuple[str | int, ...], text: str) -> None:
    assert written(path) == text


def test_every_place_has_its_line_and_a_missing_one_that_of_what_is_around_it(file: Path) -> None:
    file.write_text("# a comment\nchecks:\n- id: a\n  tls:\n    ca_file: x\n- {id: b}\n")
    document = read(file, {})
    assert document.line(("checks", 0, "tls", "ca_file")) == 5
    assert document.line(("checks", 1, "id")) == 6
    assert document.line(("checks", 0, "nothing")) == 3
    assert document.line(("nothing",)) is None


def test_fills_in_the_environment_and_remembers_what_is_secret(file: Path) -> None:
    file.write_text("dsn: 'a-${ONE}-${TWO}'\nlabels: {team: '${ONE}'}\nas_is: '$${ONE} $ONE $'\n")
    document = read(file, {"ONE": "first", "TWO": "second"})
    assert document.data == {"dsn": "a-first-second", "labels": {"team": "first"}, "as_is": "${ONE} $ONE $"}
    assert document.secrets == {"first", "second"}


@pytest.mark.parametrize("environment", [{}, {"GONE": ""}])
def test_what_is_not_set_is_a_mistake(file: Path, environment: dict[str, str]) -> None:
    file.write_text("a:\n  - ${GONE}\n")
    document: Document = read(file, environment)
    assert [str(problem) for problem in document.problems] == [
        f"{file}:2: a[0]: ${{GONE}} is not set in the environment"
    ]


def test_public_values_are_not_secret(file: Path) -> None:
    file.write_text("environment: ${ONE}\nlabels: {team: '${ONE}'}\n")
    assert read(file, {"ONE": "production"}).secrets == set()


@pytest.mark.parametrize("text", ["checks: &a [*a]", "[" * 3000])
def test_a_file_that_goes_round_or_too_deep(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError, match="refers to itself"):
        read(file, {})

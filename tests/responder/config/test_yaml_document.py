"""A document knows the line of every value, also of one that is missing."""

from __future__ import annotations

import pytest

from responder.config.yaml_document import UnreadableYaml, YamlDocument, expand, path_text

TEXT = "a:\n  - b: 1\n    c: 2\nd: {e: 3}\n"


def test_a_path_is_written_as_people_write_it() -> None:
    assert path_text(("alerts", 3, "labels")) == "alerts[3].labels"
    assert path_text((0, "labels")) == "[0].labels"
    assert path_text(()) == ""


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ((), "f.yml:1"),
        (("a", 0, "c"), "f.yml:3 a[0].c"),
        (("d", "e"), "f.yml:4 d.e"),
        (("a", 0, "missing"), "f.yml:2 a[0].missing"),
        (("missing",), "f.yml:1 missing"),
    ],
)
def test_a_path_has_a_line(path: tuple[int | str, ...], place: str) -> None:
    assert YamlDocument(TEXT, "f.yml").locate(path) == place


def test_a_duplicate_key_is_found() -> None:
    document = YamlDocument("a: 1\na: 2\n", "f.yml")
    assert document.duplicates == [(("a",), "duplicate key (first in line 1)")]
    assert document.data == {"a": 2}


@pytest.mark.parametrize("text", ["a: [", "a: b: c", "a: &a [*a]", 'a: "\x00"'])
def test_a_text_that_is_not_yaml_is_unreadable(text: str) -> None:
    with pytest.raises(UnreadableYaml, match=r"^f\.yml"):
        YamlDocument(text, "f.yml")


def test_variables_are_expanded_and_missing_ones_are_mistakes() -> None:
    data = {"a": ["${NAME}-$$", 1], "b": {"c": "${MISSING}"}}
    expanded, mistakes = expand(data, {"NAME": "x"})
    assert expanded == {"a": ["x-$", 1], "b": {"c": ""}}
    assert mistakes == [(("b", "c"), "${MISSING} is not set in the environment")]

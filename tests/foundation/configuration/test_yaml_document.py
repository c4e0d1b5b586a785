"""A document knows the line of every value, and of missing ones."""

from __future__ import annotations

import pytest

from foundation.configuration.yaml_document import Path, UnreadableYaml, YamlDocument, expand, path_text

TEXT = "a:\n  - b: 1\n    c: 2\nd: {e: 3}\n"


def test_a_path_is_written_as_people_write_it() -> None:
    assert path_text(("alerts", 3, "labels")) == "alerts[3].labels"
    assert path_text((0, "labels")) == "[0].labels"
    assert path_text(()) == ""


@pytest.mark.parametrize(
    ("path", "position"),
    [
        ((), "f.yml:1"),
        (("a", 0, "c"), "f.yml:3 a[0].c"),
        (("d", "e"), "f.yml:4 d.e"),
        (("a", 0, "missing"), "f.yml:2 a[0].missing"),
        (("missing",), "f.yml:1 missing"),
    ],
)
def test_a_path_has_a_line(path: Path, position: str) -> None:
    assert str(YamlDocument(TEXT, "f.yml").finding(path, "")).removesuffix(": ") == position


def test_an_empty_document_has_no_data() -> None:
    assert YamlDocument("", "f.yml").data is None


def test_a_duplicate_key_is_found() -> None:
    document = YamlDocument("b:\n  c: 1\n  c: 2\na: 1\na: 2\n", "f.yml")
    assert document.duplicates == [
        (("b", "c"), "duplicate key, first in line 2; remove one"),
        (("a",), "duplicate key, first in line 4; remove one"),
    ]
    assert document.data == {"a": 2, "b": {"c": 2}}


@pytest.mark.parametrize(
    "text", ["a: [", "a: b: c", "a: &a [*a]", 'a: "\x00"', "[" * 3000, "a: !!python/object:os.system x"]
)
def test_a_text_that_is_not_yaml_is_unreadable(text: str) -> None:
    with pytest.raises(UnreadableYaml, match=r"^f\.yml"):
        YamlDocument(text, "f.yml")


def test_a_syntax_error_has_a_line() -> None:
    with pytest.raises(UnreadableYaml, match=r"^f\.yml:2: invalid YAML: ") as caught:
        YamlDocument("a: 1\nb: [", "f.yml")
    assert caught.value.finding.line == 2


def test_references_are_expanded_with_their_path() -> None:
    seen: list[tuple[Path, str]] = []

    def value_of(path: Path, name: str) -> str:
        seen.append((path, name))
        return name.lower()

    data = {"a": ["${ONE}-${TWO}-$$", 1], "b": {"c": "$${ONE} $ONE $"}}
    assert expand(data, value_of) == {"a": ["one-two-$", 1], "b": {"c": "${ONE} $ONE $"}}
    assert seen == [(("a", 0), "ONE"), (("a", 0), "TWO")]

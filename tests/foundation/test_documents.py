"""Every value of a YAML document has its line, and references are filled in."""

from __future__ import annotations

from pathlib import Path

import pytest

from foundation.documents import DocumentError, KeyPath, expand, format_path, parse_document, read_document


@pytest.mark.parametrize(
    ("path", "text"), [(("checks", 2, "timeout"), "checks[2].timeout"), (("a", "b"), "a.b"), ((0,), "[0]"), ((), "")]
)
def test_formats_paths_as_users_read_them(path: KeyPath, text: str) -> None:
    assert format_path(path) == text


def test_a_value_has_its_line_and_a_missing_one_that_of_its_container() -> None:
    document = parse_document("# a comment\nchecks:\n- id: a\n  tls:\n    ca_file: x\n- {id: b}\n")
    assert document.line(("checks", 0, "tls", "ca_file")) == 5
    assert document.line(("checks", 1, "id")) == 6
    assert document.line(("checks", 0, "missing")) == 3
    assert document.line(("missing",)) == 2
    assert parse_document("").line(("missing",)) is None


def test_lists_repeated_keys_with_the_line_of_the_first() -> None:
    document = parse_document("a: 1\nb:\n  c: 1\n  c: 2\na: 2\n")
    assert document.repeated == ((("b", "c"), 3), (("a",), 1))
    assert document.line(("a",)) == 5


def test_expands_references_with_their_path() -> None:
    seen: list[tuple[KeyPath, str]] = []

    def value_of(path: KeyPath, name: str) -> str:
        seen.append((path, name))
        return name.lower()

    data = {"dsn": "a-${ONE}-${TWO}", "list": ["${ONE}", 5, None], "literal": "$${ONE} $ONE $"}
    assert expand(data, value_of) == {
        "dsn": "a-one-two",
        "list": ["one", 5, None],
        "literal": "${ONE} $ONE $",
    }
    assert seen == [(("dsn",), "ONE"), (("dsn",), "TWO"), (("list", 0), "ONE")]


@pytest.mark.parametrize("text", ["checks: &a [*a]", "[" * 3000])
def test_refuses_an_anchor_that_refers_to_itself_and_deep_nesting(text: str) -> None:
    with pytest.raises(DocumentError, match="refers to itself"):
        parse_document(text)


def test_names_the_line_of_a_syntax_error() -> None:
    with pytest.raises(DocumentError, match="not YAML") as caught:
        parse_document("a: 1\nb: [")
    assert caught.value.line == 2


def test_refuses_a_file_that_is_missing_or_not_utf_8(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="cannot be read: No such file"):
        read_document(tmp_path / "missing.yml")
    (tmp_path / "f.yml").write_bytes(b"a: \xff")
    with pytest.raises(DocumentError, match="not UTF-8"):
        read_document(tmp_path / "f.yml")

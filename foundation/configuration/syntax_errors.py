"""Explains errors of YAML in the words of those who write it: what is wrong in which line, and the fix."""

from __future__ import annotations

import re

import yaml

_CONFLICT = re.compile(r"^(?:<{7}|={7}|>{7})(?: |$)", re.M)
_NO_SPACE = re.compile(r"\s*(?:- +)*[\w.-]+:[^\s:/'\"]")

_PROBLEMS: tuple[tuple[str, bool, str], ...] = (
    (
        "unexpected end of stream",
        True,
        "the quote that is opened here is never closed; close it in the same line",
    ),
    (
        r"expected ',' or",
        True,
        "the list or mapping in brackets that begins here is not closed; separate its items with commas, close the "
        "bracket, and quote items that contain one of , [ ] { } #",
    ),
    (
        "expected (the )?node content",
        True,
        "a value is missing, or a bracket is not closed; write the value, and close the bracket",
    ),
    ("unknown escape", False, r"a backslash in double quotes; use single quotes, in which \ stands for itself"),
    (
        "undefined alias",
        False,
        "a value that begins with * is an alias without its anchor; quote the value",
    ),
    ("constructor for the tag", False, "a value that begins with ! is a tag, and it is unknown; quote the value"),
    ("unhashable key", False, "a mapping in place of a key; quote a value that begins with { or {{"),
    ("another document", False, "a second document begins; remove the line ---"),
    (
        "comment or line break|chomping",
        False,
        "text follows | or > in its line; begin the text in the next line, indented",
    ),
    ("could not find expected ':'", True, "this key has no colon; write it as key: value, and check the indentation"),
    (
        "mapping values are not allowed",
        False,
        "a colon inside a value, or a line that is indented too far; quote a value that contains a colon and a space, "
        "and indent all keys of a mapping equally",
    ),
)
"""A part of the error of YAML, whether the line is the one where the context begins, and the explanation."""


def explain(error: yaml.MarkedYAMLError, text: str) -> tuple[int | None, str]:
    """Returns the line, and `what is wrong; what to do`."""
    lines = text.splitlines()
    if conflict := _CONFLICT.search(text):
        line = text.count("\n", 0, conflict.start()) + 1
        return (
            line,
            "a merge conflict is not resolved; keep one side, and remove the lines of < = and >",
        )
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return None, f"{error.problem}; quote the value, or correct the indentation"
    line = min(mark.line + 1, max(len(lines), 1))
    problem = str(error.problem)
    if "mapping values are not allowed" in problem or "could not find expected ':'" in problem:
        previous = next((n for n in range(line - 1, 0, -1) if lines[n - 1].strip()), line)
        if _NO_SPACE.match(lines[previous - 1]):
            return previous, "no space after the colon; write key: value"
    if re.search("cannot start any token|tab character", problem):
        return line, _about_character(lines[line - 1][mark.column : mark.column + 1])
    if re.search("expected <block end>|did not find expected key|did not find expected '-'", problem):
        return line, _about_indentation(lines[line - 1][: mark.column])
    for part, at_context, explanation in _PROBLEMS:
        if re.search(part, problem):
            begin = error.context_mark if at_context and error.context_mark is not None else mark
            return min(begin.line + 1, line), explanation
    return line, f"{problem}; quote the value, or correct the indentation"


def _about_character(character: str) -> str:
    if character == "\t":
        return "a tab in the indentation; indent with spaces"
    return f"a value cannot begin with {character}; quote the value"


def _about_indentation(before: str) -> str:
    if before.strip(" -"):
        return "text follows a quoted value or a bracket; quote the whole value, and double the quotes inside"
    return "the indentation fits no line above; indent all keys of a mapping, and all items of a list, equally"

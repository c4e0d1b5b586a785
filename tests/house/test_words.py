"""The vocabulary: replaced words do not come back, and no name has two meanings."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("responder", "exporters", "foundation")
TREES = (*PACKAGES, "tests", "benchmarks", "docs", "examples", "grafana")

NAMES = {
    *("one", "place", "was", "settles_within", "settled", "moved_by", "patience", "rehearse", "nudge"),
    *("Move", "Draft", "Share", "World", "Halt", "Halted", "Unseen", "Superseded", "Kept", "Held", "GaveUp"),
    *("Situation", "Around", "Judgement", "Verdict", "Mandate", "Teller", "Story", "Reins", "Ear", "Bell"),
    *("carry_out", "go_round", "look_after", "stirred", "turn_back", "turning_back", "single_flight", "good_after"),
    *("House", "Office", "Bench", "Drill"),
}
"""Banned identifiers. Use the words of docs/concepts.md."""

PARTS = {
    *("told", "said", "whose", "asked", "lever", "levers", "reins", "mandate", "situation", "verdict", "verdicts"),
    *("judgement", "teller", "narrate", "shelf", "shelves", "census", "sealing", "stumbled", "colour", "colours"),
    *("brake", "compensated", "stories"),
}
"""Words that must not be part of an identifier either, such as in `told_of` and `_levers_of`."""

TWICE = {
    "StepFailed",  # the exception, and the event that records it: docs/decisions/0038
    "StopSignal", "Record",  # the ports of the executor, and their implementations
}  # fmt: skip
"""Class names that may exist twice."""

FILES = [file for tree in TREES for file in sorted((ROOT / tree).rglob("*.py"))]


def identifiers(text: str) -> Iterator[tuple[int, str]]:
    """Every identifier with its line; in Python 3.11 an f-string is one token, so its expressions are read apart."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.NAME:
            yield token.start[0], token.string
        elif token.type == tokenize.STRING and re.match(r"(?i)r?f", token.string):
            for node in ast.walk(ast.parse(token.string)):
                if isinstance(node, ast.Name):
                    yield token.start[0], node.id
                elif isinstance(node, ast.Attribute):
                    yield token.start[0], node.attr


def banned(name: str) -> bool:
    parts = re.findall(r"[A-Z]?[a-z]+", name)
    return name in NAMES or any(part.lower() in PARTS for part in parts)


@pytest.mark.parametrize("name", ["told", "told_of", "_asked_at", "one", "LeverError", "Verdict", "colours"])
def test_a_banned_word_is_found(name: str) -> None:
    assert banned(name)
    assert [found for _, found in identifiers(f'print(f"{{{name}.x}}")\n') if banned(found)] == [name]


@pytest.mark.parametrize("name", ["placeholder", "replace", "none", "everyone", "gold", "clever", "result", "basked"])
def test_other_words_are_allowed(name: str) -> None:
    assert not banned(name)


def test_no_banned_word_is_used() -> None:
    found = [
        f"{file.relative_to(ROOT)}:{line}: {name}"
        for file in FILES
        if file != Path(__file__)
        for line, name in identifiers(file.read_text())
        if banned(name)
    ]
    assert found == []


@pytest.mark.parametrize("package", PACKAGES)
def test_no_class_name_has_two_meanings(package: str) -> None:
    homes: dict[str, list[str]] = defaultdict(list)
    for file in sorted((ROOT / package).rglob("*.py")):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].append(str(file.relative_to(ROOT)))
    assert {name: files for name, files in homes.items() if len(files) > 1 and name not in TWICE} == {}

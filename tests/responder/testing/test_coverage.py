"""Every registered resource runs through the published laws in some test."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

from responder.backends.registries import RESOURCES

BACKENDS = Path(__file__).parents[1] / "backends"


def _names(node: ast.AST) -> set[str]:
    return {child.id for child in ast.walk(node) if isinstance(child, ast.Name)}


@cache
def names_in_law_tests() -> frozenset[str]:
    """Every name in a test of the laws, and in the helpers and constants of its module that the test uses."""
    found: set[str] = set()
    for file in BACKENDS.rglob("test_*.py"):
        body = ast.parse(file.read_text()).body
        functions = {node.name: node for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        constants = {
            target.id: node
            for node in body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        parts = {**functions, **constants}
        due = {
            name for function in functions.values() if "keeps_the_laws" in (used := _names(function)) for name in used
        }
        here: set[str] = set()
        while due:
            here |= due
            due = {used for name in due if name in parts for used in _names(parts[name])} - here
        found |= here
    return frozenset(found)


@pytest.mark.parametrize("name", RESOURCES.names)
def test_every_resource_runs_through_the_laws(name: str) -> None:
    covered = RESOURCES.load(name).__name__ in names_in_law_tests()
    assert covered, f"call keeps_the_laws for the resource {name} in tests/responder/backends"

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
        for function in functions.values():
            used = _names(function)
            if "keeps_the_laws" in used:
                helpers = [{**functions, **constants}[name] for name in used if name in functions or name in constants]
                found |= used.union(*map(_names, helpers))
    return frozenset(found)


@pytest.mark.parametrize("name", RESOURCES.names)
def test_every_resource_runs_through_the_laws(name: str) -> None:
    covered = RESOURCES.load(name).__name__ in names_in_law_tests()
    assert covered, f"call keeps_the_laws for the resource {name} in tests/responder/backends"

"""The layers of the code match docs/architecture.md."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
MODULES = [p for package in ("responder", "exporters", "foundation") for p in sorted((ROOT / package).rglob("*.py"))]


def test_imports_follow_the_layers() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    ran = subprocess.run([lint, "--no-logo"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout


def test_every_module_has_a_docstring() -> None:
    for module in MODULES:
        first = module.read_text().splitlines()[:1]
        assert first and first[0].startswith('"""') and len(first[0]) > 15, f"{module} has no docstring"


def test_no_module_has_an_empty_name() -> None:
    empty = {"utils", "util", "common", "core", "base", "manager", "handler", "handlers", "helper", "helpers"}
    assert [m for m in MODULES if empty & {m.stem, *m.relative_to(ROOT).parts}] == []


def test_no_todo_and_no_swallowed_exception() -> None:
    found = [
        f"{module.relative_to(ROOT)}:{number}"
        for module in MODULES
        for number, line in enumerate(module.read_text().splitlines(), 1)
        if re.search(r"\b(TODO|FIXME|XXX)\b|pragma: no cover|except Exception: *pass|NotImplementedError", line)
    ]
    assert found == []

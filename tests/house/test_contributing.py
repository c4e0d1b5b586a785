"""The worked examples of CONTRIBUTING.md, each performed on a copy of the tree."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text()
STEP = re.compile(
    r"\b(Create|In) `([^`]+)`(?:, add (to|above) `([\w ]+)`)?:\n\n```(?:python|yaml)\n(.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
COMMAND = re.compile(r"^\.venv/bin/(?:python -m )?(\w.*)$", re.MULTILINE)
EXAMPLES = ("Add a probe", "Add a notification channel", "Add a backend")


def section(heading: str) -> str:
    return PAGE.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


def steps(heading: str) -> list[tuple[str, str, str, str, str]]:
    return STEP.findall(section(heading))


def perform(tree: Path, verb: str, path: str, where: str, name: str, text: str) -> None:
    """One step: a new file, or lines in an existing one."""
    file = tree / path
    if verb == "Create":
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return
    lines = file.read_text().splitlines(keepends=True)
    at = next(n for n, line in enumerate(lines) if re.match(rf"(def )?{name}\b", line))
    if where == "to":
        opening = "{" if path.endswith(".py") else ":"
        at = next(n for n in range(at, len(lines)) if lines[n].rstrip().endswith(opening)) + 1
    elif not name.startswith("import "):
        text += "\n\n"
    file.write_text("".join((*lines[:at], text, *lines[at:])))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the files that the examples change, check and test."""
    for file in ROOT.iterdir():
        if file.is_dir() and not file.name.startswith("."):
            shutil.copytree(file, tmp_path / file.name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        elif file.is_file():
            shutil.copy(file, tmp_path)
    if (ROOT / ".mypy_cache").exists():  # from `make lint`: without it, mypy analyzes everything again
        shutil.copytree(ROOT / ".mypy_cache", tmp_path / ".mypy_cache")
    return tmp_path


def run(tree: Path, *argv: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    ran = subprocess.run(
        [sys.executable, "-m", *argv], cwd=tree, env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, f"{ran.stdout[-4000:]}\n{ran.stderr[-2000:]}"


@pytest.mark.parametrize("heading", EXAMPLES)
def test_an_example_works_as_written(heading: str, tree: Path) -> None:
    for step in steps(heading):
        perform(tree, *step)
    written = [path for _, path, *_ in steps(heading) if path.endswith(".py")]
    run(tree, "ruff", "check", "-q", "--ignore", "I001", *written)
    run(tree, "ruff", "format", "-q", "--check", *written)
    run(tree, "mypy", *(path for path in written if not path.startswith("tests")))
    commands = [command.split() for command in COMMAND.findall(section(heading))]
    assert commands, "the example names no tests"
    for command in commands:
        run(tree, *command)


def test_a_missing_part_is_named(tree: Path) -> None:
    """The channel without its entry in the contract tests."""
    for step in steps("Add a notification channel"):
        if not step[1].startswith("tests"):
            perform(tree, *step)
    with pytest.raises(AssertionError, match="add a case for the channel pagerduty"):
        run(
            tree, "pytest", "-q", "-p", "no:cacheprovider", "tests/responder/notify/test_contract.py", "-k", "pagerduty"
        )

"""What the documents say is true of the code: pages, links, commands, configurations and series."""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporters.config import load as load_exporters
from responder.cli.main import _parser as responder_parser
from responder.config import parse
from responder.guards import GUARDS
from responder.metrics import Metrics, Snapshot, State
from responder.policies import Mandate

ROOT = Path(__file__).parents[2]
PAGES = sorted(p for p in ROOT.rglob("*.md") if not {".venv", "node_modules", ".git"} & set(p.parts))
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def name(page: object) -> str:
    return str(page.relative_to(ROOT)) if isinstance(page, Path) else ""


def test_generated_pages_are_current() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "docs.generate", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, f"make docs would change something: {ran.stdout}{ran.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", FENCE.sub("", page.read_text())):
        if not target.startswith(("http://", "https://", "mailto:")):
            assert (page.parent / target).exists(), f"{name(page)} links to {target}"


def _configurations() -> list[Any]:
    found = []
    for page in PAGES:
        blocks = [body for kind, body in FENCE.findall(page.read_text()) if kind in ("yaml", "yml")]
        found += [pytest.param(b, id=f"{name(page)}-{n}") for n, b in enumerate(blocks) if b.startswith("state:")]
    examples = [p for p in sorted((ROOT / "examples").glob("*.yml")) if re.search(r"^state:", p.read_text(), re.M)]
    return found + [pytest.param(p.read_text(), id=p.name) for p in examples]


@pytest.mark.parametrize("text", _configurations())
def test_responder_configurations_load(text: str, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("0123456789abcdef0123456789abcdef")
    text = re.sub(r"file: [^,}\n]*(token|secrets)[^,}\n]*", f"file: {token}", text)
    environment = dict.fromkeys(re.findall(r"\$\{(\w+)\}", text), "a-value-that-is-long-enough")
    assert parse(text, "page", environment).prometheus


def test_the_pages_hold_configurations() -> None:
    assert len(_configurations()) >= 5


def test_the_exporters_example_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    file = ROOT / "examples" / "exporters.yml"
    for key in re.findall(r"\$\{(\w+)\}", file.read_text()):
        monkeypatch.setenv(key, "a-value")
    assert yaml.safe_load(file.read_text())["checks"]
    assert load_exporters(file).config.checks


def _commands() -> list[Any]:
    found = []
    for page in PAGES:
        for kind, body in FENCE.findall(page.read_text()):
            if kind in ("", "sh", "bash", "console"):
                for line in body.splitlines():
                    if line.startswith("responder ") and "…" not in line:
                        found.append(pytest.param(line, id=f"{name(page)}: {line[:60]}"))
    return found


@pytest.mark.parametrize("line", _commands())
def test_commands_are_understood(line: str) -> None:
    words = shlex.split(line, comments=True)
    try:
        responder_parser().parse_args(words[1:])
    except SystemExit as e:
        pytest.fail(f"exit {e.code}: {line}")


def test_every_command_has_help_with_an_example() -> None:
    subparsers = next(a for a in responder_parser()._actions if isinstance(a, argparse._SubParsersAction))
    for command, parser in subparsers.choices.items():
        assert f"responder {command}" in (parser.epilog or ""), command


def test_every_series_is_documented_and_every_documented_series_exists() -> None:
    empty = Snapshot(stopped=False, open_executions=[], ends=[], running=[])
    families = [*Metrics().registry.collect(), *State(empty, Mandate(), armed=True).collect()]
    exist = {f.name + ("_total" if f.type == "counter" else "") for f in families if f.name.startswith("responder")}
    told = set(re.findall(r"^\| `(responder_\w+)`", (ROOT / "docs/reference/metrics.md").read_text(), re.M))
    assert told == exist


def test_every_guard_is_named_in_the_decision_about_their_order() -> None:
    [page] = (ROOT / "docs/decisions").glob("0003-*.md")
    text = page.read_text()
    at = [text.index(guard.__name__) for guard in GUARDS]
    assert at == sorted(at)


def test_every_option_has_a_description() -> None:
    reference = (ROOT / "docs/reference/configuration.md").read_text()
    assert "| |\n" not in reference.replace("|  |", "| |"), "an option without a description"

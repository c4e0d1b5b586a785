"""Each mistake of corpus.yml is found at its line and path, with what is wrong and what to do."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml

from exporters.cli import main as exporters
from foundation.configuration.findings import Finding
from responder.cli.checking.check import check

CORPUS = yaml.safe_load(Path(__file__).with_name("corpus.yml").read_text())


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A directory that every user can enter, so that its files are as public as their modes say."""
    with TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        (Path(name) / "public").write_text("0123456789abcdef")
        (Path(name) / "public").chmod(0o644)
        yield Path(name)


async def in_responder(file: Path) -> int:
    return await check(file, live=False, output="json")


async def in_exporters(file: Path) -> int:
    return exporters(["check", "--config", str(file), "--output", "json"])


Check = Callable[[Path], Awaitable[int]]


async def findings(run: Check, text: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> list[Finding]:
    file = folder / "config.yml"
    file.write_text(text.replace("{folder}", str(folder)).replace("{public}", str(folder / "public")))
    code = await run(file)
    found = [Finding(**finding) for finding in json.loads(capsys.readouterr().out)]
    assert code == (2 if any(finding.severity == "error" for finding in found) else 0)
    assert {finding.file for finding in found} <= {str(file)}
    return found


PROGRAMS: dict[str, Check] = {"responder": in_responder, "exporters": in_exporters}
CASES = [(program, case) for program in PROGRAMS for case in CORPUS[program]["cases"]]


def test_the_corpus_is_as_large_as_required() -> None:
    assert len(CASES) >= 81


@pytest.mark.parametrize("program", PROGRAMS)
async def test_without_mistakes_there_is_no_error(
    program: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = await findings(PROGRAMS[program], CORPUS[program]["base"], folder, capsys)
    assert [finding for finding in found if finding.severity == "error"] == []


@pytest.mark.parametrize(("program", "case"), CASES)
async def test_a_mistake_is_found_with_line_path_and_fix(
    program: str, case: dict[str, str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = CORPUS[program]["base"]
    assert case["replace"] in text
    found = await findings(PROGRAMS[program], text.replace(case["replace"], case["by"], 1), folder, capsys)
    (expected,) = [
        finding
        for finding in found
        if f"{finding.line} {finding.path}".strip() == case["at"] and case["message"] in finding.message
    ]
    assert expected.hint and case["hint"] in expected.hint
    others = [finding for finding in found if finding.severity == "error" and finding != expected]
    assert len(others) <= 1, others

"""Both programs: the output may be closed, full or in a locale without a character; options with several values."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from exporters.cli import main as exporters
from foundation.commands.command import Args, Command, Many, OneOf
from foundation.commands.failure import Failure, legible, wants_json
from responder.cli.main import main as responder
from tests.command_lines import PROGRAMS, usage_error

ROOT = Path(__file__).parents[3]
PROGRAM = [sys.executable, "-m", "responder"]


def closed_pipe() -> int:
    """A descriptor to write to, which nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


@pytest.mark.parametrize("argv", [["--help"], ["completion", "bash"], ["stop", "--nope", "--output=json"]])
def test_nobody_reads_the_output(argv: list[str]) -> None:
    writer = closed_pipe()
    try:
        ran = subprocess.run([*PROGRAM, *argv], stdout=writer, stderr=subprocess.PIPE, cwd=ROOT, check=False)
    finally:
        os.close(writer)
    assert (ran.returncode, ran.stderr) == (141, b"")


def test_the_output_cannot_be_written() -> None:
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run([*PROGRAM, "--help"], stdout=full, stderr=subprocess.PIPE, cwd=ROOT, check=False)
    assert (ran.returncode, ran.stderr) == (2, b"responder: No space left on device\n")


def test_the_output_is_closed() -> None:
    ran = subprocess.run(
        ["sh", "-c", '"$@" >&-', "sh", *PROGRAM, "--help"], stderr=subprocess.PIPE, cwd=ROOT, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, b"")


def test_a_locale_without_the_character() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    ran = subprocess.run([*PROGRAM, "snapshots", "restore", "--help"], env=environment, cwd=ROOT, capture_output=True)
    assert (ran.returncode, ran.stderr) == (0, b"")


@pytest.mark.parametrize("main", [responder, exporters])
def test_version_and_help(main: Any, capsys: pytest.CaptureFixture[str]) -> None:
    program = main.__module__.partition(".")[0]
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith(f"{program} ")
    assert (main(["-h"]), main([])) == (0, 2)
    out, err = capsys.readouterr()
    assert out == err != ""


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_command_is_imported_by_its_name(program: str) -> None:
    for name in PROGRAMS[program].commands:
        assert PROGRAMS[program].load(name).name == name


def test_an_option_with_several_values() -> None:
    def call(**values: Any) -> None:
        found.append(Args(**values))

    found: list[Args] = []
    command = Command("c", callback=call, params=[Many(["--file"]), Many(["--table"])])
    for argv in (["--file", "a", "b", "--table", "c"], ["--table=c", "--file=a", "--file", "b"]):
        command.main(argv, standalone_mode=False)
        assert found.pop() == Args(file=("a", "b"), table=("c",))
    assert usage_error("responder", ["check", "--rules"]) != ""
    assert usage_error("responder", ["check", "--rules", "--live"]) != ""
    assert usage_error("responder", ["check", "--rules", "a", "b", "--live"]) == ""


def test_a_failure() -> None:
    failure = Failure("it\x1b[2J failed", "file.yml:1", "do this")
    assert str(failure) == "file.yml:1: it\\x1b[2J failed (do this)"
    assert json.loads(failure.json()) == {"error": "it\x1b[2J failed", "where": "file.yml:1", "hint": "do this"}


def test_legible() -> None:
    assert legible("[a]\r\n\tb\u00a0c\u2028d\x1b[31m\x07\u202ee\x85\udcff é 🦆") == (
        "[a]   b c d\\x1b[31m\\x07\\u202ee \\udcff é 🦆"
    )


@pytest.mark.parametrize(
    ("argv", "wanted"),
    [
        ("status --output json", True),
        ("status --output=json", True),
        ("report --format json", True),
        ("--nope --output json --nope", True),
        ("status --output text", False),
        ("status json", False),
        ("rollback json --output", False),
    ],
)
def test_json_is_wanted(argv: str, wanted: bool) -> None:
    assert wants_json(argv.split()) is wanted


def test_a_choice_suggests_the_most_similar_one() -> None:
    assert "Did you mean 'json'?" in OneOf(("text", "json")).get_invalid_choice_message("jsno", None)
    assert "Did you mean" not in OneOf(("text", "json")).get_invalid_choice_message("xyz", None)

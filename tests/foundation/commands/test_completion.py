"""Shells complete commands, options, choices, files and names, by their own means."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from exporters.cli import main as exporters
from responder.cli.main import main as responder

ROOT = Path(__file__).parents[3]
BASH = """
source <({program} completion bash)
complete_line() {{
    COMPREPLY=()
    IFS=' ' read -r -a COMP_WORDS <<< "$1"
    [[ $1 == *' ' ]] && COMP_WORDS+=('')
    COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
    _{program}_completion {program} 2>&1
    echo "${{COMPREPLY[*]}}"
}}
compopt() {{ echo "compopt $*"; }}
while IFS= read -r line; do complete_line "$line"; done
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The two programs in the search path, and configurations in the working directory."""
    for program in ("responder", "exporters"):
        file = tmp_path / "bin" / program
        file.parent.mkdir(exist_ok=True)
        file.write_text(f'#!/bin/sh\nexec {sys.executable} -m {program} "$@"\n')
        file.chmod(0o755)
    (tmp_path / "exporters.yml").write_text(
        "checks:\n- {id: shop_health, service: s, environment: e, type: tcp, address: 'h:1'}\n"
    )
    return {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}


def completed(program: str, lines: list[str], environment: dict[str, str], directory: Path) -> list[list[str]]:
    """What bash offers for each line."""
    ran = subprocess.run(
        ["bash", "--norc", "-c", BASH.format(program=program)],
        input="\n".join(lines) + "\n",
        env=environment,
        cwd=directory,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stderr == ""
    return [line.split() for line in ran.stdout.splitlines()]


@pytest.mark.parametrize(
    ("program", "cases"),
    [
        (
            "responder",
            {
                "responder st": ["status", "stop"],
                "responder mark backend 1 ca": ["candidate"],
                "responder status --output=j": ["json"],
                "responder watch 2026": [],  # nobody answers
            },
        ),
        ("exporters", {"exporters probe sh": ["shop_health"]}),
    ],
)
def test_bash(program: str, cases: dict[str, list[str]], environment: dict[str, str], tmp_path: Path) -> None:
    assert completed(program, list(cases), environment, tmp_path) == list(cases.values())


@pytest.mark.parametrize(
    ("shell", "sent", "offered"),
    [
        ("bash", {"COMP_WORDS": "responder\nsnapshots\nve", "COMP_CWORD": "2"}, "plain,verify"),
        ("bash", {"COMP_WORDS": "responder\nstop\n--re", "COMP_CWORD": "2"}, "plain,--reason"),
        ("bash", {"COMP_WORDS": "responder\nstatus\n--config\nx", "COMP_CWORD": "3"}, "file,x"),
        ("zsh", {"COMP_WORDS": "responder wat", "COMP_CWORD": "1"}, "plain\nwatch\nfollow a rollback"),
        ("fish", {"COMP_WORDS": "responder wat", "COMP_CWORD": "wat"}, "plain,watch\tfollow a rollback"),
    ],
)
def test_what_a_shell_sends(
    shell: str, sent: dict[str, str], offered: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {**sent, "_RESPONDER_COMPLETE": f"{shell}_complete"}.items():
        monkeypatch.setenv(name, value)
    assert responder(()) == 0
    assert capsys.readouterr().out.startswith(offered)


MARKS = {"bash": "complete -o nosort -F", "zsh": "#compdef {}", "fish": "--command {}"}


@pytest.mark.parametrize("shell", MARKS)
@pytest.mark.parametrize("main", [responder, exporters])
def test_the_script_of_a_shell(shell: str, main: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script, program = capsys.readouterr().out, main.__module__.partition(".")[0]
    assert f"_{program.upper()}_COMPLETE={shell}_complete" in script
    assert MARKS[shell].format(program) in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True)


@pytest.mark.skipif(not shutil.which("fish"), reason="apt-get install -y --no-install-recommends fish")
def test_fish(environment: dict[str, str], tmp_path: Path) -> None:
    script = "responder completion fish | source; complete -C 'responder st'"
    out = subprocess.check_output(["fish", "-c", script], env=environment, cwd=tmp_path, text=True)
    assert [line.split("\t")[0] for line in out.splitlines()] == ["status", "stop"]

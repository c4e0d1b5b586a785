from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from exporters.cli import main

GOOD = """checks:
- {id: good, service: s, environment: e, type: custom, command: [echo, "5"], value: number}
- {id: bad, service: s, environment: e, type: custom, command: ["false"]}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "e.yml").write_text(GOOD)
    return tmp_path / "e.yml"


def test_check(path: Path, capsys: Any) -> None:
    assert main(["check", "--config", str(path)]) == 0
    assert "no errors; checks: 2" in capsys.readouterr().out
    assert main(["check", "--config", str(path), "--output", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_an_invalid_configuration_exits_with_2_and_no_traceback(path: Path, capsys: Any) -> None:
    path.write_text("checks:\n- {id: x, service: s, environment: e, type: tcp, address: h}\n")
    assert main(["check", "--config", str(path)]) == 2
    expected = f"{path}:2 checks[0].address: must be written host:port, or [address]:port for IPv6"
    assert capsys.readouterr().err == f"{expected} (write it as 127.0.0.1:9469)\n"
    assert main(["check", "--config", str(path), "--output", "json"]) == 2
    assert json.loads(capsys.readouterr().out)[0]["path"] == "checks[0].address"


@pytest.mark.parametrize(("check", "code"), [("good", 0), ("bad", 1), ("unknown", 2)])
def test_probe(path: Path, capsys: Any, check: str, code: int) -> None:
    assert main(["probe", check, "--config", str(path)]) == code
    assert main(["probe", check, "--config", str(path), "--output", "json"]) == code
    out = "".join(capsys.readouterr())
    assert {0: '"success": true', 1: '"reason": "exit"', 2: "configured: good, bad"}[code] in out


def test_a_probe_that_cannot_be_made_is_inconclusive(path: Path, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("exporters.probes.custom.Custom._executable", "/nowhere/at/all")
    assert main(["probe", "good", "--config", str(path)]) == 1
    assert "inconclusive: the command cannot be started" in capsys.readouterr().out


def test_a_missing_file_is_reported(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("exporters.commands.set_up", lambda *_: None)
    assert main(["serve", "--config", str(tmp_path / "gone.yml")]) == 2
    assert "cannot be read: No such file" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["serve"], ["check"], ["probe"], ["completion"]])
def test_every_help_text_has_an_example(command: list[str], capsys: Any) -> None:
    assert main([*command, "--help"]) == 0
    assert "example: " in (out := capsys.readouterr().out)
    assert f"exporters {command[0]}" in out


@pytest.mark.parametrize("argv", [[], ["nonsense"], ["probe"], ["check", "--output", "xml"]])
def test_wrong_usage_exits_with_2(argv: list[str]) -> None:
    assert main(argv) == 2


@pytest.mark.parametrize("listen", ["nonsense", "127.0.0.1:99999", "127.0.0.1:0", ":9469", "127.0.0.1:x", "", "::1:80"])
def test_an_invalid_address_to_listen_on(path: Path, capsys: Any, listen: str) -> None:
    assert main(["serve", "--config", str(path), "--listen", listen]) == 2
    assert "Traceback" not in (err := capsys.readouterr().err)
    assert f"--listen: {listen!r} " in err
    assert main(["serve", "--config", str(path), "--listen", listen, "--output", "json"]) == 2
    assert list(json.loads(capsys.readouterr().out)) == ["error", "where", "hint"]


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["prob"], "Did you mean 'probe'?"),
        (["check", "--confg", "x"], "Did you mean '--config'"),
        (["check", "--output", "jsn"], "Did you mean 'json'?"),
        (["probe", "gud"], "configured: good, bad"),
        (["probe", "good", "--config", "none.yml"], "none.yml: cannot be read"),
    ],
)
def test_errors(path: Path, capsys: Any, monkeypatch: Any, argv: list[str], says: str) -> None:
    monkeypatch.chdir(path.parent)
    path.rename("exporters.yml")
    assert main(argv) == 2
    assert says in capsys.readouterr().err
    if "--output" not in argv:
        main([*argv, "--output", "json"])
        assert list(json.loads(capsys.readouterr().out)) == ["error", "where", "hint"]

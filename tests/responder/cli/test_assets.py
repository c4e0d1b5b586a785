"""`responder assets` writes what the package brings along, and never replaces a changed file unasked."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from responder import assets
from responder.cli.main import main
from tests.parts import program

DASHBOARDS = Path(__file__).parents[3] / "grafana" / "dashboards"
CONFIGURATION = """
state: sqlite:///var/lib/responder/state.db
prometheus: {url: "http://127.0.0.1:9090"}
alertmanager: {urls: ["http://127.0.0.1:9093"]}
web: {external_url: "https://responder.example.com"}
services:
  - name: backend
    environment: production
    rollback: {strategy: immediate, release: {root: /srv/backend, restart: ["true"]}}
    health_checks: [{http: "http://127.0.0.1:8080/health"}]
"""


def links(directory: Path) -> set[str]:
    rules = [
        rule
        for file in (directory / "alert_rules").glob("*.yml")
        for group in yaml.safe_load(file.read_text()).get("groups", ())
        for rule in group["rules"]
    ]
    return {rule["annotations"]["runbook_url"].rpartition("/")[0] for rule in rules if "alert" in rule}


def test_it_writes_all_assets_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = tmp_path / "new" / "assets"
    assert (
        main(["assets", str(directory), "--config", _config(tmp_path, "")]) == 2
    )  # not the configuration that is named
    assert not directory.exists()
    assert main(["assets", str(directory), "--runbook-url", assets.RUNBOOK_URL]) == 0
    names = dict(assets.files())
    written = {file.relative_to(directory).as_posix() for file in directory.rglob("*") if file.is_file()}
    assert written == set(names)
    assert [name for name in names if (directory / name).read_bytes() != names[name].read_bytes()] == []
    capsys.readouterr()
    assert main(["assets", str(directory), "--output", "json", "--runbook-url", assets.RUNBOOK_URL]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "directory": str(directory),
        "new": [],
        "overwritten": [],
        "unchanged": list(names),
    }


def test_rules_and_dashboards_get_the_address_of_the_runbooks(tmp_path: Path) -> None:
    directory = tmp_path / "assets"
    assert main(["assets", str(directory), "--runbook-url", "https://wiki.example/run-books/?x=1&y=~"]) == 0
    assert links(directory) == {"https://wiki.example/run-books/?x=1&y=~"}
    rules = sorted(
        set((directory / "alert_rules").glob("*.yml")) - set((directory / "alert_rules").glob("*.example.yml"))
    )
    checked = subprocess.run(
        [program("promtool"), "check", "rules", *rules], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    for file in (directory / "grafana" / "dashboards").glob("*.json"):
        text = file.read_text().replace("https://wiki.example/run-books/?x=1&y=~", assets.RUNBOOK_URL)
        assert json.loads(text) == json.loads((DASHBOARDS / file.name).read_text())


def test_the_responder_of_the_configuration_serves_the_runbooks(tmp_path: Path) -> None:
    assert main(["assets", str(tmp_path / "assets"), "--config", _config(tmp_path, CONFIGURATION)]) == 0
    assert links(tmp_path / "assets") == {"https://responder.example.com/runbooks"}


def test_a_changed_file_stays_unless_forced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changed, link, lost = (tmp_path / name for name in ("alert_rules/errors.yml", "NOTICE", "LICENSE"))
    argv = ["assets", str(tmp_path), "--runbook-url", assets.RUNBOOK_URL]
    assert main(argv) == 0
    changed.write_text("mine")
    link.unlink()
    link.symlink_to(tmp_path / "nowhere")
    lost.unlink()
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert all(part in error for part in (f"{changed}\n", f"{link}\n", "nothing was written", "--force"))
    assert (changed.read_text(), lost.exists()) == ("mine", False)
    assert main([*argv, "--force"]) == 0
    printed = capsys.readouterr().out
    assert {f"overwritten {changed}", f"overwritten {link}"} == {*printed.splitlines()[:-1]}
    assert printed.splitlines()[-1].startswith("1 new, 2 overwritten, ")
    assert (lost.exists(), link.is_symlink(), (tmp_path / "nowhere").exists()) == (True, False, False)


@pytest.mark.parametrize(
    "url", ["wiki", "ftp://x", "https://", "https://x/{{.}}", "https://x/a b", "https://x/'", "https://x/$a"]
)
def test_an_address_that_would_break_the_rules_is_refused(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["assets", str(tmp_path / "assets"), "--runbook-url", url]) == 2
    assert repr(url) in capsys.readouterr().err
    assert not (tmp_path / "assets").exists()


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["assets", str(tmp_path / "file"), "--runbook-url", assets.RUNBOOK_URL]) == 2
    assert f"{tmp_path / 'file'}" in capsys.readouterr().err


def _config(tmp_path: Path, text: str) -> str:
    (tmp_path / "responder.yml").write_text(text)
    return str(tmp_path / "responder.yml")

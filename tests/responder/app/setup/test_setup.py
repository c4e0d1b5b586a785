"""`responder init` writes files that the programs accept, and refuses answers that they would not."""

from __future__ import annotations

import json
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporters.config import load as load_exporters
from responder.app.loading import load
from responder.app.setup.render import TOKENS
from responder.cli.main import main
from tests.parts import need, program

COMPOSE = """
name: shop
services:
  web:
    image: registry.example/shop:1.0
    healthcheck: {test: [CMD, curl, -f, "http://localhost:8080/health"]}
    deploy: {replicas: 3}
  worker: {image: "registry.example/worker:2.1"}
  database: {image: "postgres:17.6"}
  built: {build: .}
  variable: {image: "shop:${TAG}"}
"""
URL = "http://127.0.0.1:8080/health"
HOST = ("--service", "backend", "--health-url", URL)


def run(directory: Path, *options: str) -> int:
    return main(["init", str(directory), *options])


def refusal(capsys: pytest.CaptureFixture[str], directory: Path, *options: str) -> str:
    assert run(directory, *options) == 2
    assert not directory.exists()
    return capsys.readouterr().err


@pytest.fixture
def compose(tmp_path: Path) -> Path:
    (tmp_path / "compose.yaml").write_text(COMPOSE)
    return tmp_path / "compose.yaml"


@pytest.mark.parametrize(
    "channel", ["console", "slack:https://hooks.slack.com/T", "webhook:https://pager.example/x", "email:o@example.com"]
)
def test_the_programs_accept_the_files(tmp_path: Path, channel: str) -> None:
    directory = tmp_path / "made"
    assert run(directory, *HOST, "--channel", channel, "--mode", "approve", "--environment", "staging") == 0
    config = load(directory / "responder.yml")
    (service,), (check,) = config.services, load_exporters(directory / "exporters.yml", {}).config.checks
    assert (service.name, check.service, service.environment, check.environment) == ("backend",) * 2 + ("staging",) * 2
    assert [policy.mode for policy in config.policies if not policy.force] == ["approve"]
    assert list(config.notify.channels) == [channel.partition(":")[0]]


def test_prometheus_and_alertmanager_accept_the_files(tmp_path: Path) -> None:

    need("prometheus", "prometheus-alertmanager")
    directory = tmp_path / "made"
    assert run(directory, *HOST) == 0
    for tool, words, file in (
        ("promtool", ("check", "config", "--syntax-only"), "prometheus/prometheus.yml"),
        ("amtool", ("check-config",), "alertmanager/alertmanager.yml"),
    ):
        argv = [str(program(tool)), *words, str(directory / file)]
        result = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr + result.stdout


def test_only_its_user_can_read_the_secrets(tmp_path: Path) -> None:
    directory = tmp_path / "made"
    assert run(directory, *HOST, "--channel", "slack:https://hooks.slack.com/services/SECRET") == 0
    secrets = {f.name for f in directory.rglob("*") if f.is_file() and stat.S_IMODE(f.stat().st_mode) == 0o600}
    assert secrets == {*(f"{name}.token" for name in TOKENS), "slack.url"}
    assert not [f for f in directory.rglob("*") if f.is_file() and f.name not in secrets and "SECRET" in f.read_text()]
    tokens = {(directory / "tokens" / f"{name}.token").read_text() for name in TOKENS}
    assert len(tokens) == len(TOKENS)


def test_nothing_is_overwritten_without_force(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = tmp_path / "made"
    assert run(directory, *HOST) == 0
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    assert run(directory, *HOST, "--mode", "auto") == 2
    assert "responder.yml" in (err := capsys.readouterr().err) and "--force" in err
    assert before == {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    assert run(directory, *HOST, "--mode", "auto", "--force") == 0
    after = {path for path, content in before.items() if path.read_bytes() != content}
    assert after == {directory / "responder.yml"}


def test_a_compose_file(tmp_path: Path, compose: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = tmp_path / "made"
    assert run(directory, "--from-compose", str(compose)) == 0
    web, worker = load(directory / "responder.yml").services
    assert (web.name, web.rollback.strategy, worker.name, worker.rollback.strategy) == (
        *("web", "rolling"),
        *("worker", "immediate"),
    )
    (check,) = load_exporters(directory / "exporters.yml", {}).config.checks
    assert str(check.url) == "http://web:8080/health"
    made = yaml.safe_load((directory / "compose.yaml").read_text())
    assert made["networks"]["project"]["name"] == "shop_default"
    left_out = capsys.readouterr().err
    for name, reason in (("database", "stores data"), ("built", "no `image`"), ("variable", "docker compose config")):
        assert f"left out: {name}: " in left_out and reason in left_out


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--service", "backend"), "--health-url is missing"),
        (("--health-url", URL), "--service is missing"),
        (("--service", "Back End", "--health-url", URL), "--service Back End: expected lower-case letters"),
        ((*HOST, "--environment", "über"), "--environment über: expected"),
        ((*HOST, "--user", 'a"; x'), '--user a"; x: expected the name of a user'),
        ((*HOST, "--root", "/srv/my shop"), "--root /srv/my shop: expected a path of letters"),
        ((*HOST, "--root", "srv"), "--root srv: expected an absolute path, such as /srv/backend"),
        ((*HOST, "--restart", "sh -c 'x"), "--restart sh -c 'x: No closing quotation"),
        (("--service", "backend", "--health-url", "localhost:8080"), "expected a URL such as http://"),
        ((*HOST, "--channel", "slak:https://x"), "--channel slak: expected slack:URL"),
        ((*HOST, "--channel", "slak:https://x"), "did you mean slack?"),
        ((*HOST, "--channel", "slack:C0123"), "--channel slack:C0123: expected slack:URL"),
        ((*HOST, "--channel", "email:me"), "such as email:oncall@example.com"),
        ((*HOST, "--service", "other"), "only one service without --from-compose"),
        (("--from-compose", "/nonexistent.yaml"), "--from-compose /nonexistent.yaml: cannot be read"),
    ],
)
def test_bad_answers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], expected: str
) -> None:
    assert expected in refusal(capsys, tmp_path / "made", *options)


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ("services: {}", (), "expected a Compose file with `services`"),
        ("services: {a: [}", (), "cannot be read"),
        ("- 1", (), "expected a Compose file with `services`"),
        ("services: {db: {image: 'mysql:8'}}", (), "contains no service that can be rolled back\n  db: stores data"),
        (COMPOSE, ("--service", "weeb"), "--service weeb: not in --from-compose"),
        (COMPOSE, ("--service", "weeb"), "did you mean web?"),
        (COMPOSE, ("--service", "database"), "--service database: stores data"),
        (COMPOSE, ("--health-url", URL), "is for one service, not for web, worker"),
    ],
)
def test_bad_compose_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, options: tuple[str, ...], expected: str
) -> None:
    file = tmp_path / "compose.yaml"
    file.write_text(text)
    assert expected in refusal(capsys, tmp_path / "made", "--from-compose", str(file), *options)


def test_a_directory_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert run(tmp_path / "file" / "below", *HOST) == 2
    assert "Not a directory; not all files were written" in capsys.readouterr().err


def test_questions_in_a_terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    answers = {"Name of the service": "backend", "URL that answers 2xx while backend is healthy": URL}
    questions = list[str]()

    def answer(question: str) -> str:
        questions.append(question)
        return answers.get(question.partition(" [")[0].removesuffix(": "), "")

    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", answer)
    assert run(tmp_path / "made") == 0
    assert len(questions) == 6
    (service,) = load(tmp_path / "made" / "responder.yml").services
    made: dict[str, Any] = json.loads(service.rollback.model_dump_json())
    assert made["release"]["root"] == "/srv/backend"

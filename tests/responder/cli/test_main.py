"""Every command reports its result by its exit code, and a wrong command gets one sentence, never a traceback."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from aiohttp import web
from pydantic import SecretStr

from responder.cli.main import main
from responder.journal import outbox
from responder.rollback.events import (
    ApprovalRequested,
    Planned,
    RetriesExhausted,
    StepCompleted,
    StepStarted,
    StopRequested,
)
from responder.services import rollbacks
from responder.web.access.access import Access
from responder.web.access.settings import Token, WebSettings
from tests.engine import Nginx
from tests.parts import Process, need
from tests.responder.examples import accepted, as_bytes, plan, sent_alert, sent_body
from tests.responder.notify.peers import TOKEN, Slack
from tests.responder.outside import serving
from tests.responder.web.conftest import SECRETS, ResponderServer

COMMANDS = (
    "serve",
    "check",
    "rollback",
    "approve",
    "stop",
    "close",
    "status",
    "history",
    "report",
    "watch",
    "explain",
    "deployed",
    "versions",
    "clients",
)
CONFIG = """\
state: sqlite://{state}
prometheus: {{url: "http://localhost:9090"}}
alertmanager: {{urls: ["http://localhost:9093"]}}
"""


class CommandResult(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Awaitable[CommandResult]]


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("RESPONDER_URL", "RESPONDER_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command and returns its output, which must not contain a traceback."""

    async def run_it(*argv: str) -> CommandResult:
        capsys.readouterr()
        code = await asyncio.to_thread(main, argv)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return CommandResult(code, out, err)

    return run_it


@pytest.fixture
def ask(run: Run, responder: ResponderServer) -> Run:
    """As `run`, with a running responder."""

    async def ask_it(command: str, *argv: str) -> CommandResult:
        return await run(command, "--url", str(responder.client.make_url("/")), *argv)

    return ask_it


async def begin(responder: ResponderServer, *events: Any) -> str:
    now = datetime.now(UTC)
    await responder.journal.transaction(rollbacks.accept, "r1", accepted(at=now, received_at=now))
    if events:
        await responder.append("r1", *events)
    return "r1"


# --- help ---
@pytest.mark.parametrize("command", COMMANDS)
async def test_every_command_has_help_with_an_example(command: str, run: Run) -> None:
    code, out, err = await run(command, "--help")
    assert (code, err) == (0, "")
    assert f"example: responder {command}" in out
    assert "--output [text|json" in out


async def test_the_help_names_every_command(run: Run) -> None:
    code, out, _ = await run("--help")
    assert code == 0
    assert all(command in out for command in COMMANDS)
    code, out, _ = await run("--version")
    assert (code, out.startswith("responder ")) == (0, True)


@pytest.mark.parametrize(
    "argv", [(), ("rolback",), ("status", "--color"), ("rollback", "backend"), ("history", "--limit", "x")]
)
async def test_an_unknown_command_exits_2_and_is_reported_on_stderr(argv: tuple[str, ...], run: Run) -> None:
    code, out, err = await run(*argv)
    assert (code, out) == (2, "")
    assert err.startswith("Usage: responder")


# --- connecting to the responder ---
async def test_no_responder_listens(run: Run, free_port: int) -> None:
    code, out, err = await run("status", "--url", f"http://127.0.0.1:{free_port}")
    assert (code, out) == (2, "")
    url = f"http://127.0.0.1:{free_port}"
    assert err.startswith(f"{url}: cannot connect to the responder: Connection refused (set its address with --url")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("url", ["nonsense", "http://", "ftp://x", "http://no such host", "http://127.0.0.1:99999"])
async def test_an_invalid_url(run: Run, url: str) -> None:
    code, out, err = await run("status", "--url", url)
    assert (code, out, len(err.splitlines())) == (2, "", 1)


@pytest.mark.parametrize("body", [b"<html>", b"{}", b"[]", b'"x"', b"null", b"{", b'{"status":"success"}'])
@pytest.mark.parametrize("kind", ["text/html", "application/json"])
async def test_another_program_listens(run: Run, body: bytes, kind: str) -> None:
    async def other(request: web.Request) -> web.Response:
        return web.Response(body=body, content_type=kind)

    async with serving(**{"api/v1/status": other}) as url:
        code, out, err = await run("status", "--url", url)
    assert (code, out) == (2, "")
    assert "is not a responder" in err


async def test_a_proxy_is_no_problem(run: Run, responder: ResponderServer, tmp_path: Path) -> None:
    need("nginx")
    proxy = Nginx(tmp_path)
    proxy.include.write_text(f"server {responder.client.host}:{responder.client.port};\n")
    responder.access = Access(WebSettings(allowed_hosts=("app",)))  # the Host that this proxy sends
    process = await Process.start(proxy.argv, log=tmp_path / "nginx.log", ready=f"{proxy.url}/api/v1/status")
    try:
        code, out, err = await run("status", "--url", proxy.url)
    finally:
        await process.terminate()
    assert (code, err) == (0, "")
    assert "armed" in out


@pytest.mark.parametrize("command", ["history", "watch", "report", "evidence", "approve"])
@pytest.mark.parametrize("name", ["../status", "a/b?c#d", "\x1b[2J"])
async def test_an_invalid_id(ask: Run, command: str, name: str) -> None:
    code, out, err = await ask(command, name)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert "\x1b" not in err


@pytest.mark.parametrize("name", ["", ".", ".."])
async def test_an_id_with_a_path(ask: Run, name: str) -> None:
    for command in ("watch", "evidence", "approve", "stop"):
        assert await ask(command, name) == (2, "", f"responder: {name!r} is neither an ID nor a name\n")


async def test_an_execution_id_is_never_wrapped(
    ask: Run, responder: ResponderServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    long, now = "20261123-231500-4f2a9c1b", datetime.now(UTC)
    event = accepted(reason="why " * 100, at=now, received_at=now)
    await responder.journal.transaction(rollbacks.accept, long, event)
    monkeypatch.setenv("COLUMNS", "80")
    for command in ("history", "status"):
        assert long in (await ask(command)).out
    monkeypatch.delenv("COLUMNS")  # not a terminal: no wrapping
    assert "why " * 100 in (await ask("history")).out


async def test_the_address_comes_from_the_environment_or_the_configuration(
    run: Run, responder: ResponderServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "responder.yml").write_text(f"web: {{listen: '{responder.client.host}:{responder.client.port}'}}\n")
    assert (await run("status")).code == 0
    monkeypatch.setenv("RESPONDER_URL", "http://127.0.0.1:1")
    assert (await run("status")).code == 2
    assert (await run("status", "--url", str(responder.client.make_url("")))).code == 0


async def test_tokens(
    run: Run, guarded_responder: ResponderServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url = str(guarded_responder.client.make_url(""))
    code, _, err = await run("status", "--url", url)
    assert (code, err) == (2, "responder: a bearer token is required\n")
    (tmp_path / "token").write_text(SECRETS["read"] + "\n")
    assert (await run("status", "--url", url, "--token-file", "token")).code == 0
    monkeypatch.setenv("RESPONDER_TOKEN", SECRETS["read"])
    assert (await run("status", "--url", url)).code == 0
    code, _, err = await run("stop", "--all", "--url", url)
    assert (code, err) == (2, "responder: read-only lacks scope operate\n")
    monkeypatch.setenv("RESPONDER_TOKEN", "a token that nobody has")
    assert await run("status", "--url", url) == (2, "", "responder: the bearer token is wrong\n")


async def test_a_service_that_is_not_permitted(run: Run, make_responder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ci = Token(name="ci", scopes=("deploy",), services=("web",), token=SecretStr("token of a pipeline"))
    responder = await make_responder(ci)
    monkeypatch.setenv("RESPONDER_TOKEN", "token of a pipeline")
    code, out, err = await run("deployed", "backend", "2.1", "--url", str(responder.client.make_url("")))
    assert (code, out, err) == (2, "", "responder: ci is not permitted for service 'backend'\n")


async def test_an_invalid_token(run: Run, responder: ResponderServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESPONDER_TOKEN", "two\nlines")
    message = "RESPONDER_TOKEN: must hold one token of printable ASCII characters\n"
    assert await run("status", "--url", str(responder.client.make_url(""))) == (2, "", message)


@pytest.mark.parametrize("content", [None, b"two\nlines", b"\xff\xfe", b""])
async def test_an_unusable_token_file(
    run: Run, guarded_responder: ResponderServer, content: bytes | None, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "token").write_bytes(content)
    url = str(guarded_responder.client.make_url(""))
    code, out, err = await run("status", "--url", url, "--token-file", "token")
    assert (code in (1, 2), out, len(err.splitlines())) == (True, "", 1)


# --- output ---
async def test_status(ask: Run, responder: ResponderServer) -> None:
    await responder.good_then_new()
    code, out, _ = await ask("status")
    assert (code, out.splitlines()[0]) == (0, "armed; health: unknown (details: responder report)")
    assert "2.1" in out
    assert json.loads((await ask("status", "--output", "json")).out)["armed"] is True
    await begin(responder, RetriesExhausted(at=datetime.now(UTC), reason="too often"))
    code, out, _ = await ask("status")
    assert (code, "Stuck: manual action required" in out) == (1, True)
    await ask("report")
    assert (await ask("status")).out.splitlines()[0] == "armed; health: unhealthy (details: responder report)"


async def test_stop_all_and_close_all(ask: Run) -> None:
    code, out, _ = await ask("stop", "--all", "--reason", "maintenance")
    assert (code, "responder close --all" in out) == (0, True)
    code, out, _ = await ask("status")
    assert (code, "NOT ARMED: stopped by " in out, "maintenance" in out) == (1, True, True)
    assert (await ask("close", "--all", "--reason", "over")).code == 0
    assert (await ask("close", "--all", "--reason", "over")).code == 1
    assert (await ask("status")).code == 0


async def test_only_the_option_throws_and_releases_the_kill_switch(ask: Run) -> None:
    code, _, err = await ask("stop", "all", "--reason", "x")
    assert (code, "If you mean the kill switch, throw it with: responder stop --all" in err) == (2, True)
    assert (await ask("status")).code == 0, "it is still armed"
    await ask("stop", "--all", "--reason", "x")
    code, _, err = await ask("close", "all", "--reason", "x")
    assert (code, "release it with: responder close --all --reason" in err) == (2, True)
    assert (await ask("status")).code == 1, "it is still stopped"


async def test_deployed_and_versions(ask: Run) -> None:
    for word in ("recorded", "already recorded"):
        code, out, _ = await ask("deployed", "backend", "2.0", "--good", "--id", "d1")
        assert (code, out) == (0, f"2.0 of backend in production: {word} as d1\n")
    code, out, _ = await ask("versions", "backend")
    assert (code, "good" in out) == (0, True)
    assert json.loads((await ask("versions", "backend", "--output", "json")).out)[0]["version"] == "2.0"
    code, _, err = await ask("deployed", "nobody", "1")
    assert (code, err) == (2, "responder: no service 'nobody' is configured\n")


async def test_versions_of_a_platform_and_their_reports(ask: Run) -> None:
    options = ("--platform", "android", "--artifact", "versionCode=1234", "--provenance", "https://ci.example/run/9")
    code, out, _ = await ask("deployed", "backend", "3.0", *options, "--id", "d1")
    assert (code, out) == (0, "3.0 of backend in production on android: recorded as d1\n")
    code, out, _ = await ask("versions", "backend", "--platform", "android")
    assert code == 0
    for word in ("3.0 (running)", "candidate", "versionCode=1234", "https://ci.example/run/9"):
        assert word in out
    code, out, _ = await ask("mark", "backend", "3.0", "retired", "--reason", "its store is gone")
    assert (code, out) == (0, "3.0 of backend in production is retired\n")
    for more in ((), ("--platform", "android")):
        code, out, _ = await ask("versions", "backend", "--history", *more)
        assert (code, "its store is gone" in out, "newly deployed" in out) == (0, True, True)
    assert json.loads((await ask("versions", "backend", "--history", "--output", "json")).out)[0]["status"] == "retired"
    assert "requires" not in out
    code, _, _ = await ask("deployed", "backend", "3.0", "--id", "d2", "--requires", "database>=2")
    code, out, _ = await ask("versions", "backend", "--history")
    assert (code, "its store is gone" in out, "requires" in out, "database >=2" in out) == (0, True, True, True)
    rows = json.loads((await ask("versions", "backend", "--history", "--output", "json")).out)
    assert [row.get("versions") for row in rows] == [None, None, ">=2"], "after all marks"
    code, _, err = await ask("versions", "backend", "--platform", "tv")
    assert (code, "its platforms are android" in err) == (2, True)


async def test_client_rules(ask: Run) -> None:
    android = ("backend", "android")
    changed = (
        "--min-version",
        "2.9",
        "--block",
        "3.0",
        "--block",
        "3.1",
        "--flag",
        "checkout=false",
        "--flag",
        "new=true",
    )
    code, out, _ = await ask("clients", *android, *changed, "--reason", "charges twice")
    assert code == 0
    for word in ("2.9", "3.0, 3.1", "checkout=false, new=true", "charges twice"):
        assert word in out
    lifted = ("--min-version", "", "--unblock", "3.0", "--flag", "new=")
    body = json.loads((await ask("clients", *android, *lifted, "--reason", "fixed", "--output", "json")).out)
    now = {name: body[name] for name in ("min_version", "blocked_versions", "flags", "revision")}
    assert now == {"min_version": "", "blocked_versions": ["3.1"], "flags": {"checkout": False}, "revision": 2}
    assert [change["reason"] for change in body["changes"]] == ["fixed", "charges twice"]
    assert "charges twice" in (await ask("clients", *android)).out


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (("--block", "3.0"), "a change needs --reason"),
        (("--reason", "x"), "--reason without a change"),
        (("--flag", "checkout", "--reason", "x"), "--flag checkout: must be name=true or name=false"),
        (("--flag", "checkout=off", "--reason", "x"), "--flag checkout=off: must be name=true or name=false"),
        (("--flag", "=true", "--reason", "x"), "--flag =true: must be name=true or name=false"),
    ],
)
async def test_an_invalid_change_of_client_rules_exits_2(ask: Run, argv: tuple[str, ...], says: str) -> None:
    code, _, err = await ask("clients", "backend", "android", *argv)
    assert (code, says in err) == (2, True)


async def test_markup_is_shown_as_text(ask: Run) -> None:
    assert "2.0[red]x" in (await ask("deployed", "backend", "2.0[red]x")).out


async def test_rollback_by_hand(ask: Run, responder: ResponderServer) -> None:
    code, out, _ = await ask("rollback", "backend", "--reason", "x")
    assert (code, "nothing to roll back" in out) == (1, True)
    await responder.good_then_new()
    code, out, _ = await ask("rollback", "backend", "--reason", "x", "--dry-run")
    assert (code, "2.1 → 2.0" in out) == (0, True)
    code, out, _ = await ask("rollback", "backend", "--reason", "x", "--output", "json")
    execution = json.loads(out)["execution"]
    assert code == 0
    code, out, _ = await ask("history", execution)
    assert (code, execution in out) == (0, True)
    assert execution in (await ask("history")).out
    assert json.loads((await ask("history", "--output", "json")).out)[0]["id"] == execution
    assert (await ask("stop", execution)).code == 0
    code, _, err = await ask("history", "none")
    assert (code, err) == (2, "responder: execution none does not exist\n")


async def test_approve(ask: Run, responder: ResponderServer) -> None:
    responder.prometheus.vectors[UP] = [({}, "1")]
    now = datetime.now(UTC)
    held = ApprovalRequested(at=now, reason="ask", until=now + timedelta(minutes=5))
    execution_id = await begin(responder, Planned(at=now, plan=plan()), held)
    assert (await ask("approve", execution_id, "--plan", "000000000000")).code == 1
    code, _, err = await ask("approve", execution_id)
    assert (code, "approve with --although-resolved" in err) == (1, True)
    code, out, _ = await ask("approve", execution_id, "--although-resolved")
    message = f"r1: plan {plan().hash} approved; execution continues\n"
    assert (code, out) == (0, message)
    assert (await ask("approve", execution_id)).code == 1


async def test_the_effect_of_a_stop_on_traffic_is_shown_before_and_after(ask: Run, responder: ResponderServer) -> None:
    now, effect = datetime.now(UTC), "backend runs 2.0 now; a stop returns traffic to 2.1"
    moved = (
        Planned(at=now, plan=plan()),
        StepStarted(at=now, step=0, title="x"),
        StepCompleted(at=now, step=0, changed=True),
    )
    execution_id = await begin(responder, *moved, StepStarted(at=now, step=1, title="y"))
    assert f"responder stop {execution_id}: {effect}" in (await ask("history", execution_id)).out
    result = await ask("stop", execution_id, "--reason", "mine")
    assert result == (0, f"{execution_id} stops at its next safe point: {effect}\n", "")
    await responder.append(execution_id, StopRequested(at=now, by="alice", reason="mine"))
    assert "responder stop" not in (await ask("history", execution_id)).out


async def test_close(ask: Run, responder: ResponderServer) -> None:
    execution_id = await begin(responder)
    assert (await ask("close", execution_id, "--reason", "x")).code == 1
    await responder.append(execution_id, RetriesExhausted(at=datetime.now(UTC), reason="too often"))
    assert (await ask("close", execution_id, "--reason", "fixed by hand")).code == 0


async def test_explain(ask: Run, responder: ResponderServer, tmp_path: Path) -> None:
    assert (await ask("explain", "--last")).out == "no decisions yet\n"
    (tmp_path / "body.json").write_bytes(as_bytes(sent_body()))
    code, out, _ = await ask("explain", "body.json")
    assert (code, "deployed_within" in out) == (0, True)
    await responder.post("/api/v1/alerts", sent_body())
    code, out, _ = await ask("explain")
    assert (code, "nothing to roll back" in out) == (0, True)
    (tmp_path / "body.json").write_bytes(b"{")
    code, _, err = await ask("explain", "body.json")
    assert (code, "Invalid JSON" in err) == (2, True)
    code, _, err = await ask("explain", "none.json")
    assert (code, err) == (2, "none.json: cannot be read: No such file or directory\n")


@pytest.mark.parametrize(
    "command", [("history",), ("history", "r1"), ("status",), ("explain",), ("report",), ("report", "r1")]
)
async def test_an_alert_cannot_control_the_terminal(
    ask: Run, responder: ResponderServer, command: tuple[str, ...]
) -> None:
    evil = "\x1b[2J\x1b]0;owned\x07"
    now = datetime.now(UTC)
    event = accepted(reason=f"down {evil}", at=now, received_at=now)
    await responder.journal.transaction(rollbacks.accept, "r1", event)
    await responder.post("/api/v1/alerts", sent_body(sent_alert({"alertname": evil, "service": evil})))
    await responder.post("/api/v1/executions/all/stop", {"reason": evil})
    assert "\x1b" not in (await ask(*command)).out


async def test_missing_reports_are_shown(ask: Run, responder: ResponderServer) -> None:
    execution = await begin(responder)

    async def hand_out(tx: Any) -> None:
        async def heard_by(tx: Any, news: Any) -> list[str]:
            return ["slack"]

        await outbox.distribute(tx, heard_by)

    await responder.journal.transaction(hand_out)
    out = (await ask("status")).out
    assert "Undelivered notifications" in out
    assert "slack" in out
    out = (await ask("history", execution)).out
    assert "pending" in out


# --- check and serve ---
async def test_check(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "responder.yml"
    file.write_text(CONFIG.format(state=tmp_path / "state.db"))
    code, out, _ = await run("check")
    assert (code, "no problems found" in out) == (0, True)
    file.write_text(CONFIG.format(state=tmp_path / "state.db") + "polices: []\n")
    code, out, _ = await run("check")
    assert (code, out) == (2, "responder.yml:4 polices: unknown key (did you mean policies?)\n")
    code, out, _ = await run("check", "--output", "json")
    (finding,) = json.loads(out)
    assert (code, finding) == (
        2,
        {
            "file": "responder.yml",
            "line": 4,
            "path": "polices",
            "message": "unknown key",
            "hint": "did you mean policies?",
            "severity": "error",
        },
    )
    code, out, _ = await run("check", "--output", "sarif")
    assert (code, json.loads(out)["runs"][0]["results"][0]["level"]) == (2, "error")
    code, out, _ = await run("check", "--config", "none.yml")
    assert (code, out) == (2, "none.yml: cannot be read: No such file or directory (set its path with --config)\n")


async def test_an_unreadable_configuration_does_not_lead_to_another_responder(run: Run) -> None:
    code, _, err = await run("stop", "--all", "--reason", "r", "--config", "none.yml")
    message = "none.yml: cannot be read: No such file or directory (set the address with --url)\n"
    assert (code, err) == (2, message)


async def test_check_names_missing_packages(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        CONFIG.format(state=tmp_path / "state.db")
        + """services:
  - name: backend
    environment: production
    rollback: {strategy: immediate, kubernetes: {namespace: shop, deployment: backend}}
    health_checks: [{containers: {project: shop, service: backend}}]
"""
    )
    (tmp_path / "responder.yml").write_text(text)
    assert (await run("check"))[0] == 0
    monkeypatch.setattr("responder.backends.connections.find_spec", lambda package: None)
    code, out, _ = await run("check")
    assert code == 2
    assert out.splitlines() == [
        "responder.yml:5 services[0]: needs the package aiodocker (pip install 'rollback-responder[docker]')",
        "responder.yml:5 services[0]: needs the package kubernetes (pip install 'rollback-responder[kubernetes]')",
    ]


async def test_check_live_reports_targets_without_an_answer(run: Run, tmp_path: Path, free_port: int) -> None:
    text = CONFIG.format(state=tmp_path / "state.db").replace("9090", str(free_port)).replace("9093", str(free_port))
    (tmp_path / "responder.yml").write_text(text)
    code, out, _ = await run("check", "--live", "--output", "json")
    found = [finding for finding in json.loads(out) if finding["severity"] == "error"]
    assert (code, [(finding["line"], finding["path"]) for finding in found]) == (
        1,
        [(2, "prometheus"), (3, "alertmanager")],
    )


async def test_check_live_calls_checks_by_name_or_address(run: Run, tmp_path: Path, free_port: int) -> None:
    url = f"http://127.0.0.1:{free_port}"
    (tmp_path / "responder.yml").write_text(
        CONFIG.format(state=tmp_path / "state.db").replace("9090", str(free_port)).replace("9093", str(free_port))
        + f"""services:
  - name: backend
    environment: production
    rollback: {{strategy: immediate, release: {{root: {tmp_path}, restart: ["true"]}}}}
    health_checks:
      - {{name: probes, promql: up, at_least: 1}}
      - {{promql: up == 1, at_least: 1}}
      - {{http: "{url}/health"}}
"""
    )
    found = json.loads((await run("check", "--live", "--output", "json"))[1])
    called = {finding["message"].partition(": ")[0] for finding in found if "health_checks" in finding["path"]}
    assert called == {"probes", "up == 1", f"{url}/health"}


async def test_channels_are_checked_and_tested(run: Run, tmp_path: Path, free_port: int) -> None:
    async with Slack().up() as slack:
        text = CONFIG.format(state=tmp_path / "state.db") + (
            f"notify: {{slack: {{token: {TOKEN}, channel: C1, api_url: '{slack.url}/api'}},\n"
            f"  email: {{host: 127.0.0.1, port: {free_port}, from: a@b.test, to: [c@d.test]}}}}\n"
        )
        (tmp_path / "responder.yml").write_text(text)
        found = json.loads((await run("check", "--live", "--output", "json"))[1])
        assert [finding["path"] for finding in found if "notify" in finding["path"]] == ["notify.email[0]"]
        assert slack.messages == {}, "nothing is sent"
        code, out, _ = await run("notify", "slack")
        assert (code, out) == (0, "slack: test notification delivered\n")
        assert ["test of this channel" in message["text"] for message in slack.messages.values()] == [True]
        slack.broken = "invalid_auth"
        code, _, err = await run("notify", "slack")
        assert (code, err) == (1, "slack: Slack rejected chat.postMessage: invalid_auth\n")
        code, _, err = await run("notify", "slck")
        assert (code, "did you mean slack?" in err) == (2, True)


async def test_serve_rejects_an_invalid_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "responder.yml").write_text("a: [\n")
    code, out, err = await run("serve")
    assert (code, out) == (2, "")
    assert err.startswith("responder.yml:1: invalid YAML")


async def test_check_reports_an_invalid_state_url(run: Run, tmp_path: Path) -> None:
    text = CONFIG.format(state="x").replace("sqlite://x", "mysql://x")
    (tmp_path / "responder.yml").write_text(text)
    assert (await run("check")).code == 2


# --- reports ---
UP = 'probe_success{service="backend"}'


async def test_report(ask: Run, responder: ResponderServer) -> None:
    await responder.good_then_new()
    responder.prometheus.vectors[UP] = [({}, "0")]
    code, out, _ = await ask("report")
    assert (code, out.startswith("unhealthy at ")) == (1, True)
    assert f"{UP} is 0, expected at least 1" in out
    assert "roll back to 2.0: responder rollback backend" in out
    code, out, _ = await ask("report", "--service", "backend", "--since", "1h", "--output", "json")
    assert (code, json.loads(out)["status"]) == (1, "unhealthy")
    code, out, _ = await ask("report", "--format", "markdown")
    assert (code, out.splitlines()[0]) == (1, "# Health report: unhealthy")
    code, _, err = await ask("report", "--service", "nobody")
    assert (code, err) == (2, "responder: no service 'nobody' is configured\n")
    assert (await ask("report", "--since", "yesterday")).code == 2
    assert (await ask("report", "--plot", "x.svg")).code == 2


async def test_a_report_exits_0_if_all_is_healthy(ask: Run, responder: ResponderServer) -> None:
    responder.prometheus.vectors[UP] = [({}, "1")]
    responder.worker._lease = object()  # type: ignore[assignment]
    await responder.good_then_new()
    assert (await ask("report")).code == 0
    responder.worker._lease = None


async def test_a_post_mortem_with_its_plot(ask: Run, responder: ResponderServer, tmp_path: Path) -> None:
    await responder.good_then_new()
    await begin(responder)
    points = [[datetime.now(UTC).timestamp() - 60 + n, "1"] for n in range(60)]
    responder.prometheus.results[UP] = {"resultType": "matrix", "result": [{"metric": {}, "values": points}]}
    code, out, _ = await ask("report", "r1", "--plot", "plot.svg")
    assert (code, out.splitlines()[0]) == (0, "# Post-mortem draft: backend in production, r1")
    assert "](<plot.svg>)" in out
    assert (tmp_path / "plot.svg").read_text().startswith("<svg")
    code, out, _ = await ask("report", "r1", "--output", "json")
    assert (code, json.loads(out)["id"]) == (0, "r1")
    assert "](<" not in (await ask("report", "r1")).out
    code, _, err = await ask("report", "r1", "--plot", "no/such/place.svg")
    assert (code, err) == (2, "no/such/place.svg: cannot be written: No such file or directory\n")
    responder.prometheus.status = 500
    assert (await ask("report", "r1", "--plot", "plot.svg")).code == 2
    assert (await ask("report", "none")).code == 2
    assert (await ask("report", "r1", "--since", "1h")).code == 2


async def test_status_of_one_service(ask: Run, responder: ResponderServer) -> None:
    await responder.good_then_new()
    body = json.loads((await ask("status", "--service", "backend", "--output", "json")).out)
    assert (body["deployment_id"], body["health_status"]) == ("deploy-2.1", "unknown")
    assert (await ask("status", "--service", "nobody")).code == 2

"""Every helper of deploy/ci reports a deployment to a running responder, once."""

from __future__ import annotations

import ast
import asyncio
import importlib.util
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestServer

from responder.journal import deployments
from tests.responder.web.conftest import SECRETS, ResponderServer

CI = Path(__file__).parents[4] / "deploy" / "ci"
TOKEN = SECRETS["deploy"]
VERSION = "1.2.3-\"x'$(id)`id`\\"  # a tag may be called so; it is text, never a part of a script
Main = Callable[..., tuple[int, str, str]]


async def reported(responder: ResponderServer) -> list[dict[str, Any]]:
    return await responder.journal.read(deployments.find, "backend", None, 10)


async def status(responder: ResponderServer) -> str | None:
    """The status of the running version."""
    found = await responder.journal.read(deployments.newest, "backend", "production")
    return found and found.status


def url_of(responder: ResponderServer) -> str:
    return str(responder.client.make_url("/")).rstrip("/")


async def run(argv: list[str], cwd: Path, **environment: str) -> tuple[int, str]:
    """Exit code and output of a program, as a pipeline runs it. Its token is never in the output."""
    environment = {"PATH": os.environ["PATH"], **environment}
    process = await asyncio.create_subprocess_exec(
        *argv, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    output = (await process.communicate())[0].decode()
    assert TOKEN not in output
    return process.returncode or 0, output


# --- report-deployment.py ---
@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Main:
    """Runs report-deployment.py, and returns its exit code, output and errors. Its pauses pass at once."""
    spec = importlib.util.spec_from_file_location("report_deployment", CI / "report-deployment.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    clock = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(module.time, "sleep", lambda seconds: clock.append(clock.pop() + seconds))
    for name in ("http_proxy", "HTTP_PROXY", "RESPONDER_URL", "RESPONDER_CA_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RESPONDER_TOKEN", TOKEN)

    def report(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(module.sys, "argv", ["report-deployment.py", *words])
        try:
            code = module.main()
        except SystemExit as e:  # of argparse
            code = e.code
        out, err = capsys.readouterr()
        assert TOKEN not in out + err
        return code, out, err

    return report


async def test_the_program_reports_once(guarded_responder: ResponderServer, main: Main, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN + "\n")
    words = ["--url", url_of(guarded_responder) + "/", "--environment", "production", "--artifact", "", "--good"]
    words += ["--token-file", str(tmp_path / "token"), "--id", "run-7", "--provenance", "https://ci/7"]
    words += ["backend", VERSION]
    assert await asyncio.to_thread(main, *words) == (0, f"backend {VERSION} in production: reported\n", "")
    assert (await asyncio.to_thread(main, *words))[:2] == (0, f"backend {VERSION} in production: was reported before\n")
    (found,) = await reported(guarded_responder)
    facts = (found["version"], found["id"], found["provenance"], found["recorded_by"])
    assert facts == (VERSION, "run-7", "https://ci/7", "deploy-only")
    assert await status(guarded_responder) == "good"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing", "1"], "nothing"),
        (["backend", "a b"], "one printable word without slashes (version)"),
        (["backend", "1", "--environment", "moon"], "moon"),
        (["backend", "1", "--url", ""], "RESPONDER_URL"),
        (["backend", "1", "--url", "responder:9095"], "'responder:9095'"),
        (["backend", "1", "--url", "http://a:b@host"], "must not contain a password"),
        (["backend", "1", "--url", "http://host:port"], "port"),
        (["backend", "1", "--token-file", "/nowhere"], "/nowhere: No such file"),
        (["backend", "1", "--token-file", "/dev/null"], "bearer token is required"),
        (["backend", "1", "--ca-file", "/nowhere"], "--ca-file /nowhere"),
        (["backend"], "version"),
    ],
)
async def test_a_wrong_report_names_its_mistake(
    guarded_responder: ResponderServer, main: Main, words: list[str], message: str
) -> None:
    code, _, error = await asyncio.to_thread(main, "--url", url_of(guarded_responder), *words)
    assert (code, message in error, "Traceback" in error) == (2, True, False), error
    assert await reported(guarded_responder) == []


@pytest.mark.parametrize(
    ("answers", "code", "attempts", "message"),
    [
        ([503, 502, 201], 0, 3, "HTTP 503: busy; next attempt in 7 s"),
        (["drop", 429, 201], 0, 3, "next attempt in 1 s"),
        ([503] * 9, 1, 7, "not reported: http://127.0.0.1"),
        ([307], 2, 1, "redirects to https://elsewhere.example/"),
        ([200], 2, 1, "the answer is not one of the responder"),
        ([413], 2, 1, "HTTP 413: busy"),
    ],
)
async def test_what_may_pass_is_tried_again(
    main: Main, answers: list[Any], code: int, attempts: int, message: str
) -> None:
    bodies = []

    async def answer(request: web.Request) -> web.Response:
        status = answers[len(bodies)]
        bodies.append(await request.json())
        if status == "drop":
            assert request.transport is not None
            request.transport.close()
        headers = {"Location": "https://elsewhere.example/"} if status == 307 else {}
        headers |= {"Retry-After": "7"} if status == 503 else {}
        made = {"service": "backend", "version": "1", "environment": "production"}
        body = {"deployment": made, "new": True, "pinned": ["a pin"]} if status == 201 else {"error": "busy"}
        return web.json_response(body, status=500 if status == "drop" else status, headers=headers)

    app = web.Application()
    app.router.add_post("/api/v1/deployments", answer)
    async with TestServer(app) as server:
        words = ("--url", str(server.make_url("/")), "--wait", "60", "backend", "1")
        found, _, error = await asyncio.to_thread(main, *words)
    assert (found, len(bodies), message in error) == (code, attempts, True), error
    assert len({body["id"] for body in bodies}) == 1, "a lost answer must not become a second deployment"
    assert ("warning: a pin" in error) == (code == 0)


def test_the_program_needs_only_python_3_8() -> None:
    tree = ast.parse((CI / "report-deployment.py").read_text(), feature_version=(3, 8))
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in imported} <= {
        "__future__", "argparse", "http", "json", "os", "pathlib", "ssl", "sys", "time", "urllib", "uuid",
    }  # fmt: skip


# --- pipelines ---
async def test_github_action(guarded_responder: ResponderServer, tmp_path: Path) -> None:
    action = yaml.safe_load((CI / "github" / "action.yml").read_text())
    given = {"service": "backend", "version": VERSION, "url": url_of(guarded_responder), "token": TOKEN, "good": "true"}
    assert {name for name, i in action["inputs"].items() if i.get("required")} <= set(given) <= set(action["inputs"])
    known = {f"inputs.{name}": given.get(name, i.get("default")) for name, i in action["inputs"].items()}
    known |= {"github.server_url": "https://github.com", "github.repository": "shop/backend"}
    known |= {"github.run_id": "17", "github.run_attempt": "1"}
    (step,) = action["runs"]["steps"]
    assert "${{" not in step["run"], "an input would become a part of the script"
    environment = {
        name: re.sub(r"\$\{\{ ([\w.]+) }}", lambda match: known[match[1]], text) for name, text in step["env"].items()
    }
    (tmp_path / "script.sh").write_text(step["run"])
    argv = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "script.sh"]  # as `shell: bash` is run
    for _ in range(2):
        code, output = await run(argv, tmp_path, GITHUB_ACTION_PATH=str(CI / "github"), **environment)
        assert code == 0, output
    (found,) = await reported(guarded_responder)
    assert (found["version"], await status(guarded_responder)) == (VERSION, "good")
    assert found["provenance"] == "https://github.com/shop/backend/actions/runs/17"


async def test_gitlab_component(guarded_responder: ResponderServer, tmp_path: Path) -> None:
    header, template = yaml.safe_load_all((CI / "gitlab" / "templates" / "report-deployment.yml").read_text())
    inputs = {"service": "backend", "environment": "production"}
    declared = header["spec"]["inputs"]
    assert {name for name, i in declared.items() if "default" not in i} <= set(inputs) <= set(declared)
    known = {name: inputs.get(name, i.get("default")) for name, i in declared.items()}
    text = re.sub(r"\$\[\[ inputs\.(\w+) ]]", lambda match: known[match[1]], yaml.safe_dump(template))
    (job,) = yaml.safe_load(text).values()
    predefined = {"CI_JOB_ID": "99", "CI_PIPELINE_URL": "https://gitlab/7", "CI_COMMIT_SHA": VERSION}
    own = {name: predefined.get(str(value).lstrip("$"), str(value)) for name, value in job["variables"].items()}
    variables = {**own, **predefined, "RESPONDER_URL": url_of(guarded_responder), "RESPONDER_TOKEN": TOKEN}
    for _ in range(2):
        code, output = await run(["sh", "-ec", "\n".join(job["script"])], tmp_path, **variables)
        assert code == 0, output
    (found,) = await reported(guarded_responder)
    assert (found["version"], found["id"], found["provenance"]) == (VERSION, "gitlab-99", "https://gitlab/7")
    code, output = await run(["sh", "-ec", "\n".join(job["script"])], tmp_path, **{**variables, "REPORT_SERVICE": "x"})
    assert (code, "service 'x'" in output) == (22, True), output


async def test_jenkins_step(guarded_responder: ResponderServer, tmp_path: Path) -> None:
    """Groovy is not at hand: its shell script runs as Jenkins runs it, with the variables that the step sets."""
    step = (CI / "jenkins" / "vars" / "reportDeployment.groovy").read_text()
    script = step.split("'''")[1].replace("\\\\", "\\")
    assert set(re.findall(r'"\$([A-Z_]+)"', script)) <= {*re.findall(r'"([A-Z_]+)=\$', step), "BUILD_URL"}
    assert "RESPONDER_TOKEN" not in script
    environment = {"SERVICE": "backend", "VERSION": VERSION, "ENVIRONMENT": "", "PLATFORM": "", "ARTIFACT": ""}
    environment |= {"GOOD": "false", "BUILD_URL": "https://jenkins/job/7", "RESPONDER_TOKEN": TOKEN}
    environment |= {"SCRIPT": str(CI / "jenkins" / "resources" / "report-deployment.py")}
    code, output = await run(
        ["sh", "-xe", "-c", script], tmp_path, RESPONDER_URL=url_of(guarded_responder), **environment
    )
    assert code == 0, output
    (found,) = await reported(guarded_responder)
    assert (found["version"], found["provenance"]) == (VERSION, "https://jenkins/job/7")


# --- GitOps ---
def test_argo_cd_sends_its_template_on_each_sync() -> None:
    data = yaml.safe_load((CI / "argocd" / "notifications.yaml").read_text())["data"]
    (condition,) = yaml.safe_load(data["trigger.on-responder-deployed"])
    assert [f"template.{name}" for name in condition["send"]] == [name for name in data if name.startswith("template.")]
    assert set(yaml.safe_load(data["template.responder-deployed"])["webhook"]) == {"responder"}


async def test_flux_provider(guarded_responder: ResponderServer) -> None:
    """The body of its event: test_deployments.py. Here: address, token and selection."""
    provider, secret, alert = yaml.safe_load_all((CI / "flux" / "notifications.yaml").read_text())
    path = "/" + provider["spec"]["address"].split("/", 3)[3]
    headers = yaml.safe_load(secret["stringData"]["headers"].replace("REPLACE-ME", TOKEN))
    involved = next(source for source in alert["spec"]["eventSources"] if source["kind"] == "HelmRelease")
    event = {
        "involvedObject": involved, "severity": alert["spec"]["eventSeverity"], "reason": "UpgradeSucceeded",
        "timestamp": "2026-11-23T09:00:00Z", "metadata": {"revision": "1.0", **alert["spec"]["eventMetadata"]},
    }  # fmt: skip
    assert (provider["spec"]["secretRef"]["name"], alert["spec"]["providerRef"]["name"]) == (
        secret["metadata"]["name"], provider["metadata"]["name"],
    )  # fmt: skip
    statuses = [(await guarded_responder.post(path, event, headers=headers))[0] for _ in range(2)]
    assert (statuses, [found["version"] for found in await reported(guarded_responder)]) == ([201, 200], ["1.0"])

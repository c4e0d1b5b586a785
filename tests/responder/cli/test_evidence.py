"""`responder evidence` lists the evidence, and fetches only files that match their checksums."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from tests.responder.cli.test_main import CONFIG, Run, alone, ask, run
from tests.responder.web.conftest import ResponderServer
from tests.responder.web.test_evidence import kept

__all__ = ["alone", "ask", "kept", "run"]


async def test_it_lists_and_fetches(ask: Run, kept: str, tmp_path: Path) -> None:
    code, out, _ = await ask("evidence", kept)
    assert code == 0
    assert "app.log.gz" in out
    into = tmp_path / "fetched"
    code, out, _ = await ask("evidence", kept, "--fetch", str(into))
    assert (code, "all checksums match" in out) == (0, True)
    assert gzip.decompress((into / "app.log.gz").read_bytes()) == b"it said <b>this</b>\n"
    assert json.loads((into / "manifest.json").read_text())["id"] == kept
    assert {file.stat().st_mode & 0o777 for file in into.iterdir()} == {0o600}
    code, out, _ = await ask("evidence", kept, "--output", "json", "--fetch", str(into))
    assert (code, "app.log.gz" in json.loads(out)["fetched"]) == (0, True)


async def test_it_does_not_follow_a_symbolic_link(ask: Run, kept: str, tmp_path: Path) -> None:
    target, into = tmp_path / "mine", tmp_path / "fetched"
    target.write_text("mine")
    into.mkdir()
    (into / "app.log.gz").symlink_to(target)
    code, _, err = await ask("evidence", kept, "--fetch", str(into))
    assert (code, "app.log.gz: cannot be written" in err) == (2, True)
    assert target.read_text() == "mine"


async def test_a_modified_file_is_rejected(ask: Run, kept: str, tmp_path: Path) -> None:
    next((tmp_path / "evidence").rglob("app.log.gz")).write_bytes(gzip.compress(b"nothing happened"))
    code, _, err = await ask("evidence", kept, "--fetch", str(tmp_path / "fetched"))
    assert (code, "app.log.gz: does not match its checksum" in err) == (2, True)


async def test_an_unknown_id_exits_2(ask: Run, kept: str, responder: ResponderServer) -> None:
    code, _, err = await ask("evidence", "none")
    assert (code, err) == (2, "responder: evidence none does not exist\n")


# --- the configuration ---
SERVICE = """services:
  - name: backend
    environment: production
    rollback: {strategy: immediate, release: {root: /srv/backend}}
    health_checks: [{http: "http://127.0.0.1:1/"}]
"""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (SERVICE + "    logs: [{system: true}]\n", "services[0].logs: no store for the logs (configure"),
        (
            SERVICE + "policies: [{name: p, match: [a=b], preserve_logs: [backend]}]\nevidence: {s3: 's3://bucket'}\n",
            "policies[0].preserve_logs[0]: service backend has no `logs` to preserve",
        ),
        ("policies: [{name: p, match: [a=b], preserve_logs: {label: service}}]\n", "preserve_logs: no store for"),
        ("policies: [{name: p, match: [a=b], preserve_logs: [x]}]\nevidence: {s3: 's3://bucket'}\n",
         "policies[0].preserve_logs[0]: no service x is configured"),
        ("policies: [{name: p, match: [a=b]}]\n", "policies[0]: has no effect: set one of roll_back, preserve_logs"),
        ("evidence: {}\n", "evidence: needs exactly one of base_directory, s3"),
        ("evidence: {base_directory: logs}\n", "evidence.base_directory: logs must be the absolute path"),
        ("evidence: {s3: bucket}\n", "evidence.s3: 'bucket' is not s3://bucket/prefix"),
        ("evidence: {s3: 's3://b1c', redact: ['(']}\n", "evidence.redact: '(' is not a valid RE2 regular expression"),
        ("evidence: {s3: 's3://b1c', total: 5}\n", "evidence.total: 5 is not a size such as 8B, 8kB"),
        (SERVICE + "    logs: [{kubernetes: {selector: app=x}}]\n", "logs[0].kubernetes.namespace is missing"),
        (SERVICE + "    logs: [{file: app.log}]\n", "services[0].logs[0].file: 'app.log' must be an absolute path"),
        (SERVICE + "    logs: [{journald: {unit: '--all'}}]\n", "services[0].logs[0].journald.unit"),
        (SERVICE + "    logs: [{docker: {project: shop}}]\n", "needs project and service, or container"),
        (SERVICE + "    logs: [{nfs: x}]\n", "has one of the keys kubernetes, file, journald, docker, system"),
        (SERVICE + "    logs: [{system: false}]\n", "services[0].logs[0].system"),
    ],
)  # fmt: skip
async def test_mistakes_are_reported_with_their_path(text: str, says: str, run: Run, tmp_path: Path) -> None:
    (tmp_path / "responder.yml").write_text(CONFIG.format(state=tmp_path / "state.db") + text)
    code, out, _ = await run("check")
    assert code == 2
    assert says in out


async def test_check_live_reads_the_logs_and_writes_to_the_store(run: Run, tmp_path: Path, free_port: int) -> None:
    (tmp_path / "app.log").write_text("x\n")
    (tmp_path / "file").touch()
    text = CONFIG.format(state=tmp_path / "state.db").replace("9090", str(free_port)).replace("9093", str(free_port))
    logs = f"    logs: [{{file: '{tmp_path}/app.log'}}, {{file: '{tmp_path}/none.log'}}]\n"
    for base, wrong in (("evidence", False), ("file/evidence", True)):
        section = f"evidence: {{base_directory: {tmp_path}/{base}}}\n"
        (tmp_path / "responder.yml").write_text(text + SERVICE + logs + section)
        _, out, _ = await run("check", "--live", "--output", "json")
        places = [finding["path"] for finding in json.loads(out)]
        assert "services[0].logs[1]" in places
        assert "services[0].logs[0]" not in places
        assert ("evidence" in places) is wrong
    assert not list((tmp_path / "evidence").rglob("*")), "it removed the object that it wrote"

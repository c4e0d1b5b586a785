"""Collected evidence, reported omissions, and the limits of each source."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from responder.backends.connections import Connections
from responder.backends.docker.client import Docker, DockerSettings
from responder.backends.host.logs_client import Host, LogFile
from responder.errors import LeaseLost, StepFailed, Unavailable
from responder.evidence.manifest import BEGUN, MANIFEST, EvidenceManifest, Where, where
from responder.evidence.series import Query
from responder.evidence.settings import EvidenceSettings
from responder.evidence.store import EvidenceStore, store_of
from tests.responder.evidence.conftest import a_case, kept, unpacked
from tests.responder.examples import ago
from tests.responder.outside import FakePrometheus, serving


def written(file: Path, text: str | bytes, *, at: datetime | None = None) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    if at:
        os.utime(file, (at.timestamp(), at.timestamp()))
    return file


def missing(manifest: EvidenceManifest) -> dict[str, str]:
    return {gap.origin: gap.reason for gap in manifest.missing}


# --- both stores ---


async def test_evidence_is_compressed_hashed_and_found(
    settings: EvidenceSettings, store: EvidenceStore, around: Connections, tmp_path: Path
) -> None:
    log = written(tmp_path / "logs" / "app.log", "one\npassword=hunter2\n")
    case = a_case({"file": f"{log.parent}/*.log"})
    manifest = await kept(case, settings, around)
    assert [file.name for file in manifest.files] == ["alerts.json.gz", "app.log.gz"]
    assert manifest.missing == ()
    folder = where(case.deployment_id, case.id)
    for file in manifest.files:
        data = await store.get(folder, file.name)
        assert data
        assert (hashlib.sha256(data).hexdigest(), len(data)) == (file.sha256, file.bytes)
    inside = await unpacked(manifest, settings, around)
    assert inside["app.log"] == b"one\npassword=[redacted]\n"
    assert json.loads(inside["alerts.json"])[0]["labels"]["alertname"] == "BackendDown"
    on_disk = EvidenceManifest.model_validate_json(await store.get(folder, MANIFEST) or b"")
    assert on_disk == manifest
    assert (on_disk.execution, on_disk.deployment_id, on_disk.policy) == (case.id, "deploy-21", "backend-down")
    assert store.location(folder).endswith(f"/deploy-21/{case.id}{'/' if settings.s3 else ''}")


async def test_evidence_is_stored_once_and_found_after_a_crash(
    settings: EvidenceSettings, around: Connections, tmp_path: Path
) -> None:
    log = written(tmp_path / "app.log", "before\n")
    case = a_case({"file": str(log)})
    first = await kept(case, settings, around)
    log.write_text("after the rollback\n")
    assert await kept(case, settings, around) == first
    assert (await unpacked(first, settings, around))["app.log"] == b"before\n"


async def test_incomplete_evidence_is_written_again(
    settings: EvidenceSettings, store: EvidenceStore, around: Connections, tmp_path: Path
) -> None:
    log = written(tmp_path / "app.log", "x\n")
    case = a_case({"file": str(log)})

    def killed() -> None:
        raise LeaseLost("another worker has it")

    with pytest.raises(LeaseLost):
        await kept(case, settings, around, guard=killed)
    folder = where(case.deployment_id, case.id)
    await store.put(folder, "left.log.gz", b"of a file that is not there any more")
    assert await store.get(folder, MANIFEST) is None
    assert [(stored.where, stored.complete) for stored in await store.stored()] == [(folder, False)]
    manifest = await kept(case, settings, around)
    assert await store.get(folder, "left.log.gz") is None
    assert [(stored.where, stored.complete) for stored in await store.stored()] == [(folder, True)]
    assert {file.name for file in manifest.files} == {"alerts.json.gz", "app.log.gz"}


async def test_large_files_are_uploaded_in_parts(
    around: Connections, settings: EvidenceSettings, tmp_path: Path
) -> None:
    log = written(tmp_path / "big.log", os.urandom(10 << 20))
    patient = settings.model_copy(update={"within": 60.0})
    manifest = await kept(a_case({"file": str(log), "cap": "16MiB", "within": "30s"}), patient, around)
    (big,) = [file for file in manifest.files if file.name == "big.log.gz"]
    assert big.bytes > 9 << 20
    assert len((await unpacked(manifest, settings, around))["big.log"]) == big.unpacked_bytes


async def test_a_missing_bucket_is_not_a_missing_file(around: Connections) -> None:
    store = await store_of(EvidenceSettings(s3="s3://absent-bucket/evidence"), around)
    with pytest.raises(StepFailed, match="NoSuchBucket"):
        await store.get(where("deploy-21", "exec-1"), MANIFEST)


async def test_a_name_cannot_leave_its_folder(
    settings: EvidenceSettings, store: EvidenceStore, around: Connections
) -> None:
    case = a_case(deployment_id="../../etc/../../cron.d", id="x/../../y")
    manifest = await kept(case, settings, around)
    home = store.location(where("d", "i")).rstrip("/").removesuffix("d/i")
    inside = store.location(where(case.deployment_id, case.id)).rstrip("/").removeprefix(home).split("/")
    assert inside == ["etc-..-..-cron.d-107e1c01", "x-..-..-y-5fc13685"]
    assert where("a/b", "x") != where("a-b", "x"), "two deployments never share a place"
    assert manifest.deployment_id == case.deployment_id, "but its name is reported unchanged"
    for name in ("../manifest.json", "a/b", "", ".", "..", ".hidden", "x" * 300):
        with pytest.raises(StepFailed, match="is not a plain file name"):
            await store.get(where("d", "i"), name)


# --- files ---


async def test_the_end_of_a_log_is_kept_in_complete_lines(
    directory: EvidenceSettings, around: Connections, tmp_path: Path
) -> None:
    lines = [f"line {n:06d}\n" for n in range(1000)]
    log = written(tmp_path / "app.log", "".join(lines))
    manifest = await kept(a_case({"file": str(log), "cap": "1KiB"}), directory, around)
    (file,) = [file for file in manifest.files if file.name == "app.log.gz"]
    text = (await unpacked(manifest, directory, around))["app.log"].decode()
    assert text == "".join(lines[-len(text) // 12 :])
    assert 1000 < len(text) <= 1024
    assert file.skipped_bytes + file.unpacked_bytes == 12_000


async def test_only_recently_rotated_files_are_read(
    directory: EvidenceSettings, around: Connections, tmp_path: Path
) -> None:
    written(tmp_path / "app.log", "now\n", at=ago(0))
    written(tmp_path / "app.log.1", "a while ago\n", at=ago(300))
    written(tmp_path / "app.log.2.gz", gzip.compress(b"packed\n" * 3), at=ago(400))
    written(tmp_path / "app.log.9", "yesterday\n", at=ago(86400))
    manifest = await kept(a_case({"file": f"{tmp_path}/app.log*"}), directory, around)
    inside = await unpacked(manifest, directory, around)
    assert {name: text for name, text in inside.items() if name.startswith("app")} == {
        "app.log": b"now\n",
        "app.log.1.log": b"a while ago\n",
        "app.log.2.log": b"packed\n" * 3,
    }


@pytest.mark.parametrize("kind", ["none", "old", "directory", "empty", "fifo", "outside", "broken_gz"])
async def test_a_missing_file_is_reported_as_a_gap(
    kind: str, directory: EvidenceSettings, around: Connections, tmp_path: Path
) -> None:
    logs = tmp_path / "logs"
    written(tmp_path / "secret", "of another program\n")
    logs.mkdir()
    log = logs / "app.log"
    says = {
        "none": "no file matches",
        "old": "1 matching file, none written since 2026-11-23 21:49:00 UTC",
        "directory": "no file matches",
        "empty": "the log is empty",
        "fifo": "is not a file",
        "outside": f"is a link to {tmp_path}/secret, outside of {logs}",
        "broken_gz": "cannot be read: Not a gzipped file",
    }[kind]
    pattern = f"{logs}/*.log*"
    match kind:
        case "old":
            written(log, "x\n", at=ago(3600))
        case "directory":
            log.mkdir()
        case "empty":
            written(log, "")
        case "fifo":
            os.mkfifo(log)
        case "outside":
            log.symlink_to(tmp_path / "secret")
        case "broken_gz":
            written(logs / "app.log.gz", "not packed")
    started = time.monotonic()
    manifest = await kept(a_case({"file": pattern}), directory, around)
    assert time.monotonic() - started < 50
    (reason,) = missing(manifest).values()
    assert reason.startswith(says)
    assert [file.name for file in manifest.files] == ["alerts.json.gz"]


async def test_a_link_within_the_logs_is_followed(
    directory: EvidenceSettings, around: Connections, tmp_path: Path
) -> None:
    written(tmp_path / "logs" / "2026" / "app-17.log", "here\n")
    (tmp_path / "logs" / "current.log").symlink_to("2026/app-17.log")
    manifest = await kept(a_case({"file": f"{tmp_path}/logs/*.log"}), directory, around)
    assert (await unpacked(manifest, directory, around))["current.log"] == b"here\n"


async def test_the_total_size_is_limited(directory: EvidenceSettings, around: Connections, tmp_path: Path) -> None:
    for n in range(3):
        written(tmp_path / f"{n}.log", b"x" * (600 << 10))
    small = directory.model_copy(update={"total": 1 << 20})
    manifest = await kept(a_case({"file": f"{tmp_path}/*.log"}), small, around)
    assert len([file for file in manifest.files if file.name.endswith(".log.gz")]) == 1
    assert len(manifest.missing) == 2
    assert "exceed the total of 1.0 MB" in manifest.missing[0].reason


async def test_an_oversized_log_takes_no_space_from_others(
    directory: EvidenceSettings, around: Connections, tmp_path: Path
) -> None:
    written(tmp_path / "large.log", b"x" * (2 << 20), at=ago(0))
    written(tmp_path / "small.log", b"x" * 1000, at=ago(100))
    small = directory.model_copy(update={"total": 1 << 20})
    manifest = await kept(a_case({"file": f"{tmp_path}/*.log"}), small, around)
    assert list(missing(manifest)) == [str(tmp_path / "large.log")]
    assert "small.log.gz" in [file.name for file in manifest.files]


@pytest.mark.parametrize("how", ["moved", "cut"])
async def test_a_log_rotated_before_the_read_is_marked_incomplete(
    how: str, directory: EvidenceSettings, around: Connections, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, found = written(tmp_path / "app.log", "all of the trouble\n" * 9), Host.files

    async def files(self: Host, pattern: str) -> list[LogFile]:
        logs = await found(self, pattern)
        if how == "moved":
            log.rename(tmp_path / "app.log.1")
        written(log, "a new day\n")
        return logs

    monkeypatch.setattr(Host, "files", files)
    manifest = await kept(a_case({"file": f"{tmp_path}/app.log*"}), directory, around)
    assert "it was rotated before it was read" in manifest.summary()
    assert (await unpacked(manifest, directory, around))["app.log"] == b"a new day\n"


# --- slow sources ---


def fake_journalctl(directory: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    tool = written(directory / "journalctl", f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    return tool


async def test_a_slow_source_keeps_its_partial_data(
    directory: EvidenceSettings, around: Connections, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "pid"
    fake_journalctl(tmp_path / "bin", f"echo $$ > {mark}; echo first; sleep 60; echo never", monkeypatch)
    log = written(tmp_path / "app.log", "fast\n")
    started = time.monotonic()
    manifest = await kept(
        a_case({"journald": {"unit": "backend.service"}, "within": "500ms"}, {"file": str(log)}), directory, around
    )
    assert time.monotonic() - started < 50  # and not the minute that it would take
    inside = await unpacked(manifest, directory, around)
    assert (inside["journald-backend.service.log"], inside["app.log"]) == (b"first\n", b"fast\n")
    (cut,) = [file for file in manifest.files if file.cut_off]
    assert cut.cut_off == "did not answer within 500ms"
    with pytest.raises(ProcessLookupError):
        os.kill(int(mark.read_text()), 0)


async def test_a_hanging_server_ends_at_its_deadline(
    directory: EvidenceSettings, client_settings: dict[type, Any], prometheus: FakePrometheus
) -> None:
    async def hang(request: web.Request) -> web.Response:
        await asyncio.sleep(60)
        return web.Response()

    prometheus.hangs = True
    async with serving(**{"{any:.*}": hang}) as url:
        settings = DockerSettings(host=url.replace("http://", "tcp://"), timeout=60.0)
        connections = Connections({Docker: settings, **client_settings}.get)
        try:
            quick = directory.model_copy(update={"within": 4.0})
            started = time.monotonic()
            case = a_case({"docker": {"container": "backend"}, "within": "1s"}, queries=(Query("policy", "up"),))
            manifest = await kept(case, quick, connections)
            assert time.monotonic() - started < 50
        finally:
            await connections.close()
    assert missing(manifest) == {
        "docker backend": "did not answer within 1s",
        "series of policy": "Prometheus did not answer in time",
    }


async def test_a_hanging_store_ends_at_the_total_deadline(client_settings: dict[type, Any], tmp_path: Path) -> None:
    from responder.transport.aws import Aws
    from tests.responder.evidence.conftest import aws_at

    async def hang(request: web.Request) -> web.Response:
        await asyncio.sleep(60)
        return web.Response()

    async with serving(**{"{any:.*}": hang}) as url:
        connections = Connections({**client_settings, Aws: aws_at(url)}.get)
        started = time.monotonic()
        with pytest.raises(Unavailable, match="evidence was not stored within 500ms"):
            await kept(a_case(), EvidenceSettings(s3="s3://bucket/x", within=0.5), connections)
        assert time.monotonic() - started < 50
        await connections.close()


async def test_files_that_are_not_stored_in_time_are_reported_as_missing(
    directory: EvidenceSettings, around: Connections, tmp_path: Path
) -> None:
    from responder.evidence.collect import collect

    log = written(tmp_path / "app.log", "x\n")
    store: Any = await store_of(directory, around)
    put = store.put

    async def slow(folder: Any, name: str, data: bytes) -> None:
        if name == "app.log.gz":
            await asyncio.sleep(30)
        await put(folder, name, data)

    store.put = slow
    quick = directory.model_copy(update={"within": 1.0})
    manifest = await collect(a_case({"file": str(log)}), settings=quick, store=store, connections=around)
    assert missing(manifest) == {str(log): "not stored within 1s", f"file {log}": "not stored within 1s"}
    assert [file.name for file in manifest.files] == ["alerts.json.gz"]


async def test_a_hanging_store_uses_few_connections(
    around: Connections, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(20):
        written(tmp_path / f"{n}.log", "said\n")
    under_way, most = 0, 0

    put_at_once = EvidenceStore.put

    async def put(self: EvidenceStore, folder: Where, name: str, data: bytes) -> None:
        nonlocal under_way, most
        if name in (BEGUN, MANIFEST):
            return await put_at_once(self, folder, name, data)
        under_way += 1
        most = max(most, under_way)
        try:
            await asyncio.Event().wait()
        finally:
            under_way -= 1

    monkeypatch.setattr(EvidenceStore, "put", put)
    slow = EvidenceSettings(base_directory=tmp_path / "evidence", within=3.0)
    manifest = await kept(a_case({"file": f"{tmp_path}/*.log"}), slow, around)
    assert (manifest.files, most) == ((), 8)


async def test_a_full_disk_and_a_bug_are_reported_as_missing(
    directory: EvidenceSettings, around: Connections, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from responder.backends.host.log_files import FileLogs

    async def bug(self: Any, client: Any, since: Any) -> Any:
        raise KeyError("status")

    monkeypatch.setattr(FileLogs, "logs", bug)
    manifest = await kept(a_case({"file": "/x/*.log"}), directory, around)
    assert missing(manifest) == {"file /x/*.log": "KeyError: 'status'"}
    nowhere = EvidenceSettings(base_directory=written(tmp_path / "a-file", "") / "evidence")
    with pytest.raises(StepFailed, match="a-file"):
        await kept(a_case(), nowhere, around)


# --- the system's logs ---


async def test_journald_is_read_from_the_start_time(
    directory: EvidenceSettings, around: Connections, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_journalctl(tmp_path, 'echo "$@"', monkeypatch)
    manifest = await kept(a_case({"journald": {"unit": "backend.service"}}, {"system": True}), directory, around)
    inside = await unpacked(manifest, directory, around)
    since = f"--since=@{ago(660).timestamp():.0f}"
    assert inside["journald-backend.service.log"].decode().split() == [
        "--no-pager", "--output=short-iso-precise", since, "--lines=20000", "--unit=backend.service",
    ]  # fmt: skip
    assert b"--unit" not in inside["system.log"]


async def test_an_unreadable_journal_is_reported(
    directory: EvidenceSettings, around: Connections, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = 'echo "No journal files were opened due to insufficient permissions." >&2; exit 1'
    fake_journalctl(tmp_path, script, monkeypatch)
    manifest = await kept(a_case({"journald": {"unit": "backend.service"}}), directory, around)
    (reason,) = missing(manifest).values()
    assert reason == "journalctl exited with 1: No journal files were opened due to insufficient permissions."


@pytest.mark.parametrize("source", [{"journald": {"unit": "backend.service"}}, {"system": True}])
async def test_omitted_journal_lines_are_reported(
    source: dict[str, Any], directory: EvidenceSettings, around: Connections, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    fake_journalctl(tmp_path, "seq 1 20000", monkeypatch)
    manifest = await kept(a_case(source), directory, around)
    assert "only its newest 20000 lines" in manifest.summary()
    (log,) = [file for file in manifest.files if file.name.endswith(".log.gz")]
    assert log.unpacked_bytes == sum(len(f"{n}\n") for n in range(1, 20001))


async def test_omitted_lines_of_system_logs_are_reported(
    directory: EvidenceSettings, around: Connections, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_journalctl(tmp_path, "exit 1", monkeypatch)
    log, found = written(tmp_path / "syslog", "line\n" * 1000), Host.files

    async def files(self: Host, pattern: str) -> list[LogFile]:
        found_files = await found(self, str(log)) if pattern == "/var/log/syslog" else []
        return [file._replace(path=Path(pattern)) for file in found_files]

    monkeypatch.setattr(Host, "files", files)
    manifest = await kept(a_case({"system": True, "cap": "1KiB"}), directory, around)
    (file,) = [file for file in manifest.files if file.name == "system.log.gz"]
    assert file.skipped_bytes + file.unpacked_bytes == 5000 + len("==> /var/log/syslog <==\n") + 1
    assert (await unpacked(manifest, directory, around))["system.log"].startswith(b"==> /var/log/syslog <==\n")


async def test_a_journal_without_entries_is_reported_as_empty(
    directory: EvidenceSettings, around: Connections, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_journalctl(tmp_path, 'echo "-- No entries --"', monkeypatch)
    manifest = await kept(a_case({"journald": {"unit": "backend.service"}}), directory, around)
    assert missing(manifest) == {"journald backend.service": "the log is empty"}


async def test_a_missing_docker_engine_is_reported(
    directory: EvidenceSettings, client_settings: dict[type, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setattr("aiodocker.docker._sock_search_paths", [])
    connections = Connections({Docker: DockerSettings(), **client_settings}.get)
    manifest = await kept(a_case({"docker": {"container": "backend"}}), directory, connections)
    (reason,) = missing(manifest).values()
    assert reason.startswith("no Docker Engine is configured")
    await connections.close()


async def test_journalctl_accepts_the_arguments(around: Connections) -> None:
    from responder.backends.host.logs_client import Host

    host = await around.to(Host)
    output = b""
    try:
        async for chunk in host.journal(datetime.now(UTC), 10, "--unit=backend.service"):
            output += chunk
    except StepFailed as e:
        assert "ermission" in str(e) or "No journal files" in str(e) or "cannot be started" in str(e), e
    else:
        assert b"unrecognized" not in output

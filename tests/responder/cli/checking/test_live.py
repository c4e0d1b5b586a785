"""Every registered resource, check, log source and channel reports if it cannot be used."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from responder.app.settings import Config
from responder.backends import registries
from responder.backends.connections import Connections
from responder.backends.host.client import Local
from responder.backends.host.proxy import HaproxyServers, NginxInclude
from responder.backends.host.release import CurrentRelease, PointerFile
from responder.backends.problems import Problem
from responder.backends.registries import AnyCheck, AnyLogSource, AnyResource
from responder.errors import StepFailed
from responder.notify.channel import ChannelSettings, NotDelivered
from responder.notify.channels import CHANNELS
from responder.notify.routing import Notify
from responder.rollback.gateway import Gateway
from tests.engine import haproxy, nginx
from tests.responder.harness import Rollback
from tests.stores.keys import apple_key, pem

_KVS = "arn:aws:cloudfront::123456789012:key-value-store/a-b"
_POD = {"namespace": "shop", "deployment": "backend"}
_RELEASES = {"s3": "s3://shop/releases"}
RESOURCES: dict[str, dict[str, Any]] = {
    "current_release": {"root": "/nowhere"},
    "pointer_file": {"file": "/nowhere/live"},
    "nginx_include": {"nginx": "/nowhere/servers.conf", "servers": {"blue": "b", "green": "g"}},
    "haproxy_servers": {"haproxy": "/nowhere/admin.sock", "backend": "app", "servers": {"blue": ["b"], "green": ["g"]}},
    "service_image": {"project": "shop", "service": "backend"},
    "compose_override": {"file": "/nowhere/compose.override.yml", "service": "backend"},
    "pod_template": _POD,
    "rollout_settings": _POD,
    "rollout_paused": _POD,
    "partition": {"namespace": "shop", "statefulset": "backend"},
    "replicas": _POD,
    "autoscaler_floor": {"namespace": "shop", "autoscaler": "backend"},
    "kept_pods": {**_POD, "count": 1},
    "service_selector": {"namespace": "shop", "service": "backend"},
    "reconciliation": {"namespace": "argocd", "kind": "Application", "name": "shop"},
    "cloudfront_key": {"kvs": _KVS, "key": "active"},
    "origin_path": {"origin_path": "/releases/{version}", "distribution": "E1"},
    "pointer_object": {"object": "s3://shop/current.json"},
    "live_prefix": {"live": "s3://shop/live", "releases": _RELEASES},
    "cloudfront_invalidation": {"cloudfront": "E1"},
    "cloudflare_purge": {"cloudflare": "0" * 32},
    "fastly_version": {"fastly": "SVC1"},
    "fastly_purge": {"fastly": "SVC1"},
    "schema_revision": {"database": "shop", "sql": {"directory": "/nowhere"}},
    "snapshot": {"database": "shop", "store": "vault"},
    "play_release": {"package": "com.example.shop"},
    "phased_release": {"app": "1"},
    "update_feed": {"file": "/nowhere/appcast.xml", "kept": "/nowhere/{version}", "format": "sparkle"},
    "update_feed_object": {
        "object": "s3://shop/appcast.xml",
        "kept": "s3://shop/updates/{version}",
        "format": "sparkle",
    },
}
CHECKS: dict[str, dict[str, Any]] = {
    "promql": {"promql": "up", "above": 0},
    "http": {"http": "http://nowhere.invalid/health", "timeout": "1s"},
    "pods": {"pods": {"namespace": "shop", "labels": {"app": "backend"}}},
    "containers": {"containers": {"project": "shop", "service": "backend"}},
    "sql": {"sql": "SELECT true", "database": "shop"},
    "intact": {"intact": {"database": "shop"}},
}
SOURCES: dict[str, dict[str, Any]] = {
    "kubernetes": {"kubernetes": {"namespace": "shop", "selector": "app=backend"}},
    "file": {"file": "/nowhere/*.log"},
    "journald": {"journald": {"unit": "nothing-of-that-name.service"}},
    "docker": {"docker": {"project": "shop", "service": "backend"}},
    "system": {"system": True},
}


def _broken(free_port: int, tmp_path: Path) -> Config:
    """All its targets are unreachable."""
    nobody, key = f"http://127.0.0.1:{free_port}", pem(apple_key())
    return Config.model_validate(
        {
            "state": f"sqlite://{tmp_path}/state.db",
            "prometheus": {"url": nobody},
            "alertmanager": {"urls": [nobody]},
            "kubernetes": {"kubeconfig": str(tmp_path / "none"), "timeout": "1s"},
            "docker": {"host": f"tcp://127.0.0.1:{free_port}"},
            "databases": [{"name": "shop", "url": f"postgresql://owner@127.0.0.1:{free_port}/shop"}],
            "snapshots": [{"name": "vault", "directory": "/nowhere/vault"}],
            "aws": {"endpoint_url": nobody, "access_key_id": "a", "secret_access_key": "b", "timeout": "1s"},
            "cdn": {"cloudflare": {"token": "t", "url": nobody}, "fastly": {"token": "t", "url": nobody}},
            "stores": {
                "google_play": {"key": "{}", "url": nobody},
                "app_store": {"key_id": "k", "issuer_id": "i", "key": key, "url": nobody},
            },
        }
    )


def test_every_registered_kind_is_in_the_tables() -> None:
    assert sorted(registries.RESOURCES.names) == sorted(RESOURCES)
    assert sorted(registries.CHECKS.names) == sorted(CHECKS)
    assert sorted(registries.LOG_SOURCES.names) == sorted(SOURCES)


def _id(case: tuple[Any, dict[str, Any]]) -> str:
    return str(case[1].get("resource", next(iter(case[1]))))


ALL = [
    *((AnyResource, {"resource": name, **fields}) for name, fields in RESOURCES.items()),
    *((AnyCheck, fields) for fields in CHECKS.values()),
    *((AnyLogSource, fields) for name, fields in SOURCES.items() if name != "system"),
]


@pytest.mark.parametrize(("union", "fields"), ALL, ids=map(_id, ALL))
async def test_every_unusable_target_is_reported(
    union: Any, fields: dict[str, Any], free_port: int, tmp_path: Path
) -> None:
    target = TypeAdapter(union).validate_python(fields)
    connections = _broken(free_port, tmp_path).connections()
    try:
        found = await Gateway(connections, retry_every=0.01).check_access(target, within=20.0)
    finally:
        await connections.close()
    assert found, f"{target} has no real check of its access"
    assert all(problem.target and problem.found for problem in found)


async def test_the_log_of_a_host_without_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fallback files are those of the host, so the client is configured without them."""
    from responder.backends.host.logs_client import Host

    async def none(self: Host, pattern: str) -> list[Any]:
        return []

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(Host, "files", none)
    source = TypeAdapter(AnyLogSource).validate_python(SOURCES["system"])
    (problem,) = await Gateway(Connections()).check_access(source, within=5.0)
    assert "/var/log has no syslog" in problem.found


_TOKEN = {"token": "xoxb-1234567890"}


def _channels(port: int) -> dict[str, list[dict[str, Any]]]:
    nobody = f"http://127.0.0.1:{port}"
    return {
        "slack": [{"channel": "C1", "api_url": nobody, **_TOKEN}, {"webhook_url": f"{nobody}/hook", "name": "hook"}],
        "email": [{"host": "127.0.0.1", "port": port, "from": "a@b.test", "to": ["c@d.test"]}],
        "webhook": [{"url": f"{nobody}/hook", "secret": "x" * 16}],
        "github": [{"repository": "shop/backend", "api_url": nobody, **_TOKEN}],
        "grafana": [{"url": nobody, **_TOKEN}],
        "console": [{}],
    }


async def test_every_unusable_channel_is_reported(free_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    notify = Notify.model_validate(_channels(free_port))
    assert {path[1] for path, _ in notify.located()} == set(CHANNELS.names), "a channel without a case"
    monkeypatch.setattr("sys.stderr", _Closed())
    for channel in notify.channels.values():
        assert await _refused(channel), channel.name


class _Closed:
    def fileno(self) -> int:
        return os.open("/nowhere", os.O_RDONLY)


async def _refused(settings: ChannelSettings) -> str:
    channel = settings.open()
    try:
        await channel.check_access()
    except NotDelivered as e:
        return str(e)
    finally:
        await channel.close()
    return ""


# --- this host
def _release(root: Path, **more: Any) -> CurrentRelease:
    for version in "12":
        (root / "releases" / version).mkdir(parents=True)
    (root / "current").symlink_to("releases/2")
    return CurrentRelease.model_validate({"root": root, **more})


async def test_a_working_release_directory_is_left_unchanged(tmp_path: Path) -> None:
    resource = _release(tmp_path, restart=["/bin/true"])
    before = sorted(tmp_path.rglob("*"))
    assert await resource.check_access(Local()) == []
    assert await resource.preflight(Local(), "1") == ()
    assert sorted(tmp_path.rglob("*")) == before


def _without_link(root: Path) -> None:
    (root / "current").unlink()


def _link_elsewhere(root: Path) -> None:
    _without_link(root)
    (root / "hotfix").mkdir()
    (root / "current").symlink_to("hotfix")


def _link_to_nothing(root: Path) -> None:
    _without_link(root)
    (root / "current").symlink_to("releases/9")


def _no_releases(root: Path) -> None:
    for version in "12":
        (root / "releases" / version).rmdir()


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (_without_link, "link {root}/current: does not exist"),
        (_link_elsewhere, "points to {root}/hotfix, which is not in {root}/releases"),
        (_link_to_nothing, "points to {root}/releases/9, which does not exist"),
        (_no_releases, "directory {root}/releases: contains no release"),
    ],
)
async def test_unusable_release_directories(spoil: Any, found: str, tmp_path: Path) -> None:
    resource = _release(tmp_path)
    spoil(tmp_path)
    (problem,) = await resource.check_access(Local())
    assert found.format(root=tmp_path) in str(problem)
    assert problem.fix


def _script(path: Path, first: str, mode: int = 0o755) -> str:
    path.write_text(f"{first}\n")
    path.chmod(mode)
    return str(path)


async def test_programs_that_cannot_be_started(tmp_path: Path) -> None:
    cases = {
        "/nosuch": "does not exist",
        "nosuch-program": "is not in the PATH",
        _script(tmp_path / "plain", "#!/bin/sh", 0o644): "is not executable",
        _script(tmp_path / "odd", "#!/nosuch/interpreter"): "is a script of /nosuch/interpreter",
        _script(tmp_path / "env", "#!/usr/bin/env nosuch-program"): "is a script of nosuch-program",
        "./plain.sh": f"it is relative to {tmp_path / 'srv'}",
    }
    resource = _release(tmp_path / "srv")
    for program, found in cases.items():
        changed = resource.model_copy(update={"restart": (program,)})
        assert found in "; ".join(map(str, await changed.check_access(Local()))), program
        with pytest.raises(StepFailed, match="program"):
            await changed.preflight(Local(), "1")


async def test_an_unknown_systemd_unit(tmp_path: Path) -> None:
    systemctl = tmp_path / "systemctl"
    _script(systemctl, '#!/bin/sh\n[ "$1" = show ] || exit 9\n[ "$5" = backend ] && echo loaded || echo not-found')
    resource = _release(tmp_path / "srv", restart=[str(systemctl), "restart", "backend"])
    assert await resource.check_access(Local()) == []
    resource = resource.model_copy(update={"restart": (str(systemctl), "restart", "bakend")})
    (problem,) = await resource.check_access(Local())
    assert (problem.target, problem.found) == ("unit bakend", "systemd reports it as not-found")


async def test_a_command_that_sudo_denies(tmp_path: Path) -> None:
    sudo = tmp_path / "sudo"
    _script(sudo, '#!/bin/sh\n[ "$*" = "-n -l -- /bin/true allowed" ] || { echo "a password is required"; exit 1; }')
    resource = _release(tmp_path / "srv", restart=[str(sudo), "/bin/true", "allowed"])
    assert await resource.check_access(Local()) == []
    (problem,) = await resource.model_copy(update={"restart": (str(sudo), "/bin/true")}).check_access(Local())
    assert "a password is required" in problem.found
    assert "NOPASSWD" in problem.fix


async def test_a_pointer_file_that_is_empty_or_has_no_directory(tmp_path: Path) -> None:
    file = tmp_path / "live"
    file.write_text("\n")
    assert "is empty" in str((await PointerFile(file=file).check_access(Local()))[0])
    problems = await PointerFile(file=tmp_path / "none" / "live").check_access(Local())
    assert [problem.found for problem in problems] == ["does not exist", "does not exist"]


# --- proxies
def _include(proxy: Any, **more: Any) -> NginxInclude:
    servers = {"green": "server 127.0.0.1:1;", "blue": "server 127.0.0.1:2;"}
    fields = {"nginx": proxy.include, "servers": servers, "test": proxy.test, "restart": proxy.reload}
    return NginxInclude.model_validate({**fields, **more})


class _Served:
    """A page on a free port, to which nginx forwards everything."""

    async def __aenter__(self) -> int:
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()


async def test_the_running_nginx(tmp_path: Path) -> None:
    here, other = tmp_path / "here", tmp_path / "other"
    here.mkdir()
    other.mkdir()
    async with _Served() as port, nginx(here, f"server 127.0.0.1:{port};") as proxy:
        colors = {"green": f"server 127.0.0.1:{port};", "blue": "server 127.0.0.1:2;"}
        resource = _include(proxy, servers=colors)
        assert await resource.check_access(Local()) == []
        assert await resource.preflight(Local(), "blue") == ()
        (other / "servers.conf").write_text(colors["green"])
        (problem,) = await resource.model_copy(update={"nginx": other / "servers.conf"}).check_access(Local())
        assert "is not read by nginx" in problem.found
        # Only the configuration of another nginx, which is not running, includes that file.
        text = (here / "nginx.conf").read_text().replace(str(proxy.include), str(other / "servers.conf"))
        (other / "nginx.conf").write_text(text)
        test = tuple(word.replace(str(here / "nginx.conf"), str(other / "nginx.conf")) for word in proxy.test)
        (problem,) = await resource.model_copy(update={"nginx": other / "servers.conf", "test": test}).check_access(
            Local()
        )
        assert "no nginx on this host runs with it" in problem.found
        (problem,) = await resource.model_copy(update={"restart": (proxy.argv[0], "-s", "reload")}).check_access(
            Local()
        )
        assert "reloads another nginx than" in problem.found
        (problem,) = await resource.model_copy(update={"test": ("/nosuch/nginx", "-t")}).check_access(Local())
        assert str(problem).startswith("program /nosuch/nginx: does not exist")
        with pytest.raises(StepFailed, match="has no color pink"):
            await resource.preflight(Local(), "pink")
        (here / "nginx.conf").write_text("nonsense;")
        with pytest.raises(StepFailed, match="traffic cannot be switched until it passes"):
            await resource.preflight(Local(), "blue")


async def test_an_nginx_of_another_user_cannot_be_reloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(process: int, signal: int) -> None:
        assert signal == 0
        raise PermissionError

    async with _Served() as port, nginx(tmp_path, f"server 127.0.0.1:{port};") as proxy:
        colors = {"green": f"server 127.0.0.1:{port};", "blue": "server 127.0.0.1:2;"}
        with monkeypatch.context() as patch:
            patch.setattr("responder.backends.host.nginx_access.os.kill", refused)
            (problem,) = await _include(proxy, servers=colors).check_access(Local())
        assert problem.fix == "let sudo or systemctl reload it"


async def test_a_haproxy_socket_without_admin_level(tmp_path: Path) -> None:
    async with _Served() as port, haproxy(tmp_path, {"green": port, "blue": 1}, {"green"}) as proxy:
        resource = HaproxyServers(haproxy=proxy.socket, backend="app", servers={"blue": ("blue",), "green": ("green",)})
        assert await resource.check_access(Local()) == []
        assert await resource.preflight(Local(), "blue") == ()
        with pytest.raises(StepFailed, match="has no color pink"):
            await resource.preflight(Local(), "pink")


# --- a plan without its target changes nothing
@pytest.mark.parametrize("restart", [None, ["/bin/sh", "-c", "echo again >> followed"]])
async def test_a_deleted_release_fails_at_planning(restart: Any, tmp_path: Path) -> None:
    _release(tmp_path)
    (tmp_path / "releases" / "1").rmdir()
    before = sorted(tmp_path.rglob("*"))
    rollback = Rollback(
        {"strategy": "immediate", "release": {"root": str(tmp_path), "restart": restart}}, {Local: Local()}
    )
    ended = await rollback.run()
    assert (ended.outcome, ended.changed) == ("failed", False)
    assert "release 1 does not exist" in ended.reason
    assert sorted(tmp_path.rglob("*")) == before


async def test_a_release_deleted_between_plan_and_change_restarts_nothing(tmp_path: Path) -> None:
    resource = _release(tmp_path, restart=["/bin/sh", "-c", "echo again >> followed"])
    with pytest.raises(StepFailed, match="release 9 does not exist"):
        await resource.write(Local(), "9", expected="2")
    assert await resource.converged(Local(), "2")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["current", "releases"]


@pytest.mark.parametrize("lost", ["release", "program"])
async def test_an_unusable_idle_color_fails_at_planning(lost: str, tmp_path: Path) -> None:
    for color in ("blue", "green"):
        _release(tmp_path / color)
    (tmp_path / "live").write_text("blue\n")
    if lost == "release":
        (tmp_path / "green" / "releases" / "1").rmdir()
    restart = ["/nosuch"] if lost == "program" else None
    ready = [{"http": "http://127.0.0.1:1/"}]
    colors = {color: {"release": {"root": str(tmp_path / color)}, "ready": ready} for color in ("blue", "green")}
    pointer = {"file": str(tmp_path / "live"), "restart": restart}
    rollback = Rollback({"strategy": "blue_green", "pointer": pointer, "colors": colors}, {Local: Local()})
    ended = await rollback.run()
    assert (ended.outcome, ended.changed) == ("failed", False)
    assert ("release 1 does not exist" if lost == "release" else "program /nosuch: does not exist") in ended.reason


# --- all together
async def test_a_hanging_target_hides_no_other(tmp_path: Path) -> None:
    from responder.cli.checking import live as module

    async def hangs() -> list[Problem]:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    async def breaks() -> list[Problem]:
        raise ZeroDivisionError("a bug")

    found = [
        await module._problems(module.Target((), "it", 0.01, hangs)),
        await module._problems(module.Target((), "it", 0.01, breaks)),
    ]
    assert ["did not answer within" in found[0][0].found, "a bug" in found[1][0].found] == [True, True]


async def test_a_hanging_file_does_not_block_the_exit(tmp_path: Path) -> None:
    """Opening a pipe without a writer hangs like a dead network file system."""
    os.mkfifo(tmp_path / "live")
    (tmp_path / "responder.yml").write_text(
        f"""state: sqlite://{tmp_path}/state.db
prometheus: {{url: "http://127.0.0.1:1"}}
alertmanager: {{urls: ["http://127.0.0.1:1"]}}
services:
  - name: backend
    environment: production
    rollback:
      strategy: blue_green
      pointer: {{file: {tmp_path}/live}}
      colors:
        blue: {{release: {{root: /nowhere, restart: [/nosuch]}}, ready: [{{promql: up, above: 0}}]}}
        green: {{release: {{root: {tmp_path}, restart: [/bin/true]}}, ready: [{{promql: up, above: 0}}]}}
    health_checks: [{{promql: up, above: 0}}]
"""
    )
    code = (
        "import sys; from responder.cli.checking import live; live._LONGEST = 1.0; live._WITHIN = 1.0;"
        "from responder.cli import main; sys.exit(main())"
    )
    argv = ("-c", code, "check", "--live", "--config", str(tmp_path / "responder.yml"))
    process = await asyncio.create_subprocess_exec(
        sys.executable, *argv, stdout=asyncio.subprocess.PIPE, env={**os.environ}
    )
    out, _ = await process.communicate()
    output = out.decode()
    assert process.returncode == 1, output
    assert f"pointer in {tmp_path}/live: did not answer within" in output
    assert "responder.yml:11 services[0].rollback.colors.blue.release: directory /nowhere/releases" in output
    assert "program /nosuch: does not exist" in output
    assert "services[0].rollback.colors.green.release: directory" in output
    assert "checked as " in output

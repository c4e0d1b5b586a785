"""A real Docker Engine, nginx and HAProxy on loopback, and a client that sends requests continuously and counts."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import io
import ipaddress
import json
import random
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode

import aiohttp

from tests.parts import Process, free_port, need, program

_PROJECT = "com.docker.compose.project"
_CHECK = (
    'HEALTHCHECK --interval=1s --timeout=1s --retries=2 CMD ["/bin/busybox", "wget", "-q", "-O", "/dev/null", '
    '"http://127.0.0.1:8080/health"]'
)

_SERVES = ["/bin/busybox", "httpd", "-f", "-p", "8080", "-h", "/www"]
"""As PID 1 it ignores SIGTERM."""
_ENDS = "/bin/busybox kill $server; /bin/busybox sleep 0.3; exit 0"
_DRAINS = ["/bin/busybox", "sh", "-c", f"{' '.join(_SERVES)} & server=$!; trap '{_ENDS}' TERM; wait $server"]
"""The listener ends at once; its children, one per request, have time to answer."""


class _Unix(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("docker", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(self._path)


class Engine:
    """A private Docker Engine with a synchronous client: the responder's own client is under test."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.url = f"unix://{path}"

    def call(self, method: str, path: str, /, body: Any = None, *, raw: bool = False, **query: Any) -> Any:
        """The answer as JSON, text or raw bytes; AssertionError unless it is 2xx or 304."""
        connection = _Unix(self.path)
        try:
            data = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else None
            kind = "application/x-tar" if isinstance(body, bytes) else "application/json"
            target = f"{path}?{urlencode(query)}" if query else path
            connection.request(method, target, data, {"Content-Type": kind})
            answer = connection.getresponse()
            data = answer.read()
            text = data.decode(errors="replace")
        finally:
            connection.close()
        assert answer.status < 300 or answer.status == 304, f"{method} {path}: {answer.status} {text}"
        if raw:
            return data
        with contextlib.suppress(ValueError):
            return json.loads(text)
        return text

    def image(
        self,
        tag: str,
        version: str,
        *,
        env: dict[str, str] | None = None,
        healthy: bool = True,
        starts: bool = True,
        check: bool = True,
    ) -> str:
        """Builds a web server that returns its version at `/` and, if healthy, at `/health`; returns the image ID.

        `check`: whether the image has a HEALTHCHECK, and ends as a good server does: current requests are answered.
        """
        body = json.dumps({"version": version}).encode()
        pages = {"www/index.html": body, **({"www/health": body} if healthy else {})}
        lines = [
            "FROM scratch",
            "COPY . /",
            *(f"ENV {key}={value}" for key, value in {"VERSION": version, **(env or {})}.items()),
            f"LABEL shop.version={version} shop.only-{version}=yes",
            *([_CHECK] if check else ["STOPSIGNAL SIGKILL"]),
            f"CMD {json.dumps(_DRAINS if check else _SERVES)}"
            if starts
            else 'CMD ["/bin/busybox", "sh", "-c", "echo no such table: carts; exit 3"]',
        ]
        tar = io.BytesIO()
        with tarfile.open(fileobj=tar, mode="w") as archive:
            archive.add(str(program("busybox")), "bin/busybox")
            for name, content in {**pages, "Dockerfile": "\n".join(lines).encode()}.items():
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(content), 0o644
                archive.addfile(entry, io.BytesIO(content))
        engine_output = self.call("POST", "/build", tar.getvalue(), t=tag, q="true")
        found = self.call("GET", f"/images/{tag}/json")
        assert found["Id"], engine_output
        return str(found["Id"])

    def compose(
        self,
        service: str,
        image: str,
        *,
        number: int = 1,
        port: int,
        env: tuple[str, ...] = (),
        volumes: dict[str, str] | None = None,
        files: str = "",
        project: str = "shop",
        labels: dict[str, str] | None = None,
        stop_timeout: int | None = None,
        binds: tuple[str, ...] = (),
        auto_remove: bool = False,
    ) -> str:
        """Creates a container as `docker compose up` does; returns its name."""
        name, network = f"{project}-{service}-{number}", f"{project}_default"
        for network_name in (network, f"{project}_back"):
            if not self.call("GET", "/networks", filters=json.dumps({"name": [network_name]})):
                self.call("POST", "/networks/create", {"Name": network_name, "CheckDuplicate": True})
        image_id = self.call("GET", f"/images/{image}/json")["Id"]
        compose = "com.docker.compose"
        container = {
            "Image": image,
            "Env": list(env),
            "Labels": {
                _PROJECT: project, f"{compose}.service": service, f"{compose}.container-number": str(number),
                f"{compose}.oneoff": "False", f"{compose}.config-hash": "abc", f"{compose}.image": image_id,
                f"{compose}.project.config_files": files, f"{compose}.project.working_dir": "/nowhere",
                **(labels or {}),
            },
            "StopTimeout": stop_timeout,
            "ExposedPorts": {"8080/tcp": {}},
            "HostConfig": {
                "PortBindings": {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(port)}]},
                "RestartPolicy": {"Name": "no" if auto_remove else "always"},
                "AutoRemove": auto_remove,
                "NetworkMode": network,
                "Binds": [*binds, *(f"{volume}:{path}" for volume, path in (volumes or {}).items())],
            },
            "Volumes": {"/scratch": {}},
            "NetworkingConfig": {"EndpointsConfig": {network: {"Aliases": [service, name]}}},
        }  # fmt: skip
        self.call("POST", "/containers/create", container, name=name)
        back = {"Container": name, "EndpointConfig": {"Aliases": [f"{service}-back"]}}
        self.call("POST", f"/networks/{project}_back/connect", back)
        self.call("POST", f"/containers/{name}/start")
        return name

    def inspect(self, name: str) -> dict[str, Any]:
        return dict(self.call("GET", f"/containers/{name}/json"))

    def put(self, name: str, path: str, text: str) -> None:
        """Copies a file into a container, running or not, as `docker cp` does."""
        tar = io.BytesIO()
        with tarfile.open(fileobj=tar, mode="w") as archive:
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
        self.call("PUT", f"/containers/{name}/archive", tar.getvalue(), path="/")

    def get(self, name: str, path: str) -> str:
        """A file of a container, running or not; AssertionError if it does not exist."""
        found = self.call("GET", f"/containers/{name}/archive", path=path, raw=True)
        with tarfile.open(fileobj=io.BytesIO(found)) as archive:
            content = archive.extractfile(archive.getmembers()[0])
            assert content is not None, path
            return content.read().decode()

    def containers(self, project: str = "shop") -> dict[str, dict[str, Any]]:
        """By name, including stopped ones."""
        filters = json.dumps({"label": [f"{_PROJECT}={project}"]})
        return {
            container["Names"][0].lstrip("/"): container
            for container in self.call("GET", "/containers/json", all="true", filters=filters)
        }

    def clear(self) -> None:
        """Removes every container, volume and network: their bridges would outlive the engine on this host."""
        for container in self.call("GET", "/containers/json", all="true"):
            self.call("DELETE", f"/containers/{container['Id']}", force="true", v="true")
        self.call("POST", "/volumes/prune")
        self.call("POST", "/networks/prune")


@contextlib.contextmanager
def docker_engine() -> Iterator[Engine]:
    """Starts dockerd with its data in a temporary directory, and leaves nothing behind."""
    need("dockerd", "busybox")
    home = Path(tempfile.mkdtemp(prefix="engine-"))  # short: a socket path has at most 107 characters
    engine = Engine(f"{home}/docker.sock")
    argv = [
        "dockerd", "--host", engine.url, "--data-root", f"{home}/data", "--exec-root", f"{home}/run",
        "--pidfile", f"{home}/pid", "--iptables=false", "--ip-forward=false", "--ip-masq=false", "--bridge=none",
        "--default-address-pool", f"base={_unused_net()},size=24",
    ]  # fmt: skip

    async def answers() -> bool:
        try:
            return bool(engine.call("GET", "/version"))
        except (OSError, AssertionError):
            return False

    process = asyncio.run(Process.start(argv, log=home / "log", ready=answers))
    try:
        yield engine
        engine.clear()
    finally:
        asyncio.run(process.terminate())
        for mount in sorted(_mounts_below(home), reverse=True):
            subprocess.run(["umount", "-l", mount], check=False)
        shutil.rmtree(home, ignore_errors=True)


def _unused_net() -> ipaddress.IPv4Network:
    """A private address pool of many small networks: the default has few large ones, which other engines use too."""
    routes = [line.split() for line in Path("/proc/net/route").read_text().splitlines()[1:]]
    taken = [
        ipaddress.ip_network((_address(route[1]), bin(int(route[7], 16)).count("1")), strict=False)
        for route in routes
        if route[1] != "00000000"
    ]
    nets = [ipaddress.IPv4Network(f"10.{n}.0.0/16") for n in range(64, 250)]
    return random.choice([net for net in nets if not any(net.overlaps(used) for used in taken)])


def _address(encoded: str) -> str:
    return socket.inet_ntoa(int(encoded, 16).to_bytes(4, sys.byteorder))


def _mounts_below(home: Path) -> list[str]:
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return [mount for line in lines if (mount := line.split()[1]).startswith(f"{home}/")]


class Nginx:
    """nginx in the foreground, with one included file that lists its servers."""

    def __init__(self, directory: Path) -> None:
        self.port, self.directory = free_port(), directory
        self.url = f"http://127.0.0.1:{self.port}"
        self.include, config = directory / "servers.conf", directory / "nginx.conf"
        config.write_text(
            f"""daemon off; pid {directory}/nginx.pid; error_log {directory}/error.log; worker_processes 1;
            events {{ worker_connections 256; }}
            http {{
                access_log off;
                client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
                fastcgi_temp_path {directory}/f; uwsgi_temp_path {directory}/u; scgi_temp_path {directory}/s;
                upstream app {{ include {self.include}; }}
                server {{
                    listen 127.0.0.1:{self.port};
                    location / {{
                        proxy_pass http://app; proxy_connect_timeout 1s;
                        proxy_next_upstream error timeout http_502 http_503;
                    }}
                }}
            }}"""
        )
        common = (str(program("nginx")), "-p", str(directory), "-c", str(config), "-e", str(directory / "error.log"))
        self.argv = common
        self.test, self.reload = (*common, "-t"), (*common, "-s", "reload")


@contextlib.asynccontextmanager
async def nginx(directory: Path, servers: str) -> AsyncIterator[Nginx]:
    """Starts it, and waits until it answers for these servers."""
    need("nginx")
    server = Nginx(directory)
    server.include.write_text(servers + "\n")
    process = await Process.start(server.argv, log=directory / "nginx.log", ready=server.url)
    try:
        yield server
    finally:
        await process.terminate()


class Haproxy:
    """HAProxy with one backend, `app`, and a runtime socket."""

    def __init__(self, directory: Path, servers: dict[str, int], ready: set[str], checks: dict[str, str]) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.socket = Path(tempfile.mkdtemp(prefix="haproxy-")) / "admin.sock"
        self.config = directory / "haproxy.cfg"
        lines = (
            f"  server {n} 127.0.0.1:{p} {checks.get(n, '')}{'' if n in ready else ' disabled'}"
            for n, p in servers.items()
        )
        self.config.write_text(
            f"global\n  stats socket {self.socket} level admin\n"
            "defaults\n  mode http\n  timeout connect 1s\n  timeout client 10s\n  timeout server 10s\n  retries 3\n"
            f"  option redispatch\nfrontend f\n  bind 127.0.0.1:{self.port}\n  default_backend app\nbackend app\n"
            + "\n".join(lines)
            + "\n"
        )


@contextlib.asynccontextmanager
async def haproxy(
    directory: Path, servers: dict[str, int], ready: set[str], checks: dict[str, str] | None = None
) -> AsyncIterator[Haproxy]:
    """Starts it, with traffic to the servers that are ready. `checks`: the options of health checks by server."""
    need("haproxy")
    server = Haproxy(directory, servers, ready, checks or {})
    argv = (str(program("haproxy")), "-db", "-f", str(server.config))
    process = await Process.start(argv, log=directory / "haproxy.log", ready=server.url)
    try:
        yield server
    finally:
        await process.terminate()
        shutil.rmtree(server.socket.parent)


class LoadGenerator:
    """Sends requests while entered, and counts answers by version and failures."""

    _MOST = 6000

    def __init__(self, url: str, *, workers: int = 4) -> None:
        self.url, self._workers = url, workers
        self.versions: Counter[str] = Counter()
        self.failed: list[str] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10))
        self._tasks = [asyncio.create_task(self._work()) for _ in range(self._workers)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._session.close()

    @property
    def requests(self) -> int:
        return sum(self.versions.values()) + len(self.failed)

    async def _work(self) -> None:
        while self.requests < self._MOST:
            try:
                async with self._session.get(self.url) as answer:
                    text = await answer.text()
                    if answer.status == 200:
                        self.versions[json.loads(text)["version"]] += 1
                    else:
                        self.failed.append(f"{answer.status}: {text[:200]}")
            except (aiohttp.ClientError, TimeoutError, OSError) as e:
                self.failed.append(f"{type(e).__name__}: {e}")
            await asyncio.sleep(0.02)

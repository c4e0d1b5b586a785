"""A replica that is frozen at any statement delays the others by no more than the lease."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from aiohttp import web

from tests import parts
from tests.acceptance.stage import REPOSITORY, Answer, Responder

LEASE, WITHIN = 2.0, 2.0 + 5.0
"""What was promised: a new trouble is rolled back by another replica within the lease plus 5 s."""

STATEMENTS = 300
"""More than one decision and one rollback take."""

STOPPED_AFTER = {
    "the locks of a decision": ("pg_advisory_xact_lock.*/production", 1),
    "the lock of the claims": ("pg_advisory_xact_lock.* claim$", 1),
    "the renewal of its lease": ("UPDATE workers", 1),
    "an accepted rollback": ("INSERT INTO executions", 1),
    "an event": ("INSERT INTO events", 2),
    "the end of a rollback": ("UPDATE parts SET live", 1),
}


@dataclass
class Pair:
    """Two replicas on one PostgreSQL, and a service of its own for every trouble."""

    directory: Path
    alertmanager: parts.Alertmanager
    frozen: Responder
    healthy: Responder
    troubles: int = 0

    async def trouble(self) -> tuple[str, dict[str, Any]]:
        """A new service whose version 2 is bad, and the body that tells of it."""
        service, self.troubles = f"s{self.troubles}", self.troubles + 1
        for version, status in (("1", "good"), ("2", None)):
            told = {"service": service, "version": version, "status": status}
            await self.healthy.post("/api/v1/deployments", {k: v for k, v in told.items() if v})
        labels = {"alertname": "Broken", "service": service, "environment": "production"}
        await self.alertmanager.alert(labels)
        [alert] = await parts.until(lambda: self.alertmanager.alerts(**labels))
        keys = ("labels", "annotations", "startsAt", "fingerprint")
        sent = {"status": "firing", "endsAt": "0001-01-01T00:00:00Z", **{key: alert[key] for key in keys}}
        return service, {"version": "4", "status": "firing", "receiver": "r", "alerts": [sent], "truncatedAlerts": 0}

    async def rolled_back(self, service: str, body: dict[str, Any]) -> float:
        """Sends it to the healthy replica until that one has rolled back the service; returns the seconds it took."""
        began = time.monotonic()

        async def taken() -> Answer:
            return await self.healthy.post("/api/v1/alerts", body)

        answer = await parts.until(taken, lambda answer: answer.status == 202, within=60)
        try:
            await parts.until(lambda: self._is_back(service), within=60)
        except TimeoutError:
            raise AssertionError(f"{service} was never rolled back: {answer.body}") from None
        return time.monotonic() - began

    async def _is_back(self, service: str) -> bool:
        found = await self.healthy.get("/api/v1/executions", service=service)
        outcomes = [one["outcome"] for one in found.body["executions"]] if found.status == 200 else []
        assert len(outcomes) <= 1, f"{service} was rolled back twice"
        return outcomes == ["succeeded"]

    async def stopped_itself(self) -> bool:
        assert self.frozen.process
        return psutil.Process(self.frozen.process.pid).status() == psutil.STATUS_STOPPED

    async def start_frozen(self, after: str, at: int, *, armed: bool = False, trace: Path | None = None) -> None:
        """Starts the replica that will stop itself; not before `arm`, unless it is `armed` from the beginning."""
        self.armed.unlink(missing_ok=True)
        if armed:
            self.arm()
        env = {
            "STOP_AFTER": after,
            "STOP_AT": str(at),
            "ARMED": str(self.armed),
            **({"TRACE": str(trace)} if trace else {}),
        }
        argv = [sys.executable, "-m", "tests.acceptance.stops_itself", "serve", "--config", str(self.frozen.file)]

        async def ready() -> bool:
            return armed or await self.frozen.ready()

        log = self.frozen.log
        self.frozen.process = await parts.Process.start(argv, log=log, ready=ready, cwd=REPOSITORY, env=env)

    @property
    def armed(self) -> Path:
        return self.directory / "armed"

    def arm(self) -> None:
        self.armed.touch()

    async def drill(self, after: str, at: int, *, surely: bool = False) -> tuple[bool, float]:
        """Whether it stopped itself, and how long the other one then needed for a new trouble.

        `surely`: it comes to that statement sooner or later, so this waits for it.
        """
        await self.start_frozen(after, at)
        first, first_body = await self.trouble()
        second, second_body = await self.trouble()
        self.arm()
        hanging = asyncio.create_task(self.frozen.post("/api/v1/alerts", first_body))
        try:
            stopped = await self._stops(first, surely)
            took = await self.rolled_back(second, second_body)
            await self.rolled_back(first, first_body)
            return stopped, took
        finally:
            hanging.cancel()
            await asyncio.gather(hanging, return_exceptions=True)
            await self.frozen.end(signal.SIGKILL)

    async def _stops(self, service: str, surely: bool) -> bool:
        """False where it has rolled back the service before it came to that statement."""
        while not await self.stopped_itself():
            if await self._is_back(service) and not surely:
                return False
            await asyncio.sleep(0.05)
        return True


@pytest.fixture
async def pair(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Pair]:
    services = getattr(request, "param", 2 * len(STOPPED_AFTER))
    parts.need("postgres", "prometheus", "prometheus-alertmanager")
    async with contextlib.AsyncExitStack() as leaving:
        server = await leaving.enter_async_context(parts.postgres(tmp_path))
        prometheus = await leaving.enter_async_context(parts.prometheus(tmp_path, "{}"))
        told = "route: {receiver: nobody}\nreceivers: [{name: nobody}]"
        alertmanager = await leaving.enter_async_context(parts.alertmanager(tmp_path, told))
        site = await leaving.enter_async_context(_health(tmp_path))
        config = {
            "state": await server.database("state"),
            "prometheus": {"url": prometheus.url},
            "alertmanager": {"urls": [alertmanager.url]},
            "limits": {
                "lease": f"{LEASE:g}s", "concurrent": 100, "per_hour": 1_000_000, "brake": {"services": 10_000},
            },
            "services": [_service(tmp_path, f"s{n}", site) for n in range(services)],
            "policies": [
                {
                    "name": "broken", "match": ['alertname="Broken"'], "roll_back": {"label": "service"},
                    "mode": "auto", "verify": {"for": "0s", "within": "20s"},
                }
            ],
        }  # fmt: skip
        frozen, healthy = Responder(tmp_path, "frozen", config), Responder(tmp_path, "healthy", config)
        for one in (frozen, healthy):
            leaving.push_async_callback(_end, one)
        await healthy.start()
        yield Pair(tmp_path, alertmanager, frozen, healthy)


def _service(directory: Path, name: str, site: str) -> dict[str, Any]:
    root = directory / name
    for version in ("1", "2"):
        (root / "releases" / version).mkdir(parents=True)
    (root / "current").symlink_to("releases/2")
    release = {"strategy": "immediate", "release": {"root": str(root)}}
    return {"name": name, "environment": "production", "rollback": release, "healthy": [{"http": f"{site}/{name}"}]}


@contextlib.asynccontextmanager
async def _health(directory: Path) -> AsyncIterator[str]:
    """Each service is healthy while its link leads to version 1."""

    async def answer(request: web.Request) -> web.Response:
        link = directory / request.match_info["service"] / "current"
        return web.Response(status=200 if link.resolve().name == "1" else 500)

    application = web.Application()
    application.router.add_get("/{service}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    port = parts.free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


async def _end(responder: Responder) -> None:
    if responder.running:
        await responder.end(signal.SIGKILL)


async def test_a_replica_frozen_in_a_transaction_delays_the_other_by_no_more_than_the_lease(pair: Pair) -> None:
    for what, (after, at) in STOPPED_AFTER.items():
        stopped, took = await pair.drill(after, at, surely=True)
        print(f"frozen after {what}: the other one needed {took:.1f} s")
        assert stopped, f"it was never stopped after {what}"
        assert took <= WITHIN, f"frozen after {what}"


@pytest.mark.soak
@pytest.mark.parametrize("pair", [2 * STATEMENTS], indirect=True)
async def test_a_replica_frozen_at_any_statement_delays_the_other_by_no_more_than_the_lease(pair: Pair) -> None:
    worst = 0.0
    for at in range(1, STATEMENTS + 1):
        stopped, took = await pair.drill("", at)
        print(f"frozen after statement {at}: {took:.1f} s", flush=True)
        assert took <= WITHIN, f"frozen after statement {at}"
        worst = max(worst, took)
        if not stopped:
            break
    assert not stopped, "it has more statements than were tried"
    print(f"{at} statements, at worst {worst:.1f} s")

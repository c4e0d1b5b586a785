"""A replica that is frozen, killed or disconnected at any statement delays the others by no more than the lease."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from tests import parts
from tests.acceptance.stage import REPOSITORY, HttpResult, ResponderProcess
from tests.namespaces import Namespace, namespace

LEASE, MARGIN = 2.0, 5.0
"""The guarantee: another replica rolls back a new incident within the lease plus 5 s."""

STATEMENTS = 300
"""More than one decision and one rollback take."""

Fault = str | list[str]
"""The name of a signal, or a command that disconnects the network."""

FROZEN_AFTER = {
    "the locks of a decision": ("pg_advisory_xact_lock.*/production", 1),
    "the lock of the claims": ("pg_advisory_xact_lock.* claim$", 1),
    "the renewal of its lease": ("UPDATE workers", 1),
    "an accepted rollback": ("INSERT INTO executions", 1),
    "an event": ("INSERT INTO events", 2),
    "the end of a rollback": ("UPDATE parts SET live", 1),
}
KILLED_AFTER = {"a commit of an event": ("NOTIFY", 2), "the end of a rollback": ("UPDATE parts SET live", 1)}
CUT_OFF_AFTER = {
    "the locks of a decision": ("pg_advisory_xact_lock.*/production", 1),
    "an event": ("INSERT INTO events", 2),
}
ANSWERS_LOST_AFTER = {"what a commit is sent after": ("NOTIFY", 1)}


@dataclass
class ReplicaPair:
    """Two replicas on one PostgreSQL, and one service per incident."""

    directory: Path
    alertmanager: parts.Alertmanager
    faulty: ResponderProcess
    healthy: ResponderProcess
    network: Namespace | None = None
    troubles: int = 0

    async def trouble(self) -> tuple[str, dict[str, Any]]:
        """A new service whose version 2 is bad, and the body of its alert."""
        service, self.troubles = f"s{self.troubles}", self.troubles + 1
        for version, status in (("1", "good"), ("2", None)):
            payload = {"service": service, "version": version, "status": status}
            await self._post("/api/v1/deployments", {k: v for k, v in payload.items() if v}, 201)
        labels = {"alertname": "Broken", "service": service, "environment": "production"}
        await self.alertmanager.alert(labels)
        [alert] = await parts.until(lambda: self.alertmanager.alerts(**labels))
        keys = ("labels", "annotations", "startsAt", "fingerprint")
        sent = {"status": "firing", "endsAt": "0001-01-01T00:00:00Z", **{key: alert[key] for key in keys}}
        return service, {"version": "4", "status": "firing", "receiver": "r", "alerts": [sent], "truncatedAlerts": 0}

    async def rolled_back(self, service: str, body: dict[str, Any]) -> float:
        """Sends it to the healthy replica until that one has rolled back the service.

        Returns the seconds from the first try to the end that is on record.
        """
        began = datetime.now(UTC)
        answer = await self._post("/api/v1/alerts", body, 202)
        try:
            await parts.until(lambda: self._is_back(service), within=60)
        except TimeoutError:
            raise AssertionError(f"{service} was never rolled back: {answer.body}") from None
        *_, closed = await self.events(service)
        return (datetime.fromisoformat(closed["at"]) - began).total_seconds()

    async def events(self, service: str) -> list[dict[str, Any]]:
        """All events of the only rollback of the service."""
        [found] = (await self._get("/api/v1/executions", service=service))["executions"]
        events: list[dict[str, Any]] = (await self._get(f"/api/v1/executions/{found['id']}"))["events"]
        return events

    async def _post(self, path: str, body: dict[str, Any], status: int) -> HttpResult:
        """Sends as clients do, and retries on 503."""
        return await parts.until(
            lambda: self.healthy.post(path, body), lambda answer: answer.status == status, within=60
        )

    async def _get(self, path: str, **query: str) -> Any:
        answer = await parts.until(
            lambda: self.healthy.get(path, **query), lambda answer: answer.status == 200, within=60
        )
        return answer.body

    async def _is_back(self, service: str) -> bool:
        found = await self.healthy.get("/api/v1/executions", service=service)
        outcomes = [execution["outcome"] for execution in found.body["executions"]] if found.status == 200 else []
        assert len(outcomes) <= 1, f"{service} was rolled back twice"
        return outcomes == ["succeeded"]

    async def start_faulty(self, fault: Fault, after: str, at: int) -> None:
        """Starts the replica that will stop; returns once it is armed."""
        self._armed.unlink(missing_ok=True)
        self._mark.unlink(missing_ok=True)
        env = {
            "FAULT": json.dumps(fault),
            "FAULT_AFTER": after,
            "FAULT_AT": str(at),
            "ARMED": str(self._armed),
            "FAULT_FILE": str(self._mark),
        }
        argv = [sys.executable, "-m", "tests.acceptance.faulty_replica", "serve", "--config", str(self.faulty.file)]
        log, ready = self.faulty.log, self.faulty.ready
        self.faulty.process = await parts.Process.start(argv, log=log, ready=ready, cwd=REPOSITORY, env=env)

    @property
    def _armed(self) -> Path:
        return self.directory / "armed"

    @property
    def _mark(self) -> Path:
        return self.directory / "faulty"

    async def drill(self, fault: Fault, after: str, at: int, *, surely: bool = False) -> str:
        """The statement after which it stopped; empty if it did not reach that statement.

        Fails where the other replica then needed too long for a new trouble. `surely`: it comes to that statement
        sooner or later, so this waits for it.
        """
        await self.start_faulty(fault, after, at)
        (first, first_body), (second, second_body) = await self.trouble(), await self.trouble()
        usual = await self.rolled_back(*await self.trouble())
        self._armed.touch()
        hanging = asyncio.create_task(self.faulty.post("/api/v1/alerts", first_body))
        try:
            statement = await self._statement_of_fault(first, surely)
            # The other one first handles its own incident, then the one that the stopped replica holds.
            took = [await self.rolled_back(second, second_body), await self.rolled_back(first, first_body)]
            how = fault if isinstance(fault, str) else fault[-1]
            where = f"{how} after {statement or 'no statement'}: {took[0]:.1f} and {took[1]:.1f} s"
            print(f"{where}, usually {usual:.1f} s", flush=True)
            # Relative to the time of the same replica without a fault: a busy machine delays both.
            assert max(took) <= usual + LEASE + MARGIN, where
            if self.network and statement:
                await self._comes_back(first, second)
            return statement
        finally:
            hanging.cancel()
            await asyncio.gather(hanging, return_exceptions=True)
            await self.faulty.end(signal.SIGKILL)
            if self.network:
                self.network.restore()

    async def _statement_of_fault(self, service: str, surely: bool) -> str:
        while not self._mark.exists():
            if await self._is_back(service) and not surely:
                return ""
            await asyncio.sleep(0.05)
        return self._mark.read_text()

    async def _comes_back(self, *services: str) -> None:
        """After PostgreSQL is reachable again, the disconnected replica is ready, and adds no events."""
        assert self.network
        await parts.until(self.faulty.ready, lambda is_ready: not is_ready)
        before = [await self.events(service) for service in services]
        self.network.restore()
        await parts.until(self.faulty.ready)
        assert [await self.events(service) for service in services] == before
        assert {self.version(service) for service in services} == {"1"}

    def version(self, service: str) -> str:
        """The version that the link of the service points to."""
        return (self.directory / service / "current").resolve().name


@contextlib.asynccontextmanager
async def pair_of(directory: Path, services: int, network: Namespace | None = None) -> AsyncIterator[ReplicaPair]:
    parts.need("postgres", "prometheus", "prometheus-alertmanager")
    async with contextlib.AsyncExitStack() as leaving:
        postgres = parts.postgres(directory, durable=False, inside=network)
        server = await leaving.enter_async_context(postgres)
        prometheus = await leaving.enter_async_context(parts.prometheus(directory, "{}"))
        routing = "route: {receiver: nobody}\nreceivers: [{name: nobody}]"
        alertmanager = await leaving.enter_async_context(parts.alertmanager(directory, routing))
        site = await leaving.enter_async_context(_health(directory))
        state = await server.database("state")
        config = {
            "state": state,
            "prometheus": {"url": prometheus.url},
            "alertmanager": {"urls": [alertmanager.url]},
            "limits": {
                "lease": f"{LEASE:g}s", "concurrent": 100, "rollbacks_per_hour": 1_000_000,
                "circuit_breaker": {"services": 10_000},
            },
            "services": [_service(directory, f"s{n}", site) for n in range(services)],
            "policies": [
                {
                    "name": "broken", "match": ['alertname="Broken"'], "roll_back": {"label": "service"},
                    "mode": "auto", "verify": {"for": "0s", "within": "20s"},
                }
            ],
        }  # fmt: skip
        healthy = ResponderProcess(directory, "healthy", config)
        # Each uses its own address, so that one can be disconnected alone.
        other = state.replace(network.addresses[0], network.addresses[1]) if network else state
        faulty = ResponderProcess(directory, "faulty", {**config, "state": other})
        for responder in (faulty, healthy):
            leaving.push_async_callback(_end, responder)
        await healthy.start()
        yield ReplicaPair(directory, alertmanager, faulty, healthy, network)


@pytest.fixture
async def pair(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ReplicaPair]:
    async with pair_of(tmp_path, getattr(request, "param", 3 * len(FROZEN_AFTER))) as made:
        yield made


@pytest.fixture
async def parted(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ReplicaPair]:
    """Two replicas, one of which can be disconnected from PostgreSQL."""
    async with (
        namespace(tmp_path) as network,
        pair_of(tmp_path, getattr(request, "param", 3 * len(FROZEN_AFTER)), network) as made,
    ):
        yield made


def _service(directory: Path, name: str, site: str) -> dict[str, Any]:
    root = directory / name
    for version in ("1", "2"):
        (root / "releases" / version).mkdir(parents=True)
    (root / "current").symlink_to("releases/2")
    release = {"strategy": "immediate", "release": {"root": str(root)}}
    return {
        "name": name,
        "environment": "production",
        "rollback": release,
        "health_checks": [{"http": f"{site}/{name}"}],
    }


@contextlib.asynccontextmanager
async def _health(directory: Path) -> AsyncIterator[str]:
    """Each service is healthy while its link points to version 1."""

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


async def _end(responder: ResponderProcess) -> None:
    if responder.running:
        await responder.end(signal.SIGKILL)


async def test_a_replica_frozen_in_a_transaction_delays_the_other_by_no_more_than_the_lease(pair: ReplicaPair) -> None:
    for what, (after, at) in FROZEN_AFTER.items():
        assert await pair.drill("SIGSTOP", after, at, surely=True), what


async def test_a_replica_killed_in_a_transaction_delays_the_other_by_no_more_than_the_lease(pair: ReplicaPair) -> None:
    for what, (after, at) in KILLED_AFTER.items():
        assert await pair.drill("SIGKILL", after, at, surely=True), what


async def test_a_replica_without_network_delays_the_other_by_at_most_the_lease(
    parted: ReplicaPair,
) -> None:
    for answers_only, places in ((False, CUT_OFF_AFTER), (True, ANSWERS_LOST_AFTER)):
        for what, (after, at) in places.items():
            assert await parted.drill(_cut_off(parted, answers_only), after, at, surely=True), what


def _cut_off(pair: ReplicaPair, answers_only: bool) -> list[str]:
    assert pair.network
    return pair.network.silence(pair.network.addresses[1], answers_only=answers_only)


@pytest.mark.soak
@pytest.mark.parametrize("pair", [3 * STATEMENTS], indirect=True)
@pytest.mark.parametrize("fault", ["SIGSTOP", "SIGKILL"])
async def test_a_replica_stopped_at_any_statement_delays_the_other_by_no_more_than_the_lease(
    pair: ReplicaPair, fault: str
) -> None:
    await _sweep(pair, fault)


@pytest.mark.soak
@pytest.mark.parametrize("parted", [3 * STATEMENTS], indirect=True)
@pytest.mark.parametrize("answers_only", [False, True], ids=["all", "answers"])
async def test_a_network_outage_at_any_statement_delays_the_other_by_no_more_than_the_lease(
    parted: ReplicaPair, answers_only: bool
) -> None:
    await _sweep(parted, _cut_off(parted, answers_only))


async def _sweep(pair: ReplicaPair, fault: Fault) -> None:
    """Stops it at each statement in turn, until a rollback completes before reaching that many."""
    for at in range(1, STATEMENTS + 1):
        if not await pair.drill(fault, "", at):
            return
    pytest.fail("it has more statements than were tried")

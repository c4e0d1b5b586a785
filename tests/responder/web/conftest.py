"""The real routes over a real journal, without a worker unless a test starts one."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from pydantic import SecretStr

from responder.backends.connections import Connections
from responder.decisions.policy_set import PolicySet
from responder.evidence.collector import EvidenceCollector
from responder.journal import Database, executions
from responder.rollback.events import Event
from responder.rollback.execution import Execution
from responder.runtime.journal_state import JournalState
from responder.runtime.metrics import Metrics
from responder.runtime.worker import Worker
from responder.services import registry, rollbacks
from responder.web.access.access import Access
from responder.web.access.settings import Token, WebSettings
from responder.web.broadcast import ExecutionBroadcast
from responder.web.client_documents import ClientDocuments
from responder.web.client_settings import ClientSettings
from responder.web.deployments.deployments import Deployments
from responder.web.events import Events
from responder.web.evidence import Evidence
from responder.web.executions import Executions
from responder.web.http.server import routes
from responder.web.links.approve import ApprovalPage
from responder.web.links.signing import Links
from responder.web.links.stop import StopPage
from responder.web.pages.runbooks import Runbooks
from responder.web.process import Process
from responder.web.receiver import Receiver
from responder.web.reload import Reload
from responder.web.reports import Reports
from responder.web.rollbacks import Rollbacks
from responder.web.status import Status
from responder.web.versions import Versions
from tests.responder.examples import ago, alert, deployment, policy_set, service
from tests.responder.outside import FakeAlertmanager, FakePrometheus

SECRETS = {scope: f"token-with-scope-{scope}" for scope in ("alerts", "deploy", "read", "operate", "approve")}


@dataclass
class ResponderServer:
    """A responder with its dependencies, and a client for tests."""

    client: TestClient[web.Request, web.Application]
    journal: Database
    file: Path
    shop: Path
    worker: Worker
    policy_set: PolicySet
    settings: WebSettings
    links: Links
    alertmanager: FakeAlertmanager
    prometheus: FakePrometheus
    broadcast: ExecutionBroadcast
    access: Access
    state: JournalState
    collector: EvidenceCollector | None = None
    clients: ClientSettings | None = None
    mistakes: list[str] = field(default_factory=list)

    async def ask(self, method: str, path: str, body: Any = None, **how: Any) -> tuple[int, Any]:
        """Status and JSON of one request."""
        if isinstance(body, bytes):
            how.setdefault("headers", {"Content-Type": "application/json"})
            how["data"] = body
        elif body is not None:
            how["json"] = body
        async with self.client.request(method, path, **how) as response:
            return response.status, await response.json()

    async def get(self, path: str, **how: Any) -> tuple[int, Any]:
        return await self.ask("GET", path, **how)

    async def post(self, path: str, body: Any = None, **how: Any) -> tuple[int, Any]:
        return await self.ask("POST", path, body, **how)

    async def series(self) -> str:
        """The series after the next read of the journal."""
        await self.state.refresh()
        async with self.client.get("/metrics") as response:
            return await response.text()

    async def deployed(self, version: str = "2.1", seconds_ago: float = 600, status: Any = None, **other: Any) -> None:
        at = ago(seconds_ago, datetime.now(UTC))
        reported = deployment(version=version, at=at, id=f"deploy-{version}", **other)
        await self.journal.transaction(registry.record, reported, status)

    async def good_then_new(self) -> None:
        """2.0 was known good, and 2.1 was deployed a minute ago."""
        await self.deployed("2.0", 86400, "good")
        await self.deployed("2.1", 60)

    def still_fires(self) -> None:
        """The alert of `accepted()` fires, so that only an approval is missing."""
        firing = alert()
        self.alertmanager.fires(firing.labels, firing.fingerprint)
        self.prometheus.sees(firing.labels)

    async def append(self, execution_id: str, *events: Event) -> Execution:
        execution = await self.journal.read(executions.load, execution_id)
        return await self.journal.transaction(rollbacks.append, execution, events, None)

    def break_journal(self) -> None:
        """As with a damaged disk: statements fail from now on."""
        with sqlite3.connect(self.file) as connection:
            connection.execute("ALTER TABLE switches RENAME TO lost")
        connection.close()

    def mend_journal(self) -> None:
        with sqlite3.connect(self.file) as connection:
            connection.execute("ALTER TABLE lost RENAME TO switches")
        connection.close()


@pytest.fixture
async def make_responder(
    journal: Database,
    tmp_path: Path,
    connections: Connections,
    alertmanager: FakeAlertmanager,
    prometheus: FakePrometheus,
) -> AsyncIterator[Callable[..., Any]]:
    servers: list[TestClient[Any, Any]] = []
    shop = tmp_path / "shop"
    for version in ("2.0", "2.1"):
        (shop / "releases" / version).mkdir(parents=True)
    (shop / "current").symlink_to("releases/2.1")
    backend = service(rollback={"strategy": "immediate", "release": {"root": shop}})

    async def make(*tokens: Token) -> ResponderServer:
        metrics = Metrics()
        broadcast = ExecutionBroadcast(journal, poll=0.2, most=3)
        listeners = (metrics.happened, broadcast.happened)
        worker = Worker(journal, lambda: responder.policy_set, lambda: connections, poll=0.02, listeners=listeners)
        process = Process(journal, lambda: responder.policy_set, lambda: connections, worker)
        receiver = Receiver(process, metrics)
        links = Links(WebSettings(tokens=tokens))
        rollbacks = Rollbacks(process, receiver)
        steering = Executions(process, links.approve_link)
        versions = Versions(journal, lambda: responder.policy_set)
        reported = Deployments(journal, lambda: responder.policy_set)
        approval = ApprovalPage(journal, steering, lambda: links)
        reports = Reports(process, lambda: responder.mistakes, within=1.0)
        state = JournalState(journal, lambda: responder.policy_set)
        status = Status(journal, lambda: responder.policy_set, worker, metrics, reports, state)

        settings = WebSettings(tokens=tokens)
        access = Access(settings)
        events = Events(broadcast, worker, lambda request: responder.access.allows(request, "read"), look=0.05)
        evidence = Evidence(journal, lambda: responder.collector)
        clients = ClientDocuments(journal, lambda: responder.policy_set, lambda: responder.clients)
        handlers = (
            receiver,
            rollbacks,
            steering,
            versions,
            reported,
            status,
            approval,
            events,
            reports,
            evidence,
            clients,
        )
        app = routes(
            lambda: responder.access,
            (*handlers, StopPage(journal, lambda: links), Reload(list), Runbooks()),
            metrics.refused,
        )
        server = TestServer(app)
        await server.start_server(auto_decompress=False)  # as `listen` does
        client: TestClient[Any, Any] = TestClient(server)
        servers.append(client)
        responder = ResponderServer(
            client=client,
            journal=journal,
            file=tmp_path / "state.db",
            shop=shop,
            worker=worker,
            policy_set=policy_set(services=(backend,)),
            settings=settings,
            links=links,
            alertmanager=alertmanager,
            prometheus=prometheus,
            broadcast=broadcast,
            access=access,
            state=state,
        )
        return responder

    yield make
    for client in servers:
        await client.close()


@pytest.fixture
async def responder(make_responder: Callable[..., Any]) -> ResponderServer:
    """Without tokens: every client may do everything."""
    made: ResponderServer = await make_responder()
    return made


@pytest.fixture
async def guarded_responder(make_responder: Callable[..., Any]) -> ResponderServer:
    """With one token for each scope."""
    made: ResponderServer = await make_responder(
        *(Token(name=f"{scope}-only", scopes=(scope,), token=SecretStr(secret)) for scope, secret in SECRETS.items())
    )
    return made

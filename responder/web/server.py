"""The routes, and the listener with its limits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from responder.config import Web
from responder.errors import ConfigError
from responder.web.access import Access, Handler, error, needs
from responder.web.api import Api
from responder.web.approval import ApprovalPage
from responder.web.client_documents import ClientDocuments
from responder.web.events import Events
from responder.web.evidence import Evidence
from responder.web.receiver import MOST_BYTES, Receiver
from responder.web.registry import Registry
from responder.web.reports import Reports
from responder.web.status import Status
from responder.web.stopping import StopPage


@web.middleware
async def _no_such_place(request: web.Request, handler: Handler) -> web.StreamResponse:
    """An address or a method that is none is told as JSON too."""
    try:
        return await handler(request)
    except web.HTTPException as e:
        return error(e.status, f"{request.method} {request.path}: {e.reason}")


async def _sign(request: web.Request, response: web.StreamResponse) -> None:
    # So that the command line can tell a responder from whatever else answers at a mistyped address.
    response.headers["Server"] = "rollback-responder"


def routes(
    access: Callable[[], Access],
    receiver: Receiver,
    api: Api,
    registry: Registry,
    status: Status,
    approval: ApprovalPage,
    events: Events,
    reports: Reports,
    stopping: StopPage,
    evidence: Evidence,
    clients: ClientDocuments,
    reload: Callable[[web.Request], Awaitable[web.Response]],
) -> web.Application:
    """The application. `/api/v2/alerts` is where vmalert and Prometheus post to their notifiers."""
    app = web.Application(client_max_size=MOST_BYTES, middlewares=[_no_such_place])
    app.on_response_prepare.append(_sign)
    app.on_shutdown.append(events.shutdown)
    one, told = "/api/v1/executions/{id}", "/api/v1/clients/{service}/{platform}"
    app.add_routes(
        [
            web.post("/api/v1/alerts", needs(access, "alerts", receiver.post)),
            web.post("/api/v2/alerts", needs(access, "alerts", receiver.post)),
            web.get("/api/v1/deployments", needs(access, "read", registry.deployments)),
            web.post("/api/v1/deployments", needs(access, "operate", registry.deployed)),
            web.get("/api/v1/versions/{service}", needs(access, "read", registry.versions)),
            web.post("/api/v1/versions/{service}/{version}", needs(access, "operate", registry.mark)),
            web.get("/api/v1/versions/{service}/{platform}", needs(access, "read", registry.platform)),
            web.get("/api/v1/clients/keys", needs(access, "read", clients.keys, clients.public)),
            web.get(told, needs(access, "read", clients.document, clients.public)),
            web.post(told, needs(access, "operate", clients.change)),
            web.get(told + "/history", needs(access, "read", clients.history)),
            web.get("/api/v1/preview", needs(access, "read", api.preview)),
            web.post("/api/v1/rollbacks", needs(access, "operate", api.rollback)),
            web.post("/api/v1/explain", needs(access, "read", api.explain)),
            web.get("/api/v1/executions", needs(access, "read", api.executions)),
            web.get(one, needs(access, "read", api.execution)),
            web.get(one + "/events", needs(access, "read", events.execution)),
            web.get(one + "/report", needs(access, "read", reports.execution)),
            web.get(one + "/plot", needs(access, "read", reports.plot)),
            web.get("/api/v1/report", needs(access, "read", reports.report)),
            web.get("/api/v1/events", needs(access, "read", events.everything)),
            web.post(one + "/approve", needs(access, "approve", api.approve)),
            web.post(one + "/stop", needs(access, "operate", api.stop)),
            web.post(one + "/close", needs(access, "operate", api.close)),
            web.get(one + "/evidence", needs(access, "read", evidence.show)),
            web.get(one + "/evidence/{name}", needs(access, "read", evidence.file)),
            web.get("/api/v1/decisions", needs(access, "read", api.decisions)),
            web.get("/api/v1/status", needs(access, "read", status.status)),
            web.get("/approve/{id}", approval.show),  # the signed link is the permission
            web.post("/approve/{id}", approval.approve),
            web.get("/stop/{id}", stopping.show),
            web.post("/stop/{id}", stopping.stop),
            web.get("/metrics", needs(access, "read", status.metrics)),
            web.get("/-/healthy", status.healthy),
            web.get("/-/ready", status.ready),
            web.post("/-/reload", needs(access, "operate", reload)),
        ]
    )
    return app


async def listen(app: web.Application, settings: Web) -> web.AppRunner:
    """Opens the listener. Raises ConfigError where the address is taken."""
    runner = web.AppRunner(
        app,
        access_log=None,
        handle_signals=False,
        keepalive_timeout=75,  # the library's default of an hour is the only limit on a silent connection
        auto_decompress=False,  # nothing is unpacked before its sender is known (CVE-2026-54278)
        shutdown_timeout=5,
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, settings.host, settings.port, backlog=512).start()
    except OSError as e:
        await runner.cleanup()
        raise ConfigError([f"web.listen: {settings.listen} cannot be listened on: {e.strerror}"]) from e
    return runner

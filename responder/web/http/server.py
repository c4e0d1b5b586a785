"""The application with its routes, and the listener with its limits."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from aiohttp import web

from foundation.connections import Cause, Site, allow_many_files, under_way
from foundation.sparingly import Sparingly
from responder.errors import ConfigError
from responder.logging import say
from responder.web.access.access import Access, Handler, error
from responder.web.access.boundary import Boundary, Refused
from responder.web.access.settings import WebSettings
from responder.web.access.web_config import WebConfig
from responder.web.http.bodies import MOST_BYTES, await_body, must_be_text
from responder.web.http.routes import Handlers


@web.middleware
async def _not_found(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answers unknown paths and methods as JSON."""
    try:
        return await handler(request)
    except web.HTTPException as e:
        return error(e.status, f"{request.method} {request.path}: {e.reason}")


@web.middleware
async def _storable(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Denies paths and queries with text that databases cannot store."""
    must_be_text(dict(request.match_info), "path")
    for name, value in request.query.items():
        must_be_text(name, "query")
        must_be_text(value, name)
    return await handler(request)


async def _sign(request: web.Request, response: web.StreamResponse) -> None:
    # The command line recognizes a responder by it, if the user mistypes the address.
    response.headers["Server"] = response.headers["X-Responder"] = "rollback-responder"
    if "Expect" in request.headers and request.can_read_body and not request.content.total_bytes:
        response.force_close()  # the body was not read: its bytes could be taken for the next request
        response.headers["Connection"] = "close"


def routes(
    access: Callable[[], Access], handlers: Iterable[Handlers], refused: Refused = lambda cause: None
) -> web.Application:
    """The application with the routes of all handlers. `refused` counts denied requests."""
    handlers = tuple(handlers)
    routes = tuple(route for page in handlers for route in page.routes())
    boundary = Boundary(access, routes, refused)
    app = web.Application(client_max_size=MOST_BYTES, middlewares=[_not_found, boundary.middleware, _storable])
    app.on_response_prepare.append(_sign)
    for page in handlers:
        app.on_shutdown.append(page.shutdown)
    add = {"GET": app.router.add_get, "POST": app.router.add_post}
    for route in routes:
        add[route.method](route.path, route.handler, expect_handler=await_body)
    return app


def _secured(app: web.Application, served: WebConfig) -> ssl.SSLContext | None:
    """Applies the web configuration file to every connection and answer."""
    tls = served.tls_server_config
    if tls is not None and tls.client_allowed_sans:
        allowed = frozenset(tls.client_allowed_sans)

        @web.middleware
        async def known_clients(request: web.Request, handler: Handler) -> web.StreamResponse:
            certificate = (request.transport and request.transport.get_extra_info("peercert")) or {}
            if allowed.isdisjoint(name for _, name in certificate.get("subjectAltName", ())):
                return error(403, "the client certificate has no name in client_allowed_sans")
            return await handler(request)

        app.middlewares.insert(0, known_clients)

    async def headed(request: web.Request, response: web.StreamResponse) -> None:
        for name, value in served.http_server_config.headers.items():
            response.headers.setdefault(name, value)  # headers that a page sets itself are stricter

    app.on_response_prepare.append(headed)
    return tls.context() if tls else None


async def listen(
    app: web.Application, settings: WebSettings, ended: Callable[[Cause], None] = lambda cause: None
) -> web.AppRunner:
    """Opens the listener. Raises ConfigError if the address is in use."""
    tls = _secured(app, settings.served)
    allow_many_files()
    app.middlewares.insert(0, under_way)
    sparing = Sparingly(partial(say, logging.getLogger("responder.web"), level=logging.WARNING))

    def note_end(cause: Cause) -> None:
        ended(cause)
        sparing.warn("connections ended", cause, cause=cause)

    how: dict[str, Any] = {
        "access_log": None,
        "keepalive_timeout": 75,  # between two requests
        "auto_decompress": False,  # decompress only after authentication (CVE-2026-54278)
    }
    runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=5, **how)
    await runner.setup()
    try:
        await Site(runner, settings.host, settings.port, tls, note_end, **how).start()
    except OSError as e:
        await runner.cleanup()
        raise ConfigError.of("web.listen", f"{settings.listen} cannot listen: {e.strerror}") from e
    return runner

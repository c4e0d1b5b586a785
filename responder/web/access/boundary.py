"""Checks every request before its handler: authentication, origin, scope, content type."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from functools import partial

from aiohttp import web
from aiohttp.typedefs import Middleware

from foundation.sparingly import Sparingly
from responder.logging import say
from responder.web.access.access import WHO, Access, Handler, Who, answered, error
from responder.web.access.cross_site import SAFE, Refusal, wrong_content_type
from responder.web.http.routes import Route

Refused = Callable[[str], None]
"""Counts a denied request by its cause."""


class Boundary:
    """Denies requests without reading their body. Undeclared routes are not served."""

    def __init__(
        self,
        access: Callable[[], Access],
        routes: Iterable[Route],
        refused: Refused = lambda cause: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._access, self._refused = access, refused
        self._routes: dict[tuple[str, str], Route] = {(route.method, route.path): route for route in routes}
        self._log = Sparingly(partial(say, logging.getLogger("responder.web"), level=logging.WARNING), clock)

    @property
    def middleware(self) -> Middleware:
        @web.middleware
        async def decide(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self._refusal(request) or await answered(request, handler)

        return decide

    async def _refusal(self, request: web.Request) -> web.Response | None:
        route, access = self._route(request), self._access()
        public = route is not None and route.public()
        if route is not None and route.scopes:
            if public:
                request[WHO] = Who("anybody", frozenset(route.scopes))
            elif (denial := await access.identify(request)) is not None:
                why = access.wrong if "Authorization" in request.headers else f"{access.required} is required"
                self._note(request, "unauthenticated", why)
                return denial
        if foreign := self._foreign(request, access, anywhere=public or (route is not None and route.any_host)):
            return self._answer(request, route, foreign)
        if route is None:
            # The router answers 404 for unknown paths. An undeclared route would be open to everyone.
            known = request.match_info.http_exception is None
            return error(500, f"{request.path} is not a declared route: this is a bug") if known else None
        if route.scopes and request[WHO].scopes.isdisjoint(route.scopes):
            return error(403, f"{request[WHO].name} lacks scope {route.scopes[0]}")
        if request.method not in SAFE and (wrong := wrong_content_type(request, route.body)):
            return self._answer(request, route, wrong)
        return None

    def _route(self, request: web.Request) -> Route | None:
        resource = request.match_info.route.resource
        method = "GET" if request.method == "HEAD" else request.method
        return self._routes.get((method, resource.canonical)) if resource else None

    def _foreign(self, request: web.Request, access: Access, *, anywhere: bool) -> Refusal | None:
        if request.method not in SAFE:
            return access.hosts.refusal_of_change(request)
        return None if anywhere else access.hosts.refusal(request)

    def _answer(self, request: web.Request, route: Route | None, refusal: Refusal) -> web.Response:
        self._note(request, refusal.cause, refusal.message)
        if route is not None:
            route.refused()
        return error(refusal.status, refusal.message)

    def _note(self, request: web.Request, cause: str, reason: str) -> None:
        self._refused(cause)
        self._log.warn("request denied", cause, path=request.path, peer=request.remote, reason=reason)

"""Reloads the configuration, as SIGHUP does."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from aiohttp import web

from responder.web.access.access import error
from responder.web.access.permission import demand_unlimited
from responder.web.http.routes import Handlers, Route, post


class Reload(Handlers):
    """`/-/reload`."""

    def __init__(self, reload: Callable[[], list[str]]) -> None:
        self._reload = reload

    def routes(self) -> Iterable[Route]:
        return (post("/-/reload", "operate", self.reload, body="none"),)

    async def reload(self, request: web.Request) -> web.Response:
        """`POST /-/reload`: 400 with every mistake if the file was rejected."""
        demand_unlimited(request, "reloading the configuration")
        if mistakes := self._reload():
            return error(400, "; ".join(mistakes))
        return web.json_response({"reloaded": True})

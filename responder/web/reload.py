"""Reading the configuration again, as SIGHUP does."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from aiohttp import web

from responder.web.access import error
from responder.web.permission import demand_unlimited
from responder.web.place import Page, Place, post


class Reload(Page):
    """Says what was wrong with the file, where it was not taken."""

    def __init__(self, reload: Callable[[], list[str]]) -> None:
        self._reload = reload

    def places(self) -> Iterable[Place]:
        """As Page.places."""
        return (post("/-/reload", "operate", self.reload, body="none"),)

    async def reload(self, request: web.Request) -> web.Response:
        """`POST /-/reload`."""
        demand_unlimited(request, "reloading the configuration")
        if mistakes := self._reload():
            return error(400, "; ".join(mistakes))
        return web.json_response({"reloaded": True})

"""`/runbooks/`: what to do about each shipped alert. `/docs/`: the documentation that the runbooks link to."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from html import escape

from aiohttp import web

from responder.errors import Unknown
from responder.web.http.routes import Handlers, Route, get
from responder.web.pages.documents import RUNBOOKS, documents, html_of
from responder.web.pages.page import page


class Runbooks(Handlers):
    """`GET /runbooks/` lists the alerts, `GET /runbooks/{alert}` shows the runbook of one."""

    def routes(self) -> Iterable[Route]:
        # No scope: they contain nothing about the installation, and a person who is paged may have no token at hand.
        return (
            get("/runbooks", None, self.index),
            get("/runbooks/", None, self.index),
            get("/runbooks/{alert}", None, self.show),
            get("/docs/{page}", None, self.show),
            get("/docs/{folder}/{page}", None, self.show),
        )

    async def index(self, request: web.Request) -> web.Response:
        names = sorted(path.rpartition("/")[2] for path, (name, _) in documents().items() if name.startswith(RUNBOOKS))
        folder = "" if request.path.endswith("/") else "runbooks/"
        links = "".join(f'<li><a href="{folder}{escape(name)}">{escape(name)}</a></li>' for name in names)
        return page("Runbooks", f"<ul>{links}</ul>")

    async def show(self, request: web.Request) -> web.Response:
        path = request.path.strip("/")
        if path not in documents():
            raise Unknown(f"no page {request.path!r}; /runbooks/ lists the runbooks")
        return page(path.rpartition("/")[2], await asyncio.to_thread(html_of, path), heading=False)

"""Every page brings its addresses along, with what one must be allowed to do to use them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from aiohttp import web

from responder.web.access.access import Handler
from responder.web.access.cross_site import Body
from responder.web.access.settings import Scope

EXECUTION = "/api/v1/executions/{id}"


def _never() -> bool:
    return False


def _nothing() -> None: ...


@dataclass(frozen=True)
class Route:
    """An address and who answers there. Without scopes the handler itself knows whom it lets in."""

    method: Literal["GET", "POST"]
    path: str
    scopes: tuple[Scope, ...]
    """Any of them opens it."""
    handler: Handler
    public: Callable[[], bool] = _never
    """Whether it needs no token at the moment."""
    body: Body = "json"
    """What a request that changes something must send."""
    refused: Callable[[], None] = _nothing
    """Called when a request to it is refused for where it comes from or for its content type."""
    any_host: bool = False
    """Whether it is answered whatever `Host` says: probes and scrapes come by address."""


class Handlers(ABC):
    """What is served under some addresses."""

    @abstractmethod
    def routes(self) -> Iterable[Route]:
        """All its addresses; asked once, when the application is put together."""

    async def shutdown(self, app: web.Application) -> None:  # noqa: B027 - most pages have nothing to end
        """End what would never end by itself, such as a stream."""


def get(
    path: str, scope: Scope | None, handler: Handler, public: Callable[[], bool] = _never, *, any_host: bool = False
) -> Route:
    """An address to read."""
    return Route("GET", path, (scope,) if scope else (), handler, public, any_host=any_host)


def post(
    path: str,
    scope: Scope | tuple[Scope, ...] | None,
    handler: Handler,
    *,
    body: Body = "json",
    refused: Callable[[], None] = _nothing,
) -> Route:
    """An address to change something."""
    scopes = scope if isinstance(scope, tuple) else (scope,) if scope else ()
    return Route("POST", path, scopes, handler, body=body, refused=refused)

"""Routes: each declares its method, path, handler and required scopes."""

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
    """One route. Without scopes, the handler controls access itself."""

    method: Literal["GET", "POST"]
    path: str
    scopes: tuple[Scope, ...]
    """One of them is required."""
    handler: Handler
    public: Callable[[], bool] = _never
    """Whether it currently needs no token."""
    body: Body = "json"
    """The body of a changing request."""
    refused: Callable[[], None] = _nothing
    """Called if a request is denied because of its origin or content type."""
    any_host: bool = False
    """Whether any `Host` is accepted: probes and scrapes use IP addresses."""


class Handlers(ABC):
    """A group of handlers with their routes."""

    @abstractmethod
    def routes(self) -> Iterable[Route]:
        """All routes. Called once, when the application is created."""

    async def shutdown(self, app: web.Application) -> None:  # noqa: B027 - most have no streams
        """Ends open streams."""


def get(
    path: str, scope: Scope | None, handler: Handler, public: Callable[[], bool] = _never, *, any_host: bool = False
) -> Route:
    """A reading route."""
    return Route("GET", path, (scope,) if scope else (), handler, public, any_host=any_host)


def post(
    path: str,
    scope: Scope | tuple[Scope, ...] | None,
    handler: Handler,
    *,
    body: Body = "json",
    refused: Callable[[], None] = _nothing,
) -> Route:
    """A changing route."""
    scopes = scope if isinstance(scope, tuple) else (scope,) if scope else ()
    return Route("POST", path, scopes, handler, body=body, refused=refused)

"""The meaning of a Docker Engine answer. The status decides, because a socket proxy may write the body."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from responder.config.text import one_line
from responder.errors import StepFailed, Unavailable

if TYPE_CHECKING:
    import aiohttp

answered: ContextVar[tuple[int, str]] = ContextVar("answered", default=(0, ""))
"""Status and content type of the last answer in this task. aiodocker loses both if the body is unreadable."""

_NO_CONNECTION = 900
"""aiodocker's status for a failed connection."""

_TEMPORARY = (408, 429, 502, 503, 504, _NO_CONNECTION)


def statuses() -> aiohttp.TraceConfig:
    """A trace for aiodocker's session that keeps `answered` up to date."""
    import aiohttp  # slow to import

    async def keep(session: Any, context: Any, params: aiohttp.TraceRequestEndParams) -> None:
        answered.set((params.response.status, params.response.content_type))

    trace = aiohttp.TraceConfig()
    trace.on_request_end.append(keep)
    trace.freeze()
    return trace


def meaning(doing: str, status: int, message: str) -> StepFailed | Unavailable:
    """The error for a failed request. For a permanent error, the engine answers 500 with a JSON body."""
    message = one_line(message.strip() or "(no message)", 600) + (f" ({status})" if status != _NO_CONNECTION else "")
    if status in _TEMPORARY or (status >= 500 and answered.get()[1] != "application/json"):
        return Unavailable(f"{doing}: the Docker Engine: {message}")
    return StepFailed(f"{doing}: {message}")

"""Reads requests and writes answers, the same for every route."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, TypeVar

from aiohttp import web
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from foundation.configuration.yaml_document import path_text
from foundation.durations import parse_duration
from responder.errors import Changed, Invalid
from responder.web.http.bodies import body_of, must_be_text

M = TypeVar("M", bound=BaseModel)


class ApiRequest(BaseModel):
    """A request body. `by` counts only if no tokens are configured."""

    model_config = ConfigDict(extra="forbid")

    by: str | None = Field(default=None, max_length=100)


def _version(text: str) -> str:
    # It may become a directory name, and terminals show it.
    if text in (".", "..") or not text.isprintable() or any(c.isspace() or c == "/" for c in text):
        raise ValueError("must be one printable word without slashes")
    return text


Version = Annotated[str, Field(max_length=200), AfterValidator(_version)]


def as_json(data: Any) -> str:
    def plain(value: Any) -> Any:
        return value.isoformat() if isinstance(value, datetime) else str(value)

    return json.dumps(data, default=plain)


def answer(data: Any, status: int = 200) -> web.Response:
    return web.json_response(data, status=status, dumps=as_json)


def tag_of(content: bytes) -> str:
    """The value of a strong ETag, without quotes."""
    return hashlib.sha256(content).hexdigest()[:32]


def unless_known(
    request: web.Request, tag: str, body: Callable[[], bytes], content_type: str, **headers: str
) -> web.Response:
    """304 if the client has the content already; otherwise the body, which is created only then."""
    headers = {"ETag": f'"{tag}"', **headers}
    if any(etag.value in (tag, "*") for etag in request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    return web.Response(body=body(), content_type=content_type, headers=headers)


def must_match(request: web.Request, tag: str) -> None:
    """Raises Changed if the request has If-Match and the tag is another."""
    expected = request.if_match
    if expected is not None and not any(etag.value in (tag, "*") and not etag.is_weak for etag in expected):
        raise Changed("someone else changed it: read it again")


async def read(request: web.Request, model: type[M]) -> M:
    """The body as a model. Raises Invalid with the path of the first mistake."""
    try:
        found = model.model_validate_json(await body_of(request) or b"{}")
    except ValidationError as e:
        first = e.errors(include_url=False, include_context=False)[0]
        raise Invalid(first["msg"], path_text(first["loc"]) or "body") from None
    must_be_text(found.model_dump())
    return found


def limit(request: web.Request) -> int:
    """The query parameter `limit`, 1 to 1000; default 100."""
    text = request.query.get("limit", "100")
    if not re.fullmatch("[0-9]{1,4}", text) or not 1 <= int(text) <= 1000:
        raise Invalid(f"must be a number from 1 to 1000, not {text!r:.50}", "limit")
    return int(text)


def since(request: web.Request) -> datetime | None:
    """The query parameter `since`, a time or how long ago; None without it."""
    text = request.query.get("since")
    if text is None:
        return None
    with contextlib.suppress(ValueError, OverflowError):
        return datetime.now(UTC) - timedelta(seconds=parse_duration(text))
    try:
        when = datetime.fromisoformat(text)
        return when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise Invalid("must be a time such as 2026-11-23T22:00:00Z, or a duration such as 24h", "since") from None

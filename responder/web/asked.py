"""How a request is read and an answer written, the same for every address."""

from __future__ import annotations

import contextlib
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from responder.alerts import path_of
from responder.durations import parse_duration
from responder.errors import Invalid

M = TypeVar("M", bound=BaseModel)


class Asked(BaseModel):
    """A body; `by` counts only where there are no tokens to tell who asks."""

    model_config = ConfigDict(extra="forbid")

    by: str | None = Field(default=None, max_length=100)


def answer(data: Any, status: int = 200) -> web.Response:
    def plain(value: Any) -> Any:
        return value.isoformat() if isinstance(value, datetime) else str(value)

    return web.json_response(data, status=status, dumps=lambda d: json.dumps(d, default=plain))


async def read(request: web.Request, model: type[M]) -> M:
    try:
        return model.model_validate_json(await request.read() or b"{}")
    except ValidationError as e:
        first = e.errors(include_url=False, include_context=False)[0]
        raise Invalid(first["msg"], path_of(first["loc"]) or "body") from None


def limit(request: web.Request) -> int:
    text = request.query.get("limit", "100")
    if not re.fullmatch("[0-9]{1,4}", text) or not 1 <= int(text) <= 1000:
        raise Invalid("must be a number from 1 to 1000", "limit")
    return int(text)


def since(request: web.Request) -> datetime | None:
    text = request.query.get("since")
    if text is None:
        return None
    with contextlib.suppress(ValueError, OverflowError):
        return datetime.now(UTC) - timedelta(seconds=parse_duration(text))
    try:
        when = datetime.fromisoformat(text)
        return when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise Invalid("must be a time such as 2026-11-23T22:00:00Z, or how long ago, such as 24h", "since") from None

"""What every test may rely on: a journal of either kind, and libraries that get on with each other."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import Mock

import aiohttp
import aioresponses.core


class _ClientResponse(aiohttp.ClientResponse):
    # aiohttp 3.14 made `stream_writer` a required argument, which aioresponses 0.7.9 does not hand over
    # (pnuckowski/aioresponses#289).
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("stream_writer", Mock(output_size=0))
        super().__init__(*args, **kwargs)


aioresponses.core.ClientResponse = _ClientResponse  # type: ignore[misc,assignment]

# pytest-asyncio asks for "the loop before" and so makes one that nobody closes, and every warning is an error here.
# With this it is told that there was none. It holds for the whole run.
asyncio.set_event_loop(None)

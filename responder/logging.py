"""Logging of the responder, as the foundation formats it."""

from __future__ import annotations

import logging
from typing import Literal

from foundation import logging as foundation
from foundation.logging import say

__all__ = ["say", "set_up"]


def set_up(style: Literal["console", "json"], level: str) -> None:
    """Sends logs to standard error. Libraries that repeat what the responder logs itself are quieter."""
    foundation.set_up(style, level)
    logging.getLogger("aiohttp.access").setLevel("WARNING")
    logging.getLogger("asyncpg").setLevel("ERROR")

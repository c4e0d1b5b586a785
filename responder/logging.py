"""Logging of the responder, as the foundation formats it."""

from __future__ import annotations

import logging
from typing import Literal

from pydantic import Field

from foundation import logging as foundation
from foundation.logging import say
from foundation.models import StrictModel

__all__ = ["LogSettings", "say", "set_up"]


class LogSettings(StrictModel):
    """The log on standard error."""

    style: Literal["console", "json"] = Field(default="console", description="console for people, json for machines")
    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Minimum level to log")


def set_up(settings: LogSettings) -> None:
    """Sends logs to standard error. Libraries that repeat what the responder logs itself are quieter."""
    foundation.set_up(settings.style, settings.level)
    logging.getLogger("aiohttp.access").setLevel("WARNING")
    logging.getLogger("asyncpg").setLevel("ERROR")

"""The check that every client makes right before it changes something."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

acting: ContextVar[Callable[[], None]] = ContextVar("acting", default=lambda: None)
"""Called by every verb that changes something, right before it does. Raises `LeaseLost` where we may no longer act.

A resource reads before it writes, so a check before the resource would leave room for a pause in between. If a value
goes there and back within one plan, a late reader would find the expected value.
"""

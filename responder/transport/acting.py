"""The check of the lease that every client makes before each change."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

acting: ContextVar[Callable[[], None]] = ContextVar("acting", default=lambda: None)
"""Called right before each request that changes something. Raises LeaseLost if this replica may no longer act.

A check before the resource would be too early: a resource reads before it writes, and the process may pause in between.
If a plan changes a value and later restores it, a delayed write would find the expected value.
"""

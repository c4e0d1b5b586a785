"""The table of guards. To add one, write it beside its kind and name it here; the order is part of the meaning."""

from __future__ import annotations

from responder.decisions.guards.alerts import still_firing, trouble_now
from responder.decisions.guards.automation import armed, freeze_window, kill_switch, mode
from responder.decisions.guards.fleet import circuit_breaker, dependencies, rate_limit
from responder.decisions.guards.guard import Guard
from responder.decisions.guards.service import cooldown, duplicate_alert, in_progress, service_configured
from responder.decisions.guards.versions import (
    compatibility,
    deployed_within,
    once_per_version,
    protected_version,
    restored_version,
    target_version,
)

GUARDS: tuple[Guard, ...] = (
    kill_switch,
    armed,
    service_configured,
    duplicate_alert,
    in_progress,
    deployed_within,
    restored_version,
    target_version,
    protected_version,
    compatibility,
    once_per_version,
    cooldown,
    circuit_breaker,
    rate_limit,
    dependencies,
    still_firing,
    trouble_now,
    freeze_window,
    mode,
)
"""In the order in which they decide. `duplicate_alert` and `in_progress` come early: they explain the later ones."""

LIVE = frozenset(guard.name for guard in GUARDS if guard.live)
"""Evaluated again before the first change, and when a person approves."""

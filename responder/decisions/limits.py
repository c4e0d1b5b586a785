"""Limits of automation, and its watchdog."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from foundation.durations import Duration
from foundation.models import StrictModel
from responder.backends.alertmanager.matchers import Matcher, Matchers


class CircuitBreaker(StrictModel):
    """Stops rollbacks if many services are in trouble at once: one deployment is not the cause."""

    services: int = Field(
        default=3,
        ge=2,
        le=10_000,
        description="Services of one environment in trouble; from this number, none is rolled back",
    )
    within: Duration = Field(default=120.0, gt=0, description="Maximum time between the onsets of their trouble")

    @property
    def counted(self) -> int:
        """How many other services in trouble a decision looks for at most: enough to decide, and to name some."""
        return self.services + 20


class Limits(StrictModel):
    """Limits of rollbacks."""

    concurrent: int = Field(default=1, ge=1, le=100, description="Concurrent rollbacks of all replicas")
    rollbacks_per_hour: int = Field(
        default=6, ge=1, le=1_000_000, description="Rollbacks of all services that start within an hour"
    )
    circuit_breaker: CircuitBreaker = CircuitBreaker()
    max_resumptions: int = Field(
        default=5, ge=0, le=1000, description="Resumptions after crashes before a rollback is stuck"
    )
    lease: Duration = Field(
        default=15.0,
        ge=2,
        le=300,
        description="Time until another replica takes over after a crash. Use the same value on all replicas",
    )


class Watchdog(StrictModel):
    """An always-firing alert. While it does not arrive through Alertmanager, or is silenced, no rollback starts."""

    match: Annotated[Matchers, Field(description="Matchers of the alert; all must match")] = (
        Matcher("alertname", "=", "RollbackAutomationArmed"),
    )
    interval: Duration = Field(
        default=60.0,
        gt=0,
        description="`repeat_interval` of its route; absence for twice as long disarms automation",
    )

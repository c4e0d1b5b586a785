"""Limits of automation, and its watchdog."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from foundation.durations import Duration
from foundation.models import StrictModel
from responder.backends.alertmanager.matchers import MatcherText, parse_matcher


class CircuitBreaker(StrictModel):
    """No rollback if many services are in trouble at once: the deployment of one service is not the cause."""

    services: int = Field(
        default=3,
        ge=2,
        le=10_000,
        description="Number of services of one environment in trouble from which on no service is rolled back",
    )
    within: Duration = Field(default=120.0, gt=0, description="How close together their trouble must begin")


class Limits(StrictModel):
    """How many rollbacks may run, start and be resumed."""

    concurrent: int = Field(
        default=1, ge=1, le=100, description="Rollbacks that run at the same time, over all replicas"
    )
    rollbacks_per_hour: int = Field(
        default=6, ge=1, le=1_000_000, description="Rollbacks that start within an hour, over all services"
    )
    circuit_breaker: CircuitBreaker = CircuitBreaker()
    max_resumptions: int = Field(
        default=5, ge=0, le=1000, description="How often a rollback is resumed after a crash before it is stuck"
    )
    lease: Duration = Field(
        default=15.0,
        ge=2,
        le=300,
        description="Time after which another replica takes over from a dead one. Use the same value on all replicas",
    )


class Watchdog(StrictModel):
    """An alert that always fires. If it does not arrive through Alertmanager, or is silenced, no rollback starts."""

    match: Annotated[
        tuple[MatcherText, ...], Field(min_length=1, description="Matchers of the alert; all must match")
    ] = (parse_matcher('alertname="RollbackAutomationArmed"'),)
    interval: Duration = Field(
        default=60.0,
        gt=0,
        description="`repeat_interval` of its route. If it is missing for twice as long, automation is disarmed",
    )

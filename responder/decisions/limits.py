"""How much may go on at once, and what must be seen before anything goes on by itself."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from responder.backends.alertmanager.matchers import MatcherText, parse_matcher
from responder.config.durations import Duration


class CircuitBreaker(BaseModel):
    """Many services in trouble at once is not the deployment of one of them: then nobody is rolled back."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    services: int = Field(
        default=3, ge=2, le=10_000, description="So many services of one environment in trouble: it holds all of them"
    )
    within: Duration = Field(default=120.0, gt=0, description="How close together their troubles begin")


class Limits(BaseModel):
    """How much may go on at once."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    concurrent: int = Field(default=1, ge=1, le=100, description="Rollbacks carried out at once, over all replicas")
    rollbacks_per_hour: int = Field(
        default=6, ge=1, le=1_000_000, description="Rollbacks begun in an hour, over all services"
    )
    circuit_breaker: CircuitBreaker = CircuitBreaker()
    max_resumptions: int = Field(
        default=5, ge=0, le=1000, description="How often one is taken up again after a crash before it is stuck"
    )
    lease: Duration = Field(
        default=15.0, ge=2, le=300, description="How soon another replica goes on after this one died; the same on all"
    )


class Watchdog(BaseModel):
    """An alert that always fires, by way of Prometheus and Alertmanager: without it, or silenced, nothing is begun."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    match: Annotated[
        tuple[MatcherText, ...], Field(min_length=1, description="Matchers of the alert; all must match")
    ] = (parse_matcher('alertname="RollbackAutomationArmed"'),)
    interval: Duration = Field(
        default=60.0,
        gt=0,
        description="How often it is told again (repeat_interval of its route); missing for twice as long disarms",
    )

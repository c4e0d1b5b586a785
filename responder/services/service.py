"""What can be rolled back: one thing that has versions, in one environment, and what its health looks like."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from responder.backends.kubernetes.pod_logs import PodLogs
from responder.backends.log_source import LogSource
from responder.backends.registries import AnyCheck, AnyLogSource
from responder.config.durations import Duration
from responder.config.versions import Range
from responder.errors import StepFailed
from responder.rollback.gateway import Gateway
from responder.rollback.plan import StrategyPlan
from responder.rollback.strategies import AnyStrategy, resources_of
from responder.rollback.strategies.strategy import Strategy
from responder.rollback.version_change import VersionChange

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9_.]{0,61}[a-z0-9])?$")]
"""Lower-case letters, digits, `-`, `_` and `.`: a name is a label value, a file name and a part of a URL."""


class Service(BaseModel):
    """Says how it is rolled back and when it is healthy. Its identity is name and environment."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name = Field(description="The value of the alerts' `service` label")
    environment: Name = Field(description="The value of the alerts' `environment` label")
    depends_on: tuple[Name, ...] = Field(default=(), description="Services of the same environment that it needs")
    requires: dict[Name, Range] = Field(
        default_factory=dict,
        description="Versions of other services that it works with, as {backend: '>=2.1'}; what a version told of "
        "one of them stands for that one",
    )
    rollback: AnyStrategy = Field(description="How the last good version is put back")
    alternatives: tuple[AnyStrategy, ...] = Field(
        default=(), description="Other ways to do it, which only a person takes by naming the strategy"
    )
    health_checks: Annotated[
        tuple[AnyCheck, ...],
        Field(min_length=1, description="The service's own signals. All must hold for a rollback to count as verified"),
    ]
    traffic_checks: tuple[AnyCheck, ...] = Field(
        default=(),
        description="What shows that it is used and its targets are up: health without traffic proves nothing",
    )
    logs: tuple[AnyLogSource, ...] = Field(
        default=(), description="Where its logs are, to be kept before a rollback; needs `evidence`"
    )
    reporting_delay: Duration = Field(
        default=30.0,
        description="How long a deployment may be under way before it is told: older trouble is not of its making",
    )
    soak: Duration = Field(
        default=600.0, description="A version that has run this long, healthy and without trouble, is known good"
    )

    @model_validator(mode="after")
    def _each_way_once(self) -> Service:
        names = [way.strategy for way in (self.rollback, *self.alternatives)]
        if len(set(names)) < len(names):
            raise ValueError("alternatives: each strategy can be configured once, as it is asked for by its name")
        return self

    @model_validator(mode="after")
    def _knows_where_its_pods_are(self) -> Service:
        for i, source in enumerate(self.logs):
            if isinstance(source, PodLogs) and source.kubernetes.namespace is None and self._namespace is None:
                raise ValueError(f"logs[{i}].kubernetes.namespace is missing: the rollback names none either")
        return self

    @property
    def clients(self) -> set[type[Any]]:
        """Every kind of world that it is rolled back in and asked about."""
        resources = [resource for way in (self.rollback, *self.alternatives) for resource in resources_of(way)]
        return {item.client for item in (*resources, *self.health_checks, *self.traffic_checks, *self.logs)}

    @property
    def sources(self) -> tuple[LogSource, ...]:
        """Its logs, each with its place filled in where that is the one of the rollback."""
        return tuple(
            source.in_namespace(self._namespace) if isinstance(source, PodLogs) and self._namespace else source
            for source in self.logs
        )

    @property
    def _namespace(self) -> str | None:
        resources = [resource for way in (self.rollback, *self.alternatives) for resource in resources_of(way)]
        return next((space for resource in resources if (space := getattr(resource, "namespace", None))), None)

    def strategy(self, name: str) -> Strategy | None:
        """The configured strategy of that name; the default one for an empty name; None if there is none."""
        strategies = (self.rollback, *self.alternatives)
        return next((candidate for candidate in strategies if name in ("", candidate.strategy)), None)

    async def plan(self, gateway: Gateway, version: VersionChange) -> StrategyPlan:
        """The strategy's steps, without the verification. Raises StepFailed if there is no such strategy or no plan."""
        strategy = self.strategy(version.strategy)
        if strategy is None:
            raise StepFailed(f"{self.name} is not configured to be rolled back by {version.strategy}")
        return await strategy.plan(gateway, version)

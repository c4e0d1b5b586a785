"""A service: its versions in one environment, how it is rolled back, and when it is healthy."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from foundation.durations import Duration
from foundation.models import StrictModel
from responder.backends.capabilities import Observable, Versioned
from responder.backends.kubernetes.pod_logs import PodLogs
from responder.backends.log_source import LogSource
from responder.backends.registries import AnyCheck, AnyLogSource
from responder.backends.resource import Resource
from responder.config.versions import Range
from responder.errors import StepFailed
from responder.rollback.gateway import Gateway
from responder.rollback.plan import StrategyPlan
from responder.rollback.strategies import AnyStrategy, resources_of
from responder.rollback.strategies.strategy import OneResource, Strategy
from responder.rollback.version_change import VersionChange

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9_.]{0,61}[a-z0-9])?$")]
"""Lower-case letters, digits, `-`, `_` and `.`, at most 63: also a label value, a file name and part of a URL."""


class Service(StrictModel):
    """One service in one environment. Name and environment identify it."""

    name: Name = Field(description="Value of the `service` label of alerts")
    environment: Name = Field(description="Value of the `environment` label of alerts")
    depends_on: tuple[Name, ...] = Field(default=(), description="Services of the same environment that it depends on")
    requires: dict[Name, Range] = Field(
        default_factory=dict,
        description="Compatible versions of other services, such as {backend: '>=2.1'}. Requirements that are reported "
        "with a version replace it",
    )
    rollback: AnyStrategy = Field(description="Strategy that restores the last known good version")
    alternatives: tuple[AnyStrategy, ...] = Field(
        default=(), description="Strategies that a person can request by name"
    )
    health_checks: Annotated[
        tuple[AnyCheck, ...],
        Field(min_length=1, description="Health of the service. All must pass to verify a rollback"),
    ]
    traffic_checks: tuple[AnyCheck, ...] = Field(
        default=(),
        description="Proof that it has traffic and its targets are up. Without traffic, health checks prove nothing",
    )
    logs: tuple[AnyLogSource, ...] = Field(
        default=(), description="Logs to collect before a rollback; needs `evidence`"
    )
    reporting_delay: Duration = Field(
        default=30.0,
        description="Maximum time from the start of a deployment to its report. Older trouble has another cause",
    )
    deployments: Literal["reported", "observed"] = Field(
        default="reported",
        description="Source of deployments: only reports, or also observation: every 10s the responder reads which "
        "release, image tag or app.kubernetes.io/version runs. For immediate and rolling",
    )
    soak: Duration = Field(default=600.0, description="Time without trouble after which a version is known good")

    @model_validator(mode="after")
    def _each_strategy_once(self) -> Service:
        names = [strategy.strategy for strategy in self._strategies]
        if len(set(names)) < len(names):
            raise ValueError("alternatives: a strategy is configured twice; configure each once")
        return self

    @model_validator(mode="after")
    def _shows_its_version(self) -> Service:
        if self.deployments == "observed" and self.observed is None:
            what = "immediate or rolling, with release, kubernetes or docker"
            raise ValueError(f"deployments: observed needs a rollback of strategy {what}; report deployments instead")
        return self

    @model_validator(mode="after")
    def _knows_the_namespace_of_its_pods(self) -> Service:
        for i, source in enumerate(self.logs):
            if isinstance(source, PodLogs) and source.kubernetes.namespace is None and self._namespace is None:
                raise ValueError(f"logs[{i}].kubernetes.namespace is missing, and the rollback has none either")
        return self

    @property
    def clients(self) -> set[type[Any]]:
        """The client types that its rollbacks, checks and logs need."""
        return {item.client for item in (*self._resources, *self.health_checks, *self.traffic_checks, *self.logs)}

    @property
    def sources(self) -> tuple[LogSource, ...]:
        """Its log sources; pods without a namespace are in that of the rollback."""
        return tuple(
            source.in_namespace(self._namespace) if isinstance(source, PodLogs) and self._namespace else source
            for source in self.logs
        )

    @property
    def observed(self) -> Resource[Any] | None:
        """The resource that shows which version runs; None if none does."""
        found = self.rollback.chosen if isinstance(self.rollback, OneResource) else None
        return None if isinstance(found, Versioned) and not isinstance(found, Observable) else found

    @property
    def _namespace(self) -> str | None:
        found = (getattr(resource, "namespace", None) for resource in self._resources)
        return next((namespace for namespace in found if namespace), None)

    @property
    def _strategies(self) -> tuple[Strategy, ...]:
        return (self.rollback, *self.alternatives)

    @property
    def _resources(self) -> list[Resource[Any]]:
        return [resource for strategy in self._strategies for resource in resources_of(strategy)]

    def strategy(self, name: str) -> Strategy | None:
        """The configured strategy of that name; the default one for an empty name; None if there is none."""
        return next((strategy for strategy in self._strategies if name in ("", strategy.strategy)), None)

    async def plan(self, gateway: Gateway, version: VersionChange) -> StrategyPlan:
        """The strategy's steps, without the verification. Raises StepFailed if there is no such strategy or no plan."""
        strategy = self.strategy(version.strategy)
        if strategy is None:
            raise StepFailed(f"{self.name} has no strategy {version.strategy!r}")
        return await strategy.plan(gateway, version)

"""A rollback as data: changes of resources, in order, with gates between them."""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

from pydantic import Field, JsonValue

from foundation.durations import Duration, format_duration
from foundation.models import StrictModel
from responder.backends.registries import AnyCheck, AnyResource, GateCheck
from responder.rollback.version_change import VersionChange


class Change(StrictModel):
    """One resource, from `before` to `after`. It is reverted by its inverse."""

    kind: Literal["change"] = "change"
    resource: AnyResource
    before: JsonValue
    after: JsonValue
    one_way: bool = Field(default=False, description="Is never reverted, such as a snapshot or an invalidation")
    irreversible: str = Field(default="", description="Permanent losses; if there are any, another person must approve")
    meanwhile: tuple[AnyCheck, ...] = Field(
        default=(), description="Must hold at every check until the resource has converged; else the plan is reverted"
    )
    every: Duration = Field(
        default=0.5, gt=0, description="Longest pause between two checks for convergence, in seconds"
    )
    temporary: str = Field(default="", description="What it sets until a later step, or its revert, restores it")
    restores: str = Field(default="", description="The temporary value of an earlier step that it restores")
    reverting: bool = Field(default=False, description="Part of a revert: the restored state need not be healthy")

    def inverse(self) -> Change:
        """The change that reverts this one."""
        return self.model_copy(
            update={"before": self.after, "after": self.before, "meanwhile": (), "reverting": not self.reverting}
        )

    def __str__(self) -> str:
        return f"{self.resource}: {self.resource.describe(self.before)} → {self.resource.describe(self.after)}"


class Gate(StrictModel):
    """Checks that must all hold before the next step."""

    kind: Literal["gate"] = "gate"
    name: str
    checks: Annotated[tuple[GateCheck, ...], Field(min_length=1)]
    hold_for: Duration = Field(default=0.0, description="How long they must hold without interruption, in seconds")
    within: Duration = Field(default=60.0, description="Deadline for that, in seconds")
    every: Duration = Field(default=1.0, gt=0, description="Pause between two checks, in seconds")
    otherwise: Literal["revert", "freeze"] = "revert"

    def __str__(self) -> str:
        bake = f" for {format_duration(self.hold_for)}" if self.hold_for else ""
        return f"{self.name}{bake}, within {format_duration(self.within)}"


Step = Annotated[Change | Gate, Field(discriminator="kind")]


class Mitigation(StrictModel):
    """Limits the damage of a version that cannot be removed from users' devices, such as an app."""

    service: str = ""  # set by the planner
    platform: str
    blocked_versions: tuple[str, ...] = ()  # clients of these versions must stop
    min_version: str = ""  # clients below it must stop; empty: unchanged
    flags: dict[str, bool] = Field(default_factory=dict)  # kill switches that clients obey
    remains: str  # what a person must do

    def __str__(self) -> str:
        measures = [f"{', '.join(self.blocked_versions)} blocked"] if self.blocked_versions else []
        measures += [f"at least {self.min_version}"] if self.min_version else []
        measures += [f"{flag} {'on' if on else 'off'}" for flag, on in self.flags.items()]
        return (
            f"{self.platform} ({'; '.join(measures)}): {self.remains}"
            if measures
            else f"{self.platform}: {self.remains}"
        )


class StrategyPlan(StrictModel):
    """The steps of one strategy, and what people should know about them."""

    steps: tuple[Step, ...]
    notes: tuple[str, ...] = ()
    mitigations: tuple[Mitigation, ...] = ()


class ServicePlan(StrictModel):
    """One service's part of a plan: the number of its steps, which follow those of the earlier parts."""

    version: VersionChange
    steps: int


class Plan(StrictModel):
    """Made once, journaled before the first change, and never modified afterwards."""

    parts: Annotated[tuple[ServicePlan, ...], Field(min_length=1)]  # one per service, in the order of the steps
    steps: tuple[Step, ...]  # of all parts, then the verification
    notes: tuple[str, ...] = ()  # for people, such as what would restore the bad version
    mitigations: tuple[Mitigation, ...] = ()  # with any, the outcome is `mitigated`

    @property
    def irreversible(self) -> str:
        """Permanent losses of its changes; empty if every change can be reverted."""
        return "; ".join(step.irreversible for step in self.steps if isinstance(step, Change) and step.irreversible)

    @property
    def hash(self) -> str:
        """Twelve hex digits that an approval names, so that it is valid for exactly these steps.

        It excludes the notes and the reports about platforms: both describe the present and keep changing.
        """
        varying = {"version": {"artifacts", "from_artifacts", "platform_versions"}}
        content = self.model_dump_json(exclude={"notes": True, "parts": {"__all__": varying}})
        return hashlib.sha256(content.encode()).hexdigest()[:12]


def revert_steps(taken: tuple[Step, ...]) -> tuple[Step, ...]:
    """The inverse changes, last step first. Gates are not reverted."""
    return tuple(step.inverse() for step in reversed(taken) if isinstance(step, Change) and not step.one_way)

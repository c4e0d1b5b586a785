"""Which services to roll back for which alerts, in which mode; and the incidents that a body of alerts adds up to."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

from responder.backends.alertmanager.alerts import Alert
from responder.backends.alertmanager.matchers import MatcherText
from responder.config.durations import Duration
from responder.services.service import Name

Mode = Literal["observe", "approve", "auto"]

Action = Literal["roll_back", "preserve_logs"]
"""What a policy can do. Each is the key under which a policy names the services to do it with."""

_OF_ROLLING_BACK = (
    "mode", "force", "together", "deployed_within", "verify", "silence_collateral", "on_stop", "approve_within",
)  # fmt: skip


class Verify(BaseModel):
    """When a rollback counts as verified."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    bake: Duration = Field(
        default=120.0, alias="for", description="How long the service must be healthy without a break"
    )
    within: Duration = Field(default=600.0, gt=0, description="Deadline for that, counted from the last move")
    resolved_within: Duration = Field(
        default=900.0,
        gt=0,
        description="Longest time after a verified rollback until the alerts that opened it must have resolved; else "
        "it did not help. Longer than the windows of your rules",
    )

    @model_validator(mode="after")
    def _fits(self) -> Verify:
        if self.bake > self.within:
            raise ValueError("`for` is longer than `within`: it could never be met")
        return self


class ServiceOfLabel(BaseModel):
    """The configured service that a label of the alert names."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    label: str = Field(min_length=1, description="Name of the label, as service")


def _one_of(value: object) -> str:
    return "<label>" if isinstance(value, dict | ServiceOfLabel) else "<names>"


Wanted = Annotated[
    Annotated[ServiceOfLabel, Tag("<label>")] | Annotated[tuple[Name, ...], Tag("<names>")], Discriminator(_one_of)
]
"""Names of services, or the label that names one."""


class CollateralAlerts(BaseModel):
    """Alerts that a rollback of the service causes; they are silenced while it is carried out, and no longer."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    match: Annotated[
        tuple[MatcherText, ...],
        Field(min_length=1, description="Matchers of the noise; it must not match what the policy itself acts on"),
    ]
    longest: Duration = Field(
        default=900.0, alias="for", gt=0, le=6 * 3600, description="It ends by itself after that, whatever happens"
    )


class Together(BaseModel):
    """Another order than the one that follows from `depends_on`, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    order: Annotated[tuple[Name, ...], Field(min_length=2, description="The services of `roll_back`, first to last")]
    because: str = Field(min_length=1, description="Why; it is in every plan")


class Policy(BaseModel):
    """First match wins, for each alert by itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    match: Annotated[
        tuple[MatcherText, ...], Field(min_length=1, description="Matchers as in Alertmanager; all must match")
    ]
    roll_back: Wanted | None = Field(
        default=None,
        description="Names of services, or {label: service}: the one that the label names, in its environment",
    )
    together: bool | Together = Field(
        default=False,
        description="All services of `roll_back` in one rollback, what needs others first; all of them or none",
    )
    preserve_logs: Wanted | None = Field(
        default=None, description="Services whose logs are kept, whether they are rolled back or not; named likewise"
    )
    mode: Mode = Field(default="observe", description="observe: only say what it would do; approve: ask first; auto")
    force: bool = Field(
        default=False,
        description="Its alert is an engineer's request: passes what a person passes; labels version, strategy",
    )
    cooldown: Duration = Field(default=1800.0, description="Rest after a rollback, from its end, or after keeping logs")
    deployed_within: Duration = Field(default=3600.0, description="Only what changed lately can be rolled back")
    expression: str = Field(
        default="",
        description="PromQL that has a result for the service while the trouble lasts; where it had one before the "
        "deployment already, the deployment is not the cause",
    )
    verify: Verify = Verify()
    silence_collateral: tuple[CollateralAlerts, ...] = Field(
        default=(), description="CollateralAlerts to silence in Alertmanager while it works"
    )
    notify: tuple[Name, ...] | None = Field(
        default=None, description="Channels that hear of it, of those that want to; default: all"
    )
    on_stop: Literal["revert", "hold"] = Field(
        default="revert", description="What a stop does with what was done so far"
    )
    approve_within: Duration = Field(default=900.0, gt=0, description="How long a plan waits for approval")

    @field_validator("roll_back", "preserve_logs")
    @classmethod
    def _names_something(cls, value: Wanted | None) -> Wanted | None:
        if value == ():
            raise ValueError("names no service")
        return value

    @model_validator(mode="after")
    def _does_something(self) -> Policy:
        if not self.actions and not self.notify:
            raise ValueError(f"does nothing: needs one of {', '.join(get_args(Action))}, notify")
        idle = [key for key in _OF_ROLLING_BACK if key in self.model_fields_set]
        if idle and self.roll_back is None:
            raise ValueError(f"rolls nothing back: {', '.join(idle)} would have no effect")
        return self

    @model_validator(mode="after")
    def _goes_together(self) -> Policy:
        named = self.roll_back if isinstance(self.roll_back, tuple) else ()
        if self.together and len(set(named)) < 2:
            raise ValueError("together: `roll_back` must name the services, two at least")
        if isinstance(self.together, Together) and sorted(self.together.order) != sorted(set(named)):
            raise ValueError(f"together: the order must name each of {', '.join(dict.fromkeys(named))} once")
        return self

    @property
    def order(self) -> tuple[tuple[str, ...], str]:
        """The order that is wanted, and why; empty where it follows from `depends_on`."""
        return (self.together.order, self.together.because) if isinstance(self.together, Together) else ((), "")

    @property
    def actions(self) -> tuple[Action, ...]:
        return tuple(action for action in get_args(Action) if getattr(self, action) is not None)

    @property
    def manner(self) -> str:
        """How it acts, in a word: its mode, or what it does where it rolls nothing back."""
        if self.roll_back is None:
            return ", ".join((*self.actions, *(["notify"] if self.notify else [])))
        return "force" if self.force else self.mode

    def services_of(self, alert: Alert, action: Action = "roll_back") -> tuple[str, ...]:
        wanted: ServiceOfLabel | tuple[str, ...] | None = getattr(self, action)
        if isinstance(wanted, ServiceOfLabel):
            return (alert.labels.get(wanted.label, ""),)
        return tuple(dict.fromkeys(wanted or ()))


BY_HAND = Policy.model_validate(
    {"name": "by-hand", "match": ['service=~".+"'], "roll_back": {"label": "service"}, "mode": "auto"}
)
"""The policy of a rollback that a person asks for where no policy of the service says otherwise."""

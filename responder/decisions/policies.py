"""Policies: which services to roll back for which alerts, in which mode."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, get_args

from pydantic import ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

from foundation.durations import Duration
from foundation.models import StrictModel
from responder.backends.alertmanager.matchers import Matchers, all_match
from responder.services.service import Name

Mode = Literal["observe", "approve", "auto"]

Action = Literal["roll_back", "preserve_logs"]
"""The actions of a policy. Each is the key under which a policy names the services it applies to."""

_ROLLBACK_KEYS = (
    "mode", "force", "together", "deployed_within", "verify", "silence_collateral", "on_stop", "approve_within",
)  # fmt: skip


class Verify(StrictModel):
    """When a rollback counts as verified."""

    model_config = ConfigDict(populate_by_name=True)

    bake: Duration = Field(
        default=120.0, alias="for", description="Time that the service must be healthy without interruption"
    )
    within: Duration = Field(default=600.0, gt=0, description="Deadline for that, counted from the last change")
    resolved_within: Duration = Field(
        default=900.0,
        gt=0,
        description="Time after a verified rollback in which its alerts must resolve; otherwise it did not help. "
        "Must be longer than the windows of your rules",
    )

    @model_validator(mode="after")
    def _fits(self) -> Verify:
        if self.bake > self.within:
            raise ValueError("`for` is longer than `within`: no rollback could be verified; make `within` longer")
        return self


class ServiceOfLabel(StrictModel):
    """The configured service that a label of the alert names."""

    label: str = Field(min_length=1, description="Name of the label, such as service")


def _kind_of(value: object) -> str:
    return "<label>" if isinstance(value, dict | ServiceOfLabel) else "<names>"


Services = Annotated[
    Annotated[ServiceOfLabel, Tag("<label>")] | Annotated[tuple[Name, ...], Tag("<names>")], Discriminator(_kind_of)
]
"""Names of services, or the label that names one."""


class CollateralAlerts(StrictModel):
    """Alerts that a rollback of the service causes. They are silenced while it runs."""

    model_config = ConfigDict(populate_by_name=True)

    match: Annotated[Matchers, Field(description="Matchers; they must not match the alerts of the policy itself")]
    longest: Duration = Field(
        default=900.0, alias="for", gt=0, le=6 * 3600, description="Maximum duration of the silence"
    )


class Together(StrictModel):
    """An order that overrides `depends_on`, and why."""

    order: Annotated[tuple[Name, ...], Field(min_length=2, description="The services of `roll_back`, first to last")]
    because: str = Field(min_length=1, description="The reason, shown in every plan")


class Policy(StrictModel):
    """What to do for an alert. The first policy that matches an alert decides."""

    name: Name
    match: Annotated[Matchers, Field(description="Matchers as in Alertmanager; all must match")]
    roll_back: Services | None = Field(
        default=None,
        description="Services, or {label: service} for the service in that label of the alert",
    )
    together: bool | Together = Field(
        default=False,
        description="Roll back all services of `roll_back` by one plan, dependents first: all of them or none",
    )
    preserve_logs: Services | None = Field(
        default=None,
        description="Services whose logs are collected, with or without a rollback; as in `roll_back`",
    )
    mode: Mode = Field(
        default="observe",
        description="observe: only report what it would do; approve: wait for approval; auto: roll back",
    )
    force: bool = Field(
        default=False,
        description="Treat the alert as a person's request, with the labels version and strategy",
    )
    cooldown: Duration = Field(default=1800.0, description="Pause after a rollback, or after logs were collected")
    deployed_within: Duration = Field(default=3600.0, description="Maximum age of a deployment that can be rolled back")
    expression: str = Field(
        default="",
        description="PromQL with a result for the service while the trouble lasts. A result from before the deployment "
        "shows another cause",
    )
    verify: Verify = Verify()
    silence_collateral: tuple[CollateralAlerts, ...] = Field(
        default=(), description="Alerts to silence in Alertmanager while a rollback runs"
    )
    notify: tuple[Name, ...] | None = Field(default=None, description="Channels to notify; default: all")
    on_stop: Literal["revert", "hold"] = Field(
        default="revert", description="Whether a stop reverts or keeps the changes so far"
    )
    approve_within: Duration = Field(default=900.0, gt=0, description="Time that a plan waits for approval")

    @field_validator("roll_back", "preserve_logs")
    @classmethod
    def _names_something(cls, value: Services | None) -> Services | None:
        if value == ():
            raise ValueError("is empty; name at least one service")
        return value

    @model_validator(mode="after")
    def _does_something(self) -> Policy:
        if not self.actions and not self.notify:
            raise ValueError(f"has no effect: set one of {', '.join(get_args(Action))}, notify")
        idle = [key for key in _ROLLBACK_KEYS if key in self.model_fields_set]
        if idle and self.roll_back is None:
            raise ValueError(f"has no `roll_back`, so {', '.join(idle)} would have no effect")
        return self

    @model_validator(mode="after")
    def _orders_all_services(self) -> Policy:
        named = self.roll_back if isinstance(self.roll_back, tuple) else ()
        if self.together and len(set(named)) < 2:
            raise ValueError("together: `roll_back` must name at least two services")
        if isinstance(self.together, Together) and sorted(self.together.order) != sorted(set(named)):
            raise ValueError(f"together: the order must name each of {', '.join(dict.fromkeys(named))} once")
        return self

    @property
    def order(self) -> tuple[tuple[str, ...], str]:
        """The configured order of the services, and why; empty if `depends_on` decides."""
        return (self.together.order, self.together.because) if isinstance(self.together, Together) else ((), "")

    @property
    def actions(self) -> tuple[Action, ...]:
        """The actions of the policy besides notifications."""
        return tuple(action for action in get_args(Action) if getattr(self, action) is not None)

    @property
    def manner(self) -> str:
        """The value `force` or the mode; without `roll_back`, the actions."""
        if self.roll_back is None:
            return ", ".join((*self.actions, *(["notify"] if self.notify else [])))
        return "force" if self.force else self.mode

    def services_of(self, labels: Mapping[str, str], action: Action = "roll_back") -> tuple[str, ...]:
        """The services to act on for an alert. A label that the alert lacks names the service `""`."""
        services: ServiceOfLabel | tuple[str, ...] | None = getattr(self, action)
        if isinstance(services, ServiceOfLabel):
            return (labels.get(services.label, ""),)
        return tuple(dict.fromkeys(services or ()))


BY_HAND = Policy.model_validate(
    {"name": "by-hand", "match": ['service=~".+"'], "roll_back": {"label": "service"}, "mode": "auto"}
)
"""The policy of a manual rollback of a service without its own policy."""


class PolicyIndex:
    """Finds the first policy that matches an alert, without trying those whose labels differ.

    Each policy is listed once, by the most selective of its matchers with `=`.
    """

    def __init__(self, policies: Sequence[Policy]) -> None:
        self._policies = tuple(policies)
        equal = [{(m.name, m.value) for m in policy.match if m.op == "="} for policy in policies]
        uses = Counter(pair for pairs in equal for pair in pairs)
        self._listed: dict[str, dict[str, list[int]]] = {}
        self._rest: list[int] = []
        for number, pairs in enumerate(equal):
            if pairs:
                name, value = min(pairs, key=lambda pair: (uses[pair], pair))
                self._listed.setdefault(name, {}).setdefault(value, []).append(number)
            else:
                self._rest.append(number)

    def first(self, labels: Mapping[str, str]) -> Policy | None:
        """The first policy that matches; None if none does."""
        numbers = list(self._rest)
        for name, by_value in self._listed.items():
            numbers += by_value.get(labels.get(name, ""), ())
        candidates = (self._policies[number] for number in sorted(numbers))
        return next((policy for policy in candidates if all_match(policy.match, labels)), None)

"""Which services to roll back for which alerts, in which mode; and the incidents that a body of alerts adds up to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

from responder.backends.alertmanager.alerts import Alert
from responder.backends.alertmanager.matchers import MatcherText, all_match
from responder.config.durations import Duration
from responder.decisions.freeze_windows import Freeze
from responder.decisions.limits import Limits, Watchdog
from responder.services.service import Name, Service

Mode = Literal["observe", "approve", "auto"]

Action = Literal["roll_back", "preserve_logs"]
"""What a policy can do. Each is the key under which a policy names the services to do it with."""

_OF_ROLLING_BACK = ("mode", "force", "together", "deployed_within", "verify", "silence", "on_stop", "approve_within")


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


class PolicySet(BaseModel):
    """All that the responder may do: which services it knows, on whose behalf it acts, and what holds it back."""

    model_config = ConfigDict(frozen=True)

    services: tuple[Service, ...] = ()
    policies: tuple[Policy, ...] = ()
    stop_file: Path | None = None
    limits: Limits = Limits()
    freezes: tuple[Freeze, ...] = ()
    watchdog: Watchdog | None = None

    def is_watchdog(self, alert: Alert) -> bool:
        return self.watchdog is not None and all_match(self.watchdog.match, alert.labels)

    def needs(self, service: Service) -> list[Service]:
        """Everything that a service depends on, near and far. The configuration has no rings."""
        found: list[Service] = []
        for name in service.depends_on:
            needed, _ = self.service(name, service.environment)
            if needed is not None:
                found += [dependency for dependency in (needed, *self.needs(needed)) if dependency not in found]
        return found

    def one_trouble(self, incident: Incident) -> set[str]:
        """The service, what its policy rolls back with it, and what depends on it: a cause and its symptoms."""
        named = incident.policy.roll_back if isinstance(incident.policy.roll_back, tuple) else ()
        service, _ = self.service(incident.service, incident.environment)
        symptoms = {s.name for s in self.services if service is not None and service in self.needs(s)}
        return {incident.service, *incident.together, *named, *symptoms}

    def policy(self, name: str) -> Policy:
        """The policy of that name; what a person asked for has one of its own."""
        return next((p for p in self.policies if p.name == name), BY_HAND)

    def service(self, name: str, environment: str) -> tuple[Service | None, str]:
        """The configured service, or why there is none. Without an environment it must be the only one of its name."""
        named = [s for s in self.services if s.name == name]
        if not name:
            return None, "the alert does not name a service"
        if not named:
            return None, f"no service {name!r} is configured"
        if environment:
            exact = [s for s in named if s.environment == environment]
            return (exact[0], "") if exact else (None, f"{name} is not configured in the environment {environment!r}")
        if len(named) > 1:
            places = ", ".join(s.environment for s in named)
            return None, f"no environment is named, and {name} is configured in {places}"
        return named[0], ""

    def stop_file_says(self) -> str:
        """Why the stop file stops us; empty where there is none. Its presence is enough."""
        return f"the stop file {self.stop_file} exists" if self.stop_file and self.stop_file.exists() else ""


class Incident(BaseModel):
    """One episode: a policy, a service, and the alerts that opened it; or a person who asks for the rollback."""

    model_config = ConfigDict(frozen=True)

    policy: Policy
    action: Action = "roll_back"
    service: str
    environment: str
    alerts: tuple[Alert, ...] = ()
    received_at: datetime
    truncated_alerts: int = 0
    requested_by: str = "alertmanager"
    reason: str = ""
    forced: bool = False
    version: str | None = None  # where a person names the version to go back to
    strategy: str | None = None  # where a person names one of the service's strategies
    together: tuple[str, ...] = ()  # every service of one rollback of several, this one too

    @property
    def members(self) -> tuple[Incident, ...]:
        """One for each service of the rollback; this one is the first."""
        others = [name for name in self.together if name != self.service]
        cleared = {"version": None, "strategy": None}
        return (self, *(self.model_copy(update={"service": name, **cleared}) for name in others))

    @property
    def by_name(self) -> bool:
        """Whether a person asks by our own API, who is known by name; everything else must be firing now."""
        return not self.alerts

    @property
    def id(self) -> str:
        """The same for the same trouble however often it is sent: policy, service and the alert that came first."""
        if not self.alerts:
            return f"by-hand-{self.received_at:%Y%m%d%H%M%S%f}"
        first = min(self.alerts, key=lambda alert: (alert.starts_at, alert.fingerprint))
        parts = [self.policy.name, self.service, self.environment, first.fingerprint, first.starts_at.isoformat()]
        parts += [] if self.action == "roll_back" else [self.action]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]

    @property
    def title(self) -> str:
        """What happened, in a few words."""
        if self.reason:
            return self.reason
        names = sorted({alert.name for alert in self.alerts})
        return f"{', '.join(names[:3])}{' …' if len(names) > 3 else ''} on {self.service} in {self.environment}"


class _Key(NamedTuple):
    policy: str
    action: Action
    service: str
    environment: str
    forced: bool
    version: str | None
    strategy: str | None
    together: tuple[str, ...]


def _reason(alerts: Iterable[Alert]) -> str:
    """What the engineer wrote. Who it was cannot be told from an alert, so nobody is named."""
    reasons = (alert.annotations.get("reason", "").strip() for alert in alerts)
    return next((reason[:1000] for reason in reasons if reason), "")


def only_told(alerts: Sequence[Alert], policies: Sequence[Policy]) -> list[tuple[Policy, list[Alert]]]:
    """The firing alerts that their policy only wants told, by policy, name, service and environment."""
    found: dict[tuple[str, ...], tuple[Policy, list[Alert]]] = {}
    for alert in alerts:
        policy = next((p for p in policies if all_match(p.match, alert.labels)), None)
        if alert.status == "firing" and policy is not None and not policy.actions:
            where = (alert.labels.get("service", ""), alert.labels.get("environment", ""))
            found.setdefault((policy.name, alert.name, *where), (policy, []))[1].append(alert)
    return list(found.values())


def match_alerts(
    alerts: Sequence[Alert], policies: Sequence[Policy], received_at: datetime, *, sender: str, truncated: int = 0
) -> tuple[list[Incident], list[Alert]]:
    """Incidents of the firing alerts, and the firing alerts that no policy wants. Each alert is looked at by itself."""
    found: dict[_Key, dict[tuple[str, datetime], Alert]] = {}
    by_name = {policy.name: policy for policy in policies}
    unwanted = []
    for alert in alerts:
        if alert.status != "firing":
            continue
        policy = next((p for p in policies if all_match(p.match, alert.labels)), None)
        if policy is None:
            unwanted.append(alert)
            continue
        environment = alert.labels.get("environment", "")
        for action, service in ((a, s) for a in policy.actions for s in policy.services_of(alert, a)):
            forced = policy.force and action == "roll_back"
            requested = (alert.labels.get("version"), alert.labels.get("strategy")) if forced else (None, None)
            together = policy.services_of(alert) if policy.together and action == "roll_back" else ()
            if together and service != together[0]:
                continue  # it goes with the first
            key = _Key(policy.name, action, service, environment, forced, *requested, together)
            found.setdefault(key, {})[alert.fingerprint, alert.starts_at] = alert
    incidents = [
        Incident(
            policy=by_name[key.policy],
            action=key.action,
            service=key.service,
            environment=key.environment,
            alerts=tuple(members.values()),
            received_at=received_at,
            truncated_alerts=truncated,
            requested_by=sender,
            reason=_reason(members.values()) if key.forced else "",
            forced=key.forced,
            version=key.version,
            strategy=key.strategy,
            together=key.together,
        )
        for key, members in found.items()
    ]
    return incidents, unwanted

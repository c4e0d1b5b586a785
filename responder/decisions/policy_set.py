"""Everything that the responder may do: its services, its policies and their limits."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from foundation.configuration.suggestions import meant
from foundation.configuration.yaml_document import Mistake
from foundation.models import FrozenModel
from responder.backends.alertmanager.matchers import all_match
from responder.decisions.freeze_windows import Freeze
from responder.decisions.incidents import Incident
from responder.decisions.limits import Limits, Watchdog
from responder.decisions.policies import BY_HAND, Policy, PolicyIndex, ServiceOfLabel
from responder.services.service import Service


class PolicySet(FrozenModel):
    """Services, policies, limits, freeze windows and the watchdog of one configuration."""

    services: tuple[Service, ...] = ()
    policies: tuple[Policy, ...] = ()
    stop_file: Path | None = None
    limits: Limits = Limits()
    freezes: tuple[Freeze, ...] = ()
    watchdog: Watchdog | None = None

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy without the indexes of the original, which may differ from the updated fields."""
        copied = super().model_copy(update=update, deep=deep)
        for name in copied.__dict__.keys() - type(self).model_fields.keys():
            del copied.__dict__[name]
        return copied

    def is_watchdog(self, labels: Mapping[str, str]) -> bool:
        return self.watchdog is not None and all_match(self.watchdog.match, labels)

    @cached_property
    def index(self) -> PolicyIndex:
        """Finds policies by the labels of alerts."""
        return PolicyIndex(self.policies)

    @cached_property
    def used_labels(self) -> tuple[str, ...]:
        """The labels that decide what an alert leads to, by policy, service and environment."""
        matchers = [matcher for policy in self.policies for matcher in policy.match]
        matchers += self.watchdog.match if self.watchdog else ()
        named = {policy.roll_back.label for policy in self.policies if isinstance(policy.roll_back, ServiceOfLabel)}
        return tuple(sorted({"environment", *named, *(matcher.name for matcher in matchers)}))

    @cached_property
    def _named(self) -> dict[str, dict[str, Service]]:
        """The services by name and environment; of duplicates the first."""
        found: dict[str, dict[str, Service]] = {}
        for service in self.services:
            found.setdefault(service.name, {}).setdefault(service.environment, service)
        return found

    @cached_property
    def _dependents(self) -> dict[tuple[str, str], set[str]]:
        """The names of the services that depend on a service, directly or indirectly."""
        found: dict[tuple[str, str], set[str]] = {}
        for service in self.services:
            for needed in self.needs(service):
                found.setdefault((needed.name, needed.environment), set()).add(service.name)
        return found

    @cached_property
    def _requiring(self) -> dict[tuple[str, str], set[str]]:
        """The names of the services that require some versions of a service."""
        found: dict[tuple[str, str], set[str]] = {}
        for service in self.services:
            for name in service.requires:
                found.setdefault((name, service.environment), set()).add(service.name)
        return found

    def concerned(self, service: Service, names: Iterable[str]) -> Iterator[Service]:
        """Other services of the environment that have one of these names, or require versions of this service."""
        requiring = self._requiring.get((service.name, service.environment), set())
        for name in sorted({*names, *requiring} - {service.name}):
            if other := self._named.get(name, {}).get(service.environment):
                yield other

    def needs(self, service: Service) -> list[Service]:
        """All direct and indirect dependencies of a service. The configuration has no cycles."""
        found: dict[str, Service] = {}
        for name in service.depends_on:
            needed, _ = self.service(name, service.environment)
            if needed is not None:
                found |= {dependency.name: dependency for dependency in (needed, *self.needs(needed))}
        return list(found.values())

    def connected_services(self, incident: Incident) -> set[str]:
        """Services that can share a cause: this one, those that its policy names, and its dependents."""
        named = incident.policy.roll_back if isinstance(incident.policy.roll_back, tuple) else ()
        service, _ = self.service(incident.service, incident.environment)
        symptoms = self._dependents.get((service.name, service.environment), set()) if service else set()
        return {incident.service, *incident.together, *named, *symptoms}

    def policy(self, name: str) -> Policy:
        """The policy of that name; BY_HAND if there is none."""
        return next((p for p in self.policies if p.name == name), BY_HAND)

    def service(self, name: str, environment: str) -> tuple[Service | None, str]:
        """The configured service, or why there is none. Without an environment, the name must be unique."""
        named = self._named.get(name, {})
        if not name:
            return None, "the alert does not name a service"
        if not named:
            return None, f"no service {name!r} is configured"
        if environment:
            exact = named.get(environment)
            return (exact, "") if exact else (None, f"{name} is not configured in the environment {environment!r}")
        if len(named) > 1:
            return None, f"no environment is named, and {name} is configured in {', '.join(named)}"
        return next(iter(named.values())), ""

    def stop_file_says(self) -> str:
        """Why the stop file stops automation; empty if it does not exist."""
        return f"the stop file {self.stop_file} exists" if self.stop_file and self.stop_file.exists() else ""


def policy_contradictions(
    policies: Sequence[Policy], services: Sequence[Service], *, evidence: bool
) -> Iterator[Mistake]:
    """Duplicate names, unknown services, logs that cannot be preserved, and silences of a policy's own alerts.

    `evidence`: whether a store for evidence is configured.
    """
    first: dict[str, int] = {}
    known = {service.name for service in services}
    without_logs = known - {service.name for service in services if service.logs}
    for i, policy in enumerate(policies):
        if first.setdefault(policy.name, i) != i:
            problem = f"duplicate name {policy.name}, as policies[{first[policy.name]}]; give each its own name"
            yield ("policies", i, "name"), problem
        logs = _logs(policy, without_logs, evidence=evidence)
        for mistakes in (_services(policy, known), logs, _silences(policy)):
            yield from ((("policies", i, *path), problem) for path, problem in mistakes)


def freeze_contradictions(freezes: Sequence[Freeze], services: Sequence[Service]) -> Iterator[Mistake]:
    """Services that are not configured."""
    known = {service.name for service in services}
    for i, freeze in enumerate(freezes):
        for j, name in enumerate(freeze.services):
            yield from _known(("freezes", i, "services", j), name, known)


def _services(policy: Policy, known: Collection[str]) -> Iterator[Mistake]:
    for action in policy.actions:
        named = getattr(policy, action)
        for j, name in enumerate(named if isinstance(named, tuple) else ()):
            yield from _known((action, j), name, known)


def _logs(policy: Policy, without_logs: Collection[str], *, evidence: bool) -> Iterator[Mistake]:
    if policy.preserve_logs is not None and not evidence:
        yield ("preserve_logs",), "no store for the logs; configure `evidence`"
    for j, name in enumerate(policy.preserve_logs if isinstance(policy.preserve_logs, tuple) else ()):
        if name in without_logs:
            yield ("preserve_logs", j), f"service {name} has no `logs` to preserve; add them to the service"


def _silences(policy: Policy) -> Iterator[Mistake]:
    fixed = {matcher.name: matcher.value for matcher in policy.match if matcher.op == "="}
    for j, collateral in enumerate(policy.silence_collateral):
        if all_match(collateral.match, fixed):
            yield ("silence_collateral", j), "silences the alerts that the policy matches; match other alerts"


def _known(path: tuple[int | str, ...], name: str, known: Collection[str]) -> Iterator[Mistake]:
    if name not in known:
        yield path, f"no service {name} is configured{meant(name, known) or '; add it to services'}"

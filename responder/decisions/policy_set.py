"""Everything that the responder may do: its services, its policies and their limits."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from foundation.models import FrozenModel
from foundation.yaml_document import Mistake
from responder.backends.alertmanager.alerts import Alert
from responder.backends.alertmanager.matchers import all_match
from responder.config.text import meant
from responder.decisions.freeze_windows import Freeze
from responder.decisions.incidents import Incident
from responder.decisions.limits import Limits, Watchdog
from responder.decisions.policies import BY_HAND, Policy
from responder.services.service import Service


class PolicySet(FrozenModel):
    """Services, policies, limits, freeze windows and the watchdog of one configuration."""

    services: tuple[Service, ...] = ()
    policies: tuple[Policy, ...] = ()
    stop_file: Path | None = None
    limits: Limits = Limits()
    freezes: tuple[Freeze, ...] = ()
    watchdog: Watchdog | None = None

    def is_watchdog(self, alert: Alert) -> bool:
        return self.watchdog is not None and all_match(self.watchdog.match, alert.labels)

    def needs(self, service: Service) -> list[Service]:
        """All direct and indirect dependencies of a service. The configuration has no cycles."""
        found: list[Service] = []
        for name in service.depends_on:
            needed, _ = self.service(name, service.environment)
            if needed is not None:
                found += [dependency for dependency in (needed, *self.needs(needed)) if dependency not in found]
        return found

    def connected_services(self, incident: Incident) -> set[str]:
        """Services that can share a cause: this one, those that its policy names, and its dependents."""
        named = incident.policy.roll_back if isinstance(incident.policy.roll_back, tuple) else ()
        service, _ = self.service(incident.service, incident.environment)
        symptoms = {s.name for s in self.services if service is not None and service in self.needs(s)}
        return {incident.service, *incident.together, *named, *symptoms}

    def policy(self, name: str) -> Policy:
        """The policy of that name; BY_HAND if there is none."""
        return next((p for p in self.policies if p.name == name), BY_HAND)

    def service(self, name: str, environment: str) -> tuple[Service | None, str]:
        """The configured service, or why there is none. Without an environment, the name must be unique."""
        named = [s for s in self.services if s.name == name]
        if not name:
            return None, "the alert does not name a service"
        if not named:
            return None, f"no service {name!r} is configured"
        if environment:
            exact = [s for s in named if s.environment == environment]
            return (exact[0], "") if exact else (None, f"{name} is not configured in the environment {environment!r}")
        if len(named) > 1:
            environments = ", ".join(s.environment for s in named)
            return None, f"no environment is named, and {name} is configured in {environments}"
        return named[0], ""

    def stop_file_says(self) -> str:
        """Why the stop file stops automation; empty if it does not exist."""
        return f"the stop file {self.stop_file} exists" if self.stop_file and self.stop_file.exists() else ""


def policy_contradictions(
    policies: Sequence[Policy], services: Sequence[Service], *, evidence: bool
) -> Iterator[Mistake]:
    """Duplicate names, unknown services, logs that cannot be preserved, and silences of a policy's own alerts.

    `evidence`: whether a store for evidence is configured.
    """
    for i, policy in enumerate(policies):
        if any(policy.name == earlier.name for earlier in policies[:i]):
            yield ("policies", i, "name"), f"duplicate name {policy.name}"
        for mistakes in (_services(policy, services), _logs(policy, services, evidence=evidence), _silences(policy)):
            yield from ((("policies", i, *path), problem) for path, problem in mistakes)


def freeze_contradictions(freezes: Sequence[Freeze], services: Sequence[Service]) -> Iterator[Mistake]:
    """Services that are not configured."""
    for i, freeze in enumerate(freezes):
        for j, name in enumerate(freeze.services):
            yield from _known(("freezes", i, "services", j), name, {service.name for service in services})


def _services(policy: Policy, services: Sequence[Service]) -> Iterator[Mistake]:
    for action in policy.actions:
        named = getattr(policy, action)
        for j, name in enumerate(named if isinstance(named, tuple) else ()):
            yield from _known((action, j), name, {service.name for service in services})


def _logs(policy: Policy, services: Sequence[Service], *, evidence: bool) -> Iterator[Mistake]:
    if policy.preserve_logs is not None and not evidence:
        yield ("preserve_logs",), "no store for the logs: configure `evidence`"
    for j, name in enumerate(policy.preserve_logs if isinstance(policy.preserve_logs, tuple) else ()):
        candidates = [service for service in services if service.name == name]
        if candidates and not any(service.logs for service in candidates):
            yield ("preserve_logs", j), f"service {name} has no `logs` to preserve"


def _silences(policy: Policy) -> Iterator[Mistake]:
    fixed = {matcher.name: matcher.value for matcher in policy.match if matcher.op == "="}
    for j, collateral in enumerate(policy.silence_collateral):
        if all_match(collateral.match, fixed):
            yield ("silence_collateral", j), "silences the alerts that the policy matches"


def _known(path: tuple[int | str, ...], name: str, known: Collection[str]) -> Iterator[Mistake]:
    if name not in known:
        yield path, f"no service {name} is configured{meant(name, known)}"

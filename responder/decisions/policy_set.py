"""Everything that the responder may do: its services, its policies, and what limits them."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from responder.backends.alertmanager.alerts import Alert
from responder.backends.alertmanager.matchers import all_match
from responder.decisions.freeze_windows import Freeze
from responder.decisions.incidents import Incident
from responder.decisions.limits import Limits, Watchdog
from responder.decisions.policies import BY_HAND, Policy
from responder.services.service import Service


class PolicySet(BaseModel):
    """Services, policies, limits, freeze windows and the watchdog of one configuration."""

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
        """All direct and indirect dependencies of a service. The configuration has no cycles."""
        found: list[Service] = []
        for name in service.depends_on:
            needed, _ = self.service(name, service.environment)
            if needed is not None:
                found += [dependency for dependency in (needed, *self.needs(needed)) if dependency not in found]
        return found

    def connected_services(self, incident: Incident) -> set[str]:
        """Services whose trouble has the same cause: this one, those that its policy names, and its dependents."""
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

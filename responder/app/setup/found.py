"""The services that a setup is for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from foundation.configuration.suggestions import meant
from responder.errors import Invalid

NAME = r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?"
"""Names of services and environments."""


@dataclass(frozen=True)
class FoundService:
    """A service and how it is rolled back. Without `health_url`, its other `checks` show whether it is healthy."""

    name: str
    rollback: dict[str, Any]
    health_url: str = ""
    checks: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class FoundServices:
    """The services of a project or namespace, and why others were left out."""

    services: tuple[FoundService, ...]
    left_out: dict[str, str] = field(default_factory=dict)

    def only(self, names: Sequence[str], where: str) -> FoundServices:
        """These services, or all if no name is given. Raises Invalid if there are none."""
        known = {service.name: service for service in self.services}
        for name in names:
            if name in self.left_out:
                raise Invalid(f"--service {name}: {self.left_out[name]}")
            if name not in known:
                raise Invalid(f"--service {name}: not in {where}{meant(name, known)}")
        chosen = tuple(known[name] for name in names) or self.services
        if not chosen:
            reasons = "".join(f"\n  {name}: {reason}" for name, reason in self.left_out.items())
            raise Invalid(f"{where}: contains no service that can be rolled back{reasons}")
        return FoundServices(chosen, self.left_out)


def with_health_url(services: Iterable[FoundService], url: str) -> tuple[FoundService, ...]:
    """The services with this health check, if there is one. Raises Invalid."""
    services = tuple(services)
    if not url:
        return services
    if len(services) > 1:
        names = ", ".join(service.name for service in services)
        raise Invalid(f"--health-url {url}: is for one service, not for {names} (choose one with --service)")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Invalid(f"--health-url {url}: expected a URL such as http://127.0.0.1:8080/health")
    return (replace(services[0], health_url=url),)

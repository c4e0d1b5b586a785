"""The services and environments that a token or a user may access."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Permitted:
    """Names of services and environments. None means all."""

    services: frozenset[str] | None = None
    environments: frozenset[str] | None = None

    @classmethod
    def of(cls, services: Iterable[str] | None, environments: Iterable[str] | None) -> Permitted:
        return cls(
            None if services is None else frozenset(services),
            None if environments is None else frozenset(environments),
        )

    @property
    def limited(self) -> bool:
        return self.services is not None or self.environments is not None

    def includes(self, service: str, environment: str) -> bool:
        return (self.services is None or service in self.services) and (
            self.environments is None or environment in self.environments
        )

    @property
    def parameters(self) -> dict[str, str | None]:
        """Parameters for SQL: the names as `|a|b|`, in which a query searches for `|a|`. Names contain no `|`."""
        return {"services": _joined(self.services), "environments": _joined(self.environments)}


EVERYTHING = Permitted()


def _joined(names: frozenset[str] | None) -> str | None:
    return None if names is None else f"|{'|'.join(sorted(names))}|"

"""Mistakes across the services of a configuration."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from foundation.configuration.suggestions import meant
from foundation.configuration.yaml_document import Mistake
from responder.backends.postgres.checks import database_of
from responder.backends.postgres.schema_revision import SchemaRevision
from responder.backends.postgres.snapshots.resource import Snapshot
from responder.rollback.strategies import checks_of, resources_of
from responder.services.service import Service


def contradictions(
    services: Sequence[Service], *, databases: Sequence[str], snapshots: Sequence[str]
) -> Iterator[Mistake]:
    """Duplicate names, unknown dependencies, cycles, and databases or snapshot stores that are not configured."""
    indexes: dict[tuple[str, str], int] = {}
    dependencies: dict[str, dict[str, Collection[str]]] = {}
    for service in services:
        dependencies.setdefault(service.environment, {})[service.name] = service.depends_on
    for i, service in enumerate(services):
        first = indexes.setdefault((service.name, service.environment), i)
        if first != i:
            problem = f"{service.name} in {service.environment} is already services[{first}]; rename or remove one"
            yield ("services", i, "name"), problem
        for mistakes in (
            _dependencies(service, dependencies[service.environment]),
            _snapshots(service, databases, snapshots),
            _databases(service, databases),
        ):
            yield from ((("services", i, *path), problem) for path, problem in mistakes)


def _dependencies(service: Service, beside: Mapping[str, Collection[str]]) -> Iterator[Mistake]:
    """`beside`: the dependencies of each service of the environment."""
    if not service.environment:  # it is wrong, and reported as such
        return
    named: list[Mistake] = [
        *((("depends_on", j), name) for j, name in enumerate(service.depends_on)),
        *((("requires", name), name) for name in service.requires),
    ]
    for path, name in named:
        if name not in beside:
            fix = meant(name, beside) or "; add it to services, or correct the name"
            yield path, f"no service {name} is configured in {service.environment}{fix}"
    if cycle := _cycle(service, beside):
        yield ("depends_on",), f"cycle: {' → '.join(cycle)}; remove one of these dependencies"


def _cycle(start: Service, dependencies: Mapping[str, Collection[str]]) -> list[str]:
    paths, seen = [[start.name]], set()
    while paths:
        path = paths.pop()
        for name in dependencies.get(path[-1], ()):
            if name == start.name:
                return [*path, name]
            if name not in seen:
                seen.add(name)
                paths.append([*path, name])
    return []


def _snapshots(service: Service, databases: Sequence[str], snapshots: Sequence[str]) -> Iterator[Mistake]:
    for strategy in (service.rollback, *service.alternatives):
        for resource in resources_of(strategy):
            if isinstance(resource, Snapshot):
                for problem in resource.not_configured(databases=list(databases), snapshots=list(snapshots)):
                    yield ("rollback",), problem


def _databases(service: Service, databases: Sequence[str]) -> Iterator[Mistake]:
    strategies = (service.rollback, *service.alternatives)
    checks = (*service.health_checks, *service.traffic_checks, *(c for s in strategies for c in checks_of(s)))
    resources = [resource for strategy in strategies for resource in resources_of(strategy)]
    named = {resource.database for resource in resources if isinstance(resource, SchemaRevision)}
    for name in sorted({*named, *map(database_of, checks)}):
        if name and name not in databases:
            fix = meant(name, databases) or "; add it to databases, or correct the name"
            yield (), f"no database {name} is configured{fix}"

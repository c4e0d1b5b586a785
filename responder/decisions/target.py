"""Chooses the version to roll back to, and checks whether it works with the versions of other services."""

from __future__ import annotations

from responder.config.versions import within
from responder.decisions.facts import Candidate
from responder.decisions.incidents import Incident
from responder.decisions.policy_set import PolicySet
from responder.journal import Transaction, deployments
from responder.journal.deployments import Deployment
from responder.services.service import Service


async def choose_target(tx: Transaction, incident: Incident, running: Deployment) -> Candidate | None:
    """The version that a person named, whatever its status; else the last known good one. None if there is none."""
    where = {"service": running.service, "environment": running.environment}
    if incident.version is not None:
        row = await tx.first("version", **where, version=incident.version)
        return Candidate.model_validate(dict(row)) if row else None
    row = await tx.first("good_target", **where, running=running.version)
    return Candidate(version=row["version"], artifact=row["artifact"], status="good") if row else None


async def incompatibilities(
    tx: Transaction, incident: Incident, policy_set: PolicySet, service: Service, target: Candidate
) -> tuple[str, ...]:
    """Every requirement that would be violated after the rollback, with its reason.

    It covers what the target requires of other services, and what all versions that run afterwards, on any platform,
    require of this service.
    """
    planned = {service.name: target.version, **await _targets_of_others(tx, incident, service)}
    own = await _unmet_by_others(tx, service, target.version, planned)
    required = await _required_of(tx, policy_set, service, planned)
    problems = [
        _problem(name, f"{version} on {platform}" if platform else version, service.name, target.version, versions)
        for (name, version), (platform, versions) in sorted(required.items())
    ]
    return tuple(problem for problem in (*own, *problems) if problem)


async def _targets_of_others(tx: Transaction, incident: Incident, service: Service) -> dict[str, str]:
    """The versions to which the other services of the same rollback return."""
    planned: dict[str, str] = {}
    for member in incident.members:
        if member.service == service.name:
            continue
        newest = await deployments.newest(tx, member.service, service.environment)
        if newest and (target := await choose_target(tx, member, newest)):
            planned[member.service] = target.version
    return planned


async def _unmet_by_others(tx: Transaction, service: Service, version: str, planned: dict[str, str]) -> list[str]:
    """What this version requires of other services and would be missing."""
    problems = []
    for needed, versions in sorted((await _requirements(tx, service, version)).items()):
        newest = await deployments.newest(tx, needed, service.environment)
        found = planned.get(needed) or (newest.version if newest else None)
        problems.append(_problem(service.name, version, needed, found, versions))
    return problems


async def _required_of(
    tx: Transaction, policy_set: PolicySet, service: Service, planned: dict[str, str]
) -> dict[tuple[str, str], tuple[str, str]]:
    """What others require of this service afterwards: platform and versions, by service and version."""
    where = {"environment": service.environment, "needs": service.name}
    reported = await tx.all("requirements_on", **where) if await tx.first("has_dependents", **where) else []
    required: dict[tuple[str, str], tuple[str, str]] = {}
    for row in reported:  # the rows of a service as a whole come first
        if row["service"] not in planned and not _is_blocked(row["platform"], row["status"]):
            required.setdefault((row["service"], row["version"]), (row["platform"], row["versions"]))
    for other in policy_set.concerned(service, planned):
        for version, platform in (await _versions_afterwards(tx, other, planned.get(other.name))).items():
            if versions := (await _requirements(tx, other, version)).get(service.name):
                required[other.name, version] = platform, versions
    return required


async def _versions_afterwards(tx: Transaction, service: Service, planned: str | None) -> dict[str, str]:
    """The versions of a service that run afterwards, each with its platform if that is at another version."""
    where = (service.name, service.environment)
    newest = await deployments.newest(tx, *where)
    if newest is None:
        return {}
    elsewhere = {
        deployment.version: deployment.platform
        for deployment in await deployments.on_platforms(tx, *where)
        if deployment.version != newest.version and not _is_blocked(deployment.platform, deployment.status)
    }
    return {**elsewhere, planned or newest.version: ""}


def _is_blocked(platform: str, status: str | None) -> bool:
    """Clients of a bad version are blocked: those who still have it do not count."""
    return bool(platform) and status == "bad"


async def _requirements(tx: Transaction, service: Service, version: str) -> dict[str, str]:
    """The requirement reported for this version of each service, else the one configured for all versions."""
    rows = await tx.all("requirements_of", service=service.name, environment=service.environment, version=version)
    return {**service.requires, **{str(row["needs"]): str(row["versions"]) for row in rows}}


def _problem(name: str, version: str, needed: str, found: str | None, versions: str) -> str:
    """Why the requirement is not met; empty if it is."""
    requirement = f"{name} {version} works with {needed} {versions}"
    if found is None:
        return f"{requirement}, and the running version of {needed} is unknown"
    match within(found, versions):
        case True:
            return ""
        case False:
            return f"{requirement}, and {needed} would be {found}"
    return f"{requirement}, and {found} cannot be compared with that range"

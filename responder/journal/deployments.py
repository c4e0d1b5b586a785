"""Deployments in the journal, and the running versions."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from foundation.models import FrozenModel
from responder.backends.alertmanager.alerts import Timestamp
from responder.config.permitted import Permitted
from responder.errors import Unknown
from responder.journal.database import Row, Transaction
from responder.rollback.version_change import VersionChange

Status = Literal["candidate", "good", "suspect", "bad", "retired"]
"""candidate: new; good: ran for the soak time without trouble; suspect: a rollback did not help; bad: was rolled back;
retired: no longer available.
"""


class Deployment(FrozenModel):
    """One deployment of a version to an environment of a service, or to one of its platforms."""

    id: str
    service: str
    environment: str
    version: str
    platform: str = ""  # empty: the service as a whole
    artifact: str = ""
    provenance: str = ""  # the URL of the pipeline run that built it
    at: Timestamp  # by the clock of the database; later than every earlier deployment of the service
    reported_at: Timestamp | None = None  # the reporter's own time, for information
    recorded_by: str
    rolled_back_by: str | None = None  # the execution that made it, if any
    status: Status | None = Field(default=None, description="of its version, if known")


async def hold(tx: Transaction, *places: tuple[str, str]) -> None:
    """Locks services until the transaction ends: no other deployment, mark or decision about them can occur in between.

    Each is a service and its environment. Lock several in one call, which always uses the same order.
    """
    for service, environment in sorted(set(places)):
        await tx.lock(f"{service}/{environment}")


def possible_ids(reported: str, service: str, environment: str) -> tuple[str, str]:
    """The deployment IDs of one report. If it covers several services, each after the first gets its own ID."""
    return reported, f"{reported}-{service}-{environment}"


async def history(tx: Transaction, service: str, environment: str | None, most: int) -> dict[str, list[Row]]:
    """All marks and requirements of the versions of a service, newest first."""
    where = {"service": service, "environment": environment, "most": most}
    return {"marks": await tx.all("marks", **where), "requirements": await tx.all("requirement_changes", **where)}


async def running(tx: Transaction) -> list[Deployment]:
    """The latest deployment of every service, with the status of its version."""
    return [Deployment.model_validate(row) for row in await tx.all("running")]


async def running_candidates(tx: Transaction) -> list[Deployment]:
    """The latest deployment of every service whose version is a candidate."""
    return [Deployment.model_validate(row) for row in await tx.all("running_candidates")]


async def newest(tx: Transaction, service: str, environment: str, platform: str = "") -> Deployment | None:
    """The deployment that was recorded last; None if none was reported."""
    row = await tx.first("running_deployment", service=service, environment=environment, platform=platform)
    return Deployment.model_validate(row) if row else None


async def on_platforms(tx: Transaction, service: str, environment: str) -> list[Deployment]:
    """The latest deployment on each platform that was reported."""
    found = await tx.all("running_on_platforms", service=service, environment=environment)
    return [Deployment.model_validate(row) for row in found]


async def artifacts(tx: Transaction, service: str, environment: str, version: str) -> dict[str, str]:
    """The artifact of a version on each platform that was reported."""
    found = await tx.all("artifacts_of_version", service=service, environment=environment, version=version)
    return {row["platform"]: row["artifact"] for row in found}


async def with_platforms(tx: Transaction, version: VersionChange) -> VersionChange:
    """The version change with the reports of each platform: artifacts and running version."""
    service, environment = version.service, version.environment
    found = {
        "artifacts": {**version.artifacts, **await artifacts(tx, service, environment, version.to_version)},
        "from_artifacts": {**version.from_artifacts, **await artifacts(tx, service, environment, version.from_version)},
        "platform_versions": {runs.platform: runs.version for runs in await on_platforms(tx, service, environment)},
    }
    return version.model_copy(update=found)


async def get(tx: Transaction, deployment: Deployment) -> Deployment:
    """The recorded deployment with this ID. Raises Unknown."""
    where = {"service": deployment.service, "environment": deployment.environment, "platform": deployment.platform}
    for known_as in possible_ids(deployment.id, deployment.service, deployment.environment):
        row = await tx.first("platform_deployment" if deployment.platform else "deployment", **where, id=known_as)
        if row and (row["service"], row["environment"]) == (deployment.service, deployment.environment):
            return Deployment.model_validate(row)
    raise Unknown(f"deployment {deployment.id} does not exist")


async def find(tx: Transaction, service: str | None, environment: str | None, most: int) -> list[Row]:
    """Deployments, newest first; of one service, of one environment, or all."""
    if service is None:
        query = "deployments" if environment is None else "deployments_in"
        return await tx.all(query, environment=environment, most=most)
    every = await tx.all("environments_of", service=service) if environment is None else [{"environment": environment}]
    found = [
        row
        for found_in in every
        for row in await tx.all("deployments_of", service=service, environment=found_in["environment"], most=most)
    ]
    return sorted(found, key=lambda row: (row["at"], row["id"]), reverse=True)[:most]


async def find_permitted(
    tx: Transaction, service: str | None, environment: str | None, most: int, permitted: Permitted
) -> list[Row]:
    """Like `find`, limited to permitted services and environments."""
    services: list[str | None] = [service] if service else [*sorted(permitted.services or ())] or [None]
    environments: list[str | None] = [environment] if environment else [*sorted(permitted.environments or ())] or [None]
    found = [row for name in services for where in environments for row in await find(tx, name, where, most)]
    found = [row for row in found if permitted.includes(row["service"], row["environment"])]
    return sorted(found, key=lambda row: (row["at"], row["id"]), reverse=True)[:most]

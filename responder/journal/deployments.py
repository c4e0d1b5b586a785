"""What was deployed where and when, and what is known of each version."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from responder.backends.alertmanager.alerts import Timestamp
from responder.config.permitted import Permitted
from responder.errors import Unknown
from responder.journal.database import Row, Transaction
from responder.rollback.version_change import VersionChange

Status = Literal["candidate", "good", "suspect", "bad", "retired"]
"""candidate: new; good: ran its time without trouble; suspect: a rollback did not help; bad: rolled back from; retired:
no longer to be had, which is no fault of its own.
"""


class Deployment(BaseModel):
    """One version put into one environment of a service, or onto one of its platforms."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    service: str
    environment: str
    version: str
    platform: str = ""  # empty: the service as a whole
    artifact: str = ""
    provenance: str = ""  # who built it, as the address of a pipeline's run
    at: Timestamp  # by the database's clock, and later than every deployment of the service that was recorded before
    reported_at: Timestamp | None = None  # what the reporter said, for information
    recorded_by: str
    rolled_back_by: str | None = None  # the execution, where we put it there
    status: Status | None = Field(default=None, description="of its version, where it is known")


async def hold(tx: Transaction, *places: tuple[str, str]) -> None:
    """Until the transaction ends nobody else deploys these services, says anything of their versions, or decides.

    Each is a service and its environment. Who needs several names them at once: they are taken in one order.
    """
    for service, environment in sorted(set(places)):
        await tx.lock(f"{service}/{environment}")


def possible_ids(reported: str, service: str, environment: str) -> tuple[str, str]:
    """The IDs of one report: a pipeline run may report several services, and each after the first has its own ID."""
    return reported, f"{reported}-{service}-{environment}"


async def history(tx: Transaction, service: str, environment: str | None, most: int) -> dict[str, list[Row]]:
    """Everything that was said of the versions of a service, newest first."""
    where = {"service": service, "environment": environment, "most": most}
    return {"marks": await tx.all("marks", **where), "requirements": await tx.all("requirement_changes", **where)}


async def running(tx: Transaction) -> list[Deployment]:
    """The newest deployment of every service, with the status of its version."""
    return [Deployment.model_validate(row) for row in await tx.all("running")]


async def running_candidates(tx: Transaction) -> list[Deployment]:
    """Those of them whose version has not shown yet what it is."""
    return [Deployment.model_validate(row) for row in await tx.all("running_candidates")]


async def newest(tx: Transaction, service: str, environment: str, platform: str = "") -> Deployment | None:
    """The deployment that runs, as far as anybody told us."""
    row = await tx.first("running_deployment", service=service, environment=environment, platform=platform)
    return Deployment.model_validate(row) if row else None


async def on_platforms(tx: Transaction, service: str, environment: str) -> list[Deployment]:
    """What runs on each platform that anybody told us of."""
    found = await tx.all("running_on_platforms", service=service, environment=environment)
    return [Deployment.model_validate(row) for row in found]


async def artifacts(tx: Transaction, service: str, environment: str, version: str) -> dict[str, str]:
    """What the version is made of on each platform that it was told to be on."""
    found = await tx.all("artifacts_of_version", service=service, environment=environment, version=version)
    return {row["platform"]: row["artifact"] for row in found}


async def with_platforms(tx: Transaction, version: VersionChange) -> VersionChange:
    """The same with what was reported about each platform: its artifacts, and the version that it runs."""
    service, environment = version.service, version.environment
    found = {
        "artifacts": {**version.artifacts, **await artifacts(tx, service, environment, version.to_version)},
        "from_artifacts": {**version.from_artifacts, **await artifacts(tx, service, environment, version.from_version)},
        "platform_versions": {runs.platform: runs.version for runs in await on_platforms(tx, service, environment)},
    }
    return version.model_copy(update=found)


async def get(tx: Transaction, wanted: Deployment) -> Deployment:
    """The deployment as it was told first. Raises Unknown."""
    where = {"service": wanted.service, "environment": wanted.environment, "platform": wanted.platform}
    for known_as in possible_ids(wanted.id, wanted.service, wanted.environment):
        row = await tx.first("platform_deployment" if wanted.platform else "deployment", **where, id=known_as)
        if row and (row["service"], row["environment"]) == (wanted.service, wanted.environment):
            return Deployment.model_validate(row)
    raise Unknown(f"there is no deployment {wanted.id}")


async def find(tx: Transaction, service: str | None, environment: str | None, most: int) -> list[Row]:
    """Newest first; of a service, of an environment, or of all."""
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
    """As `find`, of what is permitted alone."""
    services: list[str | None] = [service] if service else [*sorted(permitted.services or ())] or [None]
    environments: list[str | None] = [environment] if environment else [*sorted(permitted.environments or ())] or [None]
    found = [row for name in services for where in environments for row in await find(tx, name, where, most)]
    found = [row for row in found if permitted.includes(row["service"], row["environment"])]
    return sorted(found, key=lambda row: (row["at"], row["id"]), reverse=True)[:most]

"""What was deployed where and when, and what is known of each version."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from responder.alerts import Timestamp
from responder.errors import Unknown
from responder.journal.database import Row, Transaction

Status = Literal["candidate", "good", "suspect", "bad"]
"""candidate: new; good: ran its time without trouble; suspect: a rollback did not help; bad: rolled back from."""


class Deployment(BaseModel):
    """One version put into one environment of a service."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    service: str
    environment: str
    version: str
    artifact: str = ""
    at: Timestamp
    recorded_by: str
    rolled_back_by: str | None = None  # the execution, where we put it there
    status: Status | None = Field(default=None, description="of its version, where it is known")


async def record(tx: Transaction, deployment: Deployment, status: Status | None = None) -> bool:
    """Writes a deployment down; False where its id was told before. A version seen first is a candidate."""
    told = deployment.model_dump(exclude={"recorded_by", "status"})
    if not await tx.one("insert_deployment", **told, by=deployment.recorded_by):
        return False
    await tx.all(
        "add_version",
        service=deployment.service,
        environment=deployment.environment,
        version=deployment.version,
        status=status or "candidate",
        reason=f"told by {deployment.recorded_by}" if status else "newly deployed",
        at=deployment.at,
        artifact=deployment.artifact,
    )
    if status:
        why = f"told by {deployment.recorded_by}"
        await mark(tx, deployment.service, deployment.environment, deployment.version, status, why, deployment.at)
    tx.notify()
    return True


async def mark(
    tx: Transaction, service: str, environment: str, version: str, status: Status, reason: str, at: datetime
) -> None:
    """Changes what is known of a version. Raises Unknown."""
    if not await tx.one(
        "mark_version", service=service, environment=environment, version=version, status=status, reason=reason, at=at
    ):
        raise Unknown(f"version {version} of {service} in {environment} is not known")
    tx.notify()


async def mark_no_rollback(tx: Transaction, service: str, environment: str, version: str, why: str) -> None:
    """Says why a version must not be rolled back past, as a security fix; empty lifts it. Raises Unknown."""
    if not await tx.one("mark_no_rollback", service=service, environment=environment, version=version, why=why):
        raise Unknown(f"version {version} of {service} in {environment} is not known")


async def require(tx: Transaction, deployment: Deployment, requires: dict[str, str]) -> None:
    """Writes down which versions of other services a version works with."""
    where = {"service": deployment.service, "environment": deployment.environment, "version": deployment.version}
    for needs, versions in requires.items():
        await tx.all("add_requirement", **where, needs=needs, versions=versions)


async def running(tx: Transaction) -> list[Deployment]:
    """The newest deployment of every service, with the status of its version."""
    return [Deployment.model_validate(row) for row in await tx.all("running")]


async def newest(tx: Transaction, service: str, environment: str) -> Deployment | None:
    """The deployment that runs, as far as anybody told us."""
    row = await tx.one("newest_deployment", service=service, environment=environment)
    return Deployment.model_validate(row) if row else None


async def get(tx: Transaction, deployment_id: str) -> Deployment:
    """The deployment as it was told first. Raises Unknown."""
    row = await tx.one("deployment", id=deployment_id)
    if row is None:
        raise Unknown(f"there is no deployment {deployment_id}")
    return Deployment.model_validate(row)


async def find(tx: Transaction, service: str | None, environment: str | None, most: int) -> list[Row]:
    return await tx.all("deployments", service=service, environment=environment, most=most)


async def untroubled_since(tx: Transaction, deployment: Deployment) -> bool:
    """Whether no alert that is worth a rollback was judged for the service since it was deployed."""
    return not await tx.one(
        "trouble_since", service=deployment.service, environment=deployment.environment, since=deployment.at
    )

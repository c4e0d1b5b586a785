"""What was deployed where and when, and what is known of each version."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any, Literal

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

NO_TARGET: tuple[str, ...] = ("suspect", "bad", "retired")
"""Nothing is ever rolled back to these, by nobody."""


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


async def record(tx: Transaction, deployment: Deployment, status: Status | None = None) -> bool:
    """Writes a deployment down; False where it was told before. A version seen first is a candidate.

    The database gives deployments of a service one order: that in which they are recorded, under a lock. A time that
    was reported can make the newest one older, but never older than what was recorded before it.

    What a platform is told makes the version the one that the service runs, except where the version was known and
    only now reaches this platform: a store that takes its time must not make an older release the newest again.
    """
    await hold(tx, (deployment.service, deployment.environment))
    deployment = deployment.model_copy(update={"at": await _in_order(tx, deployment)})
    values = {**deployment.model_dump(exclude={"recorded_by", "status"}), "by": deployment.recorded_by}
    where = {name: values[name] for name in ("service", "environment", "version")}
    known_here = not deployment.platform or await tx.first("reached_platform", **where, platform=deployment.platform)
    values["id"] = await _insert(tx, values)
    if not values["id"]:
        return False
    why = f"told by {deployment.recorded_by}" if status else "newly deployed"
    standing: dict[str, Any] = {"status": status or "candidate", "reason": why, "at": deployment.at}
    of_service = values
    if deployment.platform:  # under an id of its own: the pipeline may tell of the service as a whole by the same one
        of_service = {
            **values,
            "id": f"{deployment.id}-{deployment.platform}",
            "platform": "",
            "artifact": "",
            "provenance": "",
        }
    new = await tx.first("add_version", **{**of_service, **standing})
    if new or status:
        await _mark(tx, where, by=deployment.recorded_by, **standing)
    if deployment.platform:
        await tx.all("set_running", **values)
    if new or known_here:
        if deployment.platform:
            of_service["id"] = await _insert(tx, of_service) or of_service["id"]
        await tx.all("version_deployed", **of_service)
        await tx.all("set_running", **of_service)
    tx.notify()
    return True


async def _in_order(tx: Transaction, deployment: Deployment) -> datetime:
    before = await tx.first("latest_deployment_at", service=deployment.service, environment=deployment.environment)
    if before is None or before["at"] is None:
        return deployment.at
    earliest: datetime = before["at"] + timedelta(microseconds=1)
    return max(deployment.at, earliest)


def _ids(reported: str, service: str, environment: str) -> tuple[str, str]:
    """One run of a pipeline may tell of several services and environments: each but the first has an id of its own."""
    return reported, f"{reported}-{service}-{environment}"


async def _insert(tx: Transaction, values: dict[str, Any]) -> str:
    """The id under which it was written down; empty where it was told before."""
    if values["platform"]:
        row = await tx.first("insert_artifact", **values)
        return str(row["id"]) if row else ""
    for known_as in _ids(values["id"], values["service"], values["environment"]):
        if await tx.first("insert_deployment", **{**values, "id": known_as}):
            return known_as
        row = await tx.first("deployment", id=known_as)
        if row and _is_of(row, values["service"], values["environment"]):
            break
    return ""


def _is_of(row: Row, service: str, environment: str) -> bool:
    return (row["service"], row["environment"]) == (service, environment)


async def record_back(
    tx: Transaction, back: Deployment, from_version: str, still_there: Collection[tuple[str, str]]
) -> None:
    """The platforms went back with their service; not `still_there`, of which (service, platform) could not."""
    made_of = await artifacts(tx, back.service, back.environment, back.version)
    back = back.model_copy(update={"at": await _in_order(tx, back)})
    for deployed in await on_platforms(tx, back.service, back.environment):
        platform = deployed.platform
        if deployed.version != from_version or (deployed.service, platform) in still_there or platform not in made_of:
            continue
        values = {**back.model_dump(exclude={"status"}), "platform": platform, "artifact": made_of[platform]}
        await tx.all("insert_artifact", **values, by=back.recorded_by)
        await tx.all("set_running", **values, by=back.recorded_by)


async def mark(
    tx: Transaction,
    service: str,
    environment: str,
    version: str,
    status: Status,
    reason: str,
    at: datetime,
    by: str = "responder",
) -> None:
    """Changes what is known of a version. Raises Unknown."""
    where = {"service": service, "environment": environment, "version": version}
    await _mark(tx, where, status=status, reason=reason, at=at, by=by)
    tx.notify()


async def promote(tx: Transaction, deployment: Deployment, why: str, at: datetime) -> bool:
    """A candidate becomes good. False where it is none any more, whoever said so."""
    where = {"service": deployment.service, "environment": deployment.environment, "version": deployment.version}
    try:
        await _mark(tx, where, status="good", reason=why, at=at, by="responder", expected="candidate")
    except Unknown:
        return False
    tx.notify()
    return True


async def mark_no_rollback(
    tx: Transaction, service: str, environment: str, version: str, why: str, at: datetime, by: str
) -> None:
    """Says why a version must not be rolled back past, as a security fix; empty lifts it. Raises Unknown."""
    await _mark(tx, {"service": service, "environment": environment, "version": version}, no_rollback=why, at=at, by=by)


async def _mark(
    tx: Transaction,
    where: dict[str, Any],
    *,
    at: datetime,
    by: str,
    status: str | None = None,
    reason: str = "",
    no_rollback: str | None = None,
    expected: str | None = None,
) -> None:
    await hold(tx, (where["service"], where["environment"]))
    marked = {"status": status, "reason": reason, "at": at, "no_rollback": no_rollback}
    after = await tx.first("mark_version", **where, **marked, expected=expected)
    if after is None:
        raise Unknown(f"version {where['version']} of {where['service']} in {where['environment']} is not known")
    await tx.all("append_mark", **{**where, **after}, at=at, by=by)
    await tx.all("decrement_version_count", **where, revision=after["revision"])
    await tx.all("increment_version_count", **where, status=after["status"])
    await tx.all("set_running_status", **where, status=after["status"])


async def require(tx: Transaction, deployment: Deployment, requires: dict[str, str], at: datetime) -> None:
    """Writes down which versions of other services a version works with; what it told of others stands."""
    where = {"service": deployment.service, "environment": deployment.environment, "version": deployment.version}
    await hold(tx, (deployment.service, deployment.environment))
    for needs, versions in sorted(requires.items()):
        requirement = {**where, "needs": needs, "versions": versions}
        if new := await tx.first("set_requirement", **requirement):
            await tx.all(
                "append_requirement", **requirement, revision=new["revision"], at=at, by=deployment.recorded_by
            )


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
    for known_as in _ids(wanted.id, wanted.service, wanted.environment):
        row = await tx.first("platform_deployment" if wanted.platform else "deployment", **where, id=known_as)
        if row and _is_of(row, wanted.service, wanted.environment):
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


async def untroubled_since(tx: Transaction, deployment: Deployment, together: Collection[tuple[str, str]] = ()) -> bool:
    """Whether no alert that is worth a rollback was judged for the service since it was deployed.

    `together`: policies by which it is rolled back with others, and the service under which they are on record.
    """
    where = {"environment": deployment.environment, "since": deployment.at}
    for policy, service in ((None, deployment.service), *together):
        if await tx.first("trouble_since", **where, service=service, policy=policy):
            return False
    return True

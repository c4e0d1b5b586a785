"""The version registry: what a reported deployment, a mark or a requirement changes about the versions of a service."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from responder.errors import Unknown
from responder.journal import Row, Transaction
from responder.journal.deployments import Deployment, Status, artifacts, hold, on_platforms, possible_ids

NEVER_A_TARGET: tuple[Status, ...] = ("suspect", "bad", "retired")
"""Versions with these statuses are never a rollback target, not even on request."""


def deployed_at(reported: datetime, latest: datetime | None) -> datetime:
    """The time to record for a new deployment: always later than the latest one of the service.

    The database defines the order of deployments: the order in which it records them, under a lock. A reported time may
    lie in the past, but it never makes a deployment older than one that was recorded before it.
    """
    return reported if latest is None else max(reported, latest + timedelta(microseconds=1))


def of_the_service(deployment: Deployment) -> Deployment:
    """The deployment of the service as a whole that a report about one of its platforms implies.

    It has its own ID, because the pipeline may report the service as a whole under the same one.
    """
    if not deployment.platform:
        return deployment
    service_wide = {"id": f"{deployment.id}-{deployment.platform}", "platform": "", "artifact": "", "provenance": ""}
    return deployment.model_copy(update=service_wide)


def platforms_reverted(
    on_platforms: Collection[Deployment],
    from_version: str,
    artifacts: Collection[str],
    mitigated: Collection[tuple[str, str]],
) -> list[str]:
    """The platforms that a rollback of their service reverted as well.

    Those that ran the bad version and have an artifact of the target, except `mitigated` pairs of service and platform.
    """
    return [
        deployment.platform
        for deployment in on_platforms
        if deployment.version == from_version
        and deployment.platform in artifacts
        and (deployment.service, deployment.platform) not in mitigated
    ]


async def record(tx: Transaction, deployment: Deployment, status: Status | None = None) -> bool:
    """Records a deployment. Returns False if it was reported before.

    A new version is a candidate unless `status` is given. A report about a platform makes its version the running one
    of the service, unless the version was known and reaches this platform only now: a slow store must not make an
    older release the latest one again.
    """
    await hold(tx, (deployment.service, deployment.environment))
    deployment = deployment.model_copy(update={"at": await _next_at(tx, deployment)})
    where = {"service": deployment.service, "environment": deployment.environment, "version": deployment.version}
    repeated = not deployment.platform or await tx.first("reached_platform", **where, platform=deployment.platform)
    values = _values(deployment)
    values["id"] = await _insert(tx, values)
    if not values["id"]:
        return False
    why = f"reported by {deployment.recorded_by}" if status else "newly deployed"
    first: dict[str, Any] = {"status": status or "candidate", "reason": why, "at": deployment.at}
    service_wide = values if not deployment.platform else _values(of_the_service(deployment))
    new = await tx.first("add_version", **{**service_wide, **first})
    if new or status:
        await _mark(tx, where, by=deployment.recorded_by, **first)
    if deployment.platform:
        await tx.all("set_running", **values)
    if new or repeated:
        if deployment.platform:
            service_wide["id"] = await _insert(tx, service_wide) or service_wide["id"]
        await tx.all("version_deployed", **service_wide)
        await tx.all("set_running", **service_wide)
    tx.notify()
    return True


async def record_reverted_platforms(
    tx: Transaction, restored: Deployment, from_version: str, mitigated: Collection[tuple[str, str]]
) -> None:
    """Records that platforms went back with their service. `mitigated`: (service, platform) pairs that could not."""
    known = await artifacts(tx, restored.service, restored.environment, restored.version)
    running = await on_platforms(tx, restored.service, restored.environment)
    restored = restored.model_copy(update={"at": await _next_at(tx, restored)})
    for platform in platforms_reverted(running, from_version, known, mitigated):
        values = _values(restored.model_copy(update={"platform": platform, "artifact": known[platform]}))
        await tx.all("insert_artifact", **values)
        await tx.all("set_running", **values)


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
    """Sets the status of a version. Raises Unknown if no deployment of it was reported."""
    where = {"service": service, "environment": environment, "version": version}
    await _mark(tx, where, status=status, reason=reason, at=at, by=by)
    tx.notify()


async def promote(tx: Transaction, deployment: Deployment, why: str, at: datetime) -> bool:
    """Makes a candidate good. Returns False if it is no longer a candidate."""
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
    """Protects a version: no rollback goes past it, such as a security fix.

    An empty reason removes the protection. Raises Unknown if no deployment of the version was reported.
    """
    await _mark(tx, {"service": service, "environment": environment, "version": version}, no_rollback=why, at=at, by=by)


async def require(tx: Transaction, deployment: Deployment, requires: dict[str, str], at: datetime) -> None:
    """Records the versions of other services that a version requires. Requirements on other services stay."""
    where = {"service": deployment.service, "environment": deployment.environment, "version": deployment.version}
    await hold(tx, (deployment.service, deployment.environment))
    for needs, versions in sorted(requires.items()):
        requirement = {**where, "needs": needs, "versions": versions}
        if new := await tx.first("set_requirement", **requirement):
            revision = {"revision": new["revision"], "at": at, "by": deployment.recorded_by}
            await tx.all("append_requirement", **requirement, **revision)


async def untroubled_since(tx: Transaction, deployment: Deployment, together: Collection[tuple[str, str]] = ()) -> bool:
    """Whether no alert has requested a rollback of the service since the deployment.

    `together`: policies that roll it back with other services, each with the service under which they are recorded.
    """
    where = {"environment": deployment.environment, "since": deployment.at}
    for policy, service in ((None, deployment.service), *together):
        if await tx.first("trouble_since", **where, service=service, policy=policy):
            return False
    return True


def _values(deployment: Deployment) -> dict[str, Any]:
    return {**deployment.model_dump(exclude={"recorded_by", "status"}), "by": deployment.recorded_by}


async def _next_at(tx: Transaction, deployment: Deployment) -> datetime:
    where = {"service": deployment.service, "environment": deployment.environment}
    latest = await tx.first("latest_deployment_at", **where)
    return deployed_at(deployment.at, latest["at"] if latest else None)


async def _insert(tx: Transaction, values: dict[str, Any]) -> str:
    """The ID under which the deployment was recorded; empty if it was reported before."""
    if values["platform"]:
        row = await tx.first("insert_artifact", **values)
        return str(row["id"]) if row else ""
    for known_as in possible_ids(values["id"], values["service"], values["environment"]):
        if await tx.first("insert_deployment", **{**values, "id": known_as}):
            return known_as
        row = await tx.first("deployment", id=known_as)
        if row and _same_service(row, values):
            break
    return ""


def _same_service(row: Row, values: dict[str, Any]) -> bool:
    return (row["service"], row["environment"]) == (values["service"], values["environment"])


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

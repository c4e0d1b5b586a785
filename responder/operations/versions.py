"""Reports deployments, and marks versions by what a person knows about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from responder.errors import Invalid
from responder.journal import Database, Row, Transaction, deployments
from responder.journal.deployments import Deployment, Status
from responder.services import registry

_SKEW = timedelta(minutes=5)
"""How far the clock of a pipeline may be ahead of the journal's clock."""


def deployment_time(reported_at: datetime | None, now: datetime) -> datetime:
    """The recorded time of a deployment. With a clock slightly ahead, trouble would seem older than the deployment.

    Raises Invalid if the reported time is further in the future.
    """
    if reported_at is None or now < reported_at <= now + _SKEW:
        return now
    if reported_at > now:
        raise Invalid(f"is {reported_at - now} in the future: check the clock of the sender", "at")
    return reported_at


async def report_deployment(
    deployment: Deployment,
    status: Status | None,
    requires: Mapping[str, str],
    *,
    if_changed: bool = False,
    journal: Database,
) -> tuple[Deployment, bool]:
    """Records a deployment; returns it as recorded, and whether it is new. The first report of an ID stays.

    `if_changed`: the sender repeats what it sees, so a report of the running version, or one that is older than the
    running deployment, records nothing. The running deployment is returned then.
    """

    async def record(tx: Transaction) -> tuple[Deployment, bool]:
        await deployments.hold(tx, (deployment.service, deployment.environment))
        if if_changed:
            runs = await deployments.newest(tx, deployment.service, deployment.environment, deployment.platform)
            if runs and (runs.version == deployment.version or deployment.at < runs.at):
                return runs, False
        await registry.require(tx, deployment, dict(requires), journal.now())
        new = await registry.record(tx, deployment, status)
        return await deployments.get(tx, deployment), new

    return await journal.transaction(record)


async def mark_version(
    service: str,
    environment: str,
    version: str,
    *,
    status: Status | None,
    no_rollback: str | None,
    reason: str,
    by: str,
    journal: Database,
    check: Callable[[Row], None] = lambda row: None,
) -> Row:
    """Marks a version; returns its row.

    `no_rollback`: why no rollback may go past it; empty removes that, None leaves it. `check` raises if the row is not
    the one that the caller has read.
    """

    async def mark(tx: Transaction) -> Row:
        now = journal.now()
        await deployments.hold(tx, (service, environment))
        if known := await version_row(tx, service, environment, version):
            check(known)
        if status is not None:
            note = f"{by}: {reason}" if reason else f"marked by {by}"
            await registry.mark(tx, service, environment, version, status, note, now, by)
        if no_rollback is not None:
            why = f"{no_rollback} ({by})" if no_rollback else ""
            await registry.mark_no_rollback(tx, service, environment, version, why, now, by)
        return await version_row(tx, service, environment, version) or {}

    return await journal.transaction(mark)


async def version_row(tx: Transaction, service: str, environment: str, version: str) -> Row | None:
    """What is known about a version; None if nothing is."""
    return await tx.first("version", service=service, environment=environment, version=version)

"""Silences collateral alerts, which a rollback itself causes, until it is over."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator
from datetime import datetime, timedelta

from responder.backends.alertmanager.client import Alertmanager, NewSilence
from responder.backends.alertmanager.matchers import all_match
from responder.backends.connections import Connections
from responder.decisions.policies import CollateralAlerts
from responder.decisions.policy_set import PolicySet
from responder.errors import Unavailable
from responder.journal import Database, Transaction, executions
from responder.logging import say
from responder.rollback.execution import Execution

log = logging.getLogger("responder.collateral")

AUTHOR = "rollback-responder"


def silences_for(execution: Execution, policy_set: PolicySet, now: datetime) -> Iterator[NewSilence]:
    """The silences of the policy, without any that would hide the rollback's own alerts or the watchdog."""
    accepted = execution.accepted
    for number, collateral in enumerate(policy_set.policy(accepted.policy).silence_collateral):
        if _hides(collateral, execution, policy_set):
            continue
        yield NewSilence(
            matchers=collateral.match,
            comment=f"rollback {execution.id}: collateral {number} of {accepted.service} in {accepted.environment}",
            starts_at=now,
            ends_at=now + timedelta(seconds=collateral.longest),
        )


def _hides(collateral: CollateralAlerts, execution: Execution, policy_set: PolicySet) -> bool:
    labels = [alert.labels for alert in execution.accepted.alerts]
    watchdog = {m.name: m.value for m in policy_set.watchdog.match if m.op == "="} if policy_set.watchdog else None
    return any(all_match(collateral.match, candidate) for candidate in [*labels, *([watchdog] if watchdog else [])])


def execution_of(comment: str) -> str:
    """The ID of the execution that a silence belongs to, by its comment; empty for the silences of others."""
    word, _, rest = comment.partition(" ")
    return rest.partition(":")[0] if word == "rollback" else ""


async def update_silences(
    executions: Iterable[Execution],
    live: frozenset[str],
    policy_set: PolicySet,
    connections: Connections,
    now: datetime,
) -> list[str]:
    """Creates the silences of `executions`, and expires those of rollbacks that are not `live`.

    The latter may come from another replica, so silences also end after a crash. Returns one line per action. Raises
    Unavailable.
    """
    new = [silence for execution in executions for silence in silences_for(execution, policy_set, now)]
    alertmanager = await connections.to(Alertmanager)
    return await alertmanager.keep_silences(new, lambda comment: execution_of(comment) in live, AUTHOR)


class CollateralSilences:
    """Keeps the silences up to date. Calls Alertmanager only when the set of live rollbacks changes."""

    def __init__(self, journal: Database) -> None:
        self._journal = journal
        self._updated_for: frozenset[str] | None = None  # None: a crash may have left silences behind

    async def maintain(self, running: Collection[str], policy_set: PolicySet, connections: Connections) -> None:
        """Updates the silences for the executions `running` in this process. No rollback waits for it."""
        if not any(policy.silence_collateral for policy in policy_set.policies):
            return
        found = await self._journal.read(_live)
        live = frozenset(execution.id for execution in found)
        if live == self._updated_for:
            return
        executions = [execution for execution in found if execution.id in running]
        try:
            for action in await update_silences(executions, live, policy_set, connections, self._journal.now()):
                say(log, "silences updated", action=action)
            self._updated_for = live
        except Unavailable as e:
            say(log, "collateral alerts not silenced", level=logging.WARNING, reason=str(e))
            self._updated_for = None  # the next call retries


async def _live(tx: Transaction) -> list[Execution]:
    rows = await tx.all("open_executions")
    return [await executions.load(tx, row["id"]) for row in rows if row["state"] in ("running", "reverting")]

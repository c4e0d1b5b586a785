"""Silences the noise that a rollback causes, for as long as it lasts, and never what it is judged by."""

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

log = logging.getLogger("responder.noise")

AUTHOR = "rollback-responder"


def silences_for(execution: Execution, policy_set: PolicySet, now: datetime) -> Iterator[NewSilence]:
    """What the policy wants silenced. One that would hide the rollback's own alerts or the watchdog is left out."""
    accepted = execution.accepted
    for number, collateral in enumerate(policy_set.policy(accepted.policy).silence_collateral):
        if _hides(collateral, execution, policy_set):
            continue
        yield NewSilence(
            matchers=collateral.match,
            comment=f"rollback {execution.id}: noise {number} of {accepted.service} in {accepted.environment}",
            starts_at=now,
            ends_at=now + timedelta(seconds=collateral.longest),
        )


def _hides(collateral: CollateralAlerts, execution: Execution, policy_set: PolicySet) -> bool:
    labels = [alert.labels for alert in execution.accepted.alerts]
    watchdog = {m.name: m.value for m in policy_set.watchdog.match if m.op == "="} if policy_set.watchdog else None
    return any(all_match(collateral.match, candidate) for candidate in [*labels, *([watchdog] if watchdog else [])])


def execution_of(comment: str) -> str:
    """The execution that a silence of ours belongs to, by its comment; empty where it is none of ours."""
    word, _, rest = comment.partition(" ")
    return rest.partition(":")[0] if word == "rollback" else ""


async def keep(
    executions: Iterable[Execution],
    live: frozenset[str],
    policy_set: PolicySet,
    connections: Connections,
    now: datetime,
) -> list[str]:
    """Makes the silences of the rollbacks that are ours, and expires those of rollbacks that are over, whoever made
    them: so they end after a crash as well. Returns what was done. Raises Unavailable.
    """
    wanted = [silence for execution in executions for silence in silences_for(execution, policy_set, now)]
    alertmanager = await connections.to(Alertmanager)
    return await alertmanager.keep_silences(wanted, lambda comment: execution_of(comment) in live, AUTHOR)


class Quiet:
    """Looks after the silences from time to time, and asks Alertmanager only where something may have to be done."""

    def __init__(self, journal: Database) -> None:
        self._journal = journal
        self._settled: frozenset[str] | None = None  # None: a crash may have left silences behind

    async def keep(self, running: Collection[str], policy_set: PolicySet, connections: Connections) -> None:
        """`running` are the executions that this process carries out. A rollback never waits for this."""
        if not any(policy.silence_collateral for policy in policy_set.policies):
            return
        found = await self._journal.read(_under_way)
        live = frozenset(execution.id for execution in found)
        if live == self._settled:
            return
        executions = [execution for execution in found if execution.id in running]
        try:
            for action in await keep(executions, live, policy_set, connections, self._journal.now()):
                say(log, "noise", what=action)
            self._settled = live
        except Unavailable as e:
            say(log, "noise cannot be silenced", level=logging.WARNING, reason=str(e))
            self._settled = None  # the next round tries again


async def _under_way(tx: Transaction) -> list[Execution]:
    rows = await tx.all("open_executions")
    return [await executions.load(tx, row["id"]) for row in rows if row["state"] in ("running", "reverting")]

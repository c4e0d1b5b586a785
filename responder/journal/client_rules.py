"""What the apps on people's devices are told: what is too old, what is blocked, which switches to obey."""

from __future__ import annotations

import json
from collections.abc import Collection
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from responder.config.versions import is_newer
from responder.journal.database import Row, Transaction
from responder.rollback.plan import Mitigation


class Rules(BaseModel):
    """All that the apps of one platform are told at one time."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    revision: int = 0  # grows with every change, so that an app can tell an old document from a new one
    min_version: str = ""
    blocked_versions: tuple[str, ...] = ()
    flags: dict[str, bool] = {}


class RuleChange(BaseModel):
    """What somebody wants to be told from now on; what it does not name stays as it is."""

    model_config = ConfigDict(frozen=True)

    min_version: str | None = None  # empty: none is too old
    block: tuple[str, ...] = ()
    unblock: tuple[str, ...] = ()
    flags: dict[str, bool | None] = {}  # None: it is not told any more

    def of(self, rules: Rules) -> Rules:
        # Versions one after the other as they were blocked; flags by name: the document must not change by itself.
        blocked = dict.fromkeys((*rules.blocked_versions, *self.block))
        flags = {**rules.flags, **self.flags}
        return Rules(
            revision=rules.revision + 1,
            min_version=rules.min_version if self.min_version is None else self.min_version,
            blocked_versions=tuple(version for version in blocked if version not in self.unblock),
            flags={name: flag for name in sorted(flags) if (flag := flags[name]) is not None},
        )


async def get(tx: Transaction, service: str, environment: str, platform: str) -> Rules | None:
    """None where nobody ever said anything."""
    row = await tx.first("client_rules", service=service, environment=environment, platform=platform)
    return _rules(row) if row else None


async def lock(tx: Transaction, service: str, environment: str, platform: str) -> None:
    """Nobody else changes it until the transaction ends."""
    await tx.lock(f"clients/{service}/{environment}/{platform}")


async def history(tx: Transaction, service: str, environment: str, platform: str, most: int) -> list[dict[str, Any]]:
    """Every change with what was told from then on, newest first."""
    where = {"service": service, "environment": environment, "platform": platform}
    rows = await tx.all("client_rule_changes", **where, most=most)
    fields = ("at", "changed_by", "reason")
    return [{**_rules(row).model_dump(), **{name: row[name] for name in fields}} for row in rows]


async def change(
    tx: Transaction,
    service: str,
    environment: str,
    platform: str,
    change: RuleChange,
    *,
    by: str,
    reason: str,
    at: datetime,
) -> Rules:
    """What is told from now on. What changes nothing is not on record."""
    where = {"service": service, "environment": environment, "platform": platform}
    await lock(tx, service, environment, platform)
    before = await get(tx, **where) or Rules()
    after = change.of(before)
    if after.model_copy(update={"revision": before.revision}) == before:
        return before
    row = {
        **where,
        "revision": after.revision,
        "min_version": after.min_version,
        "blocked_versions": json.dumps(after.blocked_versions, ensure_ascii=False),
        "flags": json.dumps(after.flags, ensure_ascii=False),
    }
    await tx.all("set_client_rules", **row)
    await tx.all("append_client_rules", **row, at=at, by=by, reason=reason)
    return after


async def mitigate(
    tx: Transaction, mitigations: Collection[Mitigation], service: str, environment: str, execution: str, at: datetime
) -> None:
    """Says what a rollback could not do otherwise. It only ever asks more of the apps: lifting it is a person's."""
    for mitigation in mitigations:
        key = (mitigation.service or service, environment, mitigation.platform)
        await lock(tx, *key)
        current = (await get(tx, *key) or Rules()).min_version
        raised, reason = mitigation.min_version or None, f"mitigated by {execution}"
        if raised and current and raised != current and not is_newer(raised, current):
            reason += f"; min_version stays {current}, {raised} is not known to be newer"
            raised = None
        wanted = RuleChange(min_version=raised, block=mitigation.blocked_versions, flags={**mitigation.flags})
        await change(tx, *key, wanted, by="responder", reason=reason, at=at)


def _rules(row: Row) -> Rules:
    values = {**row, "blocked_versions": json.loads(row["blocked_versions"]), "flags": json.loads(row["flags"])}
    return Rules.model_validate(values)

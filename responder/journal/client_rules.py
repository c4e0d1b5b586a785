"""The rules that apps on devices read: the minimum version, blocked versions and flags."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from pydantic import Field

from foundation.models import FrozenModel
from responder.journal.database import Row, Transaction


class Rules(FrozenModel):
    """The rules for the apps of one platform."""

    revision: int = 0  # increases with every change, so that an app can recognize an outdated document
    min_version: str = ""
    blocked_versions: tuple[str, ...] = ()
    flags: dict[str, bool] = Field(default_factory=dict)


async def get(tx: Transaction, service: str, environment: str, platform: str) -> Rules | None:
    """The current rules; None if none were ever set."""
    row = await tx.first("client_rules", service=service, environment=environment, platform=platform)
    return _rules(row) if row else None


async def lock(tx: Transaction, service: str, environment: str, platform: str) -> None:
    """Locks the rules until the transaction ends."""
    await tx.lock(f"clients/{service}/{environment}/{platform}")


async def history(tx: Transaction, service: str, environment: str, platform: str, most: int) -> list[dict[str, Any]]:
    """Every change with the resulting rules, newest first."""
    where = {"service": service, "environment": environment, "platform": platform}
    rows = await tx.all("client_rule_changes", **where, most=most)
    fields = ("at", "changed_by", "reason")
    return [{**_rules(row).model_dump(), **{name: row[name] for name in fields}} for row in rows]


async def write(
    tx: Transaction, service: str, environment: str, platform: str, rules: Rules, *, by: str, reason: str, at: datetime
) -> None:
    """Replaces the rules, and adds them to the history."""
    row = {
        "service": service,
        "environment": environment,
        "platform": platform,
        "revision": rules.revision,
        "min_version": rules.min_version,
        "blocked_versions": json.dumps(rules.blocked_versions, ensure_ascii=False),
        "flags": json.dumps(rules.flags, ensure_ascii=False),
    }
    await tx.all("set_client_rules", **row)
    await tx.all("append_client_rules", **row, at=at, by=by, reason=reason)


def _rules(row: Row) -> Rules:
    values = {**row, "blocked_versions": json.loads(row["blocked_versions"]), "flags": json.loads(row["flags"])}
    return Rules.model_validate(values)

"""Changes the rules that apps on devices read: by a person, or as the mitigation of a rollback."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from pydantic import Field

from foundation.models import FrozenModel
from responder.config.versions import is_newer
from responder.journal import Transaction, client_rules
from responder.journal.client_rules import Rules
from responder.rollback.plan import Mitigation


class RuleChange(FrozenModel):
    """A requested change of the rules. Omitted fields stay unchanged."""

    min_version: str | None = None  # empty: no minimum
    block: tuple[str, ...] = ()
    unblock: tuple[str, ...] = ()
    flags: dict[str, bool | None] = Field(default_factory=dict)  # None: remove the flag

    def apply(self, rules: Rules) -> Rules:
        """The rules after this change; the same rules if it changes nothing."""
        # A stable order, so that the document does not change by itself: versions as blocked, flags by name.
        blocked = dict.fromkeys((*rules.blocked_versions, *self.block))
        flags = {**rules.flags, **self.flags}
        after = Rules(
            revision=rules.revision,
            min_version=rules.min_version if self.min_version is None else self.min_version,
            blocked_versions=tuple(version for version in blocked if version not in self.unblock),
            flags={name: flag for name in sorted(flags) if (flag := flags[name]) is not None},
        )
        return rules if after == rules else after.model_copy(update={"revision": rules.revision + 1})


def mitigation_change(rules: Rules, mitigation: Mitigation, execution: str) -> tuple[RuleChange, str]:
    """The rule change for a mitigation, and its reason. It only tightens the rules; only people relax them.

    A minimum version is only raised: a version that is not known to be newer leaves it unchanged.
    """
    current, reason = rules.min_version, f"mitigated by {execution}"
    raised = mitigation.min_version or None
    if raised and current and raised != current and not is_newer(raised, current):
        reason += f"; min_version stays {current}, {raised} is not known to be newer"
        raised = None
    return RuleChange(min_version=raised, block=mitigation.blocked_versions, flags={**mitigation.flags}), reason


async def change_rules(
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
    """The rules from now on. A change without an effect is not recorded."""
    await client_rules.lock(tx, service, environment, platform)
    before = await client_rules.get(tx, service, environment, platform) or Rules()
    after = change.apply(before)
    if after != before:
        await client_rules.write(tx, service, environment, platform, after, by=by, reason=reason, at=at)
    return after


async def mitigate(
    tx: Transaction, mitigations: Collection[Mitigation], service: str, environment: str, execution: str, at: datetime
) -> None:
    """Applies the mitigations of a rollback that could not revert an app."""
    for mitigation in mitigations:
        key = (mitigation.service or service, environment, mitigation.platform)
        await client_rules.lock(tx, *key)
        change, reason = mitigation_change(await client_rules.get(tx, *key) or Rules(), mitigation, execution)
        await change_rules(tx, *key, change, by="responder", reason=reason, at=at)

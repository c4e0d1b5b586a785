"""All facts about one incident that the guards evaluate."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from foundation.models import FrozenModel
from responder.decisions.freeze_windows import Freeze
from responder.decisions.limits import Limits
from responder.journal.deployments import Deployment
from responder.rollback.version_change import VersionChange
from responder.services.service import Service


class Candidate(FrozenModel):
    """A version to roll back to, as in the version registry."""

    version: str
    status: str
    artifact: str = ""


class Past(FrozenModel):
    """One earlier rollback of the service."""

    id: str
    policy: str
    state: str
    outcome: str | None
    from_version: str
    to_version: str
    changed: bool
    ended_at: datetime | None
    reason: str
    stop_requested_by: str | None = None


class Replaced(FrozenModel):
    """The newer version that the running one replaced, if the running one was known good before."""

    version: str
    at: datetime  # when it was deployed
    status: str


class KeptLast(FrozenModel):
    """Evidence that a policy kept without a rollback."""

    id: str
    requested_at: datetime


class TroubleNow(FrozenModel):
    """Whether the trouble of an incident's alerts is visible in the last scrapes, with the guard's reason."""

    state: Literal["visible", "gone", "unknown"]
    reason: str


class LiveState(FrozenModel):
    """What other systems say at this moment about the incident's alerts, the watchdog and dependencies."""

    state: Literal["firing", "suppressed", "gone", "unknown"]
    reason: str
    disarmed: str = ""  # why: the watchdog is silenced, or its state is unknown
    began_at: datetime | None = None  # when the alerts' expressions became true, before their `for`
    older_trouble: str = ""  # what shows that the trouble is older than the deployment
    trouble_now: TroubleNow | None = None  # None: not queried
    also_in_trouble: tuple[str, ...] = ()  # other services whose alerts began at about the same time
    needs_failing: tuple[str, ...] = ()  # unhealthy dependencies, each with its reason


class FleetState(FrozenModel):
    """The state of other services. It is expensive to collect in a storm of alerts, so it is collected last."""

    also_in_trouble: tuple[str, ...] = ()  # other services of the environment, close in time
    begun_lately: int = 0  # rollbacks of all services that started in the last hour
    next_place_at: datetime | None = None  # when the first of them is an hour ago
    needs_locked: tuple[str, ...] = ()  # dependencies that are being rolled back, stuck or recovering


class Facts(FrozenModel):
    """All facts about one incident at one moment. Unknown facts are marked as unknown; nothing is assumed."""

    service: Service | None = None
    service_problem: str = ""  # why there is no service
    stopped: str = ""  # who stopped all automation, and why
    disarmed: str = ""  # why: the watchdog is late
    opened: str | None = None  # the execution that an alert of this incident opened before
    running: Deployment | None = None  # the newest deployment
    replaced: Replaced | None = None  # only where the running version was known good before
    returned_at: datetime | None = None  # when the trouble came back after it had been invisible
    verified_at: datetime | None = None  # when a rollback before the running deployment was verified
    target: Candidate | None = None
    incompatible: tuple[
        str, ...
    ] = ()  # pairs of versions that would be incompatible after the rollback, each with its reason
    no_rollback_past: str = ""  # a protected version since the target, and why it is protected
    tried_before: Past | None = None  # an earlier rollback of the running version
    kept_for: str | None = None  # the evidence that was kept for an alert of this incident without a rollback
    kept_last: KeptLast | None = None  # the newest evidence that the policy kept without a rollback
    latest: Past | None = None  # the newest rollback of the service; a live or stuck one is always the newest
    last_of_policy: Past | None = None  # the newest of the policy that ended with a change
    limits: Limits = Limits()
    freezes: tuple[Freeze, ...] = ()
    fleet: FleetState | None = None  # this and `live` are None if another guard already denies the rollback
    live: LiveState | None = None

    def version_change(self, strategy: str | None) -> VersionChange | None:
        """What is rolled back, by that strategy or the default one; None without a running version or a target."""
        if self.service is None or self.running is None or self.target is None:
            return None
        return VersionChange(
            service=self.service.name,
            environment=self.service.environment,
            from_version=self.running.version,
            to_version=self.target.version,
            strategy=strategy or self.service.rollback.strategy,
            artifacts=_whole(self.target.artifact),
            from_artifacts=_whole(self.running.artifact),
        )

    @property
    def suspected(self) -> Deployment | Replaced | None:
        """The suspected deployment: the running one, or the newer one that it replaced."""
        return self.replaced or self.running


def _whole(artifact: str) -> dict[str, str]:
    return {"": artifact} if artifact else {}

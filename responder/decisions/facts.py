"""Gathers, once, everything that the guards need to know."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from responder.config.durations import format_duration
from responder.config.versions import within
from responder.decisions.freeze_windows import Freeze
from responder.decisions.limits import Limits
from responder.decisions.policies import Incident, PolicySet
from responder.journal import Row, Transaction, decisions, deployments
from responder.journal.deployments import Deployment
from responder.rollback.version_change import VersionChange
from responder.services.service import Service

_RECOVERING = timedelta(seconds=30)
"""What depends on a service that was rolled back gets so long to recover: two scrapes at an interval of 15 s."""

_HOUR = timedelta(hours=1)
WATCHDOG = "watchdog"


class Candidate(BaseModel):
    """A version to go back to, as the registry has it."""

    model_config = ConfigDict(frozen=True)

    version: str
    status: str
    artifact: str = ""


class Past(BaseModel):
    """One earlier rollback of the service."""

    model_config = ConfigDict(frozen=True, extra="ignore")

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


class Replaced(BaseModel):
    """The younger version that the running one, which ran before, was put back in place of."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: str
    at: datetime  # when it was deployed
    status: str


class KeptLast(BaseModel):
    """Evidence that a policy kept by itself."""

    model_config = ConfigDict(frozen=True)

    id: str
    requested_at: datetime


class TroubleNow(BaseModel):
    """Whether the trouble of an incident's alerts is visible in the last scrapes, in words that a guard repeats."""

    model_config = ConfigDict(frozen=True)

    state: Literal["visible", "gone", "unknown"]
    reason: str


class LiveState(BaseModel):
    """What the outside says at this moment: of the incident's alerts, of the watchdog, of what the service needs."""

    model_config = ConfigDict(frozen=True)

    state: Literal["firing", "suppressed", "gone", "unknown"]
    reason: str
    disarmed: str = ""  # why, where the watchdog is silenced or nobody can tell
    began_at: datetime | None = None  # when the alerts' expressions first became true, before their `for`
    was_so_before: str = ""  # what shows that the trouble is older than the deployment
    trouble_now: TroubleNow | None = None  # None: not asked
    also_in_trouble: tuple[str, ...] = ()  # other services, by alerts that began at about the same time
    needs_failing: tuple[str, ...] = ()  # services that it depends on and that are not healthy, each with its reason


class FleetState(BaseModel):
    """What goes on with other services. In a storm of alerts this is the dear part: it is asked for what is left."""

    model_config = ConfigDict(frozen=True)

    also_in_trouble: tuple[str, ...] = ()  # other services of the environment, at about the same time
    begun_lately: int = 0  # rollbacks of all services begun in the last hour
    next_place_at: datetime | None = None  # when one of them is an hour ago
    needs_locked: tuple[str, ...] = ()  # services that it depends on and that are being rolled back or stuck


class Facts(BaseModel):
    """All facts about one incident at one moment. What could not be learned says so; nothing is assumed."""

    model_config = ConfigDict(frozen=True)

    service: Service | None = None
    service_problem: str = ""  # why there is none
    stopped: str = ""  # who stopped all automation, and why
    disarmed: str = ""  # why, where the watchdog has not been heard in time
    opened: str | None = None  # the execution that an alert of this incident has opened before
    running: Deployment | None = None  # the newest deployment
    replaced: Replaced | None = None  # only where the running version was known good before
    returned_at: datetime | None = None  # when the trouble came back, after it had not been visible
    verified_at: datetime | None = None  # when a rollback before the running deployment was verified: healthy then
    target: Candidate | None = None
    unfit: tuple[
        str, ...
    ] = ()  # pairs of versions that would not work with each other afterwards, each with its reason
    no_rollback_past: str = ""  # the version between the target and now that must stay, and why
    tried_before: Past | None = None  # the rollback of the running version that there was before
    kept_for: str | None = None  # the evidence that was kept by itself for an alert of this incident before
    kept_last: KeptLast | None = None  # the newest that the incident's policy kept by itself
    latest: Past | None = None  # the newest rollback of the service; a live or stuck one is always the newest
    last_of_policy: Past | None = None  # the newest of the incident's policy that ended and had changed something
    limits: Limits = Limits()
    freezes: tuple[Freeze, ...] = ()
    fleet: FleetState | None = None  # both None: not asked, because something else speaks against it already
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
    def came(self) -> Deployment | Replaced | None:
        """The deployment that the trouble may belong to: the running one, or the younger one that it replaced."""
        return self.replaced or self.running


def _whole(artifact: str) -> dict[str, str]:
    return {"": artifact} if artifact else {}


async def gather(
    tx: Transaction, incident: Incident, policy_set: PolicySet, now: datetime, parent: Incident | None = None
) -> Facts:
    """Everything that the journal knows of the service, in the transaction that will also record the verdict.

    `parent`: of what the incident is a member, where several services go together.
    """
    switch = await decisions.kill_switch(tx)
    stopped = policy_set.stop_file_says() or (f"stopped by {switch.set_by}: {switch.reason}" if switch else "")
    service, problem = policy_set.service(incident.service, incident.environment)
    if service and incident.action == "preserve_logs":
        return await _gather_for_logs(tx, incident, service, stopped)
    if service and service.strategy(incident.strategy or "") is None:
        problem, service = f"{service.name} is not configured to be rolled back by {incident.strategy!r}", None
    if service is None:
        return Facts(stopped=stopped, service_problem=problem)
    name, environment = service.name, service.environment
    where = {"service": name, "environment": environment}
    running = await deployments.newest(tx, name, environment)
    # Told again, it is no new deployment: what counts is since when this version runs, and who put it there.
    since = await tx.first("version_runs_since", **where, version=running.version) if running else None
    running = running.model_copy(update=dict(since)) if running and since else running
    replaced = await tx.first("replaced_version", **where, **_restored(running)) if _restored(running) else None
    verified = await _verified_before(tx, where, running, incident) if running else None
    before = await tx.first("rollback_of_version", **where, version=running.version) if running else None
    target = await _target(tx, incident, name, environment, running.version) if running else None
    protected = await tx.first("protected_since", **where, target=target.version) if target else None
    latest = await tx.first("latest_of_service", **where)
    last = await tx.first("last_of_policy", **where, policy=incident.policy.name)
    return Facts(
        service=service,
        stopped=stopped,
        disarmed=await watchdog_missing(tx, policy_set, now),
        opened=await _opened(tx, incident, name, environment, running),
        running=running,
        replaced=Replaced.model_validate(dict(replaced)) if replaced else None,
        returned_at=await _returned_at(tx, parent or incident, now),
        verified_at=verified,
        target=target,
        unfit=await _unfit(tx, parent or incident, policy_set, service, target) if target else (),
        no_rollback_past=f"{protected['version']}: {protected['no_rollback']}" if protected else "",
        tried_before=Past.model_validate(before) if before else None,
        latest=Past.model_validate(latest) if latest else None,
        last_of_policy=Past.model_validate(last) if last else None,
        limits=policy_set.limits,
        freezes=policy_set.freezes,
    )


async def _gather_for_logs(tx: Transaction, incident: Incident, service: Service, stopped: str) -> Facts:
    where = {"service": service.name, "environment": service.environment}
    latest = await tx.first("latest_of_service", **where)
    last = await tx.first("last_evidence_of_policy", **where, policy=incident.policy.name)
    since = min(alert.starts_at for alert in incident.alerts)
    rows = await tx.all("evidence_alerts_since", **where, policy=incident.policy.name, since=since)
    kept = {(row["fingerprint"], row["starts_at"]): str(row["evidence"]) for row in rows}
    return Facts(
        service=service,
        stopped=stopped,
        running=await deployments.newest(tx, service.name, service.environment),
        latest=Past.model_validate(latest) if latest else None,
        kept_for=next((kept[key] for a in incident.alerts if (key := (a.fingerprint, a.starts_at)) in kept), None),
        kept_last=KeptLast.model_validate(last) if last else None,
    )


async def look_around(
    tx: Transaction,
    incident: Incident,
    service: Service,
    policy_set: PolicySet,
    now: datetime,
    beside: Collection[str] = (),
) -> FleetState:
    """What the journal knows of others. `beside` are services that are told to be in trouble in the same breath."""
    begun = await tx.first("accepted_since", since=now - _HOUR)
    return FleetState(
        also_in_trouble=await also_in_trouble(tx, incident, service, policy_set, now, beside),
        begun_lately=begun["n"] if begun else 0,
        next_place_at=begun["first_at"] + _HOUR if begun and begun["first_at"] else None,
        needs_locked=await _needs_locked(tx, incident, service, policy_set, now),
    )


async def watchdog_missing(tx: Transaction, policy_set: PolicySet, now: datetime) -> str:
    """Why automation is disarmed, where the watchdog has not come in time; empty where it has, or none is wanted."""
    if policy_set.watchdog is None:
        return ""
    allowed = 2 * policy_set.watchdog.interval
    last_heartbeat = await decisions.last_heartbeat(tx, WATCHDOG)
    if last_heartbeat is None:
        return "the watchdog alert has never come through Alertmanager"
    silent = (now - last_heartbeat).total_seconds()
    if silent <= allowed:
        return ""
    return (
        f"the watchdog alert came last {format_duration(silent // 1)} ago, longer than {format_duration(allowed)}: "
        "something between Prometheus and here is broken or silenced"
    )


async def also_in_trouble(
    tx: Transaction,
    incident: Incident,
    service: Service,
    policy_set: PolicySet,
    now: datetime,
    beside: Collection[str] = (),
) -> tuple[str, ...]:
    """Measured from when this incident was heard first: being told again later does not make it another trouble.
    Trouble that was gone in between is another one, and measured from its return as well.
    """
    first_heard = await tx.first("first_decided", incident=incident.id)
    began = [first_heard["at"] if first_heard and first_heard["at"] else now, await _returned_at(tx, incident, now)]
    within = timedelta(seconds=policy_set.limits.circuit_breaker.within)
    where = {"service": service.name, "environment": service.environment}
    rows = [
        row
        for at in began
        if at is not None
        for row in await tx.all("services_in_trouble", **where, since=at - within, until=at + within)
    ]
    return tuple(sorted({*(row["service"] for row in rows), *beside} - policy_set.one_trouble(incident)))


async def _returned_at(tx: Transaction, incident: Incident, now: datetime) -> datetime | None:
    row = await tx.first("trouble_returned", incident=incident.id)
    return (row["at"] or now) if row else None


async def _unfit(
    tx: Transaction, incident: Incident, policy_set: PolicySet, service: Service, target: Candidate
) -> tuple[str, ...]:
    """Looks at what the target needs, and at what runs afterwards, on whichever platform, and needs this service."""
    environment = service.environment
    after = {service.name: target.version}
    for member in incident.members:
        if member.service == service.name:
            continue
        newest = await deployments.newest(tx, member.service, environment)
        to = await _target(tx, member, member.service, environment, newest.version) if newest else None
        after |= {member.service: to.version} if to else {}

    moved = dict(after)

    async def version_of(name: str) -> str | None:
        if name not in after and (newest := await deployments.newest(tx, name, environment)):
            after[name] = newest.version
        return after.get(name)

    found = []
    for needs, versions in sorted((await _requirements(tx, service, target.version)).items()):
        found.append(_misfit(service.name, target.version, needs, await version_of(needs), versions))
    where = {"environment": environment, "needs": service.name}
    requirements = await tx.all("requirements_on", **where) if await tx.first("has_dependents", **where) else []
    needed: dict[tuple[str, str], tuple[str, str]] = {}
    for row in requirements:  # of each service as a whole first
        if row["service"] not in moved and not _is_blocked(row["platform"], row["status"]):
            needed.setdefault((row["service"], row["version"]), (row["platform"], row["versions"]))
    for other in policy_set.services:
        concerned = other.name in moved or service.name in other.requires
        if not concerned or other.environment != environment or other.name == service.name:
            continue
        for version, platform in (await _versions_there(tx, other, moved.get(other.name))).items():
            if wanted := (await _requirements(tx, other, version)).get(service.name):
                needed[other.name, version] = platform, wanted
    for (name, version), (platform, wanted) in sorted(needed.items()):
        deployed = f"{version} on {platform}" if platform else version
        found.append(_misfit(name, deployed, service.name, target.version, wanted))
    return tuple(problem for problem in found if problem)


async def _versions_there(tx: Transaction, service: Service, to_version: str | None) -> dict[str, str]:
    """What there is of a service once it runs `to_version`, or as it is; with the platform, where one is elsewhere."""
    where = (service.name, service.environment)
    newest = await deployments.newest(tx, *where)
    if newest is None:
        return {}
    stay = [
        deployment for deployment in await deployments.on_platforms(tx, *where) if deployment.version != newest.version
    ]
    elsewhere = {
        deployment.version: deployment.platform
        for deployment in stay
        if not _is_blocked(deployment.platform, deployment.status)
    }
    return {**elsewhere, to_version or newest.version: ""}


def _is_blocked(platform: str, status: str | None) -> bool:
    """Apps of a bad version are told not to go on: nobody waits for those who have it still."""
    return bool(platform) and status == "bad"


async def _requirements(tx: Transaction, service: Service, version: str) -> dict[str, str]:
    """Of every service what was told of this version, or else what is configured for all of them."""
    rows = await tx.all("requirements_of", service=service.name, environment=service.environment, version=version)
    return {**service.requires, **{str(row["needs"]): str(row["versions"]) for row in rows}}


def _misfit(name: str, version: str, needs: str, found: str | None, versions: str) -> str:
    requirement = f"{name} {version} works with {needs} {versions}"
    if found is None:
        return f"{requirement}, and nobody told which version of {needs} runs"
    match within(found, versions):
        case True:
            return ""
        case False:
            return f"{requirement}, and {needs} would be {found}"
    return f"{requirement}, and whether {found} is one of them cannot be told"


async def _needs_locked(
    tx: Transaction, incident: Incident, service: Service, policy_set: PolicySet, now: datetime
) -> tuple[str, ...]:
    locked = []
    for needed in policy_set.needs(service):
        if needed.name in incident.together:
            continue
        latest = await tx.first("latest_of_service", service=needed.name, environment=needed.environment)
        if latest and latest["state"] != "closed":
            locked.append(f"{needed.name} ({latest['id']} is {latest['state']})")
        elif latest and latest["changed"] and latest["ended_at"] and now - latest["ended_at"] < _RECOVERING:
            locked.append(f"{needed.name} ({latest['id']} ended less than {_RECOVERING.seconds}s ago)")
    return tuple(locked)


async def _target(tx: Transaction, incident: Incident, name: str, environment: str, running: str) -> Candidate | None:
    if incident.version is not None:
        row = await tx.first("version", service=name, environment=environment, version=incident.version)
        return Candidate.model_validate(dict(row)) if row else None
    row = await tx.first("good_target", service=name, environment=environment, running=running)
    return Candidate(version=row["version"], artifact=row["artifact"], status="good") if row else None


def _restored(running: Deployment | None) -> dict[str, Any]:
    """What to ask for the version that the running one replaced; empty where the running one is not known good."""
    if running is None or running.status != "good" or running.rolled_back_by:
        return {}
    return {"version": running.version, "at": running.at}


async def _verified_before(
    tx: Transaction, where: dict[str, str], running: Deployment, incident: Incident
) -> datetime | None:
    since = running.at - timedelta(seconds=incident.policy.deployed_within)
    row = await tx.first("last_success_between", **where, since=since, until=running.at)
    return row["at"] if row else None


async def _opened(
    tx: Transaction, incident: Incident, name: str, environment: str, running: Deployment | None
) -> str | None:
    """The rollback that an alert of the incident opened before, from the deployment that still runs or to it."""
    if not incident.alerts:
        return None
    rows = await tx.all(
        "opening_alerts_since",
        policy=incident.policy.name,
        service=name,
        environment=environment,
        since=min(alert.starts_at for alert in incident.alerts),
    )
    opened = {(row["fingerprint"], row["starts_at"]): str(row["execution"]) for row in rows if _is_about(row, running)}
    return next((opened[key] for a in incident.alerts if (key := (a.fingerprint, a.starts_at)) in opened), None)


def _is_about(episode: Row, running: Deployment | None) -> bool:
    """An episode ends with the deployment that it is about; ours, which ended it, belongs to it."""
    return running is None or running.at == episode["deployed_at"] or running.rolled_back_by == episode["execution"]

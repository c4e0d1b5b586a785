"""What happened to one rollback: events in the past tense, and the execution as the pure fold of them."""

from __future__ import annotations

from datetime import datetime
from itertools import islice
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from responder.alerts import Alert, Timestamp
from responder.plan import Gate, Move, Plan, Share, Step, back

State = Literal["accepted", "held", "running", "turning_back", "stuck", "closed"]
"""Every state but `closed` locks its service and environment; `stuck` stays locked until a human closes it."""

Outcome = Literal["succeeded", "compensated", "mitigated", "cancelled", "failed"]


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    at: Timestamp


class Part(BaseModel):
    """One service that is rolled back, and between which versions."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    service: str
    strategy: str
    from_version: str
    to_version: str
    artifact: str = ""  # of the version to go back to
    from_artifact: str = ""  # of the version that runs


class Accepted(_Event):
    """The guards allowed it. Everything that a later part needs is here."""

    type: Literal["accepted"] = "accepted"
    service: str
    environment: str
    policy: str
    strategy: str
    from_version: str
    to_version: str
    artifact: str = ""  # of the version to go back to
    from_artifact: str = ""  # of the version that runs
    also: tuple[Part, ...] = ()  # other services of the environment that are rolled back with it, by one plan
    requested_by: str
    forced: bool = False  # a person asked for it, against cooldown and mode
    reason: str
    on_stop: Literal["turn_back", "hold"] = "turn_back"
    needs_approval: str = ""  # why, where a human has to approve the plan first
    alerts: tuple[Alert, ...] = ()
    truncated_alerts: int = 0
    deployment_id: str = ""  # of the version that runs
    deployed_at: Timestamp | None = None
    onset_at: Timestamp | None = None
    received_at: Timestamp

    @property
    def parts(self) -> tuple[Part, ...]:
        """Every service that is rolled back; the first is the one that the execution is named after."""
        own = Part.model_validate({name: getattr(self, name) for name in Part.model_fields})
        return (own, *self.also)


class Planned(_Event):
    type: Literal["planned"] = "planned"
    plan: Plan


class Kept(_Event):
    """Evidence was kept, or could not be. It was looked for before anything was touched, and never stops anything."""

    type: Literal["kept"] = "kept"
    note: str
    location: str = ""  # empty where nothing could be kept
    files: int = 0
    bytes: int = 0
    missing: int = 0
    seconds: float = 0.0


class Held(_Event):
    """The plan waits for a human."""

    type: Literal["held"] = "held"
    reason: str
    until: Timestamp
    renewed: bool = False  # the same plan waits on, because the trouble goes on


class Approved(_Event):
    type: Literal["approved"] = "approved"
    by: str
    plan_hash: str
    although_resolved: bool = False  # whoever approved it knew that the trouble was not visible any more


class Resumed(_Event):
    """Another worker, or the same one after a crash, goes on from here."""

    type: Literal["resumed"] = "resumed"
    worker: str


class Started(_Event):
    """Written before a step is taken. Its (execution, seq) is the fence: of two workers the second fails here."""

    type: Literal["started"] = "started"
    step: int
    title: str


class Done(_Event):
    type: Literal["done"] = "done"
    step: int
    changed: bool
    note: str = ""


class Halted(_Event):
    """A step could not be done. `freeze` leaves everything as it is for a human."""

    type: Literal["halted"] = "halted"
    step: int | None = None  # None: it never came to a plan
    reason: str
    freeze: bool = False
    drift: bool = False  # somebody else moved a lever: that says nothing about the versions
    unseen: bool = False  # nobody could say how it is: that says nothing about the versions either
    reverted_by: str = ""  # who did, where the outside keeps books of that, as `argocd-controller`


class Stopped(_Event):
    """Somebody asked it to stop, and it did at the next safe point: between two steps, never inside one."""

    type: Literal["stopped"] = "stopped"
    by: str
    reason: str
    hold: bool = False  # leave what was done so far as it is, and call a human
    guard: bool = False  # until a guard allows it, the kill switch included: the same alert may open another rollback


class GaveUp(_Event):
    type: Literal["gave_up"] = "gave_up"
    reason: str


class Closed(_Event):
    type: Literal["closed"] = "closed"
    outcome: Outcome
    by: str
    reason: str


Event = Annotated[
    Accepted | Planned | Kept | Held | Approved | Resumed | Started | Done | Halted | Stopped | GaveUp | Closed,
    Field(discriminator="type"),
]


class Execution(BaseModel):
    """One rollback, as its events tell it."""

    model_config = ConfigDict(frozen=True)

    id: str
    seq: int  # of the last event
    state: State
    accepted: Accepted
    plan: Plan | None = None
    kept: Kept | None = None  # what became of the evidence
    todo: tuple[Step, ...] = ()
    taken: tuple[Step, ...] = ()
    current: Step | None = None  # started and neither done nor halted
    reached: dict[str, JsonValue] = {}  # the value to which each lever was set last
    current_since: Timestamp | None = None  # when it was started first, however often it was resumed
    steps_begun: int = 0  # how many steps have been started; the next one gets this number
    changed: bool = False  # whether any write had an effect
    cancelled: bool = False
    cancelled_by_guard: bool = False
    held_until: Timestamp | None = None
    approved_by: str | None = None
    although_resolved: bool = False
    reason: str = ""
    outcome: Outcome | None = None
    ended_at: Timestamp | None = None

    @property
    def live(self) -> bool:
        """Whether a worker has something to do for it now."""
        return self.state in ("accepted", "running", "turning_back")

    def after(self, event: Event) -> Execution:
        """The execution once this event has happened."""
        return self.model_copy(update={"seq": self.seq + 1, **self._change(event)})

    def _change(self, event: Event) -> dict[str, object]:
        match event:
            case Planned():
                return {"plan": event.plan, "todo": event.plan.steps, "state": "running"}
            case Kept():
                return {"kept": event}
            case Held():
                # Who approved an earlier plan, and what they knew then, counts for that plan alone.
                forgotten = {"approved_by": None, "although_resolved": False}
                return {"state": "held", "reason": event.reason, "held_until": event.until, **forgotten}
            case Approved():
                approval = {"reason": f"approved by {event.by}", "approved_by": event.by}
                more = {"held_until": None, "although_resolved": event.although_resolved}
                return {"state": "running", **more, **approval}
            case Started():
                since = self.current_since if self.current else event.at
                return {"current": self.todo[0], "current_since": since, "steps_begun": event.step + 1}
            case Done():
                step = self.todo[0]
                reached = {_key(step): step.to} if isinstance(step, Move) else {}
                return {
                    "reached": {**self.reached, **reached},
                    "taken": (*self.taken, self.todo[0]),
                    "todo": self.todo[1:],
                    "current": None,
                    "changed": self.changed or event.changed,
                }
            case Halted() if event.freeze or self.state == "turning_back":
                return self._stuck(event.reason)
            case Halted():
                return self._turned_back(event.reason)
            case Stopped():
                reason = f"stopped by {event.by}: {event.reason}"
                how = {"cancelled": True, "cancelled_by_guard": event.guard and not self.accepted.forced}
                return {**(self._stuck(reason) if event.hold else self._turned_back(reason)), **how}
            case GaveUp():
                return self._stuck(event.reason)
            case Closed():
                reason = event.reason or self.reason
                return {"state": "closed", "outcome": event.outcome, "reason": reason, "ended_at": event.at, "todo": ()}
        return {}

    def _turned_back(self, reason: str) -> dict[str, object]:
        # The step that was under way may have had its effect before it failed, so it is turned round as well: where it
        # had none, its lever is found where it should be and nothing is written.
        taken = (*self.taken, *((self.current,) if self.current else ()))
        return {"state": "turning_back", "todo": back(taken), "taken": (), "current": None, "reason": reason}

    def _stuck(self, reason: str) -> dict[str, object]:
        message = f"{reason} (partial: {self.whereabouts})" if self.whereabouts else reason
        return {"state": "stuck", "todo": (), "current": None, "reason": message}

    @property
    def has_begun(self) -> bool:
        """Whether a move that has to be undone had an effect, or may have had one before a crash."""
        undone = any(isinstance(step, Move) and not step.one_way for step in self.taken)
        return (self.changed and undone) or (isinstance(self.current, Move) and not self.current.one_way)

    @property
    def whereabouts(self) -> str:
        """Where each service is, where several were to be rolled back and they are not all alike; else empty."""
        states, steps = [], iter(self.plan.steps if self.plan else ())
        for share in self.plan.shares if self.plan else ():
            moves = islice(steps, share.steps)
            states.append(self._whereabouts(share, [m for m in moves if isinstance(m, Move) and not m.one_way]))
        return (
            "; ".join(f"{service} is {where}" for service, _, where in states)
            if len({t[1] for t in states}) > 1
            else ""
        )

    def _whereabouts(self, share: Share, moves: list[Move]) -> tuple[str, str, str]:
        before = {_key(move): move.was for move in reversed(moves)}
        after = {_key(move): move.to for move in moves}
        now = {key: self.reached.get(key, was) for key, was in before.items()}
        under_way = isinstance(self.current, Move) and _key(self.current) in before
        if now == before and not under_way:
            return share.service, "before", f"still {share.from_version}"
        if now == after and not under_way:
            return share.service, "after", f"back at {share.to_version}"
        return share.service, "between", f"between {share.from_version} and {share.to_version}"

    @property
    def standing(self) -> list[Move]:
        """The moves taken so far that nothing later has overridden: their levers must be where they were put."""
        moves = [step for step in self.taken if isinstance(step, Move) and not step.one_way]
        last = {_key(move): move for move in moves}
        return list(last.values())

    @property
    def ending(self) -> Outcome | None:
        """The outcome that it has come to, where no step is left and only `Closed` is missing."""
        if self.todo or (self.plan is None and self.state != "turning_back"):
            return None
        if self.state == "running":
            return "mitigated" if self.plan and self.plan.mitigations else "succeeded"
        if self.state == "turning_back":
            return "cancelled" if self.cancelled else "compensated" if self.changed else "failed"
        return None

    @property
    def verification_failed(self) -> bool:
        """Whether all was set back and the service still did not recover: then neither version is to be trusted."""
        if self.plan is None or self.state not in ("stuck", "closed") or self.outcome == "succeeded":
            return False
        last = self.plan.steps[-1]
        return isinstance(last, Gate) and last.otherwise == "freeze" and self.taken == self.plan.steps[:-1]


class StopAsked(NamedTuple):
    """Who or what wants a rollback to stop, and why. `guard` as in Stopped."""

    by: str
    reason: str
    guard: bool = False


def _key(move: Move) -> str:
    return move.lever.model_dump_json()


def begin(execution_id: str, accepted: Accepted) -> Execution:
    """The execution after its first event."""
    return Execution(id=execution_id, seq=0, state="accepted", accepted=accepted)


def fold(execution_id: str, events: list[Event]) -> Execution:
    """The execution that these events tell of. Raises ValueError where the first is not `Accepted`."""
    first, *rest = events
    if not isinstance(first, Accepted):
        raise ValueError(f"execution {execution_id} begins with {first.type}, not accepted")
    execution = begin(execution_id, first)
    for event in rest:
        execution = execution.after(event)
    return execution


def seconds_between(start: datetime, end: datetime) -> float:
    return (end - start).total_seconds()

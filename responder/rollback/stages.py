"""The stages of an execution that people are notified about, derived from its events."""

from __future__ import annotations

from typing import Literal, get_args

from responder.rollback.events import (
    Accepted,
    ApprovalRequested,
    Approved,
    Closed,
    Event,
    StepCompleted,
    StepFailed,
    StepStarted,
    StopRequested,
)
from responder.rollback.execution import Execution

Stage = Literal[
    "alert",  # a policy without a rollback notifies about this alert
    "observed",  # the policy would have rolled back; it is in observe mode
    "denied",  # another guard denied the rollback
    "accepted",
    "approval_requested",
    "approved",
    "started",
    "progress",  # progress; delivered only to channels that update a message in place
    "reverting",
    "stuck",
    "escalated",  # no reaction to a request for approval or to a stuck rollback
    "succeeded",
    "reverted",
    "mitigated",
    "cancelled",
    "failed",
]

STAGES: tuple[Stage, ...] = get_args(Stage)
ENDS: tuple[Stage, ...] = ("succeeded", "reverted", "mitigated", "cancelled", "failed")
CALLS: tuple[Stage, ...] = ("alert", "approval_requested", "stuck", "escalated")
"""Stages that need a human."""


def stage_of(event: Event, after: Execution) -> Stage | None:
    """The stage that an event leads to; None if it leads to no notification. `after`: the execution after the event."""
    match event:
        case Accepted():
            return "accepted"
        case ApprovalRequested():
            return None if event.renewed else "approval_requested"
        case Approved():
            return "approved"
        case StepStarted():
            return "started" if event.step == 0 else "progress"
        case StepCompleted():
            return "progress"
        case Closed():
            return event.outcome
        case StepFailed() | StopRequested() if after.state == "reverting":
            return "reverting"
    return "stuck" if after.state == "stuck" else None

"""At which stage an execution is for those who are told of it: pure, from one event and what it led to."""

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
    "alert",  # a policy that rolls nothing back wants this alert told
    "observed",  # it would have acted, were the policy not in observe mode
    "refused",  # another guard refused
    "accepted",
    "approval_requested",
    "approved",
    "started",
    "progress",  # a further step; told only where it changes a message that is there
    "reverting",
    "stuck",
    "escalated",  # nobody has approved it, or looked after what is stuck
    "succeeded",
    "reverted",
    "mitigated",
    "cancelled",
    "failed",
]

STAGES: tuple[Stage, ...] = get_args(Stage)
ENDS: tuple[Stage, ...] = ("succeeded", "reverted", "mitigated", "cancelled", "failed")
CALLS: tuple[Stage, ...] = ("alert", "approval_requested", "stuck", "escalated")
"""Where a human is needed."""


def stage_of(event: Event, after: Execution) -> Stage | None:
    """What is to be told of an event, where `after` is the execution that it led to; None where nothing is."""
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

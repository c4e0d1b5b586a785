"""Compose files that keep a service at the version of its last rollback until another deployment is reported."""

from __future__ import annotations

from typing import NamedTuple

from responder.backends.docker.compose_override import ComposeOverride
from responder.errors import Unknown
from responder.journal import Transaction, deployments, executions
from responder.rollback.execution import Execution
from responder.rollback.plan import Change

_MOST = 50
"""Deployments to look through for the last rollback."""


class Pins(NamedTuple):
    """What the last rollback of a service wrote, and whether a deployment was reported since."""

    changes: tuple[Change, ...] = ()
    outdated: bool = False

    @property
    def active(self) -> list[str]:
        """The pins that are meant to be there, in an engineer's words."""
        return [] if self.outdated else list(map(in_words, self.changes))


def in_words(pin: Change) -> str:
    """The pin for people."""
    if not isinstance(pin.resource, ComposeOverride):
        return str(pin)
    return f"{pin.resource.file} keeps {pin.resource.service} at {pin.after}"


async def pins_of(tx: Transaction, service: str, environment: str) -> Pins:
    """The pins of the last rollback of a service."""
    found = await deployments.find(tx, service, environment, _MOST)
    since = next((n for n, row in enumerate(found) if row["rolled_back_by"]), None)
    if since is None:
        return Pins()
    try:
        execution = await executions.load(tx, found[since]["rolled_back_by"])
    except Unknown:
        return Pins()
    return Pins(tuple(_pins_in(execution, service, environment)), outdated=since > 0)


def _pins_in(execution: Execution, service: str, environment: str) -> list[Change]:
    """The pins in the part of the plan for this service."""
    steps = list(execution.plan.steps) if execution.plan else []
    own = []
    for part in execution.plan.parts if execution.plan else ():
        of_part, steps = steps[: part.steps], steps[part.steps :]
        if (part.version.service, part.version.environment) == (service, environment):
            own += of_part
    return [
        change
        for change in execution.in_place
        if change in own and isinstance(change.resource, ComposeOverride) and change.after is not None
    ]

"""The parts of the running process that several groups of handlers need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from responder.backends.connections import Connections
from responder.decisions.policy_set import PolicySet
from responder.journal import Database
from responder.runtime.worker import Worker
from responder.web.http.routes import Handlers


@dataclass(frozen=True)
class Process:
    """The running process. A reload replaces the policies and the connections, so both are functions."""

    journal: Database
    policy_set: Callable[[], PolicySet]
    connections: Callable[[], Connections]
    worker: Worker


class ProcessHandlers(Handlers):
    """Handlers that decide on rollbacks, control or report them."""

    def __init__(self, process: Process) -> None:
        self._journal, self._worker = process.journal, process.worker
        self._policy_set, self._connections = process.policy_set, process.connections

"""Commits the events of one execution to the journal."""

from __future__ import annotations

from responder.rollback.events import Event
from responder.rollback.execution import Execution
from responder.rollback.ports import Record


class EventLog:
    """Commits events in order, and knows the execution after them.

    The end of a step and the start of the next one go into one commit. A crash between the two would lose
    nothing: reading the resource shows whether it was completed.
    """

    def __init__(self, record: Record, execution: Execution) -> None:
        self._record = record
        self._committed = execution
        self._pending: tuple[Event, ...] = ()
        self.execution = execution

    def add(self, *events: Event) -> None:
        """Adds events to the next commit."""
        self._pending += events
        for event in events:
            self.execution = self.execution.after(event)

    async def commit(self, *events: Event) -> None:
        """Commits these events after the pending ones. Raises LeaseLost if another worker wrote first."""
        pending, self._pending = self._pending, ()
        self._committed = self.execution = await self._record.append(self._committed, *pending, *events)

"""Follows a rollback in the terminal, across restarts of the responder. Ctrl-C does not stop the rollback."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import UTC, datetime
from typing import Any

from rich.live import Live

from foundation import interrupt
from foundation.commands.command import Args
from responder.cli.client import NoStream, ResponderClient, execution_path
from responder.cli.command import Refused
from responder.cli.display.progress import Progress, line
from responder.cli.display.rollbacks import approval_hint
from responder.cli.display.terminal import console
from responder.errors import ResponderError

OVER = frozenset(("closed", "stuck"))
_Event = tuple[str, dict[str, Any]]
"""Type and data of an event, or `checks` and the latest findings."""

AGAIN = 1.0
"""Seconds between two requests."""

AWAY = 120.0
"""Seconds without an answer after which a responder that answered before counts as gone."""


def say_that_it_continues(execution: str) -> None:
    """From now on, Ctrl-C says that it ends only this command."""
    interrupt.on_leaving(f"the rollback continues; follow it again: responder watch {execution}".rstrip())


async def show_until(args: Args, client: ResponderClient, execution: str, over: frozenset[str]) -> int:
    """Shows a rollback until it is in one of the states `over`. Returns 0 if it succeeded, 1 otherwise."""
    progress = Progress(execution)
    terminal = console()
    live = args.output == "text" and terminal.is_terminal
    say_that_it_continues(execution)
    async with contextlib.aclosing(follow(client, execution)) as events:
        if live:
            await _draw(progress, events, client, over)
        else:
            async for kind, event in events:
                if kind == "checks":
                    continue
                sentence = progress.take(event)
                if args.output == "text":
                    print(line(event, sentence), flush=True)
                if _is_over(progress, event, over):
                    break
    interrupt.on_leaving("")
    body = await client.get(execution_path(execution))
    if args.output == "json":
        print(json.dumps(body, indent=2))
    elif body["state"] == "awaiting_approval":
        terminal.print(approval_hint(body))
    return 0 if body["outcome"] == "succeeded" else 1


def _is_over(progress: Progress, event: dict[str, Any], over: frozenset[str]) -> bool:
    # Repeated events may show a state that the rollback has left meanwhile.
    return progress.state in over and event["seq"] >= event["last"]


async def _draw(
    progress: Progress, events: AsyncIterator[_Event], client: ResponderClient, over: frozenset[str]
) -> None:
    with Live(console=console(), auto_refresh=False) as live:

        def draw() -> None:
            live.update(progress.picture(datetime.now(UTC) + client.ahead), refresh=True)

        async def tick() -> None:
            while True:
                draw()
                await asyncio.sleep(0.2)

        ticking = asyncio.create_task(tick())
        try:
            async for kind, event in events:
                if kind == "checks":
                    progress.show_findings(event["findings"])
                    continue
                progress.take(event)
                if _is_over(progress, event, over):
                    break
        finally:
            ticking.cancel()
            draw()


async def follow(client: ResponderClient, execution: str) -> AsyncGenerator[_Event]:
    """Every event once, in order, and `checks` between them.

    Reads the event stream and resumes it after an interruption; without a stream it polls once a second.
    Raises ResponderError if the responder does not answer for AWAY seconds.
    """
    reader = _Reader(client, execution)
    while True:
        try:
            if reader.answered_at is None or not reader.streams:
                async with contextlib.aclosing(reader.poll()) as events:
                    async for event in events:
                        yield event
            if reader.streams and not reader.closed:
                async with contextlib.aclosing(reader.stream()) as events:
                    async for event in events:
                        yield event
        except NoStream:
            reader.streams = False
        except ResponderError as e:
            if not reader.may_return(e):
                raise
        if reader.closed:
            return
        await asyncio.sleep(AGAIN)


class _Reader:
    """Reads the events of one execution, and remembers the last one."""

    def __init__(self, client: ResponderClient, execution: str) -> None:
        self._client, self._path = client, f"{execution_path(execution)}/events"
        self._after, self._findings = -1, None
        self.streams, self.closed = True, False
        self.answered_at: float | None = None

    async def poll(self) -> AsyncGenerator[_Event]:
        """The new events so far, and the latest findings if they changed."""
        body = await self._client.get(self._path, after=self._after)
        self.answered_at = time.monotonic()
        for event in body["events"]:
            self._after = event["seq"]
            yield event["type"], {**event, "last": body["events"][-1]["seq"]}
        self.closed = body["state"] == "closed"
        if not self.closed and body["checks"] and body["checks"] != self._findings:
            self._findings = body["checks"]
            yield "checks", {"findings": self._findings}

    async def stream(self) -> AsyncGenerator[_Event]:
        """Events as they happen, until the stream ends or the execution is closed."""
        async for kind, event in self._client.events(self._path, self._after):
            self.answered_at = time.monotonic()
            if kind == "checks":
                yield kind, event
            elif event["seq"] > self._after:
                self._after = event["seq"]
                yield kind, {**event, "last": self._after}
                if event["state"] == "closed":
                    self.closed = True
                    return

    def may_return(self, error: ResponderError) -> bool:
        """Whether to keep waiting: the responder answered before, and not too long ago."""
        away = not isinstance(error, Refused) or error.status >= 500
        return away and self.answered_at is not None and time.monotonic() - self.answered_at <= AWAY

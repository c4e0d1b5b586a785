"""Follows a rollback in the terminal, also through restarts of the responder. Ending it does not stop the rollback."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import UTC, datetime
from typing import Any

from rich.live import Live

from foundation import interrupt
from responder.cli.client import Client, NoStream, Refused, execution_path
from responder.cli.display.progress import Progress, line
from responder.cli.display.rollbacks import approval_hint
from responder.cli.display.terminal import console
from responder.errors import ResponderError

OVER = frozenset(("closed", "stuck"))
AGAIN = 1.0
"""Seconds between two requests."""

AWAY = 120.0
"""Seconds without an answer after which a responder that has answered before counts as gone."""


async def show_until(args: argparse.Namespace, client: Client, execution: str, over: frozenset[str]) -> int:
    """Shows a rollback until it is in one of the states `over`. Returns 0 if it succeeded, 1 otherwise."""
    progress = Progress(execution)
    terminal = console()
    live = args.output == "text" and terminal.is_terminal
    interrupt.on_leaving(f"the rollback continues; follow it again: responder watch {execution}")
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
    # Events that are sent again may show a state that the rollback has left since.
    return progress.state in over and event["seq"] >= event["last"]


async def _draw(
    progress: Progress, events: AsyncIterator[tuple[str, dict[str, Any]]], client: Client, over: frozenset[str]
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


async def follow(client: Client, execution: str) -> AsyncGenerator[tuple[str, dict[str, Any]]]:
    """Every event once, in order, and `checks` between them.

    Reads the event stream and reconnects where it broke; without a stream it polls once a second. Raises ResponderError
    if the responder does not answer for AWAY seconds.
    """
    path = f"{execution_path(execution)}/events"
    after, streams, findings = -1, True, None
    answered_at: float | None = None
    while True:
        try:
            if answered_at is None or not streams:
                body = await client.get(path, after=after)
                answered_at = time.monotonic()
                for event in body["events"]:
                    after = event["seq"]
                    yield event["type"], {**event, "last": body["events"][-1]["seq"]}
                if body["state"] == "closed":
                    return
                if body["checks"] and body["checks"] != findings:
                    findings = body["checks"]
                    yield "checks", {"findings": findings}
            if streams:
                async for kind, event in client.events(path, after):
                    answered_at = time.monotonic()
                    if kind == "checks":
                        yield kind, event
                    elif event["seq"] > after:
                        after = event["seq"]
                        yield kind, {**event, "last": after}
                        if event["state"] == "closed":
                            return
        except NoStream:
            streams = False
        except ResponderError as e:
            away = not isinstance(e, Refused) or e.status >= 500
            if not away or answered_at is None or time.monotonic() - answered_at > AWAY:
                raise
        await asyncio.sleep(AGAIN)

"""`responder watch`: follows a rollback through restarts of the responder, and leaves it alone when it goes away."""

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
from responder.cli.client import Client, NoStream, Refused, place_of
from responder.cli.display import show
from responder.cli.display.progress import Progress, line
from responder.errors import ResponderError

OVER = frozenset(("closed", "stuck"))
AGAIN = 1.0
"""Seconds until it is asked again."""

AWAY = 120.0
"""Seconds without any answer after which the responder counts as gone, once it has answered."""


async def watch(args: argparse.Namespace, client: Client) -> int:
    """Until it is closed or stuck; a plan that waits for approval is waited for."""
    return await show_until(args, client, args.id, OVER)


async def show_until(args: argparse.Namespace, client: Client, execution: str, over: frozenset[str]) -> int:
    """Shows a rollback until it is in one of these states. 0 where it succeeded, 1 otherwise."""
    progress = Progress(execution)
    console = show.console()
    live = args.output == "text" and console.is_terminal
    interrupt.on_leaving(f"the rollback goes on by itself; see it again with: responder watch {execution}")
    async with contextlib.aclosing(follow(client, execution)) as events:
        if live:
            await _draw(progress, events, client, over)
        else:
            async for kind, event in events:
                if kind == "looked":
                    continue
                sentence = progress.take(event)
                if args.output == "text":
                    print(line(event, sentence), flush=True)
                if _is_over(progress, event, over):
                    break
    interrupt.on_leaving("")
    body = await client.get(place_of(execution))
    if args.output == "json":
        print(json.dumps(body, indent=2))
    elif body["state"] == "awaiting_approval":
        console.print(show.waits(body))
    return 0 if body["outcome"] == "succeeded" else 1


def _is_over(progress: Progress, event: dict[str, Any], over: frozenset[str]) -> bool:
    # What is told again from the beginning was in such a state before, and may have gone on from there.
    return progress.state in over and event["seq"] >= event["last"]


async def _draw(
    progress: Progress, events: AsyncIterator[tuple[str, dict[str, Any]]], client: Client, over: frozenset[str]
) -> None:
    with Live(console=show.console(), auto_refresh=False) as live:

        def draw() -> None:
            live.update(progress.picture(datetime.now(UTC) + client.ahead), refresh=True)

        async def tick() -> None:
            while True:
                draw()
                await asyncio.sleep(0.2)

        ticking = asyncio.create_task(tick())
        try:
            async for kind, event in events:
                if kind == "looked":
                    progress.looked(event["findings"])
                    continue
                progress.take(event)
                if _is_over(progress, event, over):
                    break
        finally:
            ticking.cancel()
            draw()


async def follow(client: Client, execution: str) -> AsyncGenerator[tuple[str, dict[str, Any]]]:
    """Every event once, in order, as it happens, and `looked` between: by a stream, which is taken up again where it
    was cut, or where there is none by asking each second. Raises ResponderError where nobody answers for long.
    """
    path = f"{place_of(execution)}/events"
    after, streams, looked = -1, True, None
    heard: float | None = None
    while True:
        try:
            if heard is None or not streams:
                body = await client.get(path, after=after)
                heard = time.monotonic()
                for event in body["events"]:
                    after = event["seq"]
                    yield event["type"], {**event, "last": body["events"][-1]["seq"]}
                if body["state"] == "closed":
                    return
                if body["looked"] and body["looked"] != looked:
                    looked = body["looked"]
                    yield "looked", {"findings": looked}
            if streams:
                async for kind, event in client.events(path, after):
                    heard = time.monotonic()
                    if kind == "looked":
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
            if not away or heard is None or time.monotonic() - heard > AWAY:
                raise
        await asyncio.sleep(AGAIN)

"""`make demo`: deploys a bad release on real parts and shows how it is noticed, rolled back and verified."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from time import monotonic

import aiohttp
from rich.console import Console
from rich.text import Text

from examples.demo.process import Broken
from examples.demo.report import report, try_next
from examples.demo.screen import Screen, console, introduce
from examples.demo.stack import Stack, connected, running
from examples.demo.timeline import Timeline, observe
from examples.demo.traffic import Traffic, customers

GOOD, BAD = "1.0", "1.1"
VERIFIED_WITHIN = 90.0


async def demo(out: Console, directory: Path, *, keep: bool) -> None:
    """Runs the whole demo. Raises Broken if a part fails."""
    introduce(out)
    timeout = aiohttp.ClientTimeout(total=5)
    with out.status("Starting the shop, exporters, Prometheus, Alertmanager and the responder …") as starting:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            running(directory, session) as stack,
            customers(stack.shop) as traffic,
        ):
            starting.stop()
            await show(out, stack, traffic)
            if keep:
                try_next(out, stack)
                with suppress(asyncio.CancelledError):  # the usual end
                    await stay(out, stack, traffic)


async def show(out: Console, stack: Stack, traffic: Traffic) -> None:
    """From the good release to the report."""
    with Screen(out) as screen:
        what = f"Release {GOOD} is reported as known good. Prometheus discovers its targets …"
        await _during(_begin(stack), screen, what, traffic)
        what = f"Deploying {BAD}, which leaks database connections …"
        await _during(stack.deploy(BAD), screen, what, traffic)
        timeline = await _rollback(screen, stack, traffic)
        await asyncio.sleep(1.2)  # shows the last whole second of traffic
        screen.show(f"{GOOD} is back and verified, without an operator.", traffic, timeline)
    history = await stack.get(f"http://{stack.responder}/api/v1/executions", service="shop")
    report(out, traffic, timeline, history["executions"])


async def stay(out: Console, stack: Stack, traffic: Traffic) -> None:
    """Shows the traffic until Ctrl-C."""
    out.print("\nThe demo keeps running. Press Ctrl-C to stop it and remove everything.")
    with Screen(out) as screen:
        while True:
            stack.must_run()
            screen.traffic(traffic)
            await asyncio.sleep(0.5)


async def _begin(stack: Stack) -> None:
    await stack.deploy(GOOD, "--good")
    await connected(stack)
    await asyncio.sleep(2)  # shows healthy traffic first


async def _during(work: Coroutine[None, None, None], screen: Screen, what: str, traffic: Traffic) -> None:
    """Shows the traffic while an awaitable runs."""
    task = asyncio.create_task(work)
    try:
        while not task.done():
            screen.show(what, traffic)
            await asyncio.wait([task], timeout=0.25)
        await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _rollback(screen: Screen, stack: Stack, traffic: Traffic) -> Timeline:
    live_at = traffic.first_answer.get(BAD)
    if live_at is None:
        raise Broken(f"Release {BAD} was deployed but never answered a request.")
    until = monotonic() + VERIFIED_WITHIN
    while True:
        stack.must_run()
        timeline = await observe(stack, live_at, BAD)
        screen.show(f"{BAD} is live. Prometheus watches it.", traffic, timeline)
        if timeline.over:
            break
        if monotonic() > until:
            tails = "".join(part.tail(4) for part in stack.parts if part.name in ("Prometheus", "the responder"))
            raise Broken(f"After {VERIFIED_WITHIN:g} s the demo still waits for: {timeline.waits_for}.{tails}")
        await asyncio.sleep(0.2)
    if timeline.outcome != "succeeded":
        why = timeline.refused or timeline.reason
        raise Broken(f"The rollback failed ({timeline.outcome or timeline.state or 'refused'}): {why}")
    return timeline


async def main(out: Console) -> int:
    """Returns the exit code: 0 if the rollback succeeded, 1 if not, 128 + N after signal N."""
    keep = os.environ.get("KEEP", "") not in ("", "0")
    received: list[int] = []
    work = asyncio.current_task()

    def leave(number: int) -> None:
        if work and not received:  # only the first signal: the shutdown must complete
            received.append(number)
            work.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, leave, number)
    directory = Path(tempfile.mkdtemp(prefix="rollback-demo-"))
    try:
        await demo(out, directory, keep=keep)
    except Broken as problem:
        out.print(Text(f"\nThe demo failed. {problem}", style="red"), soft_wrap=True)
        return 1
    except asyncio.CancelledError:
        if not received:
            raise
        out.print("\nEverything is stopped and removed.")
        return 128 + received[0]
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    more = "" if keep else " Next: make demo KEEP=1 keeps it running and prints commands to try."
    out.print(f"\nEverything is stopped and removed.{more}")
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(console())))

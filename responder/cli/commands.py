"""What each command asks of a running responder, and how it shows the answer."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import json
import os
import sys
from pathlib import Path
from typing import Any

from responder.cli.client import Client, Refused, place_of
from responder.cli.display import show
from responder.cli.watch import OVER, show_until
from responder.errors import ResponderError

OK, NO, WRONG = 0, 1, 2
"""Exit codes: done; understood, and the answer is no; the command or the configuration is wrong."""


def out(args: argparse.Namespace, body: Any, shown: Any) -> None:
    """The answer as it came, or as people read it."""
    if args.output == "json":
        print(json.dumps(body, indent=2))
    else:
        show.console().print(show.clean(shown) if isinstance(shown, str) else shown, markup=False)


async def status(args: argparse.Namespace, client: Client) -> int:
    body = await client.get("/api/v1/status", service=args.service, environment=args.environment, health="now")
    out(args, body, show.status(body))
    return NO if body["stuck"] or not body["armed"] else OK


async def report(args: argparse.Namespace, client: Client) -> int:
    """How it is now: 0 where all is healthy. Of one rollback: the draft of a post-mortem."""
    form = args.format or args.output
    if (args.id or args.execution) and (args.service or args.environment or args.since):
        raise ResponderError("a report of one rollback takes no --service, --environment or --since")
    if execution_id := args.id or args.execution:
        return await _post_mortem(args, client, execution_id, form)
    if args.plot:
        raise ResponderError("--plot needs the id of a rollback")
    body = await client.get(
        "/api/v1/report", service=args.service, environment=args.environment, since=args.since or "24h"
    )
    if form == "markdown":
        from responder.reports import health_text  # with all that it describes: takes time that no other command should
        from responder.reports.health import Report

        print(health_text.markdown(Report.model_validate(body)), end="")
    elif form == "json":
        print(json.dumps(body, indent=2))
    else:
        show.console().print(show.report(body))
    return OK if body["status"] == "healthy" else NO


async def _post_mortem(args: argparse.Namespace, client: Client, execution: str, form: str) -> int:
    path = place_of(execution)
    body = await client.get(f"{path}/report")
    if args.plot:
        drawn = await client.text(f"{path}/plot")
        try:
            await asyncio.to_thread(args.plot.write_text, drawn)
        except OSError as e:
            raise ResponderError(f"{args.plot} cannot be written: {e.strerror}") from None
    if form == "json":
        print(json.dumps(body, indent=2))
    else:
        from responder.reports import postmortem_text
        from responder.reports.record import PostMortem

        print(postmortem_text.markdown(PostMortem.model_validate(body), str(args.plot) if args.plot else None), end="")
    return OK


async def history(args: argparse.Namespace, client: Client) -> int:
    if args.id:
        body = await client.get(place_of(args.id))
        out(args, body, show.execution(body))
        return OK
    body = await client.get(
        "/api/v1/executions", service=args.service, state=args.state, since=args.since, limit=args.limit
    )
    out(args, body["executions"], show.history(body["executions"]))
    return OK


async def rollback(args: argparse.Namespace, client: Client) -> int:
    payload = {
        "service": args.service,
        "environment": args.environment,
        "version": args.to,
        "strategy": args.strategy,
        "reason": args.reason,
        "dry_run": args.dry_run,
        "also": args.also,
        "by": me(),
    }
    try:
        body = await client.post("/api/v1/rollbacks", payload)
    except Refused as e:
        if "guard_results" not in e.body:
            raise
        out(args, e.body, show.explained(e.body))
        return NO
    if args.dry_run:
        out(args, body, show.explained(body))
        return NO if body["result"] == "deny" or "no_plan" in body else OK
    if args.wait:
        # A script must not hang until a human approves.
        return await show_until(args, client, body["execution"], OVER | {"awaiting_approval"})
    out(args, body, f"rollback {body['execution']} was accepted; watch it with: responder watch {body['execution']}")
    return OK


async def approve(args: argparse.Namespace, client: Client) -> int:
    shown = await client.get(place_of(args.id))
    plan_hash = args.plan or shown["plan_hash"]
    payload = {"plan_hash": plan_hash or "none yet", "by": me(), "although_resolved": args.although_resolved}
    body = await client.post(f"{place_of(args.id)}/approve", payload)
    out(args, body, f"{args.id}: plan {plan_hash} is approved, and nothing else holds it: it is executed now")
    return OK


async def stop(args: argparse.Namespace, client: Client) -> int:
    what = _one_or_all(args, "thrown by: responder stop --all")
    body = await client.post(f"{place_of(what)}/stop", {"reason": args.reason, "by": me()})
    message = (
        "all automation is stopped; go on with: responder close --all"
        if args.all
        else f"{what} stops at its next safe point: {body['effect']}"
    )
    out(args, body, message)
    return OK


async def close(args: argparse.Namespace, client: Client) -> int:
    what = _one_or_all(args, "released by: responder close --all --reason ...")
    payload = {"reason": args.reason, "outcome": args.outcome, "by": me()}
    body = await client.post(f"{place_of(what)}/close", payload)
    out(args, body, "automation is armed again" if args.all else f"{what} is closed as {args.outcome}")
    return OK


def _one_or_all(args: argparse.Namespace, how: str) -> str:
    if args.all == (args.id is not None):
        raise ResponderError("name an execution, or --all")
    if args.id == "all":  # to HTTP that is the kill switch; whoever types it may mean something smaller
        raise ResponderError(f"no rollback is called all; the kill switch is {how}")
    return "all" if args.all else str(args.id)


async def explain(args: argparse.Namespace, client: Client) -> int:
    if args.last or args.file is None:
        body = await client.get("/api/v1/decisions", service=args.service, limit=args.limit)
        out(args, body["decisions"], show.decisions(body["decisions"]))
        return OK
    try:
        text = sys.stdin.buffer.read() if args.file == "-" else await asyncio.to_thread(Path(args.file).read_bytes)
    except OSError as e:
        raise ResponderError(f"{args.file} cannot be read: {e.strerror}") from None
    body = await client.post("/api/v1/explain", text)
    if args.output == "json":
        print(json.dumps(body, indent=2))
    else:
        for incident in body["incidents"]:
            show.console().print(show.explained(incident))
        for labels in body["unmatched"]:
            show.console().print(f"no policy matches {labels}", markup=False)
        for match in body["only_told"]:
            line = f"policy {match['policy']} only tells {', '.join(match['notify'])} of {match['alerts']}"
            show.console().print(show.clean(line), markup=False)
        if not body["incidents"] and not body["unmatched"] and not body["only_told"]:
            show.console().print("nothing fires in it")
    return OK if body["incidents"] else NO


def me() -> str:
    """Who asks, where no token says it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"

"""Commands for the current state and for what happened: `status`, `report`."""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path

from responder.cli.client import ResponderClient, execution_path
from responder.cli.command import NO, OK, Commands
from responder.cli.display import status as display
from responder.cli.display.terminal import console, out
from responder.errors import ResponderError


def add_to(commands: Commands) -> None:
    """Declares the commands."""
    parser = commands.add("status", "status", status)
    parser.add_argument("--service", help="only this service")
    parser.add_argument("--environment", help="only this environment")
    parser = commands.add(
        "report",
        "report 20261123-231500-4f2a9c1b --plot plot.svg > post-mortem.md",
        report,
    )
    parser.add_argument("id", nargs="?", help="ID of the rollback")
    parser.add_argument("--execution", metavar="ID", help="same as ID")
    parser.add_argument("--service", help="only this service")
    parser.add_argument("--environment", help="only this environment")
    parser.add_argument("--since", metavar="TIME", help="start of the report, such as 24h or a time (default: 24h)")
    parser.add_argument(
        "--format",
        choices=("text", "markdown", "json"),
        help="output format (default: --output); post-mortems are markdown",
    )
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="write the plot to this file and link to it")


async def status(args: argparse.Namespace, client: ResponderClient) -> int:
    body = await client.get("/api/v1/status", service=args.service, environment=args.environment, health="now")
    out(args, body, display.status(body))
    return NO if body["stuck"] or not body["armed"] else OK


async def report(args: argparse.Namespace, client: ResponderClient) -> int:
    """Health now: exit 0 if healthy. With the ID of a rollback: the draft of its post-mortem."""
    form = args.format or args.output
    if (args.id or args.execution) and (args.service or args.environment or args.since):
        raise ResponderError("the report of a rollback takes no --service, --environment or --since")
    if execution_id := args.id or args.execution:
        return await _post_mortem(args, client, execution_id, form)
    if args.plot:
        raise ResponderError("--plot needs the ID of a rollback")
    body = await client.get(
        "/api/v1/report", service=args.service, environment=args.environment, since=args.since or "24h"
    )
    if form == "markdown":
        from responder.reports import health_text  # slow to import: only for the command that uses it
        from responder.reports.health import Report

        print(health_text.markdown(Report.model_validate(body)), end="")
    elif form == "json":
        print(json.dumps(body, indent=2))
    else:
        console().print(display.report(body))
    return OK if body["status"] == "healthy" else NO


async def _post_mortem(args: argparse.Namespace, client: ResponderClient, execution_id: str, form: str) -> int:
    path = execution_path(execution_id)
    body = await client.get(f"{path}/report")
    if args.plot:
        plot = await client.text(f"{path}/plot")
        try:
            await asyncio.to_thread(args.plot.write_text, plot)
        except OSError as e:
            raise ResponderError(f"{args.plot} cannot be written: {e.strerror}") from None
    if form == "json":
        print(json.dumps(body, indent=2))
    else:
        from responder.reports import postmortem_text
        from responder.reports.record import PostMortem

        print(postmortem_text.markdown(PostMortem.model_validate(body), str(args.plot) if args.plot else None), end="")
    return OK

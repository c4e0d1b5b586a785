"""Commands for the current state and for what happened: `status`, `report`, `explain`."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import click

from foundation.commands.command import Args, OneOf, wrong_use
from foundation.commands.failure import NO, OK
from responder.cli.client import ResponderClient, execution_path
from responder.cli.command import FILE, CommandError, remote
from responder.cli.display import rollbacks as rollbacks_display
from responder.cli.display import status as display
from responder.cli.display.terminal import clean, console, out
from responder.cli.ids import ANY_ID, SERVICE, find_id, refuse_with_id

_service = click.option("--service", type=SERVICE, help="only this service")
_environment = click.option("--environment", help="only this environment")


@remote("status")
@_service
@_environment
async def status(args: Args, client: ResponderClient) -> int:
    body = await client.get("/api/v1/status", service=args.service, environment=args.environment, health="now")
    out(args, body, display.status(body))
    return NO if body["stuck"] or not body["armed"] else OK


@remote("report 20261123-231500-4f2a9c1b --plot plot.svg > post-mortem.md")
@click.argument("id", type=ANY_ID, required=False, help="ID of the rollback or its beginning; without it: health now")
@_service
@_environment
@click.option("--since", metavar="TIME", help="start of the report, such as 24h or a time (default: 24h)")
@click.option(
    "--format",
    type=OneOf(("text", "markdown", "json")),
    help="output format (default: --output); post-mortems are markdown",
)
@click.option("--plot", type=FILE, metavar="FILE.svg", help="write the plot to this file and link to it")
async def report(args: Args, client: ResponderClient) -> int:
    """Health now: exit 0 if healthy. With the ID of a rollback: the draft of its post-mortem."""
    form = args.format or args.output
    if args.id is not None:
        refuse_with_id(args, "service", "environment", "since")
        return await _post_mortem(args, client, await find_id(client, args.id), form)
    if args.plot:
        raise wrong_use("--plot needs the ID of a rollback")
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


async def _post_mortem(args: Args, client: ResponderClient, execution_id: str, form: str) -> int:
    path = execution_path(execution_id)
    body = await client.get(f"{path}/report")
    if args.plot:
        plot = await client.text(f"{path}/plot")
        try:
            await asyncio.to_thread(args.plot.write_text, plot)
        except OSError as e:
            raise CommandError(f"cannot be written: {e.strerror}", where=str(args.plot)) from None
    if form == "json":
        print(json.dumps(body, indent=2))
    else:
        from responder.reports import postmortem_text
        from responder.reports.record import PostMortem

        print(postmortem_text.markdown(PostMortem.model_validate(body), str(args.plot) if args.plot else None), end="")
    return OK


@remote("explain --last")
@click.argument(
    "file", type=click.Path(), required=False, metavar="[FILE|-]", help="webhook body to evaluate; nothing is changed"
)
@click.option("--last", is_flag=True, help="last decisions with guard results (default without FILE)")
@click.option("--service", type=SERVICE, help="only this service")
@click.option("--limit", type=click.IntRange(1, 1000), default=3, show_default=True, help="number of decisions to show")
async def explain(args: Args, client: ResponderClient) -> int:
    if args.file is not None and (args.last or args.service):
        raise wrong_use("FILE excludes --last and --service")
    if args.file is None:
        body = await client.get("/api/v1/decisions", service=args.service, limit=args.limit)
        out(args, body["decisions"], rollbacks_display.decisions(body["decisions"]))
        return OK
    try:
        text = sys.stdin.buffer.read() if args.file == "-" else await asyncio.to_thread(Path(args.file).read_bytes)
    except OSError as e:
        raise CommandError(f"cannot be read: {e.strerror}", where=args.file) from None
    body = await client.post("/api/v1/explain", text)
    if args.output == "json":
        print(json.dumps(body, indent=2))
    else:
        _show(body)
    return OK if body["incidents"] else NO


def _show(body: dict[str, Any]) -> None:
    terminal = console()
    for incident in body["incidents"]:
        terminal.print(rollbacks_display.explained(incident))
    for labels in body["unmatched"]:
        terminal.print(f"no policy matches {labels}", markup=False)
    for match in body["notify_only"]:
        channels = ", ".join(match["notify"])
        line = f"policy {match['policy']} only notifies {channels} about {match['alerts']}"
        terminal.print(clean(line), markup=False)
    if not body["incidents"] and not body["unmatched"] and not body["notify_only"]:
        terminal.print("the body contains no firing alert")

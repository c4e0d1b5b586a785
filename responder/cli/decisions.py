"""`explain`: why the responder acted or not, and what it would do for a webhook body."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from responder.cli.client import ResponderClient
from responder.cli.command import NO, OK, Commands
from responder.cli.display import rollbacks as display
from responder.cli.display.terminal import clean, console, out
from responder.errors import ResponderError


def add_to(commands: Commands) -> None:
    """Declares the command."""
    parser = commands.add("explain", "explain --last", explain)
    parser.add_argument("file", nargs="?", metavar="FILE|-", help="webhook body to evaluate; nothing is changed")
    parser.add_argument("--last", action="store_true", help="last decisions with guard results (default without FILE)")
    parser.add_argument("--service", help="only this service")
    parser.add_argument("--limit", type=int, default=3, help="number of decisions to show (default: 3)")


async def explain(args: argparse.Namespace, client: ResponderClient) -> int:
    if args.last or args.file is None:
        body = await client.get("/api/v1/decisions", service=args.service, limit=args.limit)
        out(args, body["decisions"], display.decisions(body["decisions"]))
        return OK
    try:
        text = sys.stdin.buffer.read() if args.file == "-" else await asyncio.to_thread(Path(args.file).read_bytes)
    except OSError as e:
        raise ResponderError(f"{args.file} cannot be read: {e.strerror}") from None
    body = await client.post("/api/v1/explain", text)
    if args.output == "json":
        print(json.dumps(body, indent=2))
    else:
        _show(body)
    return OK if body["incidents"] else NO


def _show(body: dict[str, Any]) -> None:
    terminal = console()
    for incident in body["incidents"]:
        terminal.print(display.explained(incident))
    for labels in body["unmatched"]:
        terminal.print(f"no policy matches {labels}", markup=False)
    for match in body["notify_only"]:
        channels = ", ".join(match["notify"])
        line = f"policy {match['policy']} only notifies {channels} about {match['alerts']}"
        terminal.print(clean(line), markup=False)
    if not body["incidents"] and not body["unmatched"] and not body["notify_only"]:
        terminal.print("the body contains no firing alert")

"""What each command about versions, and about what apps are told of them, asks of a running responder."""

from __future__ import annotations

import argparse
import re
from urllib.parse import quote

from responder.cli.client import Client
from responder.cli.commands import OK, me, out
from responder.cli.display import show
from responder.errors import ResponderError


async def versions(args: argparse.Namespace, client: Client) -> int:
    path = f"/api/v1/versions/{quote(args.service)}" + (f"/{quote(args.platform)}" if args.platform else "")
    body = await client.get(path, environment=args.environment, history="true" if args.history else None)
    if args.history:
        out(args, [*body["marks"], *body["requirements"]], show.version_history(body["marks"], body["requirements"]))
    elif args.platform:
        out(args, body, show.platform(body))
    else:
        out(args, body["versions"], show.versions(body["versions"]))
    return OK


async def deployed(args: argparse.Namespace, client: Client) -> int:
    payload = {
        "service": args.service,
        "version": args.version,
        "environment": args.environment,
        "platform": args.platform,
        "artifact": args.artifact or "",
        "provenance": args.provenance or "",
        "status": "good" if args.good else None,
        "id": args.id,
        "at": args.at,
        "requires": dict(_requirement(argument) for argument in args.requires),
        "by": me(),
    }
    body = await client.post("/api/v1/deployments", payload)
    deployment = body["deployment"]
    new = "recorded" if body["new"] else "was recorded before"
    where = (
        f"{deployment['environment']} on {deployment['platform']}"
        if deployment.get("platform")
        else deployment["environment"]
    )
    out(args, body, f"{deployment['version']} of {deployment['service']} in {where}: {new} as {deployment['id']}")
    return OK


async def mark(args: argparse.Namespace, client: Client) -> int:
    if not (args.status or args.no_rollback or args.lift):
        raise ResponderError("name a status, or --no-rollback WHY, or --lift")
    payload = {
        "environment": args.environment,
        "status": args.status,
        "no_rollback": "" if args.lift else args.no_rollback,
        "reason": args.reason,
        "by": me(),
    }
    body = await client.post(f"/api/v1/versions/{quote(args.service)}/{quote(args.version)}", payload)
    version = body["version"]
    stays = f", must not be rolled back past: {version['no_rollback']}" if version["no_rollback"] else ""
    out(
        args,
        body,
        f"{version['version']} of {version['service']} in {version['environment']} is {version['status']}{stays}",
    )
    return OK


async def clients(args: argparse.Namespace, client: Client) -> int:
    path = f"/api/v1/clients/{quote(args.service)}/{quote(args.platform)}"
    changed = {
        "min_version": args.min_version,
        "block": args.block,
        "unblock": args.unblock,
        "flags": dict(_flag(argument) for argument in args.flag),
    }
    if args.min_version is not None or args.block or args.unblock or args.flag:
        if not args.reason:
            raise ResponderError("a change needs --reason, for the record")
        payload = {**changed, "environment": args.environment, "reason": args.reason, "by": me()}
        await client.post(path, payload)
    elif args.reason:
        raise ResponderError("--reason for what? name a change: --min-version, --block, --unblock or --flag")
    body = await client.get(f"{path}/history", environment=args.environment, limit=args.limit)
    out(args, body, show.clients(body))
    return OK


def _requirement(argument: str) -> tuple[str, str]:
    """`backend>=2.1` is a name and a range of its versions."""
    found = re.fullmatch(r"([a-z0-9][-a-z0-9_.]*?)\s*([<>=!~].*)", argument)
    if found is None:
        raise ResponderError(f"--requires {argument}: needs a service and a range of its versions, as 'backend>=2.1'")
    return found[1], found[2]


def _flag(argument: str) -> tuple[str, bool | None]:
    """`name=true`, `name=false`, or `name=` for one that is not told any more."""
    name, _, value = argument.partition("=")
    known = {"true": True, "false": False, "": None}
    if not name or "=" not in argument or value not in known:
        raise ResponderError(f"--flag {argument}: needs name=true or name=false, or name= to tell it no more")
    return name, known[value]

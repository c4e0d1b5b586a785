"""Commands for versions and for the documents that apps poll: `deployed`, `mark`, `versions`, `clients`."""

from __future__ import annotations

import argparse
import re
from urllib.parse import quote

from responder.cli.client import ResponderClient
from responder.cli.command import OK, Commands, user_name
from responder.cli.display import versions as display
from responder.cli.display.terminal import out
from responder.errors import ResponderError

_ENVIRONMENT = "required if the service is in more than one"


def add_to(commands: Commands) -> None:
    """Declares the commands."""
    _add_deployed(commands)
    parser = commands.add(
        "mark",
        'mark backend 2.1.0 --no-rollback "fixes CVE-2026-1234"',
        mark,
    )
    parser.add_argument("service")
    parser.add_argument("version")
    parser.add_argument("status", nargs="?", choices=("candidate", "good", "suspect", "bad", "retired"))
    parser.add_argument("--environment", help=_ENVIRONMENT)
    parser.add_argument("--no-rollback", metavar="WHY", help="deny rollbacks past this version, as for a security fix")
    parser.add_argument("--lift", action="store_true", help="allow rollbacks past this version again")
    parser.add_argument("--reason", default="", help="reason, recorded in the journal")
    parser = commands.add("versions", "versions backend", versions)
    parser.add_argument("service")
    parser.add_argument("--environment", help="required with --platform if the service is in more than one")
    parser.add_argument("--platform", help="versions on this platform, with artifacts")
    parser.add_argument("--history", action="store_true", help="all marks and reported requirements")
    _add_clients(commands)


def _add_deployed(commands: Commands) -> None:
    parser = commands.add("deployed", "deployed backend 2.1.0 --artifact repo@sha256:…", deployed)
    parser.add_argument("service")
    parser.add_argument("version")
    parser.add_argument("--environment", help=_ENVIRONMENT)
    parser.add_argument("--platform", help="deployed platform, such as android (default: all)")
    parser.add_argument("--artifact", help="image digest or other content ID, such as versionCode=1234")
    parser.add_argument("--provenance", metavar="URL", help="URL of the pipeline run that built it")
    parser.add_argument(
        "--requires",
        action="append",
        default=[],
        metavar="RANGE",
        help="compatible versions of another service, such as 'backend>=2.1'; repeatable",
    )
    parser.add_argument("--good", action="store_true", help="mark as known good, as for the first report")
    parser.add_argument("--id", help="ID of the deployment; a repeated report changes nothing")
    parser.add_argument(
        "--at", metavar="TIME", help="time of the deployment, such as 2026-11-23T22:00:00Z (default: now)"
    )


def _add_clients(commands: Commands) -> None:
    parser = commands.add(
        "clients",
        'clients frontend android --block 3.0 --flag checkout=false --reason "charges twice"',
        clients,
    )
    parser.add_argument("service")
    parser.add_argument("platform")
    parser.add_argument("--environment", help=_ENVIRONMENT)
    parser.add_argument("--min-version", metavar="VERSION", help="lowest allowed version ('' removes it)")
    parser.add_argument("--block", action="append", default=[], metavar="VERSION", help="forbidden version; repeatable")
    parser.add_argument("--unblock", action="append", default=[], metavar="VERSION", help="undo --block; repeatable")
    parser.add_argument(
        "--flag",
        action="append",
        default=[],
        metavar="NAME=false",
        help="feature flag (name=true, name=false; name= removes it); repeatable",
    )
    parser.add_argument("--reason", default="", help="reason, recorded in the journal; required for a change")
    parser.add_argument("--limit", type=int, default=20, help="number of changes to show")


async def versions(args: argparse.Namespace, client: ResponderClient) -> int:
    path = f"/api/v1/versions/{quote(args.service)}" + (f"/{quote(args.platform)}" if args.platform else "")
    body = await client.get(path, environment=args.environment, history="true" if args.history else None)
    if args.history:
        out(args, [*body["marks"], *body["requirements"]], display.version_history(body["marks"], body["requirements"]))
    elif args.platform:
        out(args, body, display.platform(body))
    else:
        out(args, body["versions"], display.versions(body["versions"]))
    return OK


async def deployed(args: argparse.Namespace, client: ResponderClient) -> int:
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
        "by": user_name(),
    }
    body = await client.post("/api/v1/deployments", payload)
    deployment = body["deployment"]
    new = "recorded" if body["new"] else "already recorded"
    where = (
        f"{deployment['environment']} on {deployment['platform']}"
        if deployment.get("platform")
        else deployment["environment"]
    )
    lines = [f"{deployment['version']} of {deployment['service']} in {where}: {new} as {deployment['id']}"]
    warning = "deploy again after the responder has removed it, within a minute"
    lines += [f"warning: {pin}: {warning}" for pin in body.get("pinned", ())]
    out(args, body, "\n".join(lines))
    return OK


async def mark(args: argparse.Namespace, client: ResponderClient) -> int:
    if not (args.status or args.no_rollback or args.lift):
        raise ResponderError("needs a status, --no-rollback WHY or --lift")
    payload = {
        "environment": args.environment,
        "status": args.status,
        "no_rollback": "" if args.lift else args.no_rollback,
        "reason": args.reason,
        "by": user_name(),
    }
    body = await client.post(f"/api/v1/versions/{quote(args.service)}/{quote(args.version)}", payload)
    version = body["version"]
    stays = f"; rollbacks past it are denied: {version['no_rollback']}" if version["no_rollback"] else ""
    out(
        args,
        body,
        f"{version['version']} of {version['service']} in {version['environment']} is {version['status']}{stays}",
    )
    return OK


async def clients(args: argparse.Namespace, client: ResponderClient) -> int:
    path = f"/api/v1/clients/{quote(args.service)}/{quote(args.platform)}"
    changed = {
        "min_version": args.min_version,
        "block": args.block,
        "unblock": args.unblock,
        "flags": dict(_flag(argument) for argument in args.flag),
    }
    if args.min_version is not None or args.block or args.unblock or args.flag:
        if not args.reason:
            raise ResponderError("a change needs --reason")
        payload = {**changed, "environment": args.environment, "reason": args.reason, "by": user_name()}
        await client.post(path, payload)
    elif args.reason:
        raise ResponderError("--reason without a change: add --min-version, --block, --unblock or --flag")
    body = await client.get(f"{path}/history", environment=args.environment, limit=args.limit)
    out(args, body, display.clients(body))
    return OK


def _requirement(argument: str) -> tuple[str, str]:
    """The service and the range in `backend>=2.1`."""
    found = re.fullmatch(r"([a-z0-9][-a-z0-9_.]*?)\s*([<>=!~].*)", argument)
    if found is None:
        raise ResponderError(f"--requires {argument}: must be a service and a version range, such as 'backend>=2.1'")
    return found[1], found[2]


def _flag(argument: str) -> tuple[str, bool | None]:
    """`name=true`, `name=false`, or `name=` to remove the flag."""
    name, _, value = argument.partition("=")
    known = {"true": True, "false": False, "": None}
    if not name or "=" not in argument or value not in known:
        raise ResponderError(f"--flag {argument}: must be name=true or name=false, or name= to remove it")
    return name, known[value]

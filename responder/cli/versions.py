"""Commands for versions and for the documents that apps poll: `deployed`, `mark`, `versions`, `clients`."""

from __future__ import annotations

import re

import click

from foundation.commands.command import Args, OneOf, wrong_use
from foundation.commands.failure import OK
from responder.cli.client import ResponderClient, api_path
from responder.cli.command import remote, user_name
from responder.cli.display import versions as display
from responder.cli.display.terminal import out
from responder.cli.ids import SERVICE

_service = click.argument("service", type=SERVICE)
_environment = click.option("--environment", help="required if the service is in more than one")


@remote("versions backend")
@_service
@click.option("--environment", help="required with --platform if the service is in more than one")
@click.option("--platform", help="versions on this platform, with artifacts")
@click.option("--history", is_flag=True, help="all marks and reported requirements")
async def versions(args: Args, client: ResponderClient) -> int:
    path = api_path("versions", args.service, *([] if args.platform is None else [args.platform]))
    body = await client.get(path, environment=args.environment, history="true" if args.history else None)
    if args.history:
        out(args, [*body["marks"], *body["requirements"]], display.version_history(body["marks"], body["requirements"]))
    elif args.platform:
        out(args, body, display.platform(body))
    else:
        out(args, body["versions"], display.versions(body["versions"]))
    return OK


@remote("deployed backend 2.1.0 --artifact repo@sha256:…")
@_service
@click.argument("version")
@_environment
@click.option("--platform", help="deployed platform, such as android (default: all)")
@click.option("--artifact", help="image digest or other content ID, such as versionCode=1234")
@click.option("--provenance", metavar="URL", help="URL of the pipeline run that built it")
@click.option(
    "--requires",
    multiple=True,
    metavar="RANGE",
    help="compatible versions of another service, such as 'backend>=2.1'; repeatable",
)
@click.option("--good", is_flag=True, help="mark as known good, as for the first report")
@click.option("--id", help="ID of the deployment; a repeated report changes nothing")
@click.option("--at", metavar="TIME", help="time of the deployment, such as 2026-11-23T22:00:00Z (default: now)")
async def deployed(args: Args, client: ResponderClient) -> int:
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


@remote('mark backend 2.1.0 --no-rollback "fixes CVE-2026-1234"')
@_service
@click.argument("version")
@click.argument("status", type=OneOf(("candidate", "good", "suspect", "bad", "retired")), required=False)
@_environment
@click.option("--no-rollback", metavar="WHY", help="deny rollbacks past this version, as for a security fix")
@click.option("--lift", is_flag=True, help="allow rollbacks past this version again")
@click.option("--reason", default="", help="reason, recorded in the journal")
async def mark(args: Args, client: ResponderClient) -> int:
    if not (args.status or args.no_rollback or args.lift):
        raise wrong_use("needs a status, --no-rollback WHY or --lift")
    if args.lift and args.no_rollback is not None:
        raise wrong_use("--no-rollback and --lift exclude each other")
    payload = {
        "environment": args.environment,
        "status": args.status,
        "no_rollback": "" if args.lift else args.no_rollback,
        "reason": args.reason,
        "by": user_name(),
    }
    body = await client.post(api_path("versions", args.service, args.version), payload)
    version = body["version"]
    stays = f"; rollbacks past it are denied: {version['no_rollback']}" if version["no_rollback"] else ""
    out(
        args,
        body,
        f"{version['version']} of {version['service']} in {version['environment']} is {version['status']}{stays}",
    )
    return OK


@remote('clients frontend android --block 3.0 --flag checkout=false --reason "charges twice"')
@_service
@click.argument("platform")
@_environment
@click.option("--min-version", metavar="VERSION", help="lowest allowed version ('' removes it)")
@click.option("--block", multiple=True, metavar="VERSION", help="forbidden version; repeatable")
@click.option("--unblock", multiple=True, metavar="VERSION", help="undo --block; repeatable")
@click.option(
    "--flag",
    multiple=True,
    metavar="NAME=false",
    help="feature flag (name=true, name=false; name= removes it); repeatable",
)
@click.option("--reason", default="", help="reason, recorded in the journal; required for a change")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="number of changes to show")
async def clients(args: Args, client: ResponderClient) -> int:
    path = api_path("clients", args.service, args.platform)
    changed = {
        "min_version": args.min_version,
        "block": args.block,
        "unblock": args.unblock,
        "flags": dict(_flag(argument) for argument in args.flag),
    }
    if args.min_version is not None or args.block or args.unblock or args.flag:
        if not args.reason:
            raise wrong_use("a change needs --reason")
        payload = {**changed, "environment": args.environment, "reason": args.reason, "by": user_name()}
        await client.post(path, payload)
    elif args.reason:
        raise wrong_use("--reason without a change: add --min-version, --block, --unblock or --flag")
    body = await client.get(f"{path}/history", environment=args.environment, limit=args.limit)
    out(args, body, display.clients(body))
    return OK


def _requirement(argument: str) -> tuple[str, str]:
    """The service and the range in `backend>=2.1`."""
    found = re.fullmatch(r"([a-z0-9][-a-z0-9_.]*?)\s*([<>=!~].*)", argument)
    if found is None:
        raise wrong_use(f"--requires {argument}: must be a service and a version range, such as 'backend>=2.1'")
    return found[1], found[2]


def _flag(argument: str) -> tuple[str, bool | None]:
    """`name=true`, `name=false`, or `name=` to remove the flag."""
    name, _, value = argument.partition("=")
    known = {"true": True, "false": False, "": None}
    if not name or "=" not in argument or value not in known:
        raise wrong_use(f"--flag {argument}: must be name=true or name=false, or name= to remove it")
    return name, known[value]

"""The commands: each asks the running responder, except `serve` and `check`, which read the configuration."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import json
import os
import sys
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rich.live import Live

from responder.cli import show
from responder.cli.client import Client, Refused, address, bearer
from responder.errors import ConfigError, ResponderError

OK, NO, WRONG = 0, 1, 2
"""Exit codes: done; understood, and the answer is no; the command or the configuration is wrong."""

Command = Callable[[argparse.Namespace, Client], Awaitable[int]]


def _out(args: argparse.Namespace, body: Any, shown: Any) -> None:
    if args.output == "json":
        print(json.dumps(body, indent=2))
    else:
        show.console().print(show.clean(shown) if isinstance(shown, str) else shown, markup=False)


async def _status(args: argparse.Namespace, client: Client) -> int:
    body = await client.get("/api/v1/status")
    _out(args, body, show.status(body))
    return NO if body["stuck"] or not body["armed"] else OK


async def _history(args: argparse.Namespace, client: Client) -> int:
    if args.id:
        body = await client.get(f"/api/v1/executions/{args.id}")
        _out(args, body, show.execution(body))
        return OK
    body = await client.get(
        "/api/v1/executions", service=args.service, state=args.state, since=args.since, limit=args.limit
    )
    _out(args, body["executions"], show.history(body["executions"]))
    return OK


async def _versions(args: argparse.Namespace, client: Client) -> int:
    body = await client.get(f"/api/v1/versions/{args.service}", environment=args.environment)
    _out(args, body["versions"], show.versions(body["versions"]))
    return OK


async def _deployed(args: argparse.Namespace, client: Client) -> int:
    asked = {
        "service": args.service,
        "version": args.version,
        "environment": args.environment,
        "artifact": args.artifact or "",
        "status": "good" if args.good else None,
        "id": args.id,
        "at": args.at,
        "by": _me(),
    }
    body = await client.post("/api/v1/deployments", asked)
    told = body["deployment"]
    new = "recorded" if body["new"] else "was recorded before"
    _out(args, body, f"{told['version']} of {told['service']} in {told['environment']}: {new} as {told['id']}")
    return OK


async def _mark(args: argparse.Namespace, client: Client) -> int:
    if not (args.status or args.no_rollback or args.lift):
        raise ResponderError("name a status, or --no-rollback WHY, or --lift")
    asked = {
        "environment": args.environment,
        "status": args.status,
        "no_rollback": "" if args.lift else args.no_rollback,
        "reason": args.reason,
        "by": _me(),
    }
    body = await client.post(f"/api/v1/versions/{quote(args.service)}/{quote(args.version)}", asked)
    told = body["version"]
    stays = f", must not be rolled back past: {told['no_rollback']}" if told["no_rollback"] else ""
    _out(args, body, f"{told['version']} of {told['service']} in {told['environment']} is {told['status']}{stays}")
    return OK


async def _rollback(args: argparse.Namespace, client: Client) -> int:
    asked = {
        "service": args.service,
        "environment": args.environment,
        "version": args.to,
        "strategy": args.strategy,
        "reason": args.reason,
        "dry_run": args.dry_run,
        "by": _me(),
    }
    try:
        body = await client.post("/api/v1/rollbacks", asked)
    except Refused as e:
        if "verdicts" not in e.body:
            raise
        _out(args, e.body, show.explained(e.body))
        return NO
    if args.dry_run:
        _out(args, body, show.explained(body))
        return NO if body["verdict"] == "refuse" or "no_plan" in body else OK
    if args.wait:
        return await _watch(args, client, body["execution"])
    _out(args, body, f"rollback {body['execution']} was accepted; watch it with: responder history {body['execution']}")
    return OK


async def _watch(args: argparse.Namespace, client: Client, execution: str) -> int:
    """Shows a rollback until it is closed, stuck, or waits for a human."""
    path = f"/api/v1/executions/{execution}"
    over = ("closed", "stuck", "held")
    body = await client.get(path)
    if args.output == "json":
        while body["state"] not in over:
            await asyncio.sleep(0.25)
            body = await client.get(path)
        print(json.dumps(body, indent=2))
    else:
        with Live(show.execution(body), console=show.console(), refresh_per_second=8) as live:
            while body["state"] not in over:
                await asyncio.sleep(0.25)
                body = await client.get(path)
                live.update(show.execution(body))
    return OK if body["outcome"] == "succeeded" else NO


async def _approve(args: argparse.Namespace, client: Client) -> int:
    shown = await client.get(f"/api/v1/executions/{args.id}")
    plan_hash = args.plan or shown["plan_hash"]
    body = await client.post(
        f"/api/v1/executions/{args.id}/approve", {"plan_hash": plan_hash or "none yet", "by": _me()}
    )
    _out(args, body, f"{args.id}: plan {plan_hash} is approved")
    return OK


async def _stop(args: argparse.Namespace, client: Client) -> int:
    if args.all == (args.id is not None):
        raise ResponderError("name an execution, or --all")
    what = "all" if args.all else args.id
    body = await client.post(f"/api/v1/executions/{what}/stop", {"reason": args.reason, "by": _me()})
    told = (
        "all automation is stopped; go on with: responder close --all"
        if args.all
        else f"{what} stops at its next safe point"
    )
    _out(args, body, told)
    return OK


async def _close(args: argparse.Namespace, client: Client) -> int:
    if args.all == (args.id is not None):
        raise ResponderError("name an execution, or --all")
    what = "all" if args.all else args.id
    asked = {"reason": args.reason, "outcome": args.outcome, "by": _me()}
    body = await client.post(f"/api/v1/executions/{what}/close", asked)
    _out(args, body, "automation is armed again" if args.all else f"{what} is closed as {args.outcome}")
    return OK


async def _explain(args: argparse.Namespace, client: Client) -> int:
    if args.last or args.file is None:
        body = await client.get("/api/v1/decisions", service=args.service, limit=args.limit)
        _out(args, body["decisions"], show.decisions(body["decisions"]))
        return OK
    try:
        text = sys.stdin.buffer.read() if args.file == "-" else await asyncio.to_thread(Path(args.file).read_bytes)
    except OSError as e:
        raise ResponderError(f"{args.file} cannot be read: {e.strerror}") from None
    body = await client.post("/api/v1/explain", text)
    if args.output == "json":
        print(json.dumps(body, indent=2))
    else:
        for one in body["incidents"]:
            show.console().print(show.explained(one))
        for labels in body["unmatched"]:
            show.console().print(f"no policy matches {labels}", markup=False)
        if not body["incidents"] and not body["unmatched"]:
            show.console().print("nothing fires in it")
    return OK if body["incidents"] else NO


def _me() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def _serve(args: argparse.Namespace) -> int:
    from responder.app import serve

    asyncio.run(serve(args.config))
    return OK


def _check(args: argparse.Namespace) -> int:
    from responder.cli.check import check

    return asyncio.run(check(args.config, live=args.live, output=args.output))


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--config", type=Path, default=Path("responder.yml"), help="configuration file (responder.yml)")
    common.add_argument("--output", choices=("text", "json"), default="text", help="how to show the answer")
    remote = argparse.ArgumentParser(add_help=False, parents=[common])
    remote.add_argument(
        "--url", help="where the responder listens (RESPONDER_URL, else web.listen of the configuration)"
    )
    remote.add_argument("--token-file", type=Path, help="file with the bearer token (else RESPONDER_TOKEN)")
    parser = argparse.ArgumentParser(
        prog="responder", description="Puts the last known-good version back when Prometheus says so."
    )
    parser.add_argument("--version", action="version", version=f"responder {version('rollback-responder')}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(
        name: str, what: str, example: str, act: Any, parent: argparse.ArgumentParser = remote
    ) -> argparse.ArgumentParser:
        made = commands.add_parser(
            name,
            help=what,
            description=what[0].upper() + what[1:] + ".",
            epilog=f"example: {example}",
            parents=[parent],
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        made.set_defaults(act=act)
        return made

    add("serve", "run the responder", "responder serve --config /etc/responder/responder.yml", _serve, common)
    one = add("check", "find every mistake in the configuration", "responder check --live", _check, common)
    one.add_argument("--live", action="store_true", help="also ask Prometheus, Alertmanager, and every lever and check")
    one = add(
        "rollback",
        "roll a service back by hand",
        'responder rollback backend --reason "errors after 2.1" --wait',
        _rollback,
    )
    one.add_argument("service")
    one.add_argument("--environment", help="needed where the service is in several")
    one.add_argument("--to", metavar="VERSION", help="a version that was deployed before (the last known-good one)")
    one.add_argument("--strategy", help="one of the service's alternatives (the usual one)")
    one.add_argument("--reason", required=True, help="for the record")
    one.add_argument("--dry-run", action="store_true", help="show guards and plan, do nothing")
    one.add_argument("--wait", action="store_true", help="show it until it is over; exit 1 unless it succeeded")
    one = add("approve", "approve a plan that waits", "responder approve 20261123-231500-4f2a9c1b", _approve)
    one.add_argument("id")
    one.add_argument("--plan", metavar="HASH", help="the plan that you have read (the one that it has now)")
    one = add(
        "stop",
        "stop a rollback at its next safe point, or all automation",
        'responder stop --all --reason "maintenance"',
        _stop,
    )
    one.add_argument("id", nargs="?")
    one.add_argument("--all", action="store_true", help="throw the kill switch; `close --all` releases it")
    one.add_argument("--reason", default="", help="for the record")
    one = add(
        "close",
        "close a stuck rollback, or release the kill switch",
        'responder close 20261123-231500-4f2a9c1b --reason "fixed by hand"',
        _close,
    )
    one.add_argument("id", nargs="?")
    one.add_argument("--all", action="store_true", help="release the kill switch")
    one.add_argument("--outcome", choices=("failed", "succeeded", "compensated", "cancelled"), default="failed")
    one.add_argument("--reason", required=True, help="for the record")
    add("status", "what is going on; exit 1 where a human is needed", "responder status", _status)
    one = add("history", "past rollbacks, or one with its steps", "responder history --service backend", _history)
    one.add_argument("id", nargs="?")
    one.add_argument("--service")
    one.add_argument("--state", choices=("accepted", "held", "running", "turning_back", "stuck", "closed"))
    one.add_argument("--since", metavar="TIME", help="as 2026-11-23T22:00:00Z")
    one.add_argument("--limit", type=int, default=20)
    one = add(
        "explain",
        "why it did or did not act, or what it would do with an alert body",
        "responder explain --last",
        _explain,
    )
    one.add_argument("file", nargs="?", metavar="FILE|-", help="a webhook body to judge without acting")
    one.add_argument(
        "--last", action="store_true", help="the last decisions with what every guard said (default without FILE)"
    )
    one.add_argument("--service")
    one.add_argument("--limit", type=int, default=3)
    one = add(
        "deployed",
        "tell that a version was deployed",
        "responder deployed backend 2.1.0 --artifact repo@sha256:…",
        _deployed,
    )
    one.add_argument("service")
    one.add_argument("version")
    one.add_argument("--environment", help="needed where the service is in several")
    one.add_argument("--artifact", help="what the version is made of, as an image digest")
    one.add_argument("--good", action="store_true", help="known good already, as for the first release that is told")
    one.add_argument("--id", help="id of the deployment; telling it twice is telling it once")
    one.add_argument("--at", metavar="TIME", help="when, as 2026-11-23T22:00:00Z (now)")
    one = add(
        "mark",
        "say what you know of a version",
        'responder mark backend 2.1.0 --no-rollback "fixes CVE-2026-1234"',
        _mark,
    )
    one.add_argument("service")
    one.add_argument("version")
    one.add_argument("status", nargs="?", choices=("candidate", "good", "suspect", "bad"))
    one.add_argument("--environment", help="needed where the service is in several")
    one.add_argument("--no-rollback", metavar="WHY", help="nothing may be rolled back past it, as for a security fix")
    one.add_argument("--lift", action="store_true", help="it may be rolled back past again")
    one.add_argument("--reason", default="", help="for the record")
    one = add("versions", "what is known of a service's versions", "responder versions backend", _versions)
    one.add_argument("service")
    one.add_argument("--environment")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    args = _parser().parse_args(argv)
    try:
        if args.act in (_serve, _check):
            return int(args.act(args))

        async def ask() -> int:
            async with Client(address(args.url, args.config), bearer(args.token_file)) as client:
                return int(await args.act(args, client))

        return asyncio.run(ask())
    except ConfigError as e:
        print("\n".join(e.mistakes), file=sys.stderr)
        return WRONG
    except Refused as e:
        print(f"responder: {e}", file=sys.stderr)
        return NO
    except ResponderError as e:
        print(f"responder: {e}", file=sys.stderr)
        return WRONG
    except KeyboardInterrupt:
        return 130

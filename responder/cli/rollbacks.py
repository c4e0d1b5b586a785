"""Commands for rollbacks: `rollback`, `watch`, `approve`, `stop`, `close`, `history`."""

from __future__ import annotations

import argparse

from responder.cli.client import ResponderClient, execution_path
from responder.cli.command import NO, OK, Commands, Refused, user_name
from responder.cli.display import rollbacks as display
from responder.cli.display.terminal import out
from responder.cli.watch import OVER, show_until
from responder.errors import ResponderError

_STATES = ("accepted", "awaiting_approval", "running", "reverting", "stuck", "closed")


def add_to(commands: Commands) -> None:
    """Declares the commands."""
    parser = commands.add("rollback", 'rollback backend --reason "errors after 2.1" --wait', rollback)
    parser.add_argument("service")
    parser.add_argument("--environment", help="required if the service is in more than one")
    parser.add_argument(
        "--to", metavar="VERSION", help="deployed version to restore (default: last known-good version)"
    )
    parser.add_argument(
        "--with",
        dest="also",
        action="append",
        default=[],
        metavar="SERVICE",
        help="another service to roll back with this one; repeatable",
    )
    parser.add_argument("--strategy", help="one of the service's alternatives")
    parser.add_argument("--reason", required=True, help="reason, recorded in the journal")
    parser.add_argument("--dry-run", action="store_true", help="show guard results and plan; change nothing")
    parser.add_argument("--wait", action="store_true", help="follow the rollback; exit 1 unless it succeeds")
    parser = commands.add("watch", "watch 20261123-231500-4f2a9c1b", watch)
    parser.add_argument("id", help="ID of the rollback")
    parser = commands.add("approve", "approve 20261123-231500-4f2a9c1b", approve)
    parser.add_argument("id", help="ID of the rollback")
    parser.add_argument("--plan", metavar="HASH", help="hash of the reviewed plan (default: current plan)")
    parser.add_argument(
        "--although-resolved", action="store_true", help="approve although the trouble is no longer visible"
    )
    parser = commands.add("stop", 'stop --all --reason "maintenance"', stop)
    parser.add_argument("id", nargs="?", help="ID of the rollback")
    parser.add_argument("--all", action="store_true", help="set the kill switch; `close --all` releases it")
    parser.add_argument("--reason", default="", help="reason, recorded in the journal")
    parser = commands.add("close", 'close 20261123-231500-4f2a9c1b --reason "fixed by hand"', close)
    parser.add_argument("id", nargs="?", help="ID of the rollback")
    parser.add_argument("--all", action="store_true", help="release the kill switch")
    parser.add_argument("--outcome", choices=("failed", "succeeded", "reverted", "cancelled"), default="failed")
    parser.add_argument("--reason", required=True, help="reason, recorded in the journal")
    parser = commands.add("history", "history --service backend", history)
    parser.add_argument("id", nargs="?", help="ID of the rollback")
    parser.add_argument("--service", help="only this service")
    parser.add_argument("--state", choices=_STATES)
    parser.add_argument("--since", metavar="TIME", help="time or age, such as 2026-11-23T22:00:00Z or 24h")
    parser.add_argument("--before", metavar="ID", help="only older ones than this rollback, such as the last one shown")
    parser.add_argument("--limit", type=int, default=20, help="number of rollbacks to show (default: 20)")


async def rollback(args: argparse.Namespace, client: ResponderClient) -> int:
    payload = {
        "service": args.service,
        "environment": args.environment,
        "version": args.to,
        "strategy": args.strategy,
        "reason": args.reason,
        "dry_run": args.dry_run,
        "also": args.also,
        "by": user_name(),
    }
    try:
        body = await client.post("/api/v1/rollbacks", payload)
    except Refused as e:
        if "guard_results" not in e.body:
            raise
        out(args, e.body, display.explained(e.body))
        return NO
    if args.dry_run:
        out(args, body, display.explained(body))
        return NO if body["result"] == "deny" or "no_plan" in body else OK
    if args.wait:
        # A script must not wait for an approval.
        return await show_until(args, client, body["execution"], OVER | {"awaiting_approval"})
    out(args, body, f"rollback {body['execution']} accepted; follow it: responder watch {body['execution']}")
    return OK


async def watch(args: argparse.Namespace, client: ResponderClient) -> int:
    """Follows a rollback until it is closed or stuck, even while it awaits approval."""
    return await show_until(args, client, args.id, OVER)


async def approve(args: argparse.Namespace, client: ResponderClient) -> int:
    path = execution_path(args.id)
    plan_hash = args.plan or (await client.get(path))["plan_hash"]
    payload = {"plan_hash": plan_hash or "none", "by": user_name(), "although_resolved": args.although_resolved}
    body = await client.post(f"{path}/approve", payload)
    out(args, body, f"{args.id}: plan {plan_hash} approved; execution continues")
    return OK


async def stop(args: argparse.Namespace, client: ResponderClient) -> int:
    target = _execution_or_all(args, "throw it with: responder stop --all")
    body = await client.post(f"{execution_path(target)}/stop", {"reason": args.reason, "by": user_name()})
    message = (
        "all automation is stopped; start it again: responder close --all --reason ..."
        if args.all
        else f"{target} stops at its next safe point: {body['effect']}"
    )
    out(args, body, message)
    return OK


async def close(args: argparse.Namespace, client: ResponderClient) -> int:
    target = _execution_or_all(args, "release it with: responder close --all --reason ...")
    payload = {"reason": args.reason, "outcome": args.outcome, "by": user_name()}
    body = await client.post(f"{execution_path(target)}/close", payload)
    out(args, body, "automation is armed again" if args.all else f"{target} closed as {args.outcome}")
    return OK


def _execution_or_all(args: argparse.Namespace, kill_switch: str) -> str:
    if args.all == (args.id is not None):
        raise ResponderError("needs either the ID of a rollback or --all")
    if args.id == "all":  # in the API, that ID is the kill switch
        raise ResponderError(f"'all' is not the ID of a rollback. If you mean the kill switch, {kill_switch}")
    return "all" if args.all else str(args.id)


async def history(args: argparse.Namespace, client: ResponderClient) -> int:
    if args.id:
        body = await client.get(execution_path(args.id))
        out(args, body, display.execution(body))
        return OK
    wanted = {name: getattr(args, name) for name in ("service", "state", "since", "before", "limit")}
    body = await client.get("/api/v1/executions", **wanted)
    out(args, body["executions"], display.history(body["executions"]))
    return OK

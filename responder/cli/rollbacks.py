"""Commands for rollbacks: `rollback`, `watch`, `approve`, `stop`, `close`, `history`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from foundation.commands.command import Args, OneOf, wrong_use
from foundation.commands.failure import NO, OK
from responder.cli.client import ResponderClient, execution_path
from responder.cli.command import Refused, remote, user_name
from responder.cli.display import rollbacks as display
from responder.cli.display.terminal import out
from responder.cli.ids import ANY_ID, OPEN, SERVICE, UNDERWAY, find_id, id_in, refuse_with_id
from responder.cli.watch import OVER, say_that_it_continues, show_until

_STATES = ("accepted", "awaiting_approval", "running", "reverting", "stuck", "closed")


F = TypeVar("F", bound=Callable[..., Any])

_WAITING, _STUCK = ("waiting_for_approval",), ("stuck",)


def _id(lists: tuple[str, ...], which: str) -> Callable[[F], F]:
    what = f"ID of the rollback or its beginning (default: the only one that {which})"
    return click.argument("id", type=id_in(lists), required=False, help=what)


_reason = click.option("--reason", required=True, help="reason, recorded in the journal")


@remote('rollback backend --reason "errors after 2.1" --wait')
@click.argument("service", type=SERVICE)
@click.option("--environment", help="required if the service is in more than one")
@click.option("--to", metavar="VERSION", help="deployed version to restore (default: last known-good version)")
@click.option(
    "--with", "also", type=SERVICE, multiple=True, metavar="SERVICE",
    help="another service to roll back with this one; repeatable",
)  # fmt: skip
@click.option("--strategy", help="one of the service's alternatives")
@_reason
@click.option("--dry-run", is_flag=True, help="show guard results and plan; change nothing")
@click.option("--wait", is_flag=True, help="follow the rollback; exit 1 unless it succeeds")
async def rollback(args: Args, client: ResponderClient) -> int:
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


@remote("watch 20261123-231500-4f2a9c1b")
@_id(OPEN, "is open")
async def watch(args: Args, client: ResponderClient) -> int:
    """Follows a rollback until it is closed or stuck, even while it awaits approval."""
    say_that_it_continues(args.id or "")
    return await show_until(args, client, await find_id(client, args.id, OPEN), OVER)


@remote("approve 20261123-231500-4f2a9c1b")
@_id(_WAITING, "awaits approval")
@click.option("--plan", metavar="HASH", help="hash of the reviewed plan (default: current plan)")
@click.option("--although-resolved", is_flag=True, help="approve although the trouble is no longer visible")
async def approve(args: Args, client: ResponderClient) -> int:
    execution_id = await find_id(client, args.id, _WAITING)
    path = execution_path(execution_id)
    plan_hash = args.plan or (await client.get(path))["plan_hash"]
    payload = {"plan_hash": plan_hash or "none", "by": user_name(), "although_resolved": args.although_resolved}
    body = await client.post(f"{path}/approve", payload)
    out(args, body, f"{execution_id}: plan {plan_hash} approved; execution continues")
    return OK


@remote('stop --all --reason "maintenance"')
@_id(UNDERWAY, "is running")
@click.option("--all", is_flag=True, help="set the kill switch; `close --all` releases it")
@click.option("--reason", default="", help="reason, recorded in the journal")
async def stop(args: Args, client: ResponderClient) -> int:
    target = await _execution_or_all(args, client, "throw it with: responder stop --all", UNDERWAY)
    body = await client.post(f"{execution_path(target)}/stop", {"reason": args.reason, "by": user_name()})
    message = (
        "all automation is stopped; start it again: responder close --all --reason ..."
        if args.all
        else f"{target} stops at its next safe point: {body['effect']}"
    )
    out(args, body, message)
    return OK


@remote('close 20261123-231500-4f2a9c1b --reason "fixed by hand"')
@_id(_STUCK, "is stuck")
@click.option("--all", is_flag=True, help="release the kill switch")
@click.option(
    "--outcome",
    type=OneOf(("failed", "succeeded", "reverted", "cancelled")),
    default="failed",
    show_default=True,
    help="outcome for the record",
)
@_reason
async def close(args: Args, client: ResponderClient) -> int:
    target = await _execution_or_all(args, client, "release it with: responder close --all --reason ...", _STUCK)
    payload = {"reason": args.reason, "outcome": args.outcome, "by": user_name()}
    body = await client.post(f"{execution_path(target)}/close", payload)
    out(args, body, "automation is armed again" if args.all else f"{target} closed as {args.outcome}")
    return OK


async def _execution_or_all(args: Args, client: ResponderClient, kill_switch: str, lists: tuple[str, ...]) -> str:
    if args.all and args.id is not None:
        raise wrong_use("the ID of a rollback and --all exclude each other")
    if args.id == "all":  # in the API, that ID is the kill switch
        raise wrong_use(f"'all' is not the ID of a rollback. If you mean the kill switch, {kill_switch}")
    return "all" if args.all else await find_id(client, args.id, lists)


@remote("history --service backend")
@click.argument(
    "id", type=ANY_ID, required=False, help="ID of the rollback or its beginning; without it: all rollbacks"
)
@click.option("--service", type=SERVICE, help="only this service")
@click.option("--state", type=OneOf(_STATES), help="only rollbacks in this state")
@click.option("--since", metavar="TIME", help="time or age, such as 2026-11-23T22:00:00Z or 24h")
@click.option(
    "--before", type=ANY_ID, metavar="ID", help="only older ones than this rollback, such as the last one shown"
)
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="number of rollbacks to show"
)
async def history(args: Args, client: ResponderClient) -> int:
    if args.id is not None:
        refuse_with_id(args, "service", "state", "since", "before")
        body = await client.get(execution_path(await find_id(client, args.id)))
        out(args, body, display.execution(body))
        return OK
    if args.before is not None:
        args.before = await find_id(client, args.before)
    wanted = {name: getattr(args, name) for name in ("service", "state", "since", "before", "limit")}
    body = await client.get("/api/v1/executions", **wanted)
    out(args, body["executions"], display.history(body["executions"]))
    return OK

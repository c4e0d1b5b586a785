"""Names that commands take, and their completion: IDs of rollbacks and their beginnings, services, configured names."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from foundation.commands.command import Args, Names, wrong_use
from responder.cli.command import CONFIG, CommandError

if TYPE_CHECKING:
    from responder.app.settings import Config
    from responder.cli.client import ResponderClient

_WHOLE = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{8}")
_SHOWN = 10
"""Candidates in an error, and completions of an ID."""
_WITHIN = 2.0
"""Seconds for a completion: the user waits for it."""

UNDERWAY = ("active", "waiting_for_approval")
OPEN = (*UNDERWAY, "stuck")
"""Lists of open rollbacks in the status of the responder."""
_MEANING = {
    UNDERWAY: "is running",
    ("waiting_for_approval",): "awaits approval",
    ("stuck",): "is stuck",
    OPEN: "is open",
}


async def find_id(client: ResponderClient, given: str | None, lists: tuple[str, ...] = ()) -> str:
    """The ID of a rollback, of which a unique beginning is enough. Without it: the only rollback in `lists`.

    A beginning of nothing is returned as it is: the responder answers that it does not exist. Raises CommandError.
    """
    if given is None:
        found = await _listed(client, lists)
        if not found:
            raise CommandError(f"no rollback {_MEANING[lists]}", hint="give an ID: responder history lists them")
        return _only(found, f"more than one rollback {_MEANING[lists]}")
    if not given or _WHOLE.fullmatch(given):
        return given
    found = await _beginning(client, given)
    exact = [row for row in found if row["id"] == given]
    return _only(exact or found, f"more than one rollback begins with {given!r}") if found else given


def _only(found: list[dict[str, Any]], problem: str) -> str:
    if len(found) == 1:
        return str(found[0]["id"])
    more = [", …"] if len(found) == _SHOWN else []
    raise CommandError(
        problem, hint="give the ID: " + ", ".join([f"{row['id']} ({_about(row)})" for row in found] + more)
    )


def _about(row: Mapping[str, Any]) -> str:
    return f"{row['service']} {row['from_version']} → {row['to_version']}, {row['outcome'] or row['state']}"


async def _listed(client: ResponderClient, lists: Iterable[str]) -> list[dict[str, Any]]:
    status = await client.get("/api/v1/status")
    return [row for name in lists for row in status[name]]


async def _beginning(client: ResponderClient, beginning: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = (await client.get("/api/v1/executions", id=beginning, limit=_SHOWN))["executions"]
    return rows


def refuse_with_id(args: Args, *options: str) -> None:
    """Raises the error of options that select rollbacks, beside the ID of one."""
    if used := [f"--{option}" for option in options if getattr(args, option) is not None]:
        raise wrong_use(f"the ID of a rollback and {used[0]} exclude each other")


def _from_responder(find: Callable[[ResponderClient, str], Any]) -> Names:
    """Completes with what a responder answers to the command line so far."""

    async def ask(options: Mapping[str, Any], beginning: str) -> Mapping[str, str]:
        from responder.cli.client import connect  # slow to import

        async with asyncio.timeout(_WITHIN), connect({"config": CONFIG, **options}) as client:
            found: Mapping[str, str] = await find(client, beginning)
            return found

    return Names(lambda options, beginning: asyncio.run(ask(options, beginning)))


def id_in(lists: tuple[str, ...]) -> Names:
    """IDs of open rollbacks."""

    async def find(client: ResponderClient, beginning: str) -> Mapping[str, str]:
        return {row["id"]: _about(row) for row in await _listed(client, lists)}

    return _from_responder(find)


async def _any(client: ResponderClient, beginning: str) -> Mapping[str, str]:
    return {row["id"]: _about(row) for row in await _beginning(client, beginning)}


async def _services(client: ResponderClient, _: str) -> Mapping[str, str]:
    return {row["service"]: row["environment"] for row in (await client.get("/api/v1/status"))["services"]}


ANY_ID, SERVICE = _from_responder(_any), _from_responder(_services)


def configured(names: Callable[[Config], Iterable[str]]) -> Names:
    """Names in the configuration file."""

    def find(options: Mapping[str, Any], _: str) -> Mapping[str, str]:
        from responder.app.loading import load  # slow to import

        return dict.fromkeys(names(load(options.get("config") or CONFIG)), "")

    return Names(find)


DATABASE = configured(lambda config: [database.name for database in config.databases])
STORE = configured(lambda config: [store.name for store in config.snapshots])
CHANNEL = configured(lambda config: config.notify.channels)

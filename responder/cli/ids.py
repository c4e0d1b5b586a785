"""Names that commands take, and their completion: IDs of rollbacks and their beginnings, services, configured names."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
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
    if given is not None:
        return given if not given or _WHOLE.fullmatch(given) else begins(given, await _any(client, given))
    found = await _listed(client, lists)
    if not found:
        raise CommandError(f"no rollback {_MEANING[lists]}", hint="give an ID: responder history lists them")
    return _only(found, f"more than one rollback {_MEANING[lists]}")


def begins(given: str, known: Mapping[str, str]) -> str:
    """The name in `known` that is `given`, or else the only one that begins like this; `given` if there is none."""
    found = [given] if given in known else [name for name in known if name.startswith(given)]
    return _only({name: known[name] for name in found}, f"more than one begins with {given!r}") if found else given


def _only(found: Mapping[str, str], problem: str) -> str:
    if len(found) == 1:
        return next(iter(found))
    names = [f"{name} ({what})" if what else name for name, what in found.items()]
    more = ["…"] if len(names) >= _SHOWN else []
    raise CommandError(problem, hint=f"give one of {', '.join(names[:_SHOWN] + more)}")


def _about(row: Mapping[str, Any]) -> str:
    return f"{row['service']} {row['from_version']} → {row['to_version']}, {row.get('outcome') or row['state']}"


async def _listed(client: ResponderClient, lists: Iterable[str]) -> dict[str, str]:
    status = await client.get("/api/v1/status")
    return {row["id"]: _about(row) for name in lists for row in status[name]}


async def _any(client: ResponderClient, beginning: str) -> dict[str, str]:
    rows = (await client.get("/api/v1/executions", id=beginning or None, limit=_SHOWN))["executions"]
    return {row["id"]: _about(row) for row in rows}


async def _services(client: ResponderClient, _: str) -> dict[str, str]:
    return {row["service"]: row["environment"] for row in (await client.get("/api/v1/status"))["services"]}


def refuse_with_id(args: Args, *options: str) -> None:
    """Raises the error of options that select rollbacks, beside the ID of one."""
    if used := [f"--{option}" for option in options if getattr(args, option) is not None]:
        raise wrong_use(f"the ID of a rollback and {used[0]} exclude each other")


def _from_responder(find: Callable[[ResponderClient, str], Awaitable[dict[str, str]]]) -> Names:
    """Completes with what a responder answers to the command line so far."""

    async def ask(options: Mapping[str, Any], beginning: str) -> dict[str, str]:
        from responder.cli.client import connect  # slow to import

        async with asyncio.timeout(_WITHIN), connect({"config": CONFIG, **options}) as client:
            return await find(client, beginning)

    return Names(lambda options, beginning: asyncio.run(ask(options, beginning)))


def id_in(lists: tuple[str, ...]) -> Names:
    """IDs of open rollbacks."""
    return _from_responder(lambda client, _: _listed(client, lists))


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

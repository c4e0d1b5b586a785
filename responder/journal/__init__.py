"""The memory of everything. History, dedup, cooldowns, locks and leases are all read from here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from responder.errors import ConfigError
from responder.journal.database import Database, Row, Subscription, Transaction
from responder.journal.open_executions import open_executions

if TYPE_CHECKING:
    from responder.journal.postgres import Postgres

__all__ = [
    "Database",
    "Row",
    "Subscription",
    "Transaction",
    "check_journal",
    "open_executions",
    "open_journal",
    "state_problem",
]


def state_problem(state: str) -> str:
    """What is wrong with a `state`; empty where it names a journal that we know."""
    if re.match(r"sqlite:///.|postgres(ql)?://.", state):
        return ""
    return "must be sqlite:///absolute/path or postgresql://user@host/database"


async def open_journal(state: str, *, lease: float = 15.0, wait: bool = False) -> Database:
    """Opens `sqlite:///absolute/path` or `postgresql://…`. Raises ConfigError, and never shows a password.

    `lease` bounds how long a session in PostgreSQL can hold anything. With `wait`, a PostgreSQL that is away is no
    error: the journal raises JournalUnavailable until it can be used.
    """
    if file := _file(state):
        from responder.journal.sqlite import Sqlite

        return await Sqlite.open(file)
    return await _postgres().open(state, lease=lease, wait=wait)


async def check_journal(state: str) -> None:
    """Whether the journal could be opened, with nothing made or changed. Raises ConfigError as `open_journal` does."""
    if file := _file(state):
        from responder.journal.sqlite import Sqlite

        Sqlite.check(file)
    else:
        await _postgres().check(state)


def _file(state: str) -> Path | None:
    if problem := state_problem(state):
        raise ConfigError([f"state: {problem}"])
    return Path(state.removeprefix("sqlite://")) if state.startswith("sqlite:///") else None


def _postgres() -> type[Postgres]:
    try:
        from responder.journal.postgres import Postgres
    except ImportError:
        raise ConfigError(["state: PostgreSQL needs the extra: pip install 'rollback-responder[postgres]'"]) from None
    return Postgres

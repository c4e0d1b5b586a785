"""The journal: history, leases and the outbox, in SQLite or PostgreSQL. It only persists; it makes no decisions.

It may import `rollback` and below.
"""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from responder.errors import ConfigError
from responder.journal.database import Bulk, Database, Row, Subscription, Transaction, Transactions
from responder.journal.open_executions import open_executions

if TYPE_CHECKING:
    from responder.journal.postgres.database import PostgresJournal

__all__ = [
    "Bulk",
    "Database",
    "Row",
    "Subscription",
    "Transaction",
    "Transactions",
    "check_journal",
    "open_executions",
    "open_journal",
    "state_problem",
]


_NO_DRIVER = "PostgreSQL needs the package asyncpg; pip install 'rollback-responder[postgres]'"


def state_problem(state: str) -> str:
    """What is wrong with the setting `state`; empty if it is valid."""
    if not re.match(r"sqlite:///.|postgres(ql)?://.", state):
        return "must be sqlite:///absolute/path or postgresql://user@host/database"
    return _NO_DRIVER if state.startswith("postgres") and find_spec("asyncpg") is None else ""


async def open_journal(state: str, *, lease: float = 15.0, wait: bool = False) -> Database:
    """Opens `sqlite:///absolute/path` or `postgresql://…`. Raises ConfigError, without the password.

    `lease`, in seconds, limits how long a PostgreSQL session can hold a lock. With `wait`, an unreachable PostgreSQL is
    no error: the journal raises JournalUnavailable until PostgreSQL can be reached.
    """
    if file := _file(state):
        from responder.journal.sqlite.database import Sqlite

        return await Sqlite.open(file)
    return await _postgres().open(state, lease=lease, wait=wait)


async def check_journal(state: str) -> None:
    """Raises ConfigError if the journal cannot be opened. Creates and changes nothing."""
    if file := _file(state):
        from responder.journal.sqlite.database import Sqlite

        Sqlite.check(file)
    else:
        await _postgres().check(state)


def _file(state: str) -> Path | None:
    if problem := state_problem(state):
        raise ConfigError.of("state", problem)
    return Path(state.removeprefix("sqlite://")) if state.startswith("sqlite:///") else None


def _postgres() -> type[PostgresJournal]:
    try:
        from responder.journal.postgres.database import PostgresJournal
    except ImportError:
        raise ConfigError.of("state", _NO_DRIVER) from None
    return PostgresJournal

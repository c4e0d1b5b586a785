"""The memory of everything. History, dedup, cooldowns, locks and leases are all read from here."""

from __future__ import annotations

import re
from pathlib import Path

from responder.errors import ConfigError
from responder.journal.database import Database, Ear, Row, Transaction
from responder.journal.open_executions import open_executions

__all__ = ["Database", "Ear", "Row", "Transaction", "open_executions", "open_journal", "state_problem"]


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
    if state.startswith("sqlite:///"):
        from responder.journal.sqlite import Sqlite

        return await Sqlite.open(Path(state.removeprefix("sqlite://")))
    if re.match(r"postgres(ql)?://", state):
        try:
            from responder.journal.postgres import Postgres
        except ImportError:
            raise ConfigError(
                ["state: PostgreSQL needs the extra: pip install 'rollback-responder[postgres]'"]
            ) from None

        return await Postgres.open(state, lease=lease, wait=wait)
    raise ConfigError([f"state: {state_problem(state)}"])

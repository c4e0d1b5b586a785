"""The journal in one SQLite file: one process, one writer, and several transactions per disk sync."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Concatenate, ParamSpec, Self, TypeVar

from responder.config.private_files import make_directory, open_file
from responder.errors import ConfigError
from responder.journal.database import (
    Broadcast,
    Subscription,
    Transaction,
    load_statements,
)
from responder.journal.sqlite.connections import SqliteReader, SqliteWriter
from responder.journal.sqlite.schema import DIALECT, make_private, migrate, refuse_newer

T = TypeVar("T")
P = ParamSpec("P")


class Sqlite:
    """One file, open in exactly one process. The command line uses HTTP instead."""

    exclusive = True

    def __init__(self, file: Path, lock: IO[str]) -> None:
        self._lock = lock
        self._broadcast = Broadcast()
        self._subscription = self._broadcast.listen()
        statements = load_statements(DIALECT)
        self._writer = SqliteWriter(file, statements, self._broadcast.notify)
        self._reader = SqliteReader(file, statements)

    @classmethod
    async def open(cls, file: Path) -> Self:
        """Opens or creates the file, and migrates its schema. Raises ConfigError."""
        try:
            make_directory(file.parent)
            lock = os.fdopen(open_file(file.with_name(file.name + ".lock"), os.O_WRONLY), "w")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.close()
                problem = "is in use by another responder; stop it, or use PostgreSQL for several replicas"
                raise ConfigError.of("state", f"{file} {problem}") from None
            try:
                make_private(file)
                migrate(file)
                return cls(file, lock)
            except BaseException:
                lock.close()
                raise
        except (OSError, sqlite3.Error) as e:
            raise ConfigError.of("state", f"{file} cannot be used: {e}") from e

    @staticmethod
    def check(file: Path) -> None:
        """Raises ConfigError if the file cannot be opened or created.

        Creates and changes nothing, and does not check whether the file is in use.
        """
        try:
            if file.is_dir():
                raise ConfigError.of("state", f"{file} is a directory; name a file in it: sqlite://{file}/state.db")
            existing = file if file.exists() else next(path for path in file.parents if path.exists())
            if not os.access(existing, os.R_OK | os.W_OK | (os.X_OK if existing != file else 0)):
                raise ConfigError.of("state", f"{file} cannot be used: {existing} is not writable by this user")
            if existing == file:
                # `immutable`: reading creates no other files.
                connection = sqlite3.connect(f"{file.as_uri()}?immutable=1", uri=True)
                with contextlib.closing(connection):
                    refuse_newer(file, connection.execute("PRAGMA user_version").fetchone()[0])
        except (OSError, sqlite3.Error) as e:
            raise ConfigError.of("state", f"{file} cannot be used: {e}") from e

    async def transaction(
        self, act: Callable[Concatenate[Transaction, P], Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        # Shielded: a queued job is committed even if its caller is cancelled.
        result: T = await asyncio.shield(self._writer.submit(lambda t: act(t, *args, **kwargs)))
        return result

    async def read(
        self, act: Callable[Concatenate[Transaction, P], Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        return await self._reader.read(lambda t: act(t, *args, **kwargs))

    async def bulk_transaction(
        self, act: Callable[Concatenate[Transaction, P], Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        result: T = await asyncio.shield(self._writer.submit(lambda t: act(t, *args, **kwargs), bulk=True))
        return result

    async def lease_transaction(
        self, act: Callable[Concatenate[Transaction, P], Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        return await self.transaction(act, *args, **kwargs)

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def changed(self, within: float) -> bool:
        return await self._subscription.changed(within)

    def listen(self) -> Subscription:
        return self._broadcast.listen()

    async def close(self) -> None:
        await self._writer.close()
        await asyncio.to_thread(self._reader.close)
        self._lock.close()

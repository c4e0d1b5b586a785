"""The journal in PostgreSQL, shared by several replicas."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import asyncpg

from foundation.waiting import set_within
from responder.errors import ConfigError, JournalUnavailable
from responder.journal.database import (
    Broadcast,
    Subscription,
    Transaction,
    load_statements,
)
from responder.journal.postgres.schema import check_schema, migrate
from responder.journal.postgres.sessions import DriverError, Timeouts, ask
from responder.journal.postgres.transaction import PostgresTransaction, commit, numbered, terminate, undo
from responder.logging import say

log = logging.getLogger("responder.journal")

T = TypeVar("T")
P = ParamSpec("P")

_DIALECT = {"now": "clock_timestamp()", "later": "clock_timestamp() + make_interval(secs => :lease)"}
_CHANNEL = "rollback_responder"
_ATTEMPTS = {"conflict": 5, "connection": 2, "other": 1}
_SESSIONS, _OF_BULK = 10, 6
"""Sessions of the pool, and how many of them bulk transactions use."""
_END_STALLED = """
SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND usename = current_user
  AND application_name = current_setting('application_name')
  AND pid <> pg_backend_pid() AND xact_start IS NOT NULL AND state = 'active' AND wait_event = 'ClientRead'
  AND state_change < clock_timestamp() - make_interval(secs => $1)
"""
_SLOW_MEASUREMENT = 0.5
"""Maximum round trip, in seconds, to measure the clock difference."""


def _boottime() -> float:
    # Continues during a suspend, and does not jump with the wall clock.
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class PostgresJournal:
    """A connection pool, one connection for the lease, and one that listens and measures the clock."""

    exclusive = False

    def __init__(self, dsn: str, pool: Any, lease_pool: Any, timeouts: Timeouts) -> None:
        self._dsn, self._pool, self._lease_pool, self._timeouts = dsn, pool, lease_pool, timeouts
        self._statements = {name: numbered(sql) for name, sql in load_statements(_DIALECT).items()}
        self._broadcast = Broadcast()
        self._subscription = self._broadcast.listen()
        self._ahead: timedelta | None = None  # the clock of the database minus CLOCK_BOOTTIME
        self._not_ready = "not connected yet"
        self._bulk = asyncio.Semaphore(_OF_BULK)
        self._background: list[asyncio.Task[None]] = []

    @classmethod
    async def open(cls, dsn: str, *, lease: float = 15.0, wait: bool = False) -> Self:
        """Connects and migrates the schema.

        Raises ConfigError if the configuration is wrong, or if PostgreSQL cannot be reached. With `wait`, the latter is
        no error: every method raises JournalUnavailable until PostgreSQL is reached and the schema is migrated.
        """
        timeouts = Timeouts.of(lease)

        async def pool(size: int) -> Any:
            return await asyncpg.create_pool(
                dsn,
                min_size=0,
                max_size=size,
                command_timeout=timeouts.client,
                timeout=timeouts.connect,
                server_settings=timeouts.server_settings,
                init=_init(timeouts),
                reset=_keep_session,
            )

        opened = cls(dsn, await pool(_SESSIONS), await pool(1), timeouts)
        try:
            await opened._prepare()
        except DriverError as e:
            if e.is_configuration or not wait:
                await opened.close()
                raise ConfigError.of("state", f"PostgreSQL cannot be used: {e}") from e
            opened._waits_for(e)
            opened._start(opened._prepare_later())
        except BaseException:
            await opened.close()
            raise
        opened._start(opened._listen())
        return opened

    @staticmethod
    async def check(dsn: str) -> None:
        """Raises ConfigError if the journal cannot be opened. Changes nothing: older replicas may be running."""
        try:
            connection = await ask(asyncpg.connect, dsn, timeout=5.0, command_timeout=5.0)
            try:
                await check_schema(connection)
            finally:
                await ask(connection.close, timeout=5.0)
        except DriverError as e:
            raise ConfigError.of("state", f"PostgreSQL cannot be used: {e}") from e

    def _start(self, work: Any) -> None:
        self._background.append(asyncio.create_task(work, name=f"journal-{work.__name__.strip('_')}"))

    async def _prepare(self) -> None:
        connection = await ask(self._pool.acquire, timeout=self._timeouts.connect)
        try:
            await self._measure(connection)
            await migrate(connection)
        except BaseException:
            terminate(connection)
            raise
        finally:
            await self._release(self._pool, connection)
        self._not_ready = ""
        self._broadcast.notify()

    async def _prepare_later(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            try:
                await self._prepare()
            except (DriverError, ConfigError) as e:
                self._waits_for(e)
            else:
                say(log, "journal ready")
                return

    def _waits_for(self, error: DriverError | ConfigError) -> None:
        if (problem := str(error)) != self._not_ready:
            self._not_ready = problem
            say(log, "waiting for the journal", level=logging.ERROR, reason=problem)

    def now(self) -> datetime:
        if self._ahead is None:
            return datetime.now(UTC)
        return datetime.fromtimestamp(_boottime(), UTC) + self._ahead

    async def _measure(self, connection: Any) -> None:
        began = _boottime()
        at: datetime = await ask(connection.fetchval, "SELECT clock_timestamp()")
        took = _boottime() - began
        if self._ahead is None or took < _SLOW_MEASUREMENT:
            self._ahead = at - datetime.fromtimestamp(began + took / 2, UTC)

    async def _end_stalled(self, connection: Any) -> None:
        """Ends sessions of the responder that stall where PostgreSQL has no timeout.

        It has one for an idle transaction, but not for a client that stalls between the two halves of a statement (the
        driver prepares, then executes) or while it sends one.
        """
        for pid in await ask(connection.fetch, _END_STALLED, self._timeouts.idle):
            say(log, "stalled session ended", level=logging.WARNING, pid=pid["pid"])

    async def transaction(
        self, act: Callable[Concatenate[Transaction, P], Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        return await self._run(self._pool, "BEGIN", lambda tx: act(tx, *args, **kwargs))

    async def bulk_transaction(
        self, act: Callable[Concatenate[Transaction, P], Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        async with self._bulk:
            return await self.transaction(act, *args, **kwargs)

    async def lease_transaction(
        self, act: Callable[Concatenate[Transaction, P], Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        return await self._run(self._lease_pool, "BEGIN", lambda tx: act(tx, *args, **kwargs))

    async def read(
        self, act: Callable[Concatenate[Transaction, P], Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
        return await self._run(self._pool, begin, lambda tx: act(tx, *args, **kwargs))

    async def _run(self, pool: Any, begin: str, act: Callable[[Transaction], Awaitable[T]]) -> T:
        """Runs a transaction, and repeats it after a conflict or on a dead connection."""
        if self._not_ready:
            raise JournalUnavailable(f"the journal cannot be used: {self._not_ready}")
        until = _boottime() + self._timeouts.budget
        attempt = 0
        while True:
            attempt += 1
            try:
                return await self._run_once(pool, begin, act)
            except DriverError as e:
                if attempt >= _ATTEMPTS[e.kind] or _boottime() >= until:
                    raise e.translated() from e.cause
                await asyncio.sleep(random.uniform(0.0, 0.05))  # noqa: S311  # two sessions in conflict must not retry in step

    async def _run_once(self, pool: Any, begin: str, act: Callable[[Transaction], Awaitable[T]]) -> T:
        connection = await ask(pool.acquire, timeout=self._timeouts.client)
        begun = False
        try:
            await ask(connection.execute, begin)
            begun = True
            transaction = PostgresTransaction(connection, self._statements)
            result = await act(transaction)
            if transaction.notified:  # PostgreSQL delivers it at the commit
                await ask(connection.execute, f"NOTIFY {_CHANNEL}")
            await commit(connection)
            return result
        except BaseException as e:
            await undo(connection, e)
            if begun and isinstance(e, DriverError) and e.kind == "connection":
                raise e.translated() from e.cause  # a stalled process must not act on outdated reads
            raise
        finally:
            await self._release(pool, connection)

    async def _release(self, pool: Any, connection: Any) -> None:
        """Never raises, and does not wait for a server that does not answer."""
        with contextlib.suppress(Exception):
            await pool.release(connection, timeout=self._timeouts.connect)

    async def changed(self, within: float) -> bool:
        return await self._subscription.changed(within)

    def listen(self) -> Subscription:
        return self._broadcast.listen()

    async def _listen(self) -> None:
        """Listens until the journal is closed. Without a connection, callers of `changed` poll."""
        while True:
            with contextlib.suppress(DriverError):
                connection = await ask(
                    asyncpg.connect,
                    self._dsn,
                    timeout=self._timeouts.connect,
                    command_timeout=self._timeouts.client,
                    server_settings=self._timeouts.server_settings,
                )
                lost = asyncio.Event()
                connection.add_termination_listener(lambda *_, gone=lost: gone.set())
                try:
                    await ask(_init(self._timeouts), connection)
                    await ask(connection.add_listener, _CHANNEL, lambda *_: self._broadcast.notify())
                    self._broadcast.notify()  # notifications may have been missed
                    while not lost.is_set():
                        await self._measure(connection)
                        await self._end_stalled(connection)
                        await set_within(lost, self._timeouts.idle / 2)
                finally:
                    connection.terminate()
            await asyncio.sleep(0.5)

    async def close(self) -> None:
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        for pool in (self._pool, self._lease_pool):
            with contextlib.suppress(Exception):
                async with asyncio.timeout(2):
                    await pool.close()
            pool.terminate()


def _init(timeouts: Timeouts) -> Callable[[Any], Awaitable[None]]:
    async def init(connection: Any) -> None:
        timeouts.watch_network(connection)

    return init


async def _keep_session(connection: Any) -> None:
    """Does nothing: no setting outlasts its transaction, and a reset would cost a round trip."""

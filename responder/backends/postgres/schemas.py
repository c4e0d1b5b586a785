"""Schemas of the configured databases: asked without changing them, and changed in one transaction or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from responder.backends.postgres.client import Postgres, reason, without_values
from responder.backends.postgres.foreign_keys import CHECKED, deferred
from responder.backends.postgres.script_runs import RETRIED, Limits, Part, begin, note, persist, rest, take_lock
from responder.backends.postgres.sql import split
from responder.errors import StepFailed, Unavailable
from responder.transport.acting import acting
from responder.transport.programs import program

_GONE = ("57P", "08", "53300")  # the server stops, the connection broke, no connection is free
_SAID = 2000
_OURS = "(application_name = $1 OR starts_with(application_name, $1 || ':'))"


class Refused(StepFailed):
    """PostgreSQL understood, and said no."""

    def __init__(self, message: str, sqlstate: str) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class Schemas(Postgres):
    """Besides sessions: queries, scripts that resume where they were interrupted, and migration tools."""

    package = "sqlglot"
    extra = "database"

    async def rows(self, database: str, sql: str, *args: Any, within: float = 30.0) -> list[dict[str, Any]]:
        """What a query returns; it cannot change anything. Raises Refused and Unavailable."""
        settings = {
            "default_transaction_read_only": "on",
            "statement_timeout": str(round(within * 1000)),
            "lock_timeout": "2000",
            "row_security": "off",
        }
        async with self._speaking(database, "rollback-responder", **settings) as session:
            found = await session.fetch(sql, *args)
        if found and len(dict(found[0])) < len(found[0]):
            raise StepFailed(f"{sql} returns two columns of the same name")
        return [dict(row) for row in found]

    async def sessions(self, database: str, application: str) -> list[int]:
        """Server processes that still work for this application name."""
        sql = (
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            f" AND {_OURS}"
        )
        return [row["pid"] for row in await self.rows(database, sql, application)]

    async def evict(self, database: str, application: str) -> None:
        """Ends what an earlier try of ours left behind in the server, and waits until it is gone.

        Only then can be read what became of it: a killed program's last statement goes on, and may commit.
        """
        if not await self.sessions(database, application):
            return
        acting.get()()
        async with self._speaking(database, "rollback-responder") as session:
            for _ in range(50):
                gone = await session.fetch(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
                    f" AND pid <> pg_backend_pid() AND {_OURS}",
                    application,
                )
                if not gone:
                    return
                await asyncio.sleep(0.1)
        raise Unavailable(f"a session of {application} in {database} does not end")

    async def unfinished(self, database: str, mark: str) -> list[str]:
        """Scripts of this execution that were begun and are not through, each with how far it came."""
        if not (await self.rows(database, "SELECT to_regclass('rollback_keep.progress')"))[0]["to_regclass"]:
            return []
        sql = "SELECT script, done, parts FROM rollback_keep.progress WHERE execution = $1 AND done < parts"
        return [f"{r['script']}: {r['done']} of {r['parts']} parts" for r in await self.rows(database, sql, mark)]

    async def forget(self, database: str, mark: str) -> None:
        """Forgets scripts of this execution that were begun, and of which nothing was done."""
        acting.get()()
        async with self._speaking(database, "rollback-responder") as session:
            await session.execute("DELETE FROM rollback_keep.progress WHERE execution = $1 AND done = 0", mark)

    async def run(
        self, database: str, mark: str, script: str, parts: tuple[Part, ...], limits: Limits, application: str
    ) -> None:
        """Runs a script under the advisory lock of the database, from the part that it had come to.

        A part is done whole, with its number on record in the same transaction. Raises Refused where PostgreSQL says no
        (that part has left nothing behind), Unavailable where it was lost: then what became of it has to be looked at.
        """
        async with self._speaking(
            database, application, **limits.settings, client_connection_check_interval="1000"
        ) as session:
            await take_lock(session, database)
            several = len(parts) > 1
            done = await begin(session, mark, script, len(parts)) if several else 0
            for number, part in list(enumerate(parts))[done:]:
                await persist(session, part, note(mark, script, number + 1) if several else (), limits)

    async def tool(
        self,
        database: str,
        argv: tuple[str, ...],
        *,
        mark: str,
        limits: Limits,
        within: float,
        cwd: Path | None = None,
        changes: bool = False,
    ) -> str:
        """What a migration tool writes to its standard output. Retried where it says that it was a matter of locks.

        `changes`: it may change the schema, so it runs under the advisory lock, held by a session of our own.
        """
        async with contextlib.AsyncExitStack() as held:
            if changes:
                lock = await held.enter_async_context(self._speaking(database, f"{mark}:lock"))
                await take_lock(lock, database)
            for attempt in range(limits.attempts if changes else 1):
                if changes:
                    acting.get()()
                with self.environment(database, application=mark, **limits.settings) as environment:
                    variables = {**environment, **self._variables(database)}
                    code, out, stderr = await program(argv, within=within, cwd=cwd, env=variables)
                if code == 0:
                    return out
                why = _worth_another_try(stderr + out) if changes else ""
                if not why or attempt + 1 == limits.attempts:
                    message = without_values(stderr.strip() or out.strip())
                    tail = self._hidden(database, message).strip()[-_SAID:] or "(it said nothing)"
                    raise StepFailed(f"{' '.join(argv)} exited with {code}: {tail}")
                await rest(attempt)
        raise AssertionError("unreachable")

    async def kept(self, database: str, execution: str = "") -> list[dict[str, Any]]:
        """What was kept of this database, by one execution or by all, in the order in which it is brought back."""
        if not (await self.rows(database, "SELECT to_regclass('rollback_keep.kept')"))[0]["to_regclass"]:
            return []
        sql = (
            "SELECT execution, at, what, source, columns, keep, back, gently FROM rollback_keep.kept"
            " WHERE $1 IN ('', execution) ORDER BY min(at) OVER (PARTITION BY execution), what = 'columns', number DESC"
        )
        return await self.rows(database, sql, execution)

    async def bring_back(
        self, database: str, execution: str, *, overwrite: bool, dry_run: bool
    ) -> list[dict[str, Any]]:
        """Brings back all that an execution has kept, or nothing; says how many rows each was. Raises Refused."""
        done = await self.kept(database, execution)
        try:
            async with self._speaking(
                database, "rollback-responder:restore", row_security="off", lock_timeout="5s"
            ) as session:
                transaction = session.transaction()
                await transaction.start()
                for sql in deferred(item["source"] for item in done):
                    await session.execute(sql)
                for item in done:
                    sql = item["back" if overwrite else "gently"]
                    results = [await session.execute(part) for part in split(sql)] if item["what"] != "view" else []
                    counts = [
                        int(result.rsplit(" ", 1)[-1]) for result in results if result.startswith(("INSERT", "UPDATE"))
                    ]
                    item["rows"] = sum(counts) if counts else None
                for sql in CHECKED:
                    await session.execute(sql)
                await (transaction.rollback() if dry_run else transaction.commit())
        except Refused as e:
            if e.sqlstate in ("42703", "42P01"):
                raise StepFailed(f"{e}; what it was kept from is not there: make the migration again first") from e
            raise
        return done

    def _variables(self, database: str) -> dict[str, str]:
        """What a tool is told besides libpq's variables."""
        settings = self._settings(database)
        parts = urlsplit(settings.url.get_secret_value())
        values = {
            "host": parts.hostname or "",
            "port": str(parts.port or 5432),
            "user": unquote(parts.username or ""),
            "password": settings.password,
            "database": unquote(parts.path.lstrip("/")),
        }
        return {name: filled(value.get_secret_value(), values) for name, value in settings.variables.items()}

    async def scripts(self, directory: Path) -> dict[str, str]:
        """The `.sql` files of a directory, by name. Raises Halt where it cannot be read."""

        def read() -> dict[str, str]:
            try:
                return {file.name: file.read_text() for file in sorted(directory.iterdir()) if file.suffix == ".sql"}
            except (OSError, UnicodeDecodeError) as e:
                raise StepFailed(f"the migrations in {directory} cannot be read: {e}") from e

        return await asyncio.to_thread(read)

    def _hidden(self, database: str, text: str) -> str:
        for secret in (*self._variables(database).values(), self._settings(database).password):
            text = text.replace(secret, "***") if secret else text
        return text

    @contextlib.asynccontextmanager
    async def _speaking(self, database: str, application: str, **settings: str) -> AsyncIterator[Any]:
        import asyncpg

        async with self.session(database, application=application, **settings) as session:
            try:
                yield session
            except asyncpg.PostgresError as e:
                state = str(e.sqlstate or "")
                if state.startswith(_GONE):
                    raise Unavailable(f"the database {database} went away: {reason(e)}") from e
                why = f" ({RETRIED[state]}, also after several tries)" if state in RETRIED else ""
                raise Refused(f"{database} refused: {reason(e)}{why}", state) from e
            except (OSError, asyncpg.InterfaceError) as e:
                raise Unavailable(f"the database {database} went away: {reason(e)}") from e
            finally:
                if not session.is_closed() and session.is_in_transaction():
                    session.terminate()


def filled(text: str, values: Mapping[str, str]) -> str:
    """The text with each known `{name}` filled in; other braces stay."""
    return re.sub(r"\{([a-z_]+)\}", lambda found: values.get(found[1], found[0]), text)


def _worth_another_try(output: str) -> str:
    """Tools print the error and not always its SQLSTATE."""
    words = {
        "55P03": ("LockNotAvailable", "canceling statement due to lock timeout"),
        "40P01": ("DeadlockDetected", "deadlock detected"),
        "40001": ("SerializationFailure", "could not serialize access"),
    }
    return next((w for state, phrases in words.items() for w in (state, *phrases) if w in output), "")

"""Schemas of the configured databases: read-only queries, scripts, migration tools and preserved data."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from responder.backends.postgres.client import Postgres, error_text, without_values
from responder.backends.postgres.foreign_keys import CHECK_FOREIGN_KEYS, defer_foreign_keys
from responder.backends.postgres.migration_path import MigrationPath
from responder.backends.postgres.script_runner import (
    RETRIED,
    ScriptLimits,
    acquire_migration_lock,
    back_off,
    progress_update,
    run_part,
    start_script,
)
from responder.backends.postgres.sql import split_statements
from responder.backends.postgres.triggers import ENABLE_TRIGGERS, silence_triggers
from responder.errors import StepFailed, Unavailable
from responder.transport.acting import acting
from responder.transport.programs import program

_UNAVAILABLE_STATES = ("57P", "08", "53300")  # server shutdown, connection failure, too many connections
_OUTPUT_LIMIT = 2000
"""Characters of a tool's output that an error quotes."""

_REJECTED = "no-duration"
"""A value that the server accepts for no timeout."""

_SAME_APPLICATION = "(application_name = $1 OR starts_with(application_name, $1 || ':'))"


class StatementRejected(StepFailed):
    """PostgreSQL rejected a statement, with this SQLSTATE."""

    def __init__(self, message: str, sqlstate: str) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class Schemas(Postgres):
    """Queries databases, runs scripts and migration tools, and restores preserved data."""

    package, extra = "sqlglot", "database"
    imports = ("asyncpg", "sqlglot", "sqlglot.dialects.postgres")

    async def rows(self, database: str, sql: str, *args: Any, within: float = 30.0) -> list[dict[str, Any]]:
        """The rows that a query returns, in a read-only transaction. `within`: timeout in seconds.

        Raises StatementRejected and Unavailable.
        """
        settings = {
            "default_transaction_read_only": "on",
            "statement_timeout": str(round(within * 1000)),
            "lock_timeout": "2000",
            "row_security": "off",
        }
        async with self._session(database, "rollback-responder", **settings) as session:
            found = await session.fetch(sql, *args)
        if found and len(dict(found[0])) < len(found[0]):
            raise StepFailed(f"{sql} returns two columns of the same name: rename one with AS")
        return [dict(row) for row in found]

    async def sessions(self, database: str, application: str) -> list[int]:
        """Process IDs of the server's sessions with this application name, or with a suffix of it after `:`."""
        sql = (
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            f" AND {_SAME_APPLICATION}"
        )
        return [row["pid"] for row in await self.rows(database, sql, application)]

    async def end_sessions(self, database: str, application: str) -> None:
        """Ends the sessions that an earlier attempt left behind, and waits up to 5 s until they are gone.

        A killed program's last statement continues in the server and may still commit, so end it before reading.
        Raises Unavailable if a session remains.
        """
        if not await self.sessions(database, application):
            return
        acting.get()()
        async with self._session(database, "rollback-responder") as session:
            for _ in range(50):
                ended = await session.fetch(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
                    f" AND pid <> pg_backend_pid() AND {_SAME_APPLICATION}",
                    application,
                )
                if not ended:
                    return
                await asyncio.sleep(0.1)
        raise Unavailable(
            f"database {database}: session of application {application} still active 5 s after it was terminated"
        )

    async def unfinished_scripts(self, database: str, execution: str) -> list[str]:
        """Started and incomplete scripts of the execution, as `NAME: 1 of 3 parts`."""
        if not (await self.rows(database, "SELECT to_regclass('rollback_keep.progress')"))[0]["to_regclass"]:
            return []
        sql = "SELECT script, done, parts FROM rollback_keep.progress WHERE execution = $1 AND done < parts"
        return [f"{r['script']}: {r['done']} of {r['parts']} parts" for r in await self.rows(database, sql, execution)]

    async def discard_unstarted(self, database: str, execution: str) -> None:
        """Deletes the progress of scripts of the execution that have run no part."""
        acting.get()()
        async with self._session(database, "rollback-responder") as session:
            await session.execute("DELETE FROM rollback_keep.progress WHERE execution = $1 AND done = 0", execution)

    async def begin_script(self, database: str, execution: str, script: str, parts: int) -> None:
        """Records a script of which no part has run, so that a later attempt finds it unfinished."""
        async with self._session(database, "rollback-responder") as session:
            await start_script(session, execution, script, parts)

    async def run_script(
        self, database: str, execution: str, path: MigrationPath, limits: ScriptLimits, application: str
    ) -> None:
        """Runs a script under the advisory lock of the database. Resumes it at the first part that has not run.

        Each part commits together with its progress. Raises StatementRejected if PostgreSQL rolled the part back.
        Raises Unavailable if the connection was lost: the part may have been committed.
        """
        async with self._session(
            database, application, **limits.settings, client_connection_check_interval="1000"
        ) as session:
            await acquire_migration_lock(session, database)
            parts, script = path.parts, path.name
            recorded = len(parts) > 1 or bool(path.argv)
            done = await start_script(session, execution, script, len(parts)) if recorded else 0
            for number, part in list(enumerate(parts))[done:]:
                progress = progress_update(execution, script, number + 1) if recorded else ()
                await run_part(session, part, progress, limits)

    async def run_tool(
        self,
        database: str,
        argv: tuple[str, ...],
        *,
        application: str,
        limits: ScriptLimits,
        within: float,
        cwd: Path | None = None,
        changes: bool = False,
    ) -> str:
        """Runs a migration tool and returns its standard output. `within`: timeout in seconds.

        With `changes` the tool may change the schema. It then runs under the advisory lock, which a session of the
        responder holds, and is retried after lock timeouts, deadlocks and serialization failures.
        Raises StepFailed with the end of its output if it fails.
        """
        async with contextlib.AsyncExitStack() as stack:
            if changes:
                lock = await stack.enter_async_context(self._session(database, f"{application}:lock"))
                await acquire_migration_lock(lock, database)
            for attempt in range(limits.attempts if changes else 1):
                if changes:
                    acting.get()()
                with self.environment(database, application=application, **limits.settings) as environment:
                    variables = {**environment, **self._variables(database)}
                    code, out, stderr = await program(argv, within=within, cwd=cwd, env=variables)
                if code == 0:
                    return out
                retry = changes and _is_retried(stderr + out)
                if not retry or attempt + 1 == limits.attempts:
                    message = without_values(stderr.strip() or out.strip())
                    tail = self._without_secrets(database, message).strip()[-_OUTPUT_LIMIT:] or "(no output)"
                    raise StepFailed(f"{' '.join(argv)} exited with {code}: {tail}")
                await back_off(attempt)
        raise AssertionError("unreachable")

    async def run_with_rejected_setting(
        self, database: str, argv: tuple[str, ...], *, within: float, cwd: Path | None
    ) -> str | None:
        """Runs a program with a setting in PGOPTIONS that the server rejects. None if it failed because of that.

        Otherwise it ignores PGOPTIONS: returns the end of the error, empty if the program succeeded.
        """
        with self.environment(database, lock_timeout=_REJECTED) as environment:
            variables = {**environment, **self._variables(database)}
            code, out, stderr = await program(argv, within=within, cwd=cwd, env=variables)
        if code and _REJECTED in stderr + out:
            return None
        return self._without_secrets(database, without_values(stderr or out))[-_OUTPUT_LIMIT:].strip() if code else ""

    async def preserved_data(self, database: str, execution: str = "") -> list[dict[str, Any]]:
        """Records of the preserved data of one execution or of all, in the order in which it is restored."""
        if not (await self.rows(database, "SELECT to_regclass('rollback_keep.preserved')"))[0]["to_regclass"]:
            return []
        sql = (
            "SELECT execution, at, kind, source, columns, copy, restore_sql, fill_sql FROM rollback_keep.preserved"
            " WHERE $1 IN ('', execution) ORDER BY min(at) OVER (PARTITION BY execution), kind = 'columns', number DESC"
        )
        return await self.rows(database, sql, execution)

    async def restore_preserved(
        self, database: str, execution: str, *, overwrite: bool, dry_run: bool
    ) -> list[dict[str, Any]]:
        """Restores all data that an execution preserved, in one transaction. Returns the records with their row counts.

        Triggers of the restored tables do not fire.
        With `overwrite` it replaces present values; else it fills NULLs and missing rows. With `dry_run` it rolls the
        transaction back. Raises StatementRejected and Unavailable.
        """
        records = await self.preserved_data(database, execution)
        try:
            async with self._session(
                database, "rollback-responder:restore", row_security="off", lock_timeout="5s"
            ) as session:
                transaction = session.transaction()
                await transaction.start()
                sources = [record["source"] for record in records]
                for sql in (silence_triggers(sources), *defer_foreign_keys(sources)):
                    await session.execute(sql)
                for record in records:
                    sql = record["restore_sql" if overwrite else "fill_sql"]
                    statements = split_statements(sql) if record["kind"] != "view" else []
                    results = [await session.execute(statement) for statement in statements]
                    counts = [
                        int(result.rsplit(" ", 1)[-1]) for result in results if result.startswith(("INSERT", "UPDATE"))
                    ]
                    record["rows"] = sum(counts) if counts else None
                for sql in (*CHECK_FOREIGN_KEYS, ENABLE_TRIGGERS):
                    await session.execute(sql)
                await (transaction.rollback() if dry_run else transaction.commit())
        except StatementRejected as e:
            if e.sqlstate in ("42703", "42P01"):
                raise StepFailed(f"{e}; the table or column does not exist: run the migration again first") from e
            raise
        return records

    def _variables(self, database: str) -> dict[str, str]:
        """The configured environment variables of migration tools, with placeholders filled."""
        settings = self._settings(database)
        parts = urlsplit(settings.url.get_secret_value())
        values = {
            "host": parts.hostname or "",
            "port": str(parts.port or 5432),
            "user": unquote(parts.username or ""),
            "password": settings.password,
            "database": unquote(parts.path.lstrip("/")),
        }
        return {name: fill_placeholders(value.get_secret_value(), values) for name, value in settings.variables.items()}

    async def sql_files(self, directory: Path) -> dict[str, str]:
        """The text of each `.sql` file of a directory, by name. Raises StepFailed if one cannot be read."""

        def read() -> dict[str, str]:
            try:
                return {file.name: file.read_text() for file in sorted(directory.iterdir()) if file.suffix == ".sql"}
            except (OSError, UnicodeDecodeError) as e:
                raise StepFailed(f"cannot read the migrations in {directory}: {e}") from e

        return await asyncio.to_thread(read)

    def _without_secrets(self, database: str, text: str) -> str:
        for secret in (*self._variables(database).values(), self._settings(database).password):
            text = text.replace(secret, "***") if secret else text
        return text

    @contextlib.asynccontextmanager
    async def _session(self, database: str, application: str, **settings: str) -> AsyncIterator[Any]:
        import asyncpg

        async with self.session(database, application=application, **settings) as session:
            try:
                yield session
            except asyncpg.PostgresError as e:
                state = str(e.sqlstate or "")
                if state.startswith(_UNAVAILABLE_STATES):
                    raise Unavailable(f"connection to database {database} lost: {error_text(e)}") from e
                note = f" ({RETRIED[state]} in every attempt)" if state in RETRIED else ""
                raise StatementRejected(
                    f"database {database} rejected a statement: {error_text(e)}{note}", state
                ) from e
            except (OSError, asyncpg.InterfaceError) as e:
                raise Unavailable(f"connection to database {database} lost: {error_text(e)}") from e
            finally:
                if not session.is_closed() and session.is_in_transaction():
                    session.terminate()


def fill_placeholders(text: str, values: Mapping[str, str]) -> str:
    """Replaces each known `{name}`; other braces stay."""
    return re.sub(r"\{([a-z_]+)\}", lambda found: values.get(found[1], found[0]), text)


def _is_retried(output: str) -> bool:
    """Whether the output shows an error of `RETRIED`. Some tools print only its name or message."""
    phrases = {
        "55P03": ("LockNotAvailable", "canceling statement due to lock timeout"),
        "40P01": ("DeadlockDetected", "deadlock detected"),
        "40001": ("SerializationFailure", "could not serialize access"),
    }
    return any(phrase in output for state, texts in phrases.items() for phrase in (state, *texts))

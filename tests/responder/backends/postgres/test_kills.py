"""After any kill during a downgrade, it has not happened, has completed, or reports its state."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import psycopg
import pytest

from responder.rollback.plan import Change
from tests.parts import until
from tests.responder.backends.postgres.conftest import AppDatabase
from tests.responder.backends.postgres.test_rollback import approved

GATE = 4711
ROWS = [(n, f"name {n}", f"nick {n}") for n in range(1, 50)]
BASE = "CREATE TABLE users (id int PRIMARY KEY, name text)"
TWO = "ALTER TABLE users ADD nick text; CREATE INDEX by_name ON users (name)"
STEPS = {
    "a transaction": ["DROP INDEX by_name", "ALTER TABLE users DROP COLUMN nick"],
    "three parts": ["ALTER TABLE users DROP COLUMN nick", "DROP INDEX CONCURRENTLY by_name", "ANALYZE users"],
}
WAIT = f"SELECT pg_advisory_xact_lock_shared({GATE})"


@contextlib.asynccontextmanager
async def gate(shop: AppDatabase) -> AsyncIterator[asyncpg.Connection]:
    """Closed: a session that runs WAIT waits until it is opened, or until the session ends."""
    connection = await asyncpg.connect(shop.dsn)
    try:
        await connection.execute(f"SELECT pg_advisory_lock({GATE})")
        yield connection
    finally:
        connection.terminate()


async def waits(shop: AppDatabase) -> bool:
    sql = f"SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND objid = {GATE} AND NOT granted"
    return bool(await shop.value(sql))


async def prepared(shop: AppDatabase, steps: list[str], at: int | None) -> Any:
    """The rollback and its change; at one point of the script it waits at the gate."""
    await shop.apply(BASE, TWO)
    async with shop.session() as session:
        await session.executemany("INSERT INTO users VALUES ($1, $2, $3)", ROWS)
    script = [*steps[:at], WAIT, *steps[at:]] if at is not None else steps
    shop.file(2, ";".join(script), TWO)
    rollback = shop.rollback(migrations={"lock_timeout": "60s", "within": "60s"})
    (change,) = [step for step in approved(await rollback.plan()).steps if isinstance(step, Change)]
    return rollback, change


async def state(shop: AppDatabase) -> str:
    """The valid states from outside; any other state is an unreported partial change."""
    async with shop.session() as session:
        revision = await session.fetchval("SELECT max(version) FROM schema_migrations")
        nick = await session.fetchval(
            "SELECT count(*) FROM pg_attribute WHERE attrelid = 'users'::regclass AND attname = 'nick'"
        )
        assert await session.fetchval("SELECT count(*) FROM users") == len(ROWS)
        if nick:
            assert await session.fetchval("SELECT count(nick) FROM users") == len(ROWS)
        else:
            keep = await session.fetchval("SELECT copy FROM rollback_keep.preserved WHERE kind = 'columns'")
            kept = await session.fetch(f'SELECT id, nick FROM rollback_keep."{keep}" ORDER BY id')
            assert [tuple(row) for row in kept] == [(n, nick) for n, _, nick in ROWS]
    half = await shop.schemas.unfinished_scripts("shop", "drill-1")
    if revision == "1":
        assert not nick
        assert not half
        return "happened"
    if half and not nick:
        return "half done, and it is known how far"
    assert nick
    return "not happened"


async def goes_on(shop: AppDatabase, rollback: Any, change: Change) -> None:
    """As the next worker does, from the journal only."""
    await rollback.gateway.write(change.resource, change.after, expected=change.before)
    assert await state(shop) == "happened"
    assert await rollback.gateway.converged(change.resource, change.after)


QUICK = (("a transaction", 2), ("three parts", 1))
PLACES = [
    pytest.param(kind, at, marks=[] if (kind, at) in QUICK else pytest.mark.soak)
    for kind, steps in STEPS.items()
    for at in range(len(steps) + 1)
]


@pytest.mark.parametrize(("kind", "at"), PLACES)
async def test_a_killed_responder_is_resumed(shop: AppDatabase, kind: str, at: int) -> None:
    rollback, change = await prepared(shop, STEPS[kind], at)
    (shop.directory / "move.json").write_text(change.model_dump_json())
    async with gate(shop):
        responder = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.responder.backends.postgres.process",
                shop.dsn,
                str(shop.directory / "move.json"),
            ]
        )
        try:
            await until(lambda: waits(shop), within=60)
        finally:
            responder.kill()
            responder.wait()
        # Its session in the server is terminated, although the gate is still closed.
        await shop.schemas.end_sessions("shop", "rollback:drill-1")
        assert not await waits(shop)
        assert await state(shop) in ("not happened", "half done, and it is known how far")
    await goes_on(shop, rollback, change)


@pytest.mark.parametrize("how", ["cut off", "cancelled", "stopped"])
@pytest.mark.parametrize(("kind", "at"), PLACES)
async def test_a_lost_connection_or_server_is_resumed(
    shop: AppDatabase, durable_postgres: Any, kind: str, at: int, how: str
) -> None:
    rollback, change = await prepared(shop, STEPS[kind], at)
    async with gate(shop):
        writing = asyncio.create_task(rollback.gateway.write(change.resource, change.after, expected=change.before))
        try:
            await until(lambda: waits(shop), within=30)
            if how == "stopped":
                await durable_postgres.stop("immediate")
                await asyncio.sleep(0.3)
                await durable_postgres.start()
            elif how == "cut off":
                await shop.run(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name ~ 'drill-1'"
                )
            else:
                writing.cancel()
                await asyncio.wait([writing])
                await shop.schemas.end_sessions("shop", "rollback:drill-1")
                assert await state(shop) in ("not happened", "half done, and it is known how far")
        except BaseException:
            writing.cancel()
            raise
    with contextlib.suppress(asyncio.CancelledError):
        await writing
    await goes_on(shop, rollback, change)


TOOL = """
import psycopg
with psycopg.connect("") as connection:
    for sql in {steps!r}:
        connection.execute(sql)
"""


@pytest.mark.parametrize("how", ["tool", "session", "server"])
@pytest.mark.parametrize("at", [pytest.param(0, marks=pytest.mark.soak), 1])
async def test_a_killed_tool_is_resumed(shop: AppDatabase, durable_postgres: Any, at: int, how: str) -> None:
    await shop.apply(BASE, TWO)
    steps = ["ALTER TABLE users DROP COLUMN nick", "DELETE FROM schema_migrations WHERE version = '2'"]
    program = shop.directory / "tool.py"
    program.write_text(TOOL.format(steps=[*steps[:at], WAIT, *steps[at:]]))
    tool = {"current": "SELECT max(version) FROM schema_migrations", "downgrade": [sys.executable, str(program)]}
    rollback = shop.rollback(tool={"command": tool}, migrations={"lock_timeout": "60s"})
    (change,) = [step for step in (await rollback.plan()).steps if isinstance(step, Change)]
    async with gate(shop):
        writing = asyncio.create_task(rollback.gateway.write(change.resource, change.after, expected=change.before))
        await until(lambda: waits(shop), within=60)
        if how == "tool":
            writing.cancel()  # its whole process group is killed
            await asyncio.wait([writing])
        elif how == "session":
            await shop.run(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'rollback:drill-1'"
            )
        else:
            await durable_postgres.stop("immediate")
            await durable_postgres.start()
        if how == "session":
            # The tool reports a failure; the responder verifies that nothing changed, and reports it.
            error = str((await asyncio.gather(writing, return_exceptions=True))[0])
            assert "exited with 1" in error
            assert "2 → 1 changed nothing: the revision is 2" in error
            assert await shop.value("SELECT max(version) FROM schema_migrations") == "2"
    if how == "server":
        await writing  # its outcome was unreadable for a while; it had not happened, and was done then
    else:
        await rollback.gateway.write(change.resource, change.after, expected=change.before)
    assert await shop.value("SELECT max(version) FROM schema_migrations") == "1"


async def test_a_failed_script_reports_its_remaining_parts(shop: AppDatabase) -> None:
    rollback, change = await prepared(shop, [*STEPS["three parts"], "SELECT 1 / (count(*) - 49) FROM users"], None)
    with pytest.raises(Exception, match="division by zero") as raised:
        await rollback.gateway.write(change.resource, change.after, expected=change.before)
    assert "is partly migrated (2 → 1)" in str(raised.value)
    assert "Left to run: ANALYZE users; SELECT 1" in str(raised.value)
    assert await state(shop) == "half done, and it is known how far"
    await shop.run("DELETE FROM users WHERE id = 49; INSERT INTO users VALUES (49, 'x'), (50, 'y')")
    await rollback.gateway.write(
        change.resource, change.after, expected=change.before
    )  # a human has fixed it, and it continues from there


async def test_a_failed_first_part_of_a_script_changes_nothing(shop: AppDatabase) -> None:
    await shop.apply(BASE, TWO)
    shop.file(2, "DROP INDEX no_such; DROP INDEX CONCURRENTLY by_name")
    ended = await shop.rollback().run(through=approved)
    assert (ended.state, ended.outcome) == ("closed", "failed"), ended.reason
    assert "2 → 1 changed nothing: the revision is 2" in ended.reason
    assert await shop.schemas.unfinished_scripts("shop", "drill-1") == []


async def test_an_unrecorded_standalone_statement_runs_again(shop: AppDatabase) -> None:
    """As after a crash between its effect and its record."""
    rollback, change = await prepared(
        shop, ["DROP INDEX CONCURRENTLY by_name", "SELECT 1 / (count(*) - 49) FROM users"], None
    )
    with pytest.raises(Exception, match="division by zero"):
        await rollback.gateway.write(change.resource, change.after, expected=change.before)
    await shop.run("UPDATE rollback_keep.progress SET done = 0; INSERT INTO users VALUES (50, 'x')")
    await rollback.gateway.write(change.resource, change.after, expected=change.before)
    assert await shop.value("SELECT max(version) FROM schema_migrations") == "1"


# --- a writer that never stops ----------------------------------------------------------------------------------------
class Writer:
    """An application, new until the column is dropped and old afterwards, that records acknowledged writes."""

    def __init__(self, dsn: str, first: int) -> None:
        self.dsn, self.next, self.acknowledged = dsn, first, dict[int, str | None]()
        self._stop = False

    def work(self) -> None:
        connection: Any = None
        while not self._stop:
            try:
                connection = connection or psycopg.connect(self.dsn, autocommit=True, connect_timeout=60)
                number, self.next = self.next, self.next + 1
                try:
                    connection.execute("INSERT INTO users VALUES (%s, 'x', %s)", [number, f"nick {number}"])
                    self.acknowledged[number] = f"nick {number}"
                except psycopg.errors.SyntaxError:  # the column was dropped
                    connection.execute("INSERT INTO users VALUES (%s, 'x')", [number])
                    self.acknowledged[number] = None
            except psycopg.OperationalError:
                connection = None
        if connection:
            connection.close()

    def stop(self) -> None:
        self._stop = True


@pytest.mark.parametrize("disturbed", [False, True], ids=["undisturbed", "with a server that stops"])
async def test_no_acknowledged_row_is_lost(shop: AppDatabase, durable_postgres: Any, disturbed: bool) -> None:
    rollback, change = await prepared(shop, STEPS["a transaction"], 2 if disturbed else None)
    await shop.run("DELETE FROM users")
    writers = [Writer(shop.dsn, n * 1_000_000) for n in range(1, 4)]
    threads = [asyncio.create_task(asyncio.to_thread(writer.work)) for writer in writers]
    try:
        await until(lambda: shop.value("SELECT count(*) > 100 FROM users"), within=30)
        if disturbed:
            async with gate(shop):
                writing = asyncio.create_task(
                    rollback.gateway.write(change.resource, change.after, expected=change.before)
                )
                await until(lambda: waits(shop), within=30)
                await durable_postgres.stop("immediate")
                await durable_postgres.start()
            await writing
        else:
            await rollback.gateway.write(change.resource, change.after, expected=change.before)
        seen = await shop.value("SELECT count(*) FROM users")
        await until(lambda: shop.value(f"SELECT count(*) > {seen + 20} FROM users"), within=30)
    finally:
        for writer in writers:
            writer.stop()
        await asyncio.gather(*threads)
    acknowledged = {number: nick for writer in writers for number, nick in writer.acknowledged.items()}
    there = {number for (number,) in await shop.rows("SELECT id FROM users")}
    ((_, _, _, keep, back),) = await shop.preserved()
    kept = dict(await shop.rows(f'SELECT id, nick FROM rollback_keep."{keep}"'))
    assert len(acknowledged) > 120
    assert None in acknowledged.values(), "some were written after it"
    assert set(acknowledged) <= there
    assert {number: nick for number, nick in acknowledged.items() if nick} == {
        n: kept[n] for n, nick in acknowledged.items() if nick
    }
    await shop.run(f"{TWO}; {back}")
    assert dict(await shop.rows("SELECT id, nick FROM users")).items() >= acknowledged.items()

"""Plain SQL files beside each other, one to go forward and one to go back."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import Field

from responder.backends.postgres.migrations.tool import MigrationContext, Stage, Text, Tool, column_of
from responder.backends.postgres.schemas import Schemas
from responder.backends.postgres.sql import literal, quoted, split
from responder.backends.postgres.statements import statement
from responder.backends.problems import Problem
from responder.errors import StepFailed


class SqlFiles(Tool):
    """Plain SQL: `NNN_name.down.sql` beside `NNN_name.up.sql`, and a table of what was applied."""

    directory: Text = Field(
        min_length=1, description="Where the files of the release that runs are, as /srv/migrations/{version}"
    )
    table: str = Field(default="schema_migrations", description="The table; with a column `dirty` it has one row only")
    column: str = Field(default="version", description="Its column with the number")

    async def revision(self, schemas: Schemas, database: str) -> str:
        return max(await self._applied(schemas, database), key=int, default="0")

    async def _applied(self, schemas: Schemas, database: str) -> list[str]:
        found = await column_of(schemas, database, self.table, self.column) or []
        if await self._one_row(schemas, database) and (
            await schemas.rows(database, f"SELECT FROM {self.table} WHERE dirty")
        ):
            raise StepFailed(f"{self.table} is dirty: a migration failed half way, and a human has to mend it first")
        if odd := [v for v in found if not v.isdecimal()]:
            raise StepFailed(f"{self.table}.{self.column} holds {odd[0]!r}, which is no number")
        return found

    async def _one_row(self, schemas: Schemas, database: str) -> bool:
        sql = "SELECT FROM pg_attribute WHERE attrelid = to_regclass($1) AND attname = 'dirty' AND NOT attisdropped"
        return bool(await schemas.rows(database, sql, self.table))

    async def problems(self, schemas: Schemas, context: MigrationContext, revision: str) -> list[Problem]:
        try:
            directory = context.directory(self.directory) or Path()
            names = await schemas.scripts(directory)
        except StepFailed as failure:
            return [Problem(f"migrations of {context.database}", str(failure))]
        downs = {int(found[1]) for name in names if (found := re.fullmatch(r"(\d+)\D.*?down\.sql", name))}
        if int(revision) and int(revision) not in downs:
            found_there = f"has no {int(revision):03d}*.down.sql, which undoes the revision that the database is at"
            return [Problem(f"directory {directory}", found_there, "keep the migration files of the release that runs")]
        return []

    async def stages(self, schemas: Schemas, context: MigrationContext, now: str, target: str) -> list[Stage]:
        directory = context.directory(self.directory) or Path()
        files: dict[tuple[int, str], tuple[str, str]] = {}
        for name, text in (await schemas.scripts(directory)).items():
            if found := re.fullmatch(r"(\d+)\D.*?(down|up)\.sql", name):
                if (key := (int(found[1]), found[2])) in files:
                    raise StepFailed(f"{directory / name} and {files[key][0]} have the same number")
                files[key] = (name, text)
        one_row = await self._one_row(schemas, context.database)
        numbers = {n for n, _ in files} if one_row else set(map(int, await self._applied(schemas, context.database)))
        undone = sorted((n for n in numbers if int(target) < n <= int(now)), reverse=True)
        spelled = {int(now): now, int(target): target}
        if int(target) not in (*numbers, 0):
            raise StepFailed(f"{target} was never applied")
        stages = []
        for n, number in enumerate(undone):
            before = undone[n + 1] if n + 1 < len(undone) else int(target)
            if (number, "down") not in files:
                raise StepFailed(
                    f"there is no {number:03d}*.down.sql in {directory}: the way back is in the migration files of the "
                    "release that runs now"
                )
            was, to = spelled.get(number, str(number)), spelled.get(before, str(before))
            stages.append(
                Stage(
                    was=was,
                    to=to,
                    down=_without_transactions(*files[number, "down"]),
                    down_books=self._books(was, to, one_row=one_row, down=True),
                    up=_without_transactions(*files[number, "up"]) if (number, "up") in files else None,
                    up_books=self._books(to, was, one_row=one_row, down=False),
                )
            )
        return stages

    def _books(self, was: str, to: str, *, one_row: bool, down: bool) -> tuple[str, ...]:
        column = quoted(self.column)
        check = (
            f"DO $books$ BEGIN IF coalesce((SELECT max({column}::numeric) FROM {self.table}), 0) <> {was} THEN"
            f" RAISE EXCEPTION 'the revision is not {was} any more'; END IF; END $books$"
        )
        lock = f"LOCK TABLE {self.table} IN SHARE ROW EXCLUSIVE MODE"
        if one_row:
            return lock, check, f"UPDATE {self.table} SET {column} = {literal(to)}"
        if down:
            return lock, check, f"DELETE FROM {self.table} WHERE {column} = {literal(was)}"
        return lock, check, f"INSERT INTO {self.table} ({column}) VALUES ({literal(to)})"


def _without_transactions(name: str, text: str) -> str:
    try:
        statements = split(text)
    except ValueError as e:
        raise StepFailed(f"{name} cannot be read: {e}") from None
    for sql in statements:
        if any(effect.does == "begins or commits" for effect in statement(sql).effects):
            raise StepFailed(f"{name} says {sql.split()[0].upper()}: leave that to us, or it could be left half done")
    return text

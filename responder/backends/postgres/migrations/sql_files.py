"""Plain SQL files, one for the upgrade and one for the downgrade of each revision."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import Field

from responder.backends.postgres.ddl.parser import parse_statement
from responder.backends.postgres.migrations.tool import (
    MigrationContext,
    MigrationStep,
    MigrationTool,
    Template,
    column_values,
)
from responder.backends.postgres.schemas import Schemas
from responder.backends.postgres.sql import literal, quoted, split_statements
from responder.backends.problems import Problem
from responder.errors import StepFailed

_Files = dict[tuple[int, str], tuple[str, str]]
"""Name and text of each file by its number and its direction, `up` or `down`."""


class SqlFiles(MigrationTool):
    """Plain SQL: `NNN_name.down.sql` and `NNN_name.up.sql`, and a table of the applied revisions."""

    tool: Literal["sql"] = "sql"
    directory: Template = Field(
        min_length=1, description="Migration files of the running release, such as /srv/migrations/{version}"
    )
    table: str = Field(
        default="schema_migrations",
        description="Table of applied revisions; with a column `dirty`, one row with the current revision",
    )
    column: str = Field(default="version", description="Column with the revision number")

    async def revision(self, schemas: Schemas, database: str) -> str:
        return max(await self._applied(schemas, database), key=int, default="0")

    async def _applied(self, schemas: Schemas, database: str) -> list[str]:
        found = await column_values(schemas, database, self.table, self.column) or []
        if await self._has_one_row(schemas, database) and (
            await schemas.rows(database, f"SELECT FROM {self.table} WHERE dirty")
        ):
            raise StepFailed(f"{self.table} is dirty: a migration failed midway. Repair the schema by hand first")
        if invalid := [value for value in found if not value.isdecimal()]:
            raise StepFailed(f"{self.table}.{self.column} contains {invalid[0]!r}, expected a number")
        return found

    async def _has_one_row(self, schemas: Schemas, database: str) -> bool:
        sql = "SELECT FROM pg_attribute WHERE attrelid = to_regclass($1) AND attname = 'dirty' AND NOT attisdropped"
        return bool(await schemas.rows(database, sql, self.table))

    async def problems(self, schemas: Schemas, context: MigrationContext, revision: str) -> list[Problem]:
        try:
            directory = context.directory(self.directory) or Path()
            names = await schemas.sql_files(directory)
        except StepFailed as failure:
            return [Problem(f"migrations of {context.database}", str(failure))]
        downgrades = {int(found[1]) for name in names if (found := re.fullmatch(r"(\d+)\D.*?down\.sql", name))}
        if int(revision) and int(revision) not in downgrades:
            missing = f"has no {int(revision):03d}*.down.sql, the downgrade of the current revision"
            return [Problem(f"directory {directory}", missing, "keep the migration files of the running release")]
        return []

    async def steps(
        self, schemas: Schemas, context: MigrationContext, current: str, target: str
    ) -> list[MigrationStep]:
        directory = context.directory(self.directory) or Path()
        files = _by_number(directory, await schemas.sql_files(directory))
        one_row = await self._has_one_row(schemas, context.database)
        numbers = {n for n, _ in files} if one_row else set(map(int, await self._applied(schemas, context.database)))
        if int(target) not in (*numbers, 0):
            raise StepFailed(f"revision {target} was never applied")
        undone = sorted((n for n in numbers if int(target) < n <= int(current)), reverse=True)
        spelled = {int(current): current, int(target): target}
        steps = []
        for number, before in zip(undone, (*undone[1:], int(target)), strict=False):
            if (number, "down") not in files:
                raise StepFailed(
                    f"{directory} has no {number:03d}*.down.sql: the migration files of the running release must "
                    "contain every downgrade"
                )
            from_revision, to_revision = spelled.get(number, str(number)), spelled.get(before, str(before))
            upgrade = files.get((number, "up"))
            steps.append(
                MigrationStep(
                    from_revision=from_revision,
                    to_revision=to_revision,
                    downgrade=_without_transactions(*files[number, "down"]),
                    downgrade_records=self._records(from_revision, to_revision, one_row=one_row, upgrade=False),
                    upgrade=_without_transactions(*upgrade) if upgrade else None,
                    upgrade_records=self._records(to_revision, from_revision, one_row=one_row, upgrade=True),
                )
            )
        return steps

    def _records(self, from_revision: str, to_revision: str, *, one_row: bool, upgrade: bool) -> tuple[str, ...]:
        column = quoted(self.column)
        check = (
            f"DO $check$ BEGIN IF coalesce((SELECT max({column}::numeric) FROM {self.table}), 0) <> {from_revision}"
            f" THEN RAISE EXCEPTION 'the revision is no longer {from_revision}'; END IF; END $check$"
        )
        lock = f"LOCK TABLE {self.table} IN SHARE ROW EXCLUSIVE MODE"
        if one_row:
            return lock, check, f"UPDATE {self.table} SET {column} = {literal(to_revision)}"
        if upgrade:
            return lock, check, f"INSERT INTO {self.table} ({column}) VALUES ({literal(to_revision)})"
        return lock, check, f"DELETE FROM {self.table} WHERE {column} = {literal(from_revision)}"


def _by_number(directory: Path, texts: dict[str, str]) -> _Files:
    files: _Files = {}
    for name, text in texts.items():
        if found := re.fullmatch(r"(\d+)\D.*?(down|up)\.sql", name):
            if (key := (int(found[1]), found[2])) in files:
                raise StepFailed(f"{directory / name} and {files[key][0]} have the same number: rename one")
            files[key] = (name, text)
    return files


def _without_transactions(name: str, text: str) -> str:
    try:
        statements = split_statements(text)
    except ValueError as e:
        raise StepFailed(f"cannot read {name}: {e}") from None
    for sql in statements:
        if any(effect.does == "begins or commits" for effect in parse_statement(sql).effects):
            raise StepFailed(
                f"{name} contains {sql.split()[0].upper()}: remove it, the responder runs the file in one transaction"
            )
    return text

"""Plain SQL files, one for the upgrade and one for the downgrade of each revision."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from responder.backends.postgres.migrations.sql_sections import read_migrations, without_transactions
from responder.backends.postgres.migrations.tool import (
    MigrationContext,
    MigrationStep,
    MigrationTool,
    Template,
    insert_record,
)
from responder.backends.postgres.schemas import Schemas
from responder.backends.postgres.sql import literal, quoted
from responder.backends.problems import Problem
from responder.errors import StepFailed

_VersionTable = Literal["rows", "one row", "no row"]
"""One row per revision, one row with the current revision, or that row is absent before the first file."""


_APPLIED = (
    "is_applied AND NOT EXISTS (SELECT FROM {table} AS later WHERE later.{column} = t.{column} AND later.id > t.id"
    " AND NOT later.is_applied)"
)
"""What counts as applied in a table of goose: older versions of goose add a row for a downgrade."""


class SqlFiles(MigrationTool):
    """Plain SQL: `NNN_name.down.sql` and `NNN_name.up.sql`, or sections of one file, and a table of the revisions."""

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

    async def _applied(self, schemas: Schemas, database: str) -> dict[str, str]:
        """The applied revisions, each with its row as JSON."""
        columns = await self._columns(schemas, database)
        if not columns:
            return {}
        if "installed_rank" in columns:
            raise StepFailed(
                f"{self.table} is the history of Flyway, whose `undo` adds rows of its own: configure the tool "
                "`command` with flyway undo -target={to}. The Community Edition has no undo"
            )
        for column, failed in (("dirty", "dirty"), ("success", "NOT success")):
            if column in columns and await schemas.rows(database, f"SELECT FROM {self.table} WHERE {failed}"):
                raise StepFailed(f"{self.table} is dirty: a migration failed midway. Repair the schema by hand first")
        rows = self._rows(columns)
        sql = f"SELECT {quoted(self.column)}::text AS value, row_to_json(t)::text AS record FROM {rows}"
        found = {row["value"]: row["record"] for row in await schemas.rows(database, sql)}
        if invalid := [value for value in found if not value.isdecimal()]:
            raise StepFailed(f"{self.table}.{self.column} contains {invalid[0]!r}, expected a number")
        return found

    def _rows(self, columns: set[str]) -> str:
        """The rows of applied revisions, as what follows FROM."""
        where = f" WHERE {_APPLIED.format(table=self.table, column=quoted(self.column))}"
        return f"{self.table} AS t{where if {'id', 'is_applied'} <= columns else ''}"

    async def _columns(self, schemas: Schemas, database: str) -> set[str]:
        """The columns of the version table. With `dirty` it has one row, the current revision."""
        sql = "SELECT attname::text FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0"
        return {row["attname"] for row in await schemas.rows(database, f"{sql} AND NOT attisdropped", self.table)}

    async def problems(self, schemas: Schemas, context: MigrationContext, revision: str) -> list[Problem]:
        try:
            directory = context.directory(self.directory) or Path()
            files = read_migrations(directory, await schemas.sql_files(directory))
        except StepFailed as failure:
            return [Problem(f"migrations of {context.database}", str(failure))]
        downgrades = {number for number, direction in files if direction == "down"}
        if int(revision) and int(revision) not in downgrades:
            missing = f"has no {int(revision):03d}*.down.sql, the downgrade of the current revision"
            return [Problem(f"directory {directory}", missing, "keep the migration files of the running release")]
        return []

    async def steps(
        self, schemas: Schemas, context: MigrationContext, current: str, target: str
    ) -> list[MigrationStep]:
        directory = context.directory(self.directory) or Path()
        files = read_migrations(directory, await schemas.sql_files(directory))
        columns = await self._columns(schemas, context.database)
        one_row, rows = "dirty" in columns, self._rows(columns)
        applied = await self._applied(schemas, context.database)
        records = {int(value): record for value, record in applied.items()}
        numbers = {n for n, _ in files} if one_row else set(records)
        if int(target) not in (*numbers, 0):
            raise StepFailed(f"revision {target} was never applied")
        undone = sorted((n for n in numbers if int(target) < n <= int(current)), reverse=True)
        spelled = {int(value): value for value in (*applied, current, target)}
        steps = []
        for number, before in zip(undone, (*undone[1:], int(target)), strict=False):
            if (number, "down") not in files:
                raise StepFailed(
                    f"{directory} has no {number:03d}*.down.sql: the migration files of the running release must "
                    "contain every downgrade"
                )
            from_revision, to_revision = spelled.get(number, str(number)), spelled.get(before, str(before))
            upgrade = files.get((number, "up"))
            kind: _VersionTable = "rows" if not one_row else "one row" if before or (0, "up") in files else "no row"
            steps.append(
                MigrationStep(
                    from_revision=from_revision,
                    to_revision=to_revision,
                    downgrade=without_transactions(*files[number, "down"]),
                    downgrade_records=self._records(from_revision, to_revision, rows, kind),
                    upgrade=without_transactions(*upgrade) if upgrade else None,
                    upgrade_records=self._records(to_revision, from_revision, rows, kind, records.get(number, "")),
                )
            )
        return steps

    def _records(
        self, from_revision: str, to_revision: str, rows: str, kind: _VersionTable, record: str = ""
    ) -> tuple[str, ...]:
        """Statements that change the version table. golang-migrate fails at a recorded revision that has no file."""
        column = quoted(self.column)
        check = (
            f"DO $check$ BEGIN IF coalesce((SELECT max({column}::numeric) FROM {rows}), 0) <> {from_revision}"
            f" THEN RAISE EXCEPTION 'the revision is no longer {from_revision}'; END IF; END $check$"
        )
        lock = f"LOCK TABLE {self.table} IN SHARE ROW EXCLUSIVE MODE"
        if kind == "no row":
            values = f"({column}, dirty) VALUES ({literal(to_revision)}, false)"
            going = f"DELETE FROM {self.table}" if to_revision == "0" else f"INSERT INTO {self.table} {values}"
            return lock, check, going
        if kind == "one row":
            return lock, check, f"UPDATE {self.table} SET {column} = {literal(to_revision)}"
        if record:  # exactly the row that the downgrade deletes, with columns of the tool such as a checksum
            return lock, check, insert_record(self.table, record)
        return lock, check, f"DELETE FROM {self.table} WHERE {column} = {literal(from_revision)}"

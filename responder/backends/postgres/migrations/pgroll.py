"""pgroll: a started migration can be rolled back without loss until it is completed."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from responder.backends.postgres.migrations.tool import (
    CommandLine,
    MigrationContext,
    MigrationStep,
    ProgramTool,
    require_runnable,
)
from responder.backends.postgres.schemas import Schemas
from responder.errors import StepFailed


class Pgroll(ProgramTool):
    """pgroll. While a migration is started and not completed, both schemas exist and a rollback loses nothing."""

    tool: Literal["pgroll"] = "pgroll"
    command: CommandLine = Field(default=("pgroll",), description="Command of pgroll")

    @property
    def _list_command(self) -> tuple[str, ...]:
        return *self.command, "status"

    def _names(self, revision: str) -> list[str]:
        return []  # pgroll stores its migrations in the database

    async def revision(self, schemas: Schemas, database: str) -> str:
        latest = await _latest(schemas, database)
        return str(latest["name"]) if latest else "none"

    async def steps(
        self, schemas: Schemas, context: MigrationContext, current: str, target: str
    ) -> list[MigrationStep]:
        require_runnable(context.filled(self.command), context.directory(self.directory))
        latest = await _latest(schemas, context.database)
        if latest is None or latest["done"]:
            raise StepFailed(
                f"pgroll has completed {current} and removed the old schema: it can no longer be rolled back. "
                "Write a new migration that restores what the old release needs"
            )
        if str(latest["parent"] or "none") != target:
            raise StepFailed(f"pgroll cannot go from {current} to {target}: it can go to {latest['parent']} only")
        command = context.filled((*self.command, "rollback"))
        return [MigrationStep(from_revision=current, to_revision=target, downgrade_command=command, preview="")]


async def _latest(schemas: Schemas, database: str) -> dict[str, object] | None:
    sql = "SELECT name, parent, done FROM pgroll.migrations ORDER BY created_at DESC, name DESC LIMIT 1"
    rows = await schemas.rows(database, "SELECT to_regclass('pgroll.migrations') IS NOT NULL AS present")
    if not rows[0]["present"]:
        return None
    return next(iter(await schemas.rows(database, sql)), None)


async def active_pgroll_migration(schemas: Schemas, database: str) -> str:
    """The migration that pgroll has started and not completed; empty if there is none."""
    latest = await _latest(schemas, database)
    return str(latest["name"]) if latest and not latest["done"] else ""

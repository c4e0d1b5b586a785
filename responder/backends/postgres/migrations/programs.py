"""Tools that have to do it by themselves: a command of one's own, and pgroll."""

from __future__ import annotations

from pydantic import Field

from responder.backends.postgres.migrations.tool import (
    CommandLine,
    MigrationContext,
    Program,
    Stage,
    Text,
    Tool,
    must_be_runnable,
)
from responder.backends.postgres.schemas import Schemas
from responder.backends.problems import Problem
from responder.errors import StepFailed


class OwnCommand(Tool):
    """A command of one's own, which has to change the schema in one transaction or to be safe to run again."""

    current: str = Field(description="SQL whose one value is the revision, as SELECT version FROM deployed")
    downgrade: CommandLine = Field(description="Goes back from {from} to {to}, as a list")
    upgrade: tuple[Text, ...] = Field(default=(), description="Goes forward from {from} to {to} again")
    plan: tuple[Text, ...] = Field(default=(), description="Writes the SQL that `downgrade` would run to its output")
    directory: Text = Field(default="", description="Where they run: the files of the release that runs, as {version}")

    async def revision(self, schemas: Schemas, database: str) -> str:
        rows = await schemas.rows(database, self.current)
        if len(rows) != 1 or len(rows[0]) != 1 or (value := next(iter(rows[0].values()))) is None:
            raise StepFailed(f"{self.current} does not return one value, but {len(rows)} rows")
        return str(value)

    async def problems(self, schemas: Schemas, context: MigrationContext, revision: str) -> list[Problem]:
        try:
            for argv in filter(None, (self.downgrade, self.upgrade, self.plan)):
                must_be_runnable(context.filled(argv), context.directory(self.directory))
        except StepFailed as failure:
            return [Problem(f"migrations of {context.database}", str(failure))]
        return []

    async def stages(self, schemas: Schemas, context: MigrationContext, now: str, target: str) -> list[Stage]:
        ends = {"from": now, "to": target}
        must_be_runnable(context.filled(self.downgrade, **ends), context.directory(self.directory))
        preview = None
        if self.plan:
            preview = await schemas.tool(
                context.database,
                context.filled(self.plan, **ends),
                mark=f"rollback:{context.mark}",
                limits=context.limits,
                within=context.within,
                cwd=context.directory(self.directory),
            )
        back = {"from": target, "to": now}
        return [
            Stage(
                was=now,
                to=target,
                argv_down=context.filled(self.downgrade, **ends),
                argv_up=context.filled(self.upgrade, **back),
                preview=preview,
                why="a command of your own runs it",
            )
        ]


class Pgroll(Program):
    """pgroll: while a migration is started and not completed, both schemas live, and going back loses nothing."""

    command: CommandLine = Field(default=("pgroll",), description="How it is called, as a list")

    @property
    def _listing(self) -> tuple[str, ...]:
        return *self.command, "status"

    def _names(self, revision: str) -> list[str]:
        return []  # it keeps its migrations in the database

    async def revision(self, schemas: Schemas, database: str) -> str:
        latest = await _latest(schemas, database)
        return str(latest["name"]) if latest else "none"

    async def stages(self, schemas: Schemas, context: MigrationContext, now: str, target: str) -> list[Stage]:
        must_be_runnable(context.filled(self.command), context.directory(self.directory))
        latest = await _latest(schemas, context.database)
        if latest is None or latest["done"]:
            raise StepFailed(
                f"pgroll has completed {now}: its rollback does nothing any more, and the old schema is gone; "
                "write a migration that goes forward to what the old release needs"
            )
        if str(latest["parent"] or "none") != target:
            raise StepFailed(f"pgroll can go back from {now} to {latest['parent']} only, not to {target}")
        return [Stage(was=now, to=target, argv_down=context.filled((*self.command, "rollback")), preview="")]


async def _latest(schemas: Schemas, database: str) -> dict[str, object] | None:
    sql = "SELECT name, parent, done FROM pgroll.migrations ORDER BY created_at DESC, name DESC LIMIT 1"
    if not (await schemas.rows(database, "SELECT to_regclass('pgroll.migrations') IS NOT NULL AS there"))[0]["there"]:
        return None
    return next(iter(await schemas.rows(database, sql)), None)


async def started_by_pgroll(schemas: Schemas, database: str) -> str:
    """The migration that pgroll has started and not completed; empty where there is none."""
    latest = await _latest(schemas, database)
    return str(latest["name"]) if latest and not latest["done"] else ""

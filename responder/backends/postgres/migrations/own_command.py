"""A custom migration command."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from responder.backends.postgres.migrations.tool import (
    CommandLine,
    MigrationContext,
    MigrationStep,
    MigrationTool,
    Template,
    require_runnable,
)
from responder.backends.postgres.schemas import Schemas
from responder.backends.problems import Problem
from responder.errors import StepFailed


class OwnCommand(MigrationTool):
    """A custom command. It must change the schema in one transaction, or be safe to run again."""

    tool: Literal["command"] = "command"
    current: str = Field(description="SQL that returns the current revision, such as SELECT version FROM deployed")
    downgrade: CommandLine = Field(description="Command that downgrades from {from} to {to}")
    upgrade: tuple[Template, ...] = Field(default=(), description="Command that upgrades from {from} to {to}")
    plan: tuple[Template, ...] = Field(default=(), description="Command that prints the SQL of `downgrade`")

    async def revision(self, schemas: Schemas, database: str) -> str:
        rows = await schemas.rows(database, self.current)
        if len(rows) != 1 or len(rows[0]) != 1 or (value := next(iter(rows[0].values()))) is None:
            raise StepFailed(f"{self.current} returned {len(rows)} rows, expected one row with one value")
        return str(value)

    async def problems(self, schemas: Schemas, context: MigrationContext, revision: str) -> list[Problem]:
        try:
            for argv in filter(None, (self.downgrade, self.upgrade, self.plan)):
                require_runnable(context.filled(argv), context.directory(self.directory))
        except StepFailed as failure:
            return [Problem(f"migrations of {context.database}", str(failure))]
        return []

    async def steps(
        self, schemas: Schemas, context: MigrationContext, current: str, target: str
    ) -> list[MigrationStep]:
        ends = {"from": current, "to": target}
        require_runnable(context.filled(self.downgrade, **ends), context.directory(self.directory))
        preview = None
        if self.plan:
            preview = await schemas.run_tool(
                context.database,
                context.filled(self.plan, **ends),
                application=f"rollback:{context.execution}",
                limits=context.limits,
                within=context.within,
                cwd=context.directory(self.directory),
            )
        return [
            MigrationStep(
                from_revision=current,
                to_revision=target,
                downgrade_command=context.filled(self.downgrade, **ends),
                upgrade_command=context.filled(self.upgrade, **{"from": target, "to": current}),
                preview=preview,
                reason="custom command",
            )
        ]

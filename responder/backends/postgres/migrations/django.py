"""Django: all migrations of a downgrade in one transaction. Django itself uses one for each migration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from responder.backends.postgres.migrations.tool import (
    CommandLine,
    MigrationContext,
    MigrationStep,
    ProgramTool,
    column_values,
)
from responder.backends.postgres.schemas import Schemas
from responder.backends.postgres.sql import literal
from responder.errors import StepFailed

_NOT_SQL = "CANNOT BE WRITTEN AS SQL"
"""What `sqlmigrate` prints for an operation in Python."""

_Migration = tuple[str, str]
"""Application and name."""


class Django(ProgramTool):
    """Django. `migrate --plan` lists the migrations and `sqlmigrate --backwards` renders the SQL of their downgrade."""

    tool: Literal["django"] = "django"
    command: CommandLine = Field(default=("python", "manage.py"), description="Command of manage.py")
    apps: Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        description="Applications that form the revision; with several, revisions are app.name,app.name"
    )
    table: str = Field(default="django_migrations", description="Table of applied migrations")

    async def revision(self, schemas: Schemas, database: str) -> str:
        newest = []
        for app in self.apps:
            names = await column_values(schemas, database, self.table, "name", f" WHERE app = {literal(app)}")
            newest.append((app, max(names or ["zero"])))
        return self._joined(dict(newest))

    @property
    def _list_command(self) -> tuple[str, ...]:
        return *self.command, "showmigrations", *self.apps

    def _names(self, revision: str) -> list[str]:
        return [name for name in self._by_app(revision).values() if name != "zero"]

    def _joined(self, names: Mapping[str, str]) -> str:
        return names[self.apps[0]] if len(self.apps) == 1 else ",".join(f"{app}.{names[app]}" for app in self.apps)

    def _by_app(self, revision: str) -> dict[str, str]:
        if len(self.apps) == 1:
            return {self.apps[0]: revision}
        found = dict(part.split(".", 1) for part in revision.split(",") if "." in part)
        if set(found) != set(self.apps):
            raise StepFailed(
                f"revision {revision} must name one migration for each of {', '.join(self.apps)}, as app.name,app.name"
            )
        return found

    async def steps(
        self, schemas: Schemas, context: MigrationContext, current: str, target: str
    ) -> list[MigrationStep]:
        names, goals = self._by_app(current), self._by_app(target)
        undone: list[_Migration] = []
        for app in self.apps:
            if names[app] == goals[app]:
                continue
            output = await self._output(schemas, context, *self.command, "migrate", app, goals[app], "--plan")
            undone += [migration for migration in _planned(output) if migration not in undone]
        await self._require_downgrade(schemas, context, undone, current, target)
        steps = []
        for n, (app, name) in enumerate(undone):
            before = next((older for other, older in undone[n + 1 :] if other == app), goals[app])
            after = {**names, app: before}
            ends = (self._joined(names), self._joined(after))
            steps.append(await self._step(schemas, context, (app, name), before, ends))
            names = after
        return steps

    async def _require_downgrade(
        self, schemas: Schemas, context: MigrationContext, undone: list[_Migration], current: str, target: str
    ) -> None:
        """Raises StepFailed unless Django would only revert applied migrations of the configured applications."""
        if others := sorted({app for app, _ in undone} - set(self.apps)):
            raise StepFailed(f"the downgrade also reverts migrations of {', '.join(others)}: add them to `apps`")
        if not undone:
            raise StepFailed(f"Django finds no migration to revert from {current} to {target}")
        sql = f"SELECT app, name FROM {self.table}"
        applied = {(row["app"], row["name"]) for row in await schemas.rows(context.database, sql)}
        if forward := [".".join(migration) for migration in undone if migration not in applied]:
            raise StepFailed(f"Django would upgrade, not downgrade: migration {forward[0]} is not applied")

    async def _step(
        self, schemas: Schemas, context: MigrationContext, migration: _Migration, before: str, ends: tuple[str, str]
    ) -> MigrationStep:
        app, name = migration
        down = await self._output(schemas, context, *self.command, "sqlmigrate", app, name, "--backwards")
        up = await self._output(schemas, context, *self.command, "sqlmigrate", app, name)
        record = f"{self.table} WHERE app = {literal(app)} AND name = {literal(name)}"
        return MigrationStep(
            from_revision=ends[0],
            to_revision=ends[1],
            downgrade=None if _NOT_SQL in down else down,
            downgrade_records=(
                f"DO $check$ BEGIN IF NOT EXISTS (SELECT FROM {record}) THEN"
                f" RAISE EXCEPTION '% is no longer applied', {literal(f'{app}.{name}')}; END IF; END $check$",
                f"DELETE FROM {record}",
            ),
            upgrade=None if _NOT_SQL in up else up,
            upgrade_records=(
                f"INSERT INTO {self.table} (app, name, applied) VALUES ({literal(app)}, {literal(name)}, now())",
            ),
            downgrade_command=context.filled((*self.command, "migrate", app, before)),
            upgrade_command=context.filled((*self.command, "migrate", app, name)),
            preview=down,
            preview_complete=_NOT_SQL not in down,
            reason="it contains Python, which cannot be rendered as SQL" if _NOT_SQL in down else "",
        )


def _planned(output: str) -> list[_Migration]:
    """The migrations that `migrate --plan` would revert, in order."""
    undone: list[_Migration] = []
    for line in output.splitlines():
        if found := re.fullmatch(r"(\w+)\.(\w+)", line.strip()) if not line.startswith(" ") else None:
            undone.append((found[1], found[2]))
        elif "IRREVERSIBLE" in line and undone:
            raise StepFailed(f"migration {'.'.join(undone[-1])} is irreversible: {line.strip()}")
    return undone

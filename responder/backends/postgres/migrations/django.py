"""Django: one transaction for all of the way, where its own is one for each migration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from responder.backends.postgres.migrations.tool import CommandLine, MigrationContext, Program, Stage, column_of
from responder.backends.postgres.schemas import Schemas
from responder.backends.postgres.sql import literal
from responder.errors import StepFailed


class Django(Program):
    """Django: `migrate --plan` names the way, `sqlmigrate --backwards` renders it, and we run it in one transaction."""

    command: CommandLine = Field(default=("python", "manage.py"), description="How it is called, as a list")
    apps: Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        description="Applications whose migrations make the revision; of several, versions are app.name,app.name"
    )
    table: str = Field(default="django_migrations", description="Its table of migrations")

    async def revision(self, schemas: Schemas, database: str) -> str:
        newest = []
        for app in self.apps:
            names = await column_of(schemas, database, self.table, "name", f" WHERE app = {literal(app)}")
            newest.append((app, max(names or ["zero"])))
        return self._joined(dict(newest))

    @property
    def _listing(self) -> tuple[str, ...]:
        return *self.command, "showmigrations", *self.apps

    def _names(self, revision: str) -> list[str]:
        return [name for name in self._cut(revision).values() if name != "zero"]

    def _joined(self, of: Mapping[str, str]) -> str:
        return of[self.apps[0]] if len(self.apps) == 1 else ",".join(f"{app}.{of[app]}" for app in self.apps)

    def _cut(self, revision: str) -> dict[str, str]:
        if len(self.apps) == 1:
            return {self.apps[0]: revision}
        found = dict(part.split(".", 1) for part in revision.split(",") if "." in part)
        if set(found) != set(self.apps):
            raise StepFailed(
                f"{revision} does not name a migration for each of {', '.join(self.apps)}, as app.name,app.name"
            )
        return found

    async def stages(self, schemas: Schemas, context: MigrationContext, now: str, target: str) -> list[Stage]:
        at, goals = self._cut(now), self._cut(target)
        sql = f"SELECT app, name FROM {self.table}"
        applied = {(row["app"], row["name"]) for row in await schemas.rows(context.database, sql)}
        undone: list[tuple[str, str]] = []
        for app in self.apps:
            if at[app] == goals[app]:
                continue
            output = await self._ask(schemas, context, *self.command, "migrate", app, goals[app], "--plan")
            undone += [migration for migration in self._planned(output) if migration not in undone]
        others = sorted({app for app, _ in undone} - set(self.apps))
        if others:
            raise StepFailed(f"going back also undoes migrations of {', '.join(others)}: name them in `apps` as well")
        if not undone:
            raise StepFailed(f"Django sees nothing to undo between {now} and {target}")
        if forward := [".".join(migration) for migration in undone if migration not in applied]:
            raise StepFailed(f"Django would not go back but forward: {forward[0]} is not applied")
        stages = []
        for n, (app, name) in enumerate(undone):
            before = next((older for of, older in undone[n + 1 :] if of == app), goals[app])
            after = {**at, app: before}
            stages.append(await self._stage(schemas, context, app, name, self._joined(at), self._joined(after), before))
            at = after
        return stages

    def _planned(self, output: str) -> list[tuple[str, str]]:
        undone: list[tuple[str, str]] = []
        for line in output.splitlines():
            if found := re.fullmatch(r"(\w+)\.(\w+)", line.strip()) if not line.startswith(" ") else None:
                undone.append((found[1], found[2]))
            elif "IRREVERSIBLE" in line and undone:
                raise StepFailed(f"{'.'.join(undone[-1])} cannot be undone: {line.strip()}")
        return undone

    async def _stage(
        self, schemas: Schemas, context: MigrationContext, app: str, name: str, was: str, to: str, before: str
    ) -> Stage:
        down = await self._ask(schemas, context, *self.command, "sqlmigrate", app, name, "--backwards")
        up = await self._ask(schemas, context, *self.command, "sqlmigrate", app, name)
        python = "CANNOT BE WRITTEN AS SQL"
        books = f"{self.table} WHERE app = {literal(app)} AND name = {literal(name)}"
        return Stage(
            was=was,
            to=to,
            down=None if python in down else down,
            down_books=(
                f"DO $books$ BEGIN IF NOT EXISTS (SELECT FROM {books}) THEN"
                f" RAISE EXCEPTION '% is not applied any more', {literal(f'{app}.{name}')}; END IF; END $books$",
                f"DELETE FROM {books}",
            ),
            up=None if python in up else up,
            up_books=(
                f"INSERT INTO {self.table} (app, name, applied) VALUES ({literal(app)}, {literal(name)}, now())",
            ),
            argv_down=context.filled((*self.command, "migrate", app, before)),
            argv_up=context.filled((*self.command, "migrate", app, name)),
            preview=down,
            why="a part of it is Python and cannot be written as SQL" if python in down else "",
        )

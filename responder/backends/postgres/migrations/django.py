"""Django: all migrations of a downgrade in one transaction. Django itself uses one for each migration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from responder.backends.postgres.migrations.django_graph import (
    PRINT_GRAPH,
    MigrationFacts,
    MigrationGraph,
    RecordChange,
)
from responder.backends.postgres.migrations.tool import (
    CommandLine,
    MigrationContext,
    MigrationStep,
    ProgramTool,
    insert_record,
)
from responder.backends.postgres.schemas import Schemas
from responder.backends.postgres.sql import literal
from responder.errors import StepFailed

_NOT_SQL = "CANNOT BE WRITTEN AS SQL"
"""What `sqlmigrate` prints for an operation in Python."""

_SQUASHED = re.compile(r"[^.,]+_squashed_(?=\d)")
"""What precedes the last replaced migration in the name that Django gives a squash."""

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
        return self._revision_of(list(await self._records(schemas, database)))

    async def _records(self, schemas: Schemas, database: str) -> dict[_Migration, str]:
        """The applied migrations in the order in which they were recorded, each with its row as JSON."""
        rows = await schemas.rows(database, "SELECT to_regclass($1) IS NOT NULL AS present", self.table)
        if not rows[0]["present"]:
            return {}
        where = f"app IN ({', '.join(map(literal, self.apps))})"
        sql = f"SELECT app, name, row_to_json(t)::text AS record FROM {self.table} AS t WHERE {where} ORDER BY id"
        return {(row["app"], row["name"]): row["record"] for row in await schemas.rows(database, sql)}

    def _revision_of(self, applied: list[_Migration]) -> str:
        return self._joined({app: _newest([name for other, name in applied if other == app]) for app in self.apps})

    def same(self, left: str, right: str) -> bool:
        """A squash and the last migration that it replaces are the same revision."""
        return super().same(_SQUASHED.sub("", left), _SQUASHED.sub("", right))

    @property
    def _connecting_command(self) -> tuple[str, ...]:
        return *self.command, "showmigrations"

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
        graph = await self._graph(schemas, context)
        goals = {app: graph.name_of(app, name) for app, name in self._by_app(target).items()}
        names = self._by_app(current)
        undone: list[_Migration] = []
        for app in self.apps:
            if self.same(names[app], goals[app]):
                continue
            output = await self._output(schemas, context, *self.command, "migrate", app, goals[app], "--plan")
            undone += [migration for migration in _planned(output) if migration not in undone]
        records = await self._records(schemas, context.database)
        applied = list(records)
        self._require_downgrade(graph.recorded(applied), undone, current, target)
        steps = []
        for n, (app, name) in enumerate(undone):
            before = next((older for other, older in undone[n + 1 :] if other == app), goals[app])
            change = graph.unapply((app, name), applied)
            ends = (self._revision_of(applied), self._revision_of(change.left))
            facts = [graph.facts.get(migration, MigrationFacts()) for migration in undone[: n + 1]]
            step = await self._step(schemas, context, (app, name), (before, *ends), facts)
            steps.append(step.model_copy(update=self._recorded((app, name), change, records)))
            applied = change.left
        if not self.same(reached := self._revision_of(applied), target):
            raise StepFailed(f"the downgrade from {current} to {target} ends at {reached}: use that as the target")
        return steps

    async def _graph(self, schemas: Schemas, context: MigrationContext) -> MigrationGraph:
        """The graph that Django builds from its files and the database."""
        argv = (*self.command, "shell", "--verbosity", "0", "-c")
        try:
            return MigrationGraph.parse(await self._output(schemas, context, *argv, PRINT_GRAPH))
        except StepFailed as e:
            raise StepFailed(f"{' '.join(argv)} could not print the migrations: {str(e).splitlines()[-1]}") from e

    def _require_downgrade(
        self, applied: list[_Migration], undone: list[_Migration], current: str, target: str
    ) -> None:
        """Raises StepFailed unless Django would only revert applied migrations of the configured applications."""
        if others := sorted({app for app, _ in undone} - set(self.apps)):
            raise StepFailed(f"the downgrade also reverts migrations of {', '.join(others)}: add them to `apps`")
        if not undone:
            raise StepFailed(f"Django finds no migration to revert from {current} to {target}")
        if forward := [".".join(migration) for migration in undone if migration not in applied]:
            raise StepFailed(f"Django would upgrade, not downgrade: migration {forward[0]} is not applied")

    async def _step(
        self,
        schemas: Schemas,
        context: MigrationContext,
        migration: _Migration,
        ends: tuple[str, str, str],
        facts: list[MigrationFacts],
    ) -> MigrationStep:
        """One step. `ends`: the name of the migration before, and the revisions; `facts`: of the steps up to this one.

        Django writes the SQL for the database as it is now.
        """
        app, name = migration
        before, from_revision, to_revision = ends
        *earlier, own = facts
        sqlmigrate = (*self.command, "sqlmigrate", app, name)
        reason = "Django changes content types as well, outside of the SQL" if own.signals else ""
        if own.depends_on(earlier):
            reason = "its SQL depends on constraints or indexes that an earlier step changes"
        down: str | None = None
        try:
            down = await self._output(schemas, context, *sqlmigrate, "--backwards")
        except StepFailed:
            if not reason:
                raise
        if down and _NOT_SQL in down and not own.complete:
            reason = "it contains Python, which cannot be rendered as SQL"
        up = "" if own.read else await self._output(schemas, context, *sqlmigrate)
        return MigrationStep(
            from_revision=from_revision,
            to_revision=to_revision,
            downgrade=None if reason else down,
            upgrade=None if own.read or _NOT_SQL in up else up,
            downgrade_command=context.filled((*self.command, "migrate", app, before)),
            upgrade_command=context.filled((*self.command, "migrate", app, name)),
            preview=down,
            preview_complete=not own.signals and own.complete,
            reason=reason,
        )

    def _recorded(
        self, migration: _Migration, change: RecordChange, records: dict[_Migration, str]
    ) -> dict[str, tuple[str, ...]]:
        """The statements that change the table of applied migrations as Django does. Reverting restores the rows."""
        removed = _condition(change.removed)
        columns, no_longer = f"{self.table} (app, name, applied)", literal(".".join(migration))
        down = [
            f"LOCK TABLE {self.table} IN SHARE ROW EXCLUSIVE MODE",
            f"DO $check$ BEGIN IF (SELECT count(*) FROM {self.table} WHERE {removed}) <> {len(change.removed)} THEN"
            f" RAISE EXCEPTION '% is no longer applied', {no_longer}; END IF; END $check$",
            f"DELETE FROM {self.table} WHERE {removed}",
        ]
        down += [f"INSERT INTO {columns} VALUES ({literal(a)}, {literal(n)}, now())" for a, n in change.added]
        up = [f"DELETE FROM {self.table} WHERE {_condition(change.added)}"] if change.added else []
        up += [insert_record(self.table, records[removed]) for removed in change.removed if removed in records]
        return {"downgrade_records": tuple(down), "upgrade_records": tuple(up)}


def _condition(migrations: tuple[_Migration, ...]) -> str:
    listed = ", ".join(f"({literal(app)}, {literal(name)})" for app, name in migrations)
    return f"(app, name) IN ({listed})"


def _newest(names: list[str]) -> str:
    """The newest of the applied migrations: by number, else by the order in which they were recorded.

    Django records a squash after those that it replaces, and late: so a squash counts as the last one that it replaces.
    """
    numbers = [re.match(r"\d+", _SQUASHED.sub("", name)) for name in names]
    if not names or None in numbers:
        return names[-1] if names else "zero"
    return max((int(found[0]), n, name) for n, (found, name) in enumerate(zip(numbers, names, strict=True)) if found)[2]


def _planned(output: str) -> list[_Migration]:
    """The migrations that `migrate --plan` would revert, in order."""
    undone: list[_Migration] = []
    for line in output.splitlines():
        if found := re.fullmatch(r"([^\s.]+)\.(\S+)", line.strip()) if not line.startswith(" ") else None:
            undone.append((found[1], found[2]))
        elif "IRREVERSIBLE" in line and undone:
            raise StepFailed(f"migration {'.'.join(undone[-1])} is irreversible: {line.strip()}")
    return undone

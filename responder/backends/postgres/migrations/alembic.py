"""Alembic, with branches and merges. Each revision is downgraded exactly once."""

from __future__ import annotations

import asyncio
import re
from typing import Literal

from pydantic import Field

from responder.backends.postgres.migrations.alembic_output import refusal, sections
from responder.backends.postgres.migrations.alembic_sources import (
    Revision,
    heads_without,
    parse_history,
    text_in_sql,
    undone_revisions,
)
from responder.backends.postgres.migrations.tool import (
    CommandLine,
    MigrationContext,
    MigrationStep,
    ProgramTool,
    Template,
    column_values,
)
from responder.backends.postgres.schemas import Schemas
from responder.backends.postgres.sql import literal, split_statements
from responder.errors import StepFailed

_MOVES = "env.py uses search_path or schema_translate_map, which the SQL that Alembic renders lacks"


class Alembic(ProgramTool):
    """Alembic. `downgrade --sql` renders the SQL beforehand, and the responder runs it in one transaction."""

    tool: Literal["alembic"] = "alembic"
    command: CommandLine = Field(default=("alembic",), description="Command of Alembic")
    config: Template = Field(default="alembic.ini", description="Configuration file, relative to the directory")
    table: str = Field(default="alembic_version", description="Version table, with its schema if needed")

    async def revision(self, schemas: Schemas, database: str) -> str:
        return ",".join(await column_values(schemas, database, self.table, "version_num") or ()) or "base"

    def _command(self, *more: str) -> tuple[str, ...]:
        return (*self.command, "-c", self.config, *more)

    @property
    def _connecting_command(self) -> tuple[str, ...]:
        return self._command("current")

    @property
    def _list_command(self) -> tuple[str, ...]:
        return self._command("history")

    async def steps(
        self, schemas: Schemas, context: MigrationContext, current: str, target: str
    ) -> list[MigrationStep]:
        heads, goals = current.split(","), target.split(",")
        unchanged = [head for head in heads if head in goals]
        leaving = [head for head in heads if head not in unchanged]
        reached: list[str] = []
        failures: list[StepFailed] = []
        for goal in (goal for goal in goals if goal not in unchanged):
            downgrades = await self._downgrades(schemas, context, leaving, goal, failures)
            if not downgrades:
                continue
            if unchanged and await self._downgrades(schemas, context, unchanged, goal, []):
                raise StepFailed(
                    f"cannot go back to {goal}: it is an ancestor of {','.join(unchanged)}, which {target} keeps"
                )
            history = await self._history(schemas, context)
            upgrades = await self._upgrades(schemas, context, goal, heads)
            steps = self._rendered_steps(context, heads, downgrades, upgrades, history)
            if self.same(steps[-1].to_revision, target):
                return steps
            reached.append(steps[-1].to_revision)
        if reached:
            raise StepFailed(f"the downgrade from {current} to {target} ends at {reached[0]}: use that as the target")
        return await self._one_by_one(schemas, context, current, target, failures)

    async def _downgrades(
        self, schemas: Schemas, context: MigrationContext, heads: list[str], goal: str, failures: list[StepFailed]
    ) -> dict[str, str]:
        """The downgrade of each revision from the heads to the goal. Revisions that branches share come last."""
        found: dict[str, str] = {}
        for head in heads:
            try:
                output = await self._output(schemas, context, *self._command("downgrade", f"{head}:{goal}", "--sql"))
            except StepFailed as e:
                failures.append(e)
                continue
            for revision, _, sql in sections(output, "downgrade"):
                found.pop(revision, None)
                found[revision] = sql
        return found

    def _rendered_steps(
        self,
        context: MigrationContext,
        heads: list[str],
        downgrades: dict[str, str],
        upgrades: dict[str, str],
        history: dict[str, Revision],
    ) -> list[MigrationStep]:
        steps, from_revision, removed = [], ",".join(sorted(heads)), set[str]()
        for revision, sql in downgrades.items():
            removed.add(revision)
            ends = (from_revision, heads_without(history, heads, removed))
            rendered = (sql, upgrades.get(revision, ""))
            steps.append(self._rendered_step(context, ends, rendered, revision, history.get(revision)))
            from_revision = ends[1]
        return steps

    def _rendered_step(
        self,
        context: MigrationContext,
        ends: tuple[str, str],
        rendered: tuple[str, str],
        revision: str,
        source: Revision | None,
    ) -> MigrationStep:
        """The step with its SQL for the downgrade and, unless empty, for the upgrade."""
        from_revision, to_revision = ends
        step = MigrationStep(
            from_revision=from_revision,
            to_revision=to_revision,
            downgrade=self._without_records(rendered[0]),
            downgrade_records=self._records(from_revision, to_revision),
            upgrade=self._without_records(rendered[1]) if rendered[1] else None,
            upgrade_records=self._records(to_revision, from_revision),
        )
        return self._checked(context, step, revision, source)

    def _checked(
        self, context: MigrationContext, step: MigrationStep, revision: str, source: Revision | None
    ) -> MigrationStep:
        """The step as Alembic runs it. Alembic itself runs a downgrade that `--sql` does not show in full.

        Raises StepFailed if no command of Alembic does that step alone.
        """
        directory = context.directory(self.directory)
        down, up = (source.unrendered(name, directory) if source else None for name in ("downgrade", "upgrade"))
        text = text_in_sql(step.downgrade or "")
        moves = source is not None and source.changes_schemas(directory)
        reason = (_MOVES if moves else down) or (text and f"the rendered SQL contains text that is no SQL: {text}")
        if reason:
            _require_single_heads((step.from_revision, step.to_revision), revision, reason)
            return step.model_copy(
                update={
                    "downgrade": None,
                    "upgrade": None,
                    "downgrade_command": context.filled(self._command("downgrade", step.to_revision)),
                    "upgrade_command": context.filled(self._command("upgrade", step.from_revision)),
                    "preview": None if text or moves else step.downgrade,
                    "preview_complete": False,
                    "reason": reason,
                }
            )
        notes: list[str] = []
        if down is None:
            notes.append(
                f"cannot read the migration file of {revision}: verify that its downgrade does not depend on "
                "is_offline_mode() or on a connection, whose statements the rendered SQL lacks"
            )
        if step.upgrade is not None and (up or text_in_sql(step.upgrade)):
            notes.append(f"only Alembic can upgrade to {revision} again: {up or 'its upgrade prints text'}")
            step = step.model_copy(update={"upgrade": None})
        if step.upgrade is None and "," not in step.from_revision + step.to_revision:
            command = context.filled(self._command("upgrade", step.from_revision))
            step = step.model_copy(update={"upgrade_command": command})
        return step.model_copy(update={"notes": tuple(notes)})

    async def _history(self, schemas: Schemas, context: MigrationContext) -> dict[str, Revision]:
        """All revisions of the migration files."""
        history = parse_history(await self._output(schemas, context, *self._command("history", "--verbose")))
        labels = {name for revision in history.values() for name in revision.dependencies if name not in history}
        found: dict[str, str] = {}
        for label in sorted(labels):  # of a branch, which stands for the revision that carries it
            output = await self._output(schemas, context, *self._command("show", label))
            found[label] = next(iter(parse_history(output)), label)
        return {name: revision.depends_on_revisions(found) for name, revision in history.items()}

    def _records(self, from_revision: str, to_revision: str) -> tuple[str, ...]:
        """Statements that replace the heads in the version table. They fail if another migration changed them."""
        heads = [] if to_revision == "base" else to_revision.split(",")
        found = f"SELECT string_agg(version_num, ',' ORDER BY version_num COLLATE \"C\") FROM {self.table}"
        expected = "NULL" if from_revision == "base" else literal(from_revision)
        return (
            f"LOCK TABLE {self.table} IN SHARE ROW EXCLUSIVE MODE",
            f"DO $check$ BEGIN IF ({found}) IS DISTINCT FROM {expected} THEN"
            f" RAISE EXCEPTION 'the revision is no longer %', {literal(from_revision)}; END IF; END $check$",
            f"DELETE FROM {self.table}",
            *(f"INSERT INTO {self.table} (version_num) VALUES ({literal(head)})" for head in heads),
        )

    def _without_records(self, sql: str) -> str:
        """The script without the statements on Alembic's version table."""
        table = re.escape(self.table).replace(r"\.", r"\s*\.\s*")
        records = re.compile(rf"(UPDATE|DELETE\s+FROM|INSERT\s+INTO|CREATE\s+TABLE|DROP\s+TABLE)\s+{table}\b", re.I)
        try:
            statements = split_statements(sql)
        except ValueError:  # text between the statements
            return sql
        return ";\n".join(statement for statement in statements if not records.match(statement))

    async def _upgrades(
        self, schemas: Schemas, context: MigrationContext, target: str, heads: list[str]
    ) -> dict[str, str]:
        """The SQL that upgrades to each revision, as far as Alembic can render it."""
        found: dict[str, str] = {}
        for head in heads:
            try:
                output = await self._output(schemas, context, *self._command("upgrade", f"{target}:{head}", "--sql"))
            except StepFailed:
                continue
            for _, (revision,), sql in sections(output, "upgrade"):
                found.setdefault(revision, sql)
        return found

    async def _one_by_one(
        self, schemas: Schemas, context: MigrationContext, current: str, target: str, failures: list[StepFailed]
    ) -> list[MigrationStep]:
        """Steps of one revision each. Alembic runs those that need rows and so cannot be rendered.

        Raises StepFailed if a migration refuses its downgrade: Alembic would commit the ones before it and then fail.
        """
        history = await self._history(schemas, context)
        heads = current.split(",")
        try:
            undone = undone_revisions(history, heads, [] if target == "base" else target.split(","))
        except StepFailed as e:
            raise StepFailed(f"{e}{f': {str(failures[0]).splitlines()[-1]}' if failures else ''}") from None
        steps, from_revision, removed = [], ",".join(sorted(heads)), set[str]()
        for revision in undone:
            removed.add(revision)
            ends = (from_revision, heads_without(history, heads, removed))
            steps.append(await self._single_step(schemas, context, revision, ends, history[revision]))
            from_revision = ends[1]
        if not self.same(from_revision, target):
            raise StepFailed(
                f"the downgrade from {current} to {target} ends at {from_revision}: use that as the target"
            )
        return steps

    async def _single_step(
        self, schemas: Schemas, context: MigrationContext, revision: str, ends: tuple[str, str], source: Revision
    ) -> MigrationStep:
        before = next(iter(source.parents), "base")
        failures: list[StepFailed] = []
        downgrades = await self._downgrades(schemas, context, [revision], before, failures)
        if not failures and revision in downgrades:
            upgrades = await self._upgrades(schemas, context, before, [revision])
            rendered = (downgrades[revision], upgrades.get(revision, ""))
            return self._rendered_step(context, ends, rendered, revision, source)
        error = str(failures[0]) if failures else ""
        if refused := await asyncio.to_thread(refusal, error):
            raise StepFailed(f"revision {revision} cannot be downgraded: {refused}; nothing was changed")
        reason = f"it cannot be rendered as SQL: {error.splitlines()[-1] if error else 'Alembic rendered nothing'}"
        _require_single_heads(ends, revision, reason)
        return MigrationStep(
            from_revision=ends[0],
            to_revision=ends[1],
            downgrade_command=context.filled(self._command("downgrade", ends[1])),
            upgrade_command=context.filled(self._command("upgrade", ends[0])),
            reason=reason,
        )


def _require_single_heads(ends: tuple[str, str], revision: str, reason: str) -> None:
    """Raises StepFailed if there are several heads: no command of Alembic downgrades one revision of them alone."""
    if "," in "".join(ends):
        raise StepFailed(
            f"revision {revision} cannot be downgraded alone: {reason}, and there are several heads; "
            "run alembic downgrade by hand"
        )

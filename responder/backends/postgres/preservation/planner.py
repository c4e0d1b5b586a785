"""Turns the steps of a migration tool into the paths that the responder runs, down and up."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from responder.backends.postgres.catalog import KEEP, PUBLISHED_COPIES, TABLE, Table
from responder.backends.postgres.checks import fingerprint
from responder.backends.postgres.ddl.effects import Statement
from responder.backends.postgres.ddl.parser import parse_script
from responder.backends.postgres.migration_path import Command, MigrationPath
from responder.backends.postgres.migrations.tool import MigrationStep
from responder.backends.postgres.preservation.leftovers import dropped_names, leftovers
from responder.backends.postgres.preservation.preserver import Preserver
from responder.backends.postgres.preservation.script import PreservedScript
from responder.backends.postgres.preservation.side_schema import PREPARE
from responder.backends.postgres.schema_revision import SchemaRevision
from responder.backends.postgres.schemas import Schemas
from responder.backends.postgres.sql import one_line
from responder.errors import StepFailed

_UNVERIFIED = "not verified: the command must pass PGOPTIONS and PGAPPNAME to its driver, else it has no lock_timeout"


@dataclass
class MigrationPlan:
    """The paths of a migration, and what it loses."""

    script: PreservedScript
    down: list[MigrationPath] = field(default_factory=list)
    up: list[MigrationPath] = field(default_factory=list)
    standalone: list[str] = field(default_factory=list)  # statements outside of transactions
    notes: list[str] = field(default_factory=list)  # each statement with its effects
    leftovers: list[str] = field(default_factory=list)  # objects that the downgrade leaves behind


@dataclass
class _Planned:
    """One path down, its reverse, and the tables that it touches: original names by current names."""

    down: MigrationPath
    up: MigrationPath | None
    touched: dict[str, str]

    def followed_by(self, following: _Planned) -> _Planned | None:
        """Both as one transaction; None if one of them is not a single transaction."""
        if not (self.down.one_transaction and following.down.one_transaction):
            return None
        if any(planned.up and planned.up.argv for planned in (self, following)):
            return None
        up = following.up.before(self.up) if following.up and self.up else None
        return _Planned(self.down.before(following.down), up, {**following.touched, **self.touched})


class MigrationPlanner:
    """Plans the steps one after the other. Consecutive transactions become one."""

    def __init__(
        self, schemas: Schemas, resource: SchemaRevision, variables: dict[str, str], *, preserve: bool
    ) -> None:
        self._schemas, self._resource, self._variables = schemas, resource, variables
        self._preserver = Preserver(self._table, self._rows, resource.execution, preserve=preserve)
        # A tool that runs its own command: nothing can be preserved in its transaction.
        self._unpreserved = Preserver(self._table, self._rows, resource.execution, preserve=False)
        self._plan = MigrationPlan(self._preserver.script)
        self._limits: str | None = None  # why the tool's commands cannot run; None: not checked yet

    async def plan(self, steps: list[MigrationStep]) -> MigrationPlan:
        """The plan for these steps. Raises StepFailed if there are none or a script cannot be read."""
        if not steps:
            revision = await self._resource.read(self._schemas)
            raise StepFailed(f"database {self._resource.database} is already at {revision}: nothing to downgrade")
        expected = await fingerprint(self._schemas, self._resource.database)
        steps = await self._with_leftovers(steps)
        planned: list[_Planned] = []
        for step in steps:
            down, up = await (
                self._by_responder(step, step.downgrade) if step.downgrade is not None else self._by_tool(step)
            )
            self._plan.notes += step.notes
            following = _Planned(down, up, self._preserver.take_touched())
            merged = planned[-1].followed_by(following) if planned else None
            planned[-1:] = [merged] if merged else [*planned[-1:], following]
        first = planned[0]
        first.down = first.down.model_copy(update={"expected_fingerprint": expected})
        prepare = await self._prepare_side_schema()
        self._plan.down = [_prepared(p.down, prepare, _locked(p, first=p is first)) for p in planned]
        self._plan.up = [p.up for p in planned if p.up]
        if len(self._plan.up) < len(planned):
            self._plan.notes.append("parts of the migration have no upgrade: a human must run it if it is needed")
        if any(command.preserves for path in self._plan.down for command in path.commands):
            self._plan.script.unknown += [
                f"publication {row['publication']} publishes all tables: subscribers that cannot receive the copies in "
                f"{KEEP} stop replicating"
                for row in await self._rows(PUBLISHED_COPIES)
            ]
        script, unpreserved = self._plan.script, self._unpreserved.script
        script.losses += unpreserved.losses
        script.unknown += unpreserved.unknown
        script.violations += unpreserved.violations
        script.removed += unpreserved.removed
        script.tables |= unpreserved.tables
        return self._plan

    async def _with_leftovers(self, steps: list[MigrationStep]) -> list[MigrationStep]:
        """The steps, which drop the objects that they would leave behind, if so configured."""
        scripts = [step.downgrade if step.downgrade is not None else step.preview or "" for step in steps]
        dropped = dropped_names(s.sql for step, sql in zip(steps, scripts, strict=True) for s in _parsed(sql, step))
        complete = []
        for step in steps:
            upgrade = [statement.sql for statement in _parsed(step.upgrade or "", step)]
            found = await leftovers(self._schemas, self._resource.database, upgrade, dropped)
            name, listed = f"{step.from_revision} → {step.to_revision}", ", ".join(map(str, found))
            if found and self._resource.leftovers == "drop" and step.downgrade is not None:
                self._plan.notes.append(f"{name} leaves {listed} behind: dropped, as `leftovers: drop` says")
                drops = ";\n".join(left.drop for left in found)
                step = step.model_copy(update={"downgrade": f"{step.downgrade}\n;\n{drops}"})
            elif found:
                self._plan.leftovers.append(f"{name} leaves {listed} behind")
                self._plan.notes.append(
                    f"{name} leaves {listed} behind, so the next upgrade fails; `leftovers: drop` drops it"
                )
            complete.append(step)
        return complete

    async def _by_responder(self, step: MigrationStep, sql: str) -> tuple[MigrationPath, MigrationPath | None]:
        """The responder runs the rendered SQL."""
        self._unpreserved.rows_may_change()
        statements = _parsed(sql, step)
        _require_known_schemas(statements, step)
        commands, restore = await self._preserver.preserve(statements)
        self._plan.standalone += [statement.sql for statement in statements if statement.standalone]
        old, new = step.from_revision, step.to_revision
        for statement in statements:
            effects = ", ".join(dict.fromkeys(effect.does for effect in statement.effects))
            self._plan.notes.append(f"{old} → {new}: {one_line(statement.sql)} [{effects}]")
        if not statements and step.upgrade and _parsed(step.upgrade, step):
            self._plan.notes.append(f"{old} → {new}: the downgrade contains no statement, so it reverts nothing")
        records = (*_reset(statements), *_plain(step.downgrade_records))
        down = MigrationPath(from_revision=old, to_revision=new, commands=(*commands, *records))
        if step.upgrade is None:
            return down, await self._upgrade_by_tool(step, restore)
        statements = _parsed(step.upgrade, step)
        upgrade = (*self._preserver.upgrade_commands(statements), *_reset(statements))
        commands_up = (*upgrade, *_plain((*restore, *step.upgrade_records)))
        return down, MigrationPath(from_revision=new, to_revision=old, commands=commands_up)

    async def _upgrade_by_tool(self, step: MigrationStep, restore: list[str]) -> MigrationPath | None:
        """The tool upgrades again, and the responder restores the data. None if the tool cannot."""
        if not step.upgrade_command:
            return None
        try:
            await self._require_limits()
        except StepFailed as e:
            self._plan.notes.append(f"{' '.join(step.upgrade_command)} cannot revert the downgrade: {e}")
            return None
        return MigrationPath(
            from_revision=step.to_revision,
            to_revision=step.from_revision,
            argv=step.upgrade_command,
            directory=self._directory,
            commands=_plain(restore),
        )

    @property
    def _directory(self) -> str:
        resource = self._resource
        return str(resource.context(self._variables).directory(resource.tool.directory) or "")

    async def _by_tool(self, step: MigrationStep) -> tuple[MigrationPath, MigrationPath | None]:
        """The tool runs its command in its own session."""
        old, new, command = step.from_revision, step.to_revision, " ".join(step.downgrade_command)
        self._plan.notes.append(f"{old} → {new}: {command} ({step.reason or 'run by the tool'})")
        script = self._unpreserved.script
        self._preserver.rows_may_change()
        if step.preview is None or not step.preview_complete:
            self._unpreserved.rows_may_change()
        known = len(script.losses)
        if step.preview is None:
            script.unknown.append(f"the losses of {command} are unknown")
        else:
            for statement in _parsed(step.preview, step):
                self._plan.notes.append(f"{old} → {new}: {one_line(statement.sql)}")
                await self._unpreserved.preserve((statement,))
        if not step.preview_complete:
            script.unknown.append(f"{old} runs Python, whose effect on rows is unknown")
        await self._require_limits()
        losses = [loss.description for loss in script.losses[known:]]
        if step.preview is None or not step.preview_complete:
            losses.append("an unknown amount of data")
        down = MigrationPath(
            from_revision=old,
            to_revision=new,
            argv=step.downgrade_command,
            directory=self._directory,
            destroys="; ".join(losses),
        )
        if not step.upgrade_command:
            return down, None
        return down, MigrationPath(
            from_revision=new, to_revision=old, argv=step.upgrade_command, directory=self._directory
        )

    async def _require_limits(self) -> None:
        """Raises StepFailed if the tool's driver ignores `lock_timeout` and the name of the session."""
        if self._limits is None:
            context, self._limits = self._resource.context(self._variables), ""
            try:
                verified = await self._resource.tool.obeys_limits(self._schemas, context)
            except StepFailed as e:
                verified, self._limits = True, str(e)
            if not verified:
                self._plan.notes.append(_UNVERIFIED)
        if self._limits:
            raise StepFailed(self._limits)

    async def _rows(self, sql: str) -> list[dict[str, Any]]:
        return await self._schemas.rows(self._resource.database, sql)

    async def _table(self, name: str, columns: tuple[str, ...] | None) -> Table | None:
        parameter = None if columns is None else list(columns)
        rows = await self._schemas.rows(self._resource.database, TABLE, name, parameter)
        if not rows:
            return None
        row = rows[0]
        if not row["owned"]:
            raise StepFailed(f"table {name} belongs to another role: the role of the database cannot change it")
        with_columns = {
            key: tuple((table, tuple(names)) for table, names in json.loads(row[key]))
            for key in ("updated_with", "cleared")
        }
        lists = {key: tuple(row[key]) for key in ("key", "triggers", "children", "cascaded", "truncated")}
        return Table(
            schema_name=row["schema"],
            views=tuple(tuple(view.rsplit("|", 1)) for view in row["views"]),
            columns=tuple(json.loads(row["columns"])),
            **with_columns,
            **lists,
            **{key: row[key] for key in ("name", "kind", "owned", "inherits")},
        )

    async def _prepare_side_schema(self) -> tuple[Command, ...]:
        """Commands that create the side schema. A role without the privilege can use an existing one."""
        privilege = "has_database_privilege(current_database(), 'CREATE') AS allowed"
        (row,) = await self._rows(f"SELECT to_regnamespace('{KEEP}') IS NOT NULL AS present, {privilege}")
        present, allowed = row["present"], row["allowed"]
        if not present and not allowed and any(c.preserves for c in self._plan.script.commands):
            raise StepFailed(
                f"the role of database {self._resource.database} cannot create the schema {KEEP}: grant CREATE, or "
                "create the schema"
            )
        create = () if present else (f"CREATE SCHEMA IF NOT EXISTS {KEEP}",)
        return tuple(Command(sql=sql, preserves=True) for sql in (*create, PREPARE))


def _locked(planned: _Planned, *, first: bool) -> set[str]:
    """The tables to lock at the start. After the first path only those that kept their names: others may not exist."""
    return {original for current, original in planned.touched.items() if first or current == original}


def _prepared(path: MigrationPath, prepare: tuple[Command, ...], tables: set[str]) -> MigrationPath:
    if not any(command.preserves for command in path.commands):
        return path
    lock = f"LOCK TABLE {', '.join(sorted(tables))} IN SHARE ROW EXCLUSIVE MODE"
    locks = (Command(sql=lock, preserves=True),) if tables else ()
    return path.model_copy(update={"commands": (*prepare, *locks, *path.commands)})


def _plain(statements: Iterable[str]) -> tuple[Command, ...]:
    return tuple(Command(sql=sql) for sql in statements)


def _reset(statements: Iterable[Statement]) -> tuple[Command, ...]:
    """Restores the search path of the session, so that the next statements find their tables."""
    return _plain(["RESET search_path"] if any(statement.sets_search_path for statement in statements) else [])


def _require_known_schemas(statements: Iterable[Statement], step: MigrationStep) -> None:
    """Raises StepFailed if names without a schema are not those that the plan reads."""
    for statement in statements:
        if statement.sets_search_path and statement.effects[0].to not in ("", "public", "$user,public", "DEFAULT"):
            raise StepFailed(
                f"the migration from {step.from_revision} to {step.to_revision} contains {one_line(statement.sql)}: "
                "the plan cannot tell which tables it changes; write the schema in their names"
            )


def _parsed(script: str, step: MigrationStep) -> tuple[Statement, ...]:
    try:
        return parse_script(script)
    except ValueError as e:
        raise StepFailed(f"cannot read the migration from {step.from_revision} to {step.to_revision}: {e}") from e

"""Downgrades a database to an older revision. The plan shows every statement and every loss."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from foundation.durations import Duration, format_duration
from responder.backends.postgres.catalog import BLOCKERS, EVENT_TRIGGERS, FOLLOWERS, KEEP
from responder.backends.postgres.checks import Intact, IntactCheck, fingerprint, invalid_objects
from responder.backends.postgres.migration_path import MigrationPath
from responder.backends.postgres.migrations.pgroll import Pgroll, active_pgroll_migration
from responder.backends.postgres.preservation.planner import MigrationPlan, MigrationPlanner
from responder.backends.postgres.preservation.script import PreservedScript
from responder.backends.postgres.readers import reader_notes
from responder.backends.postgres.schema_revision import SchemaRevision
from responder.backends.postgres.schemas import Schemas
from responder.backends.postgres.snapshots.resource import Snapshot
from responder.backends.postgres.sql import one_line, shortened, without_literals
from responder.backends.registries import AnyCheck
from responder.errors import Drift, StepFailed
from responder.rollback.gateway import Gateway
from responder.rollback.plan import Change, Gate, Step, StrategyPlan
from responder.rollback.strategies.strategy import Strategy, read_expecting, value_of
from responder.rollback.version_change import VersionChange


class DatabaseMigration(Strategy):
    """Downgrades a database with its migration tool after the application: snapshot, downgrade, verification."""

    strategy: Literal["database_migration"] = "database_migration"
    migrations: SchemaRevision = Field(description="The database and its migration tool")
    target_migration: str | None = Field(
        default=None,
        description="Target revision; default: that of the target version",
    )
    snapshot: Snapshot | None = Field(default=None, description="Snapshot to take and verify before the first change")
    snapshot_tables: tuple[str, ...] = Field(
        default=(), description="Short form of `snapshot.tables`, with `backup_location`"
    )
    backup_location: str | None = Field(default=None, description="Short form of `snapshot.store`")
    preserve_data: bool = Field(
        default=True,
        description="Copy data that the migration destroys to the schema rollback_keep",
    )
    approval: Literal["loss", "always", "never"] = Field(
        default="loss", description="When approval is required; `loss`: if data may be lost"
    )
    loses_at_most: int | None = Field(
        default=None,
        ge=0,
        description="Values and rows that may leave the live tables; above it the rollback freezes and pages",
    )
    count_within: Duration = Field(default=10.0, gt=0, description="Timeout of one count")
    long_transaction: Duration = Field(
        default=30.0, description="Age of a transaction on the tables from which the rollback fails"
    )
    application: tuple[AnyCheck, ...] = Field(
        default=(),
        description="Checks that the application runs the target version, before the schema changes",
    )
    application_within: Duration = Field(default=60.0, description="Timeout of the checks of `application`")
    schema_first: str = Field(default="", description="Reason why the schema must change before the application")
    smoke: tuple[AnyCheck, ...] = Field(
        default=(), description="Checks after the downgrade; if one fails, the schema is upgraded again"
    )

    @model_validator(mode="before")
    @classmethod
    def _expand_short_form(cls, fields: Any) -> Any:
        if not isinstance(fields, dict) or "backup_location" not in fields or "snapshot" in fields:
            return fields
        migrations = fields.get("migrations")
        database = migrations.get("database") if isinstance(migrations, dict) else getattr(migrations, "database", "")
        short = {"database": database, "store": fields["backup_location"], "tables": fields.get("snapshot_tables", ())}
        return {**fields, "snapshot": short}

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.snapshot_tables and self.snapshot is None:
            raise ValueError("snapshot_tables: requires backup_location")
        if self.snapshot is not None and self.snapshot.database != self.migrations.database:
            raise ValueError(
                f"snapshot: database is {self.snapshot.database}, expected {self.migrations.database} as in migrations"
            )
        if self.application and self.schema_first:
            raise ValueError("schema_first: cannot be combined with application")
        if isinstance(self.migrations.tool, Pgroll) and self.snapshot_tables:
            raise ValueError("snapshot_tables: not needed with pgroll, which loses nothing while both schemas exist")
        return self

    async def plan(self, gateway: Gateway, target: VersionChange) -> StrategyPlan:
        resource = self.migrations.model_copy(update={"execution": target.execution})
        before = str(await read_expecting(gateway, resource, target))
        of_version, _ = await value_of(gateway, resource, target)
        after = str(self.target_migration or of_version)
        variables = {
            "version": target.from_version,
            "to_version": target.to_version,
            "artifact": _image_of(target.from_artifact),
        }

        async def plan_migration(schemas: Schemas) -> MigrationPlan:
            await _require_no_pgroll(schemas, resource)
            await _require_reported_schema(schemas, resource, target)
            steps = await resource.steps(schemas, variables, before, after)
            return await MigrationPlanner(schemas, resource, variables, preserve=self.preserve_data).plan(steps)

        migration = await gateway.ask(resource, plan_migration)
        if migration.leftovers and resource.leftovers is None and _fingerprint_of(target.artifact):
            raise StepFailed(
                f"{'; '.join(migration.leftovers)}, but {target.to_version} was reported with a fingerprint: set "
                "`leftovers: drop` if it was reported without them, else `leftovers: keep`; nothing was changed"
            )
        migration.down = [self._with_recovery(path, target.execution) for path in migration.down]
        notes = await gateway.ask(resource, lambda schemas: self._notes(schemas, resource, migration))
        resource = resource.model_copy(update={"paths": (*migration.down, *migration.up)})
        steps: list[Step] = []
        if self.application:
            steps.append(Gate(name="application rolled back", checks=self.application, within=self.application_within))
        if self.snapshot is not None:
            snapshot = self.snapshot.planned(target.execution)
            notes += await gateway.ask(snapshot, lambda snapshots: snapshot.preflight(snapshots, snapshot.key))
            steps.append(Change(resource=snapshot, before=None, after=snapshot.key, one_way=True))
        elif lossy := [path.name for path in migration.down if path.destroys]:
            notes += (
                f"{', '.join(lossy)}: no snapshot is configured, so data that the tool destroys cannot be recovered",
            )
        if losses := self._require_approval(migration):
            notes = (f"approval required: {losses}", *notes)
        for path in migration.down:
            ends = {"before": path.from_revision, "after": path.to_revision}
            steps.append(Change(resource=resource, **ends, irreversible=losses, every=0.2))
            losses = ""
        problems = await gateway.ask(resource, lambda schemas: invalid_objects(schemas, resource.database))
        expected = Intact(
            database=resource.database, fingerprint=_fingerprint_of(target.artifact), known_problems=tuple(problems)
        )
        checks: tuple[AnyCheck, ...] = (IntactCheck(intact=expected), *self.smoke)
        steps.append(Gate(name=f"schema of {resource.database} at {after}", checks=checks, within=30.0))
        return StrategyPlan(steps=tuple(steps), notes=notes)

    def _with_recovery(self, path: MigrationPath, execution: str) -> MigrationPath:
        if not path.destroys or self.snapshot is None:
            return path
        snapshot = self.snapshot.planned(execution)
        key = snapshot.describe(snapshot.key)
        copy = f"copied to snapshot {key} in {snapshot.store}: responder snapshots restore {key}"
        return path.model_copy(update={"destroys": f"{path.destroys} ({copy})"})

    def _require_approval(self, migration: MigrationPlan) -> str:
        """What the approval is for; empty if none is required."""
        if self.approval == "never":
            return ""
        script = migration.script
        reasons = [f"{loss.description}{f' (preserved in {KEEP})' if loss.preserved else ''}" for loss in script.losses]
        reasons += [f"runs outside of a transaction: {one_line(sql)}" for sql in migration.standalone]
        reasons += script.unknown
        always = "database downgrade" if self.approval == "always" else ""
        return "; ".join(dict.fromkeys(reasons)) or always

    async def _notes(self, schemas: Schemas, resource: SchemaRevision, migration: MigrationPlan) -> tuple[str, ...]:
        """Notes for the approver. Raises StepFailed and Drift if something prevents the change now."""
        database, script = resource.database, migration.script
        notes = [*migration.notes, *script.notes, *await self._loss_notes(schemas, database, script)]
        for violation in script.violations:
            if count := await self._count(schemas, database, violation.count_sql):
                raise StepFailed(f"{violation.refusal(count)}: PostgreSQL would reject it; correct the data first")
        notes += await reader_notes(schemas, database, script.removed)
        notes += await self._lock_notes(schemas, database, sorted(script.tables))
        notes += [
            f"{row['follower']} receives the change too and is not reverted by the responder"
            for row in await schemas.rows(database, FOLLOWERS)
        ]
        notes += [
            f"event trigger {row['trigger']} fires for the statements of the responder, which are not those of the tool"
            for row in await schemas.rows(database, EVENT_TRIGGERS)
        ]
        if self.schema_first:
            notes.append(f"the schema changes before the application: {self.schema_first}")
        elif not self.application:
            notes.append("no check shows that the application was rolled back: verify it before you approve")
        return tuple(notes)

    async def _loss_notes(self, schemas: Schemas, database: str, script: PreservedScript) -> list[str]:
        """Each loss with its size. Raises Drift if there are more than `loses_at_most`."""
        notes, total, uncounted = [], 0, list(script.unknown)
        for loss in script.losses:
            count = await self._count(schemas, database, loss.count_sql)
            total, uncounted = total + (count or 0), uncounted + ([] if count is not None else [loss.description])
            fate = f"preserved in {KEEP}" if loss.preserved else "LOST"
            manual = (
                ", cannot be restored automatically without a key" if loss.preserved and not loss.restorable else ""
            )
            notes.append(f"{loss.description}: {loss.size(count)}, {fate}{manual}")
        if self.loses_at_most is not None and total > self.loses_at_most:
            raise Drift(
                f"{total} values and rows would leave the live tables, but loses_at_most is {self.loses_at_most}"
            )
        if self.loses_at_most is not None and uncounted:
            raise Drift(f"the size of the loss is unknown: {'; '.join(uncounted)}")
        return notes

    async def _count(self, schemas: Schemas, database: str, sql: str) -> int | None:
        if not sql:
            return None
        try:
            return int(next(iter((await schemas.rows(database, sql, within=self.count_within))[0].values())) or 0)
        except StepFailed:  # a timeout, or the query needs the earlier statements of the migration
            return None

    async def _lock_notes(self, schemas: Schemas, database: str, tables: Sequence[str]) -> list[str]:
        """Sessions that hold or wait for the tables. Raises StepFailed for a transaction older than the limit."""
        notes = []
        for row in await schemas.rows(database, BLOCKERS, list(tables), float(self.long_transaction)):
            age = f" for {format_duration(round(row['age']))}" if row["age"] else ""
            session = f"process {row['pid']} (role {row['role']}, application {row['application'] or 'unnamed'})"
            if row["pid"] is None:
                session = f"prepared transaction {row['application']} (role {row['role']})"
            query = shortened(without_literals(row["query"]))
            blocker = f"{session} holds or waits for {row['relation']}{age}, {row['state']}: {query}"
            if row["age"] and row["age"] >= self.long_transaction:
                raise StepFailed(f"{blocker}; it blocks the locks of the migration: end it or wait")
            notes.append(blocker)
        return notes


async def _require_no_pgroll(schemas: Schemas, resource: SchemaRevision) -> None:
    """Raises StepFailed if pgroll has an active migration and another tool is configured."""
    if isinstance(resource.tool, Pgroll):
        return
    if name := await active_pgroll_migration(schemas, resource.database):
        raise StepFailed(
            f"pgroll has started {name} in {resource.database}: complete it, or configure the migration tool `pgroll`"
        )


async def _require_reported_schema(schemas: Schemas, resource: SchemaRevision, target: VersionChange) -> None:
    """Raises StepFailed if the schema differs from the one that was reported with the deployment."""
    expected = _fingerprint_of(target.from_artifact)
    if expected and (found := await fingerprint(schemas, resource.database)) != expected:
        raise StepFailed(
            f"the schema of {resource.database} is schema:{found}, but {target.from_version} was reported with "
            f"schema:{expected}: it was changed by hand; nothing was changed"
        )


def _fingerprint_of(artifact: str) -> str:
    """The fingerprint in an artifact such as `image@sha256:… schema:1f…`; empty if there is none."""
    found = re.search(r"(?:^|\s)schema:([0-9a-f]{32})(?:\s|$)", artifact)
    return found[1] if found else ""


def _image_of(artifact: str) -> str:
    return " ".join(word for word in artifact.split() if not word.startswith("schema:"))

"""Takes a database back to an older revision: read before it runs, with nothing lost that is not said beforehand."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from foundation.durations import Duration, format_duration
from responder.backends.postgres.catalog import BLOCKERS, FOLLOWERS, KEEP
from responder.backends.postgres.checks import Intact, IntactCheck, fingerprint, unsound
from responder.backends.postgres.migrations import started_by_pgroll
from responder.backends.postgres.preservation.reading import Reader, Reading
from responder.backends.postgres.schema_revision import SchemaRevision, Way
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
    """Goes back by the migration tool's own way, once the application has: a snapshot, the downgrade, and a look."""

    strategy: Literal["database_migration"] = "database_migration"
    migrations: SchemaRevision = Field(description="The database, and the tool that brought it where it is")
    target_migration: str | None = Field(
        default=None, description="The revision to go back to, whatever the version; else the version names it"
    )
    snapshot: Snapshot | None = Field(default=None, description="Taken and verified before anything is touched")
    snapshot_tables: tuple[str, ...] = Field(
        default=(), description="Short for `snapshot.tables`, with `backup_location`: only the rows of these"
    )
    backup_location: str | None = Field(
        default=None, description="Short for `snapshot`: name of one of `snapshots`, where it is kept"
    )
    preserve_data: bool = Field(
        default=True, description="Keep in the schema rollback_keep what the migration destroys, in its own transaction"
    )
    approval: Literal["loss", "always", "never"] = Field(
        default="loss", description="When somebody has to consent: where it is not sure that nothing is lost"
    )
    loses_at_most: int | None = Field(
        default=None, ge=0, description="Freeze and page where more values or rows than these would leave the tables"
    )
    count_within: Duration = Field(default=10.0, gt=0, description="Longest time to count one of them")
    long_transaction: Duration = Field(
        default=30.0, description="Nothing is begun while a transaction older than this holds one of the tables"
    )
    application: tuple[AnyCheck, ...] = Field(
        default=(), description="What shows that the application has gone back; must hold before the schema does"
    )
    application_within: Duration = Field(default=60.0, description="Deadline for it")
    schema_first: str = Field(
        default="", description="Why the schema goes back before the application does, where it has to"
    )
    smoke: tuple[AnyCheck, ...] = Field(
        default=(), description="Must hold right after; else the schema goes forward again"
    )

    @model_validator(mode="before")
    @classmethod
    def _snapshot_in_short(cls, fields: Any) -> Any:
        if not isinstance(fields, dict) or "backup_location" not in fields or "snapshot" in fields:
            return fields
        migrations = fields.get("migrations")
        database = migrations.get("database") if isinstance(migrations, dict) else getattr(migrations, "database", "")
        short = {"database": database, "store": fields["backup_location"], "tables": fields.get("snapshot_tables", ())}
        return {**fields, "snapshot": short}

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.snapshot_tables and self.snapshot is None:
            raise ValueError("snapshot_tables: needs backup_location as well")
        if self.snapshot is not None and self.snapshot.database != self.migrations.database:
            raise ValueError(f"snapshot: is of {self.snapshot.database}, not of {self.migrations.database}")
        if self.application and self.schema_first:
            raise ValueError("schema_first: the schema cannot wait for the application and go first")
        if self.migrations.pgroll is not None and self.snapshot_tables:
            raise ValueError("snapshot_tables: pgroll loses nothing while both of its schemas live")
        return self

    async def plan(self, gateway: Gateway, target: VersionChange) -> StrategyPlan:
        resource = self.migrations.model_copy(update={"mark": target.execution})
        before = str(await read_expecting(gateway, resource, target))
        named, _ = await value_of(gateway, resource, target)
        to = str(self.target_migration or named)
        variables = {
            "version": target.from_version,
            "to_version": target.to_version,
            "artifact": _image_of(target.from_artifact),
        }

        async def look(schemas: Schemas) -> Reading:
            if resource.pgroll is None and (name := await started_by_pgroll(schemas, resource.database)):
                raise StepFailed(
                    f"pgroll has started {name} in {resource.database}: complete it, or go back with `pgroll:`"
                )
            await self._as_told(schemas, resource, target)
            stages = await resource.stages(schemas, variables, before, to)
            return await Reader(schemas, resource, variables, preserve=self.preserve_data).read(stages)

        reading = await gateway.ask(resource, look)
        reading.there = [self._with_recovery(way, target.execution) for way in reading.there]
        notes = await gateway.ask(resource, lambda schemas: self._notes(schemas, resource, reading))
        resource = resource.model_copy(update={"ways": (*reading.there, *reading.back)})
        steps: list[Step] = []
        if self.application:
            steps.append(
                Gate(name="the application has gone back", checks=self.application, within=self.application_within)
            )
        if self.snapshot is not None:
            snapshot = self.snapshot.planned(target.execution)
            notes += await gateway.ask(snapshot, lambda snapshots: snapshot.preflight(snapshots, snapshot.key))
            steps.append(Change(resource=snapshot, before=None, after=snapshot.key, one_way=True))
        elif alone := [way.name for way in reading.there if way.loses]:
            notes += (f"{', '.join(alone)}: no snapshot is configured, so what the tool destroys cannot be recovered",)
        if consent := self._consent(reading):
            notes = (f"somebody has to consent to it: {consent}", *notes)
        for way in reading.there:
            steps.append(Change(resource=resource, before=way.was, after=way.to, irreversible=consent, every=0.2))
            consent = ""
        whole = await gateway.ask(resource, lambda schemas: unsound(schemas, resource.database))
        told_of = Intact(
            database=resource.database, fingerprint=_fingerprint_of(target.artifact), apart_from=tuple(whole)
        )
        checks: tuple[AnyCheck, ...] = (IntactCheck(intact=told_of), *self.smoke)
        steps.append(Gate(name=f"the schema of {resource.database} is that of {to}", checks=checks, within=30.0))
        return StrategyPlan(steps=tuple(steps), notes=notes)

    def _with_recovery(self, way: Way, execution: str) -> Way:
        if not way.loses or self.snapshot is None:
            return way
        snapshot = self.snapshot.planned(execution)
        copy = (
            f"its copy is the snapshot {snapshot.key} in {snapshot.store}: responder snapshots restore {snapshot.key}"
        )
        return way.model_copy(update={"loses": f"{way.loses} ({copy})"})

    async def _as_told(self, schemas: Schemas, resource: SchemaRevision, target: VersionChange) -> None:
        expected = _fingerprint_of(target.from_artifact)
        if expected and (found := await fingerprint(schemas, resource.database)) != expected:
            raise StepFailed(
                f"the schema of {resource.database} is schema:{found}, but {target.from_version} was told with "
                f"schema:{expected}: somebody changed it by hand; nothing was touched"
            )

    def _consent(self, reading: Reading) -> str:
        """What somebody has to consent to; empty where nothing can be lost."""
        if self.approval == "never":
            return ""
        kept = reading.kept
        reasons = [f"{loss.what}{f' (kept in {KEEP})' if loss.kept else ''}" for loss in kept.losses]
        reasons += [f"runs outside of a transaction: {one_line(sql)}" for sql in reading.alone]
        reasons += kept.unknown
        return "; ".join(dict.fromkeys(reasons)) or ("a database goes back" if self.approval == "always" else "")

    async def _notes(self, schemas: Schemas, resource: SchemaRevision, reading: Reading) -> tuple[str, ...]:
        """What people should know before they consent. Raises Halt where something is in the way now."""
        database, kept = resource.database, reading.kept
        notes = [*reading.lines, *kept.notes]
        total, uncounted = 0, list(kept.unknown)
        for loss in kept.losses:
            count = await self._count(schemas, database, loss.count)
            total, uncounted = total + (count or 0), uncounted + ([] if count is not None else [loss.what])
            number = "not counted" if count is None else f"{count} now"
            where = f"kept in {KEEP}" if loss.kept else "LOST"
            returns = "" if not loss.kept or loss.returns else ", and cannot be put back by itself: there is no key"
            notes.append(f"{loss.what}: {number}, {where}{returns}")
        if self.loses_at_most is not None and (total > self.loses_at_most or uncounted):
            why = f"{total} values and rows would leave the tables, at most {self.loses_at_most} may"
            raise Drift(
                why if total > self.loses_at_most else f"it is not known how much is lost: {'; '.join(uncounted)}"
            )
        await self._in_the_way(schemas, database, sorted(kept.tables), notes)
        notes += [
            f"{row['what']} sees the change as well, and is not turned back by us"
            for row in await schemas.rows(database, FOLLOWERS)
        ]
        if not self.application:
            notes.append(
                f"the schema goes first: {self.schema_first}"
                if self.schema_first
                else "nothing is configured that shows that the application has gone back: see to it that it has"
            )
        return tuple(notes)

    async def _count(self, schemas: Schemas, database: str, sql: str) -> int | None:
        if not sql:
            return None
        try:
            return int(next(iter((await schemas.rows(database, sql, within=self.count_within))[0].values())) or 0)
        except StepFailed:  # it took too long, or cannot be asked before the statements that come before it have run
            return None

    async def _in_the_way(self, schemas: Schemas, database: str, tables: Sequence[str], notes: list[str]) -> None:
        for row in await schemas.rows(database, BLOCKERS, list(tables), float(self.long_transaction)):
            age = f" for {format_duration(round(row['age']))}" if row["age"] else ""
            who = f"process {row['pid']} ({row['who']}, {row['application'] or 'no name'})"
            query = shortened(without_literals(row["query"]))
            blocker = f"{who} holds or wants {row['relation']}{age}, {row['state']}: {query}"
            if row["age"] and row["age"] >= self.long_transaction:
                raise StepFailed(f"{blocker}; no lock is to be had behind it, so end it or wait")
            notes.append(blocker)


def _fingerprint_of(artifact: str) -> str:
    """A deployment may be told with the schema that it made, as `--artifact "image@sha256:… schema:1f…"`."""
    found = re.search(r"(?:^|\s)schema:([0-9a-f]{32})(?:\s|$)", artifact)
    return found[1] if found else ""


def _image_of(artifact: str) -> str:
    return " ".join(word for word in artifact.split() if not word.startswith("schema:"))

"""The revision of a database's schema: changed whole or not at all, or else frozen with what is left to do."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from foundation.durations import Duration
from responder.backends.postgres.access import role_problems
from responder.backends.postgres.checks import fingerprint
from responder.backends.postgres.migrations import (
    Alembic,
    Django,
    MigrationContext,
    OwnCommand,
    Pgroll,
    SqlFiles,
    Stage,
    Tool,
)
from responder.backends.postgres.schemas import Schemas
from responder.backends.postgres.script_runs import Limits, Part
from responder.backends.postgres.sql import repeatable
from responder.backends.problems import Problem
from responder.backends.resource import Resource
from responder.errors import Drift, StepFailed

_TOOLS = ("alembic", "django", "sql", "command", "pgroll")


class Command(BaseModel):
    """One statement that will be run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sql: str
    alone: bool = False  # cannot be in a transaction
    index: str = ""  # that it builds concurrently
    keeps: bool = False  # ours: it keeps what a later one destroys


class Way(BaseModel):
    """From one revision to another: by statements that are written down here, or by the tool itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    was: str
    to: str
    commands: tuple[Command, ...] = ()
    argv: tuple[str, ...] = ()
    directory: str = ""
    loses: str = ""  # what a tool that runs by itself destroys, and where a copy is
    expects: str = ""  # the fingerprint of the schema that it was planned for

    @property
    def name(self) -> str:
        return f"{self.was} → {self.to}"

    @property
    def parts(self) -> tuple[Part, ...]:
        """What is between two statements that stand alone is one transaction."""
        parts: list[Part] = []
        together: list[str] = []
        for command in self.commands:
            if not command.alone:
                together.append(command.sql)
                continue
            if together:
                parts.append(Part(statements=tuple(together)))
                together = []
            parts.append(Part(statements=(repeatable(command.sql),), alone=True, builds_index=command.index))
        return (*parts, Part(statements=tuple(together))) if together else tuple(parts)


class SchemaRevision(Resource[Schemas, JsonValue]):
    """The revision that a migration tool has brought a database to. A version of the service is one of them."""

    resource: Literal["schema_revision"] = "schema_revision"
    database: str = Field(min_length=1, description="Name of one of `databases`")
    alembic: Alembic | None = Field(default=None, description="Migrations by Alembic")
    django: Django | None = Field(default=None, description="Migrations by Django")
    sql: SqlFiles | None = Field(default=None, description="Migrations in plain SQL files")
    command: OwnCommand | None = Field(default=None, description="Migrations by a command of one's own")
    pgroll: Pgroll | None = Field(default=None, description="Migrations by pgroll")
    revisions: dict[str, str] = Field(
        default_factory=dict, description="The revision of a version, where it is not the version itself"
    )
    lock_timeout: Duration = Field(default=2.0, gt=0, description="Longest wait for a lock; others queue up behind it")
    statement_timeout: Duration = Field(default=300.0, gt=0, description="Longest time for one statement")
    attempts: int = Field(default=10, ge=1, description="Tries of a transaction that did not get its locks")
    within: Duration = Field(
        default=900.0, gt=0, description="Longest time for one change of the schema, tries included"
    )
    mark: str = Field(default="", description="Set by the responder: the execution, for sessions and kept data")
    ways: tuple[Way, ...] = Field(default=(), description="Set by the responder: what it runs, there and back")

    @model_validator(mode="after")
    def _has_one_tool(self) -> Self:
        if sum(getattr(self, name) is not None for name in _TOOLS) != 1:
            raise ValueError(f"needs exactly one of {', '.join(_TOOLS)}")
        return self

    @property
    def tool(self) -> Tool:
        tools: tuple[Tool | None, ...] = (self.alembic, self.django, self.sql, self.command, self.pgroll)
        return next(tool for tool in tools if tool is not None)

    @property
    def timeout(self) -> float:
        return self.within + 30.0

    @property
    def limits(self) -> Limits:
        return Limits(lock_timeout=self.lock_timeout, statement_timeout=self.statement_timeout, attempts=self.attempts)

    @property
    def application(self) -> str:
        return f"rollback:{self.mark}"

    async def read(self, schemas: Schemas) -> JsonValue:
        return await self.tool.revision(schemas, self.database)

    def same(self, found: JsonValue, value: JsonValue) -> bool:
        return isinstance(found, str) and isinstance(value, str) and self.tool.same(found, value)

    async def runs(self, schemas: Schemas, found: JsonValue, version: str, artifact: str) -> bool:
        return self.same(found, self.revisions.get(version, version))

    async def value_of(self, schemas: Schemas, version: str, artifact: str) -> JsonValue:
        return self.revisions.get(version, version)

    async def converged(self, schemas: Schemas, value: JsonValue) -> bool:
        """Not while a session of ours is still at work, or a script was left half way."""
        if not self.same(await self.read(schemas), value):
            return False
        if not self.mark:
            return True
        return not (
            await schemas.sessions(self.database, self.application)
            or await schemas.unfinished(self.database, self.mark)
        )

    async def stages(self, schemas: Schemas, variables: dict[str, str], now: str, target: str) -> list[Stage]:
        """The way back, one revision after the other."""
        return await self.tool.stages(schemas, self.context(variables), now, target)

    def context(self, variables: dict[str, str]) -> MigrationContext:
        return MigrationContext(
            database=self.database, mark=self.mark, limits=self.limits, within=self.within, variables=variables
        )

    async def check_access(self, schemas: Schemas) -> list[Problem]:
        revision = str(await self.read(schemas))
        version = next((known for known, named in self.revisions.items() if named == revision), revision)
        context = self.context({"version": version, "to_version": version, "artifact": ""})
        return [*await role_problems(schemas, self.database), *await self.tool.problems(schemas, context, revision)]

    async def write(self, schemas: Schemas, value: JsonValue, *, expected: JsonValue) -> None:
        # What an earlier try of ours left in the server may still commit: only without it what is read stays true.
        await schemas.evict(self.database, self.application)
        self.must_be(found := await self.read(schemas), expected, value)
        half = await schemas.unfinished(self.database, self.mark)
        if self.same(found, value) and not half:
            return
        way = next(
            (
                candidate
                for candidate in self.ways
                if self.same(candidate.was, expected) and self.same(candidate.to, value)
            ),
            None,
        )
        if way is None or (half and not half[0].startswith(f"{way.name}:")):
            left = f"; {half[0]} are done" if half else ""
            raise StepFailed(
                f"there is no way written down from {expected} to {value}{left}: {self._by_hand(str(value))}"
            )
        before = await fingerprint(schemas, self.database)
        if way.expects and not half and before != way.expects:
            raise Drift(f"the schema of {self.database} was changed since this was planned, and not by a migration")
        try:
            await self._go(schemas, way)
        except StepFailed as e:
            raise await self._what_became(schemas, way, before, e) from e
        if not self.same(found := await self.read(schemas), value):
            raise await self._what_became(schemas, way, before, StepFailed(f"the tool ended well, but left {found}"))

    async def _go(self, schemas: Schemas, way: Way) -> None:
        if way.commands:
            await schemas.run(self.database, self.mark, way.name, way.parts, self.limits, self.application)
            return
        await schemas.tool(
            self.database,
            way.argv,
            mark=self.application,
            limits=self.limits,
            within=self.within,
            cwd=self.context({}).directory(way.directory),
            changes=True,
        )

    async def _what_became(self, schemas: Schemas, way: Way, before: str, why: StepFailed) -> StepFailed:
        """Says after a failure where the schema is now: as before, or half way, which nobody but a human can judge."""
        await schemas.evict(self.database, self.application)
        found, half = await self.read(schemas), await schemas.unfinished(self.database, self.mark)
        as_before = self.same(found, way.was) and await fingerprint(schemas, self.database) == before
        if as_before and all(": 0 of " in step for step in half):
            if half:
                await schemas.forget(self.database, self.mark)
            earlier = self._committed_before(way)
            left = f"{way.name} changed nothing, but {earlier}" if earlier else "nothing was left behind"
            return StepFailed(f"{why}; {left}: revision {found} and the schema are as before")
        detail = f"{half[0]} are done" if half else f"the revision is {found}"
        detail += f"; {way.name} may have destroyed {way.loses}" if way.loses else ""
        detail += f"; {earlier}" if (earlier := self._committed_before(way)) else ""
        where = f"the schema of {self.database} is half way from {way.name}: {detail}"
        return Drift(f"{why}; {where}. {self._by_hand(way.to, way, half)}")

    def _committed_before(self, way: Way) -> str:
        """The steps that lead to this one, which are committed by then, and what they have destroyed."""
        earlier: list[Way] = []
        for step in self.ways:
            if way.was == (earlier[-1].to if earlier else self.ways[0].was):
                break
            earlier.append(step)
        sentences = [
            f"{step.name} is committed{f', which destroyed {step.loses}' if step.loses else ''}" for step in earlier
        ]
        return "; ".join(sentences)

    def _by_hand(self, to: str, way: Way | None = None, half: list[str] | None = None) -> str:
        """What a human can do."""
        if way and way.commands and half:
            done = int(half[0].rsplit(": ", 1)[1].split(" ", 1)[0])
            left = [sql for part in way.parts[done:] for sql in part.statements]
            return f"Left to run: {'; '.join(left)}; then: responder close"
        return f"Bring it to {to} by hand with the migration files of the release that ran, then: responder close"

    def __str__(self) -> str:
        return f"schema revision of {self.database}"

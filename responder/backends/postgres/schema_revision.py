"""The revision of a schema. A change runs in full or not at all; otherwise it raises Drift with what is left to run."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    ValidationInfo,
    model_serializer,
    model_validator,
)

from foundation.durations import Duration
from responder.backends.postgres.access import role_problems
from responder.backends.postgres.checks import fingerprint
from responder.backends.postgres.migration_path import MigrationPath
from responder.backends.postgres.migrations.registry import MIGRATION_TOOLS
from responder.backends.postgres.migrations.tool import MigrationContext, MigrationStep, MigrationTool
from responder.backends.postgres.schemas import Schemas
from responder.backends.postgres.script_runner import ScriptLimits
from responder.backends.problems import Problem
from responder.backends.resource import Resource
from responder.errors import Drift, StepFailed


class SchemaRevision(Resource[Schemas, JsonValue]):
    """The revision of a database, managed by a migration tool. Each version of the service has one."""

    resource: Literal["schema_revision"] = "schema_revision"
    database: str = Field(min_length=1, description="Name of one of `databases`")
    tool: Annotated[MigrationTool, MIGRATION_TOOLS] = Field(description="The migration tool, under its own key")
    revisions: dict[str, str] = Field(
        default_factory=dict, description="Revision of each version, if it differs from the version"
    )
    lock_timeout: Duration = Field(
        default=2.0, gt=0, description="Longest wait for a lock; other sessions queue behind it"
    )
    statement_timeout: Duration = Field(default=300.0, gt=0, description="Timeout of one statement")
    leftovers: Literal["keep", "drop"] | None = Field(
        default=None,
        description="Types, sequences and extensions that an upgrade creates and its downgrade leaves behind. Required "
        "if the plan names such objects and the target version was reported with a fingerprint",
    )
    attempts: int = Field(default=10, ge=1, description="Attempts of a transaction after lock timeouts")
    within: Duration = Field(default=900.0, gt=0, description="Timeout of one schema change, including all attempts")
    execution: str = Field(default="", description="Set by the responder: ID of the execution")
    paths: tuple[MigrationPath, ...] = Field(
        default=(), description="Set by the responder: the planned migrations, down and up"
    )

    @model_validator(mode="before")
    @classmethod
    def _load_tool(cls, fields: Any, info: ValidationInfo) -> Any:
        """Reads `alembic: {…}` as the tool. Imports only the tool that is named."""
        if not isinstance(fields, dict) or "tool" in fields:
            return fields
        names = [name for name in MIGRATION_TOOLS.names if fields.get(name) is not None]
        if len(names) != 1:
            raise ValueError(f"needs exactly one of {', '.join(MIGRATION_TOOLS.names)}")
        (name,) = names
        model: Any = MIGRATION_TOOLS.load(name)
        tool: TypeAdapter[dict[str, MigrationTool]] = TypeAdapter(dict[str, model])
        by_key = tool.validate_python({name: fields[name]}, context=info.context)  # errors keep the path of the key
        others = {key: value for key, value in fields.items() if key not in MIGRATION_TOOLS.names}
        return {**others, "tool": by_key[name]}

    @model_serializer(mode="wrap")
    def _dump_tool(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Writes the tool under its own key again."""
        fields: dict[str, Any] = handler(self)
        tool = fields.pop("tool", None)
        return fields if tool is None else {**fields, str(MIGRATION_TOOLS.name_of(self.tool)): tool}

    @property
    def timeout(self) -> float:
        return self.within + 30.0

    @property
    def limits(self) -> ScriptLimits:
        return ScriptLimits(
            lock_timeout=self.lock_timeout, statement_timeout=self.statement_timeout, attempts=self.attempts
        )

    @property
    def application(self) -> str:
        """The application name of its sessions, by which later attempts find them."""
        return f"rollback:{self.execution}"

    async def read(self, schemas: Schemas) -> JsonValue:
        return await self.tool.revision(schemas, self.database)

    def same(self, found: JsonValue, value: JsonValue) -> bool:
        return isinstance(found, str) and isinstance(value, str) and self.tool.same(found, value)

    async def runs(self, schemas: Schemas, found: JsonValue, version: str, artifact: str) -> bool:
        return self.same(found, self.revisions.get(version, version))

    async def value_of(self, schemas: Schemas, version: str, artifact: str) -> JsonValue:
        return self.revisions.get(version, version)

    async def converged(self, schemas: Schemas, value: JsonValue) -> bool:
        """Whether the revision is set, and neither a session nor an incomplete script of the execution remains."""
        if not self.same(await self.read(schemas), value):
            return False
        if not self.execution:
            return True
        return not (
            await schemas.sessions(self.database, self.application)
            or await schemas.unfinished_scripts(self.database, self.execution)
        )

    async def steps(
        self, schemas: Schemas, variables: dict[str, str], current: str, target: str
    ) -> list[MigrationStep]:
        """The steps from the current to the target revision, in order. Raises StepFailed if there are none."""
        return await self.tool.steps(schemas, self.context(variables), current, target)

    def context(self, variables: dict[str, str]) -> MigrationContext:
        """What the migration tool works with."""
        return MigrationContext(
            database=self.database,
            execution=self.execution,
            limits=self.limits,
            within=self.within,
            variables=variables,
        )

    async def check_access(self, schemas: Schemas) -> list[Problem]:
        revision = str(await self.read(schemas))
        version = next((version for version, name in self.revisions.items() if name == revision), revision)
        context = self.context({"version": version, "to_version": version, "artifact": ""})
        return [*await role_problems(schemas, self.database), *await self.tool.problems(schemas, context, revision)]

    async def write(self, schemas: Schemas, value: JsonValue, *, expected: JsonValue) -> None:
        # A session of an earlier attempt may still commit: end it, so that what is read next stays true.
        await schemas.end_sessions(self.database, self.application)
        self.must_be(found := await self.read(schemas), expected, value)
        unfinished = await schemas.unfinished_scripts(self.database, self.execution)
        if self.same(found, value) and not unfinished:
            return
        path = self._path(expected, value)
        if path is None or (unfinished and not unfinished[0].startswith(f"{path.name}:")):
            done = f"; {unfinished[0]} have run" if unfinished else ""
            raise StepFailed(
                f"the plan contains no migration from {expected} to {value}{done}: {self._manual_fix(str(value))}"
            )
        before = await fingerprint(schemas, self.database)
        if path.expected_fingerprint and not unfinished and before != path.expected_fingerprint:
            raise Drift(f"the schema of {self.database} changed after the plan was made, and not by a migration")
        try:
            await self._run(schemas, path)
        except StepFailed as e:
            raise await self._failure(schemas, path, before, e) from e
        if not self.same(found := await self.read(schemas), value):
            error = StepFailed(f"the migration tool exited with 0, but the revision is {found}, expected {value}")
            raise await self._failure(schemas, path, before, error)

    def _path(self, before: JsonValue, after: JsonValue) -> MigrationPath | None:
        matching = (p for p in self.paths if self.same(p.from_revision, before) and self.same(p.to_revision, after))
        return next(matching, None)

    async def _run(self, schemas: Schemas, path: MigrationPath) -> None:
        by_tool = bool(path.argv)
        if by_tool and path.commands:  # recorded first, so that a later attempt runs the statements as well
            await schemas.begin_script(self.database, self.execution, path.name, len(path.parts))
        if by_tool and not self.same(await self.read(schemas), path.to_revision):
            await schemas.run_tool(
                self.database,
                path.argv,
                application=self.application,
                limits=self.limits,
                within=self.within,
                cwd=self.context({}).directory(path.directory),
                changes=True,
            )
        if path.commands:
            await schemas.run_script(self.database, self.execution, path, self.limits, self.application)

    async def _failure(self, schemas: Schemas, path: MigrationPath, before: str, error: StepFailed) -> StepFailed:
        """The error with the state of the schema: StepFailed if it is unchanged, Drift if it is partly migrated."""
        await schemas.end_sessions(self.database, self.application)
        found = await self.read(schemas)
        unfinished = await schemas.unfinished_scripts(self.database, self.execution)
        committed = self._committed_before(path)
        unchanged = self.same(found, path.from_revision) and await fingerprint(schemas, self.database) == before
        if unchanged and all(": 0 of " in script for script in unfinished):
            if unfinished:
                await schemas.discard_unstarted(self.database, self.execution)
            earlier = f", but {committed}" if committed else ""
            return StepFailed(f"{error}; {path.name} changed nothing{earlier}: the revision is {found}")
        progress = f"{unfinished[0]} have run" if unfinished else f"the revision is {found}"
        details = [progress, *([f"{path.name} may have destroyed {path.destroys}"] if path.destroys else [])]
        state = "; ".join([*details, *([committed] if committed else [])])
        fix = self._manual_fix(path.to_revision, path, unfinished)
        return Drift(f"{error}; the schema of {self.database} is partly migrated ({path.name}): {state}. {fix}")

    def _committed_before(self, path: MigrationPath) -> str:
        """The earlier paths, which are committed, and what they destroyed. Empty if there are none."""
        earlier: list[MigrationPath] = []
        for candidate in self.paths:
            if path.from_revision == (earlier[-1].to_revision if earlier else self.paths[0].from_revision):
                break
            earlier.append(candidate)
        return "; ".join(
            f"{done.name} is committed{f' and destroyed {done.destroys}' if done.destroys else ''}" for done in earlier
        )

    def _manual_fix(self, target: str, path: MigrationPath | None = None, unfinished: list[str] | None = None) -> str:
        """What a human can do."""
        if path and path.commands and unfinished and not path.argv:
            done = int(unfinished[0].rsplit(": ", 1)[1].split(" ", 1)[0])
            left = [sql for part in path.parts[done:] for sql in part.statements]
            return f"Left to run: {'; '.join(left)}; then run: responder close"
        restore = ""
        if path and path.argv and path.commands:
            restore = f"responder preserved restore {self.database} {self.execution}; "
        return (
            f"Migrate to {target} by hand with the migration files of the running release, then run: {restore}"
            "responder close"
        )

    def __str__(self) -> str:
        return f"schema revision of {self.database}"

"""The interface of a migration tool: the revision of a database, and the steps back to an older revision."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from foundation.models import FrozenModel, StrictModel
from responder.backends.host.access import program_problems
from responder.backends.postgres.schemas import Schemas, fill_placeholders
from responder.backends.postgres.script_runner import ScriptLimits
from responder.backends.postgres.sql import literal, quoted
from responder.backends.problems import Problem, joined
from responder.errors import StepFailed, Unavailable

_PLACEHOLDERS = ("version", "artifact", "to_version", "from", "to")


def _known_placeholders(text: str) -> str:
    for name in re.findall(r"\{([a-z_]+)\}", text):
        if name not in _PLACEHOLDERS:
            known = ", ".join(f"{{{placeholder}}}" for placeholder in _PLACEHOLDERS)
            raise ValueError(f"unknown placeholder {{{name}}}: expected one of {known}")
    return text


Template = Annotated[str, AfterValidator(_known_placeholders)]
"""Text with placeholders such as `{version}`."""

CommandLine = Annotated[tuple[Template, ...], Field(min_length=1)]


class MigrationStep(FrozenModel):
    """The step from one revision to the one before it, and back again.

    Without `downgrade` the tool runs its own command, in its own session.
    """

    from_revision: str
    to_revision: str
    downgrade: str | None = None  # SQL without the statements that change the tool's version table
    downgrade_records: tuple[str, ...] = ()  # statements that change the version table
    upgrade: str | None = None
    upgrade_records: tuple[str, ...] = ()
    downgrade_command: tuple[str, ...] = ()
    upgrade_command: tuple[str, ...] = ()
    preview: str | None = None  # SQL that the command would run; None: unknown
    preview_complete: bool = True  # False: the command runs code as well
    reason: str = ""  # why the command has to run
    notes: tuple[str, ...] = ()  # what the approver has to know


class MigrationContext(FrozenModel):
    """The database, the limits, and the values of placeholders."""

    database: str
    execution: str
    limits: ScriptLimits
    within: float
    variables: Mapping[str, str]  # version, artifact, to_version

    def filled(self, argv: tuple[str, ...], **more: str) -> tuple[str, ...]:
        """The command line with its placeholders filled."""
        return tuple(fill_placeholders(part, {**self.variables, **more}) for part in argv)

    def directory(self, template: str) -> Path | None:
        """The directory that a template names; None for an empty one. Raises StepFailed if it does not exist."""
        if not template:
            return None
        for value in self.variables.values():
            if "{" in template and ("/.." in f"/{value}" or value.startswith("/")):
                raise StepFailed(f"{value!r} is not allowed in the path {template}: it leaves the directory")
        path = Path(fill_placeholders(template, self.variables))
        if not path.is_dir():
            raise StepFailed(
                f"directory {path} does not exist: keep the migration files of the running release until the next "
                "release is known good"
            )
        return path


class MigrationTool(StrictModel, ABC):
    """One migration tool. It works on the migration files of the running release."""

    directory: Template = Field(
        default="", description="Migration files of the running release: working directory, with {version}"
    )

    @abstractmethod
    async def revision(self, schemas: Schemas, database: str) -> str:
        """The current revision of the database. Raises StepFailed and Unavailable."""

    @abstractmethod
    async def steps(
        self, schemas: Schemas, context: MigrationContext, current: str, target: str
    ) -> list[MigrationStep]:
        """The steps from the current to the target revision, in order. Raises StepFailed if there are none."""

    @abstractmethod
    async def problems(self, schemas: Schemas, context: MigrationContext, revision: str) -> list[Problem]:
        """Obstacles to a downgrade from the current revision. Changes nothing."""

    async def obeys_limits(self, schemas: Schemas, context: MigrationContext) -> bool:
        """Whether the sessions of its commands get the limits and the name. False: unknown.

        Raises StepFailed if they do not.
        """
        return False

    def same(self, left: str, right: str) -> bool:
        """Whether two revisions are equal. Several heads may be in any order."""
        return sorted(left.split(",")) == sorted(right.split(","))


class ProgramTool(MigrationTool):
    """A migration tool that is a program."""

    command: CommandLine

    async def problems(self, schemas: Schemas, context: MigrationContext, revision: str) -> list[Problem]:
        """Runs a command of the tool that lists its revisions and changes nothing."""
        title = f"migrations of {context.database}"
        try:
            require_runnable(context.filled(self.command), context.directory(self.directory))
            output = await self._output(schemas, context, *self._list_command)
        except (StepFailed, Unavailable) as e:
            return [Problem(title, str(e), "the tool must run as this user in that directory")]
        if missing := [name for name in self._names(revision) if name not in output]:
            found = f"{' '.join(self._list_command)} does not list the current revision {missing[0]}"
            return [Problem(title, found, "keep the migration files of the running release")]
        return []

    async def obeys_limits(self, schemas: Schemas, context: MigrationContext) -> bool:
        """Runs a command that connects and changes nothing, with a setting that the server rejects."""
        if not self._connecting_command:
            return False
        argv, directory = context.filled(self._connecting_command), context.directory(self.directory)
        output = await schemas.run_with_rejected_setting(
            context.database, argv, within=min(context.within, 60.0), cwd=directory
        )
        if output is None:
            return True
        raise StepFailed(
            f"{' '.join(argv)} ignores PGOPTIONS: its session would have neither lock_timeout nor a name. Pass "
            f"PGOPTIONS and PGAPPNAME to the driver, with asyncpg as server_settings options and application_name"
            f"{f': {output}' if output else ''}"
        )

    @property
    def _connecting_command(self) -> tuple[str, ...]:
        """A command that connects to the database and changes nothing. Empty: the limits cannot be verified."""
        return ()

    @property
    @abstractmethod
    def _list_command(self) -> tuple[str, ...]:
        """The command that lists the revisions of the migration files."""

    def _names(self, revision: str) -> list[str]:
        """The revisions that the list must contain."""
        return [part for part in revision.split(",") if part not in ("base", "zero", "none")]

    async def _output(self, schemas: Schemas, context: MigrationContext, *argv: str) -> str:
        return await schemas.run_tool(
            context.database,
            context.filled(argv),
            application=f"rollback:{context.execution}",
            limits=context.limits,
            within=context.within,
            cwd=context.directory(self.directory),
        )


def require_runnable(argv: tuple[str, ...], directory: Path | None) -> None:
    """Raises StepFailed if the program cannot be started."""
    if problems := program_problems(argv, directory):
        raise StepFailed(joined(problems))


async def column_values(schemas: Schemas, database: str, table: str, column: str, where: str = "") -> list[str] | None:
    """The values of a column of the tool's version table, sorted. None if the table does not exist."""
    rows = await schemas.rows(database, "SELECT to_regclass($1) IS NOT NULL AS present", table)
    if not rows[0]["present"]:
        return None
    rows = await schemas.rows(database, f"SELECT {quoted(column)}::text AS value FROM {table}{where} ORDER BY 1")
    return [row["value"] for row in rows]


def insert_record(table: str, record: str) -> str:
    """The statement that inserts a row of the version table again, exactly as `row_to_json` read it."""
    return (
        f"INSERT INTO {table} OVERRIDING SYSTEM VALUE SELECT * FROM json_populate_record(NULL::{table},"
        f" {literal(record)})"
    )

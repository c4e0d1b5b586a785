"""What every migration tool is: it tells the revision of a database, and the way from there to an older one."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from responder.backends.host.access import program_problems
from responder.backends.postgres.schemas import Schemas, filled
from responder.backends.postgres.script_runs import Limits
from responder.backends.postgres.sql import quoted
from responder.backends.problems import Problem, joined
from responder.errors import StepFailed, Unavailable

_PLACEHOLDERS = ("version", "artifact", "to_version", "from", "to")


def _known(text: str) -> str:
    for name in re.findall(r"\{([a-z_]+)\}", text):
        if name not in _PLACEHOLDERS:
            raise ValueError(f"{{{name}}} is none of {', '.join(f'{{{known}}}' for known in _PLACEHOLDERS)}")
    return text


Text = Annotated[str, AfterValidator(_known)]
CommandLine = Annotated[tuple[Text, ...], Field(min_length=1)]


class Stage(BaseModel):
    """One revision back. Without `down` the tool has to do it by itself."""

    model_config = ConfigDict(frozen=True)

    was: str
    to: str
    down: str | None = None  # SQL, without the books of the tool
    down_books: tuple[str, ...] = ()  # what the tool would write into its own table
    up: str | None = None
    up_books: tuple[str, ...] = ()
    argv_down: tuple[str, ...] = ()
    argv_up: tuple[str, ...] = ()
    preview: str | None = None  # what the tool says that it would do, where it has to do it by itself
    why: str = ""  # it has to


class MigrationContext(BaseModel):
    """Which database, and what fills the placeholders."""

    model_config = ConfigDict(frozen=True)

    database: str
    mark: str
    limits: Limits
    within: float
    variables: Mapping[str, str]  # version, artifact, to_version

    def filled(self, argv: tuple[str, ...], **more: str) -> tuple[str, ...]:
        return tuple(filled(part, {**self.variables, **more}) for part in argv)

    def directory(self, text: str) -> Path | None:
        if not text:
            return None
        for value in self.variables.values():
            if "{" in text and ("/.." in f"/{value}" or value.startswith("/")):
                raise StepFailed(f"{value!r} cannot be a part of the path {text}")
        path = Path(filled(text, self.variables))
        if not path.is_dir():
            raise StepFailed(
                f"there is no {path}: the way back is in the migration files of the release that runs now, "
                "which have to be kept until the next one is known good"
            )
        return path


class Tool(BaseModel, ABC):
    """One migration tool. It runs with the migration files of the release that is rolled back."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @abstractmethod
    async def revision(self, schemas: Schemas, database: str) -> str:
        """The revision that the database is at."""

    @abstractmethod
    async def stages(self, schemas: Schemas, context: MigrationContext, now: str, target: str) -> list[Stage]:
        """The way from now to the target, one revision after the other. Raises Halt where there is none."""

    @abstractmethod
    async def problems(self, schemas: Schemas, context: MigrationContext, revision: str) -> list[Problem]:
        """What keeps the tool from going back from the revision that the database is at."""

    def same(self, left: str, right: str) -> bool:
        return sorted(left.split(",")) == sorted(right.split(","))


class Program(Tool):
    command: CommandLine
    directory: Text = Field(default="", description="Where it runs: the files of the release that runs, as {version}")

    async def problems(self, schemas: Schemas, context: MigrationContext, revision: str) -> list[Problem]:
        """Runs a command of the tool that reads its revisions and changes nothing."""
        try:
            must_be_runnable(context.filled(self.command), context.directory(self.directory))
            output = await self._ask(schemas, context, *self._listing)
        except (StepFailed, Unavailable) as e:
            return [Problem(f"migrations of {context.database}", str(e), "it must run as this user, in that directory")]
        if missing := [name for name in self._names(revision) if name not in output]:
            found = f"{' '.join(self._listing)} does not know the revision {missing[0]}, which the database is at"
            fix = "keep the migration files of the release that runs"
            return [Problem(f"migrations of {context.database}", found, fix)]
        return []

    @property
    @abstractmethod
    def _listing(self) -> tuple[str, ...]:
        """The command that lists the revisions that it has files of."""

    def _names(self, revision: str) -> list[str]:
        """The revisions that must be among them."""
        return [part for part in revision.split(",") if part not in ("base", "zero", "none")]

    async def _ask(self, schemas: Schemas, context: MigrationContext, *argv: str) -> str:
        return await schemas.tool(
            context.database,
            context.filled(argv),
            mark=f"rollback:{context.mark}",
            limits=context.limits,
            within=context.within,
            cwd=context.directory(self.directory),
        )


def must_be_runnable(argv: tuple[str, ...], directory: Path | None) -> None:
    """Raises Halt where a program could not be started."""
    if problems := program_problems(argv, directory):
        raise StepFailed(joined(problems))


async def column_of(schemas: Schemas, database: str, table: str, column: str, where: str = "") -> list[str] | None:
    """What a tool's own table holds; None where there is no such table."""
    there = await schemas.rows(database, "SELECT to_regclass($1) IS NOT NULL AS there", table)
    if not there[0]["there"]:
        return None
    rows = await schemas.rows(database, f"SELECT {quoted(column)}::text AS v FROM {table}{where} ORDER BY 1")
    return [row["v"] for row in rows]

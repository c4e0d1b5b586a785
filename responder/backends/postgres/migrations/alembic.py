"""Alembic: branches and merges included, and each revision undone exactly once."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from pydantic import Field

from responder.backends.postgres.migrations.tool import CommandLine, MigrationContext, Program, Stage, Text, column_of
from responder.backends.postgres.schemas import Schemas
from responder.backends.postgres.sql import literal, split
from responder.errors import StepFailed


class Alembic(Program):
    """Alembic: `downgrade --sql` is rendered beforehand, and run by us in one transaction."""

    command: CommandLine = Field(default=("alembic",), description="How it is called, as a list")
    config: Text = Field(default="alembic.ini", description="Its configuration, from the directory")
    table: str = Field(default="alembic_version", description="Its version table, with its schema if need be")

    async def revision(self, schemas: Schemas, database: str) -> str:
        return ",".join(await column_of(schemas, database, self.table, "version_num") or ()) or "base"

    def _call(self, *more: str) -> tuple[str, ...]:
        return (*self.command, "-c", self.config, *more)

    @property
    def _listing(self) -> tuple[str, ...]:
        return self._call("history")

    async def stages(self, schemas: Schemas, context: MigrationContext, now: str, target: str) -> list[Stage]:
        heads = now.split(",")
        wanted = target.split(",")
        kept = [head for head in heads if head in wanted]
        left: list[str] = []
        trouble: list[StepFailed] = []
        for goal in (head for head in wanted if head not in kept):
            down = await self._downs(schemas, context, [head for head in heads if head not in kept], goal, trouble)
            if not down:
                continue
            if kept and await self._downs(schemas, context, kept, goal, []):
                raise StepFailed(f"{goal} comes before {','.join(kept)}, so it cannot be gone back to beside it")
            stages = self._staged(heads, down, await self._ups(schemas, context, goal, heads))
            if self.same(stages[-1].to, target):
                return stages
            left.append(stages[-1].to)
        if left:
            raise StepFailed(f"going back from {now} to {target} leaves {left[0]}: name that one")
        return await self._by_itself(schemas, context, now, target, trouble)

    async def _downs(
        self, schemas: Schemas, context: MigrationContext, heads: list[str], goal: str, trouble: list[StepFailed]
    ) -> dict[str, tuple[list[str], str]]:
        """What undoes each revision: those before it, and its SQL. What several branches share comes last."""
        down: dict[str, tuple[list[str], str]] = {}
        for head in heads:
            try:
                output = await self._ask(schemas, context, *self._call("downgrade", f"{head}:{goal}", "--sql"))
            except StepFailed as e:
                trouble.append(e)
                continue
            for revision, before, sql in _steps(output, "downgrade"):
                down.pop(revision, None)
                down[revision] = (before, sql)
        return down

    def _staged(self, heads: list[str], down: dict[str, tuple[list[str], str]], up: dict[str, str]) -> list[Stage]:
        stages, was, gone = [], ",".join(sorted(heads)), set[str]()
        ways = list(down.items())
        for n, (left, (_, sql)) in enumerate(ways):
            gone.add(left)
            reached = {r for _, (rs, _) in ways[: n + 1] for r in rs}
            later = {r for _, (rs, _) in ways[n + 1 :] for r in rs}
            to = ",".join(sorted((set(heads) - gone) | (reached - gone - later))) or "base"
            stages.append(
                Stage(
                    was=was,
                    to=to,
                    down=self._without_books(sql),
                    down_books=self._books(was, to),
                    up=self._without_books(up[left]) if left in up else None,
                    up_books=self._books(to, was),
                )
            )
            was = to
        return stages

    def _books(self, was: str, to: str) -> tuple[str, ...]:
        """Leaves exactly these heads, and fails where others were there: then somebody else migrates as well."""
        heads = [] if to == "base" else to.split(",")
        found = f"SELECT string_agg(version_num, ',' ORDER BY version_num COLLATE \"C\") FROM {self.table}"
        wanted = "NULL" if was == "base" else literal(was)
        return (
            f"LOCK TABLE {self.table} IN SHARE ROW EXCLUSIVE MODE",
            f"DO $books$ BEGIN IF ({found}) IS DISTINCT FROM {wanted} THEN"
            f" RAISE EXCEPTION 'the revision is not % any more', {literal(was)}; END IF; END $books$",
            f"DELETE FROM {self.table}",
            *(f"INSERT INTO {self.table} (version_num) VALUES ({literal(head)})" for head in heads),
        )

    def _without_books(self, sql: str) -> str:
        table = re.escape(self.table).replace(r"\.", r"\s*\.\s*")
        ours = re.compile(rf"(UPDATE|DELETE\s+FROM|INSERT\s+INTO|CREATE\s+TABLE|DROP\s+TABLE)\s+{table}\b", re.I)
        return ";\n".join(statement for statement in split(sql) if not ours.match(statement))

    async def _ups(self, schemas: Schemas, context: MigrationContext, target: str, heads: list[str]) -> dict[str, str]:
        """The SQL that makes each revision again; what cannot be rendered is left out."""
        found: dict[str, str] = {}
        for head in heads:
            try:
                output = await self._ask(schemas, context, *self._call("upgrade", f"{target}:{head}", "--sql"))
            except StepFailed:
                continue
            for _, (revision,), sql in ((left, right, sql) for left, right, sql in _steps(output, "upgrade")):
                found.setdefault(revision, sql)
        return found

    async def _by_itself(
        self, schemas: Schemas, context: MigrationContext, now: str, target: str, trouble: list[StepFailed]
    ) -> list[Stage]:
        """Alembic runs the revisions that cannot be rendered as they need rows, one at a time; we run the others.

        Raises Halt where a revision refuses: Alembic would commit what comes before it, and then fail.
        """
        output = await self._ask(schemas, context, *self._call("history", "--rev-range", f"{target}:{now}"))
        ways = {found[2]: found[1] for found in re.finditer(r"^(\S+) -> (\w+)", output, re.M)}
        why = str(trouble[0]).splitlines()[-1] if trouble else ""
        stages, at = [], now
        while at != target:
            if at not in ways:
                raise StepFailed(f"Alembic knows no single way from {now} to {target}: {why}")
            before = "base" if ways[at] == "<base>" else ways[at]
            stages.append(await self._one(schemas, context, at, before))
            at = before
        return stages

    async def _one(self, schemas: Schemas, context: MigrationContext, at: str, before: str) -> Stage:
        trouble: list[StepFailed] = []
        down = await self._downs(schemas, context, [at], before, trouble)
        if not trouble and down:
            (stage,) = self._staged([at], down, await self._ups(schemas, context, before, [at]))
            return stage
        error = str(trouble[0]) if trouble else ""
        if refusal := await asyncio.to_thread(_refusal, error):
            raise StepFailed(
                f"revision {at} cannot be undone, so there is no way past it; nothing was touched: {refusal}"
            )
        return Stage(
            was=at,
            to=before,
            argv_down=context.filled(self._call("downgrade", before)),
            argv_up=context.filled(self._call("upgrade", at)),
            why=f"it cannot be written as SQL: {error.splitlines()[-1] if error else 'Alembic rendered nothing'}",
        )


_FRAME = re.compile(r'^ *File "([^"]+)", line \d+, in \S+\n +(\S.*)$', re.M)


def _refusal(output: str) -> str:
    """The exception of a migration that raises by itself; empty where it only fails for lack of a connection."""
    error = output.splitlines()[-1] if output else ""
    frames = _FRAME.findall(output)
    if not frames:
        return error if "NotImplemented" in error else ""
    file, source = frames[-1]
    raises = re.match(r"(raise|assert)\b", source) and "site-packages" not in file
    if not raises and not error.startswith("NotImplemented"):
        return ""
    try:
        text = Path(file).read_text()
    except (OSError, UnicodeDecodeError):  # as in a container
        text = ""
    return "" if re.search(r"offline|as_sql", text) else error


def _steps(output: str, way: str) -> list[tuple[str, list[str], str]]:
    """What Alembic rendered, cut at its own comments: for a downgrade left is the revision, for an upgrade right is."""
    found = list(re.finditer(rf"^-- Running {way} (.*?) -> (.*?)\s*$", output, re.M))
    ends = [marker.start() for marker in found[1:]] + [len(output)]
    steps = []
    for marker, end in zip(found, ends, strict=True):
        left, right = marker[1].strip(), [part.strip() for part in marker[2].split(",") if part.strip()]
        steps.append((left, right, output[marker.end() : end]))
    return steps

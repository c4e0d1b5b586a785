"""Migration tools: how each tells the revision that a database is at, and the way from there to an older one."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from responder.clients.schemas import Limits, Schemas, filled
from responder.errors import Halt
from responder.statements import literal, quoted, split, statement

_PLACEHOLDERS = ("version", "artifact", "to_version", "from", "to")


def _known(text: str) -> str:
    for name in re.findall(r"\{([a-z_]+)\}", text):
        if name not in _PLACEHOLDERS:
            raise ValueError(f"{{{name}}} is none of {', '.join(f'{{{one}}}' for one in _PLACEHOLDERS)}")
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
    told: str | None = None  # what the tool says that it would do, where it has to do it by itself
    why: str = ""  # it has to


class Place(BaseModel):
    """Which database, and what fills the placeholders."""

    model_config = ConfigDict(frozen=True)

    database: str
    mark: str
    limits: Limits
    within: float
    told: Mapping[str, str]  # version, artifact, to_version

    def filled(self, argv: tuple[str, ...], **more: str) -> tuple[str, ...]:
        return tuple(filled(part, {**self.told, **more}) for part in argv)

    def directory(self, text: str) -> Path | None:
        if not text:
            return None
        for value in self.told.values():
            if "{" in text and ("/.." in f"/{value}" or value.startswith("/")):
                raise Halt(f"{value!r} cannot be a part of the path {text}")
        path = Path(filled(text, self.told))
        if not path.is_dir():
            raise Halt(
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
    async def stages(self, schemas: Schemas, place: Place, now: str, target: str) -> list[Stage]:
        """The way from now to the target, one revision after the other. Raises Halt where there is none."""

    def same(self, one: str, other: str) -> bool:
        return sorted(one.split(",")) == sorted(other.split(","))


class _Program(Tool):
    directory: Text = Field(default="", description="Where it runs: the files of the release that runs, as {version}")

    async def _ask(self, schemas: Schemas, place: Place, *argv: str) -> str:
        return await schemas.tool(
            place.database,
            place.filled(argv),
            mark=f"rollback:{place.mark}",
            limits=place.limits,
            within=place.within,
            cwd=place.directory(self.directory),
        )


async def _column(schemas: Schemas, database: str, table: str, column: str, where: str = "") -> list[str] | None:
    """What a tool's own table holds; None where there is no such table."""
    there = await schemas.rows(database, "SELECT to_regclass($1) IS NOT NULL AS there", table)
    if not there[0]["there"]:
        return None
    rows = await schemas.rows(database, f"SELECT {quoted(column)}::text AS v FROM {table}{where} ORDER BY 1")
    return [row["v"] for row in rows]


class Alembic(_Program):
    """Alembic: `downgrade --sql` is rendered beforehand, and run by us in one transaction."""

    command: CommandLine = Field(default=("alembic",), description="How it is called, as a list")
    config: Text = Field(default="alembic.ini", description="Its configuration, from the directory")
    table: str = Field(default="alembic_version", description="Its version table, with its schema if need be")

    async def revision(self, schemas: Schemas, database: str) -> str:
        return ",".join(await _column(schemas, database, self.table, "version_num") or ()) or "base"

    def _call(self, *more: str) -> tuple[str, ...]:
        return (*self.command, "-c", self.config, *more)

    async def stages(self, schemas: Schemas, place: Place, now: str, target: str) -> list[Stage]:
        heads = now.split(",")
        wanted = target.split(",")
        kept = [head for head in heads if head in wanted]
        left: list[str] = []
        trouble: list[Halt] = []
        for goal in (one for one in wanted if one not in kept):
            down = await self._downs(schemas, place, [head for head in heads if head not in kept], goal, trouble)
            if not down:
                continue
            if kept and await self._downs(schemas, place, kept, goal, []):
                raise Halt(f"{goal} comes before {','.join(kept)}, so it cannot be gone back to beside it")
            stages = self._staged(heads, down, await self._ups(schemas, place, goal, heads))
            if self.same(stages[-1].to, target):
                return stages
            left.append(stages[-1].to)
        if left:
            raise Halt(f"going back from {now} to {target} leaves {left[0]}: name that one")
        return await self._by_itself(schemas, place, now, target, trouble)

    async def _downs(
        self, schemas: Schemas, place: Place, heads: list[str], goal: str, trouble: list[Halt]
    ) -> dict[str, tuple[list[str], str]]:
        """What undoes each revision: those before it, and its SQL. What several branches share comes last."""
        down: dict[str, tuple[list[str], str]] = {}
        for head in heads:
            try:
                said = await self._ask(schemas, place, *self._call("downgrade", f"{head}:{goal}", "--sql"))
            except Halt as e:
                trouble.append(e)
                continue
            for revision, before, sql in _steps(said, "downgrade"):
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
        return ";\n".join(one for one in split(sql) if not ours.match(one))

    async def _ups(self, schemas: Schemas, place: Place, target: str, heads: list[str]) -> dict[str, str]:
        """The SQL that makes each revision again; what cannot be rendered is left out."""
        found: dict[str, str] = {}
        for head in heads:
            try:
                said = await self._ask(schemas, place, *self._call("upgrade", f"{target}:{head}", "--sql"))
            except Halt:
                continue
            for _, (revision,), sql in ((left, right, sql) for left, right, sql in _steps(said, "upgrade")):
                found.setdefault(revision, sql)
        return found

    async def _by_itself(
        self, schemas: Schemas, place: Place, now: str, target: str, trouble: list[Halt]
    ) -> list[Stage]:
        """Migrations that need rows cannot be rendered: Alembic has to run them, one revision at a time."""
        said = await self._ask(schemas, place, *self._call("history", "--rev-range", f"{target}:{now}"))
        ways = {found[2]: found[1] for found in re.finditer(r"^(\S+) -> (\w+)", said, re.M)}
        why = str(trouble[0]).splitlines()[-1] if trouble else ""
        stages, at = [], now
        while at != target:
            if at not in ways:
                raise Halt(f"Alembic knows no single way from {now} to {target}: {why}")
            before = "base" if ways[at] == "<base>" else ways[at]
            stages.append(
                Stage(
                    was=at,
                    to=before,
                    argv_down=place.filled(self._call("downgrade", before)),
                    argv_up=place.filled(self._call("upgrade", at)),
                    why=f"it cannot be written as SQL: {why}",
                )
            )
            at = before
        return stages


def _steps(said: str, way: str) -> list[tuple[str, list[str], str]]:
    """What Alembic rendered, cut at its own comments: for a downgrade left is the revision, for an upgrade right is."""
    found = list(re.finditer(rf"^-- Running {way} (.*?) -> (.*?)\s*$", said, re.M))
    ends = [one.start() for one in found[1:]] + [len(said)]
    steps = []
    for one, end in zip(found, ends, strict=True):
        left, right = one[1].strip(), [part.strip() for part in one[2].split(",") if part.strip()]
        steps.append((left, right, said[one.end() : end]))
    return steps


class Django(_Program):
    """Django: `migrate --plan` names the way, `sqlmigrate --backwards` renders it, and we run it in one transaction."""

    command: CommandLine = Field(default=("python", "manage.py"), description="How it is called, as a list")
    apps: Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        description="Applications whose migrations make the revision; of several, versions are app.name,app.name"
    )
    table: str = Field(default="django_migrations", description="Its table of migrations")

    async def revision(self, schemas: Schemas, database: str) -> str:
        told = []
        for app in self.apps:
            names = await _column(schemas, database, self.table, "name", f" WHERE app = {literal(app)}")
            told.append((app, max(names or ["zero"])))
        return self._joined(dict(told))

    def _joined(self, of: Mapping[str, str]) -> str:
        return of[self.apps[0]] if len(self.apps) == 1 else ",".join(f"{app}.{of[app]}" for app in self.apps)

    def _cut(self, revision: str) -> dict[str, str]:
        if len(self.apps) == 1:
            return {self.apps[0]: revision}
        found = dict(one.split(".", 1) for one in revision.split(",") if "." in one)
        if set(found) != set(self.apps):
            raise Halt(f"{revision} does not name a migration for each of {', '.join(self.apps)}, as app.name,app.name")
        return found

    async def stages(self, schemas: Schemas, place: Place, now: str, target: str) -> list[Stage]:
        at, goals = self._cut(now), self._cut(target)
        sql = f"SELECT app, name FROM {self.table}"
        applied = {(row["app"], row["name"]) for row in await schemas.rows(place.database, sql)}
        undone: list[tuple[str, str]] = []
        for app in self.apps:
            if at[app] == goals[app]:
                continue
            said = await self._ask(schemas, place, *self.command, "migrate", app, goals[app], "--plan")
            undone += [one for one in self._planned(said) if one not in undone]
        others = sorted({app for app, _ in undone} - set(self.apps))
        if others:
            raise Halt(f"going back also undoes migrations of {', '.join(others)}: name them in `apps` as well")
        if not undone:
            raise Halt(f"Django sees nothing to undo between {now} and {target}")
        if forward := [".".join(one) for one in undone if one not in applied]:
            raise Halt(f"Django would not go back but forward: {forward[0]} is not applied")
        stages = []
        for n, (app, name) in enumerate(undone):
            before = next((older for of, older in undone[n + 1 :] if of == app), goals[app])
            after = {**at, app: before}
            stages.append(await self._stage(schemas, place, app, name, self._joined(at), self._joined(after), before))
            at = after
        return stages

    def _planned(self, said: str) -> list[tuple[str, str]]:
        undone: list[tuple[str, str]] = []
        for line in said.splitlines():
            if found := re.fullmatch(r"(\w+)\.(\w+)", line.strip()) if not line.startswith(" ") else None:
                undone.append((found[1], found[2]))
            elif "IRREVERSIBLE" in line and undone:
                raise Halt(f"{'.'.join(undone[-1])} cannot be undone: {line.strip()}")
        return undone

    async def _stage(
        self, schemas: Schemas, place: Place, app: str, name: str, was: str, to: str, before: str
    ) -> Stage:
        down = await self._ask(schemas, place, *self.command, "sqlmigrate", app, name, "--backwards")
        up = await self._ask(schemas, place, *self.command, "sqlmigrate", app, name)
        python = "CANNOT BE WRITTEN AS SQL"
        books = f"{self.table} WHERE app = {literal(app)} AND name = {literal(name)}"
        return Stage(
            was=was,
            to=to,
            down=None if python in down else down,
            down_books=(
                f"DO $books$ BEGIN IF NOT EXISTS (SELECT FROM {books}) THEN"
                f" RAISE EXCEPTION '% is not applied any more', {literal(f'{app}.{name}')}; END IF; END $books$",
                f"DELETE FROM {books}",
            ),
            up=None if python in up else up,
            up_books=(
                f"INSERT INTO {self.table} (app, name, applied) VALUES ({literal(app)}, {literal(name)}, now())",
            ),
            argv_down=place.filled((*self.command, "migrate", app, before)),
            argv_up=place.filled((*self.command, "migrate", app, name)),
            told=down,
            why="a part of it is Python and cannot be written as SQL" if python in down else "",
        )


class SqlFiles(Tool):
    """Plain SQL: `NNN_name.down.sql` beside `NNN_name.up.sql`, and a table of what was applied."""

    directory: Text = Field(
        min_length=1, description="Where the files of the release that runs are, as /srv/migrations/{version}"
    )
    table: str = Field(default="schema_migrations", description="The table; with a column `dirty` it has one row only")
    column: str = Field(default="version", description="Its column with the number")

    async def revision(self, schemas: Schemas, database: str) -> str:
        return max(await self._applied(schemas, database), key=int, default="0")

    async def _applied(self, schemas: Schemas, database: str) -> list[str]:
        found = await _column(schemas, database, self.table, self.column) or []
        if await self._one_row(schemas, database) and (
            await schemas.rows(database, f"SELECT FROM {self.table} WHERE dirty")
        ):
            raise Halt(f"{self.table} is dirty: a migration failed half way, and a human has to mend it first")
        if odd := [v for v in found if not v.isdecimal()]:
            raise Halt(f"{self.table}.{self.column} holds {odd[0]!r}, which is no number")
        return found

    async def _one_row(self, schemas: Schemas, database: str) -> bool:
        sql = "SELECT FROM pg_attribute WHERE attrelid = to_regclass($1) AND attname = 'dirty' AND NOT attisdropped"
        return bool(await schemas.rows(database, sql, self.table))

    async def stages(self, schemas: Schemas, place: Place, now: str, target: str) -> list[Stage]:
        directory = place.directory(self.directory) or Path()
        files: dict[tuple[int, str], tuple[str, str]] = {}
        for name, text in (await schemas.scripts(directory)).items():
            if found := re.fullmatch(r"(\d+)\D.*?(down|up)\.sql", name):
                if (key := (int(found[1]), found[2])) in files:
                    raise Halt(f"{directory / name} and {files[key][0]} have the same number")
                files[key] = (name, text)
        one_row = await self._one_row(schemas, place.database)
        numbers = {n for n, _ in files} if one_row else set(map(int, await self._applied(schemas, place.database)))
        undone = sorted((n for n in numbers if int(target) < n <= int(now)), reverse=True)
        spelled = {int(now): now, int(target): target}
        if int(target) not in (*numbers, 0):
            raise Halt(f"{target} was never applied")
        stages = []
        for n, number in enumerate(undone):
            before = undone[n + 1] if n + 1 < len(undone) else int(target)
            if (number, "down") not in files:
                raise Halt(
                    f"there is no {number:03d}*.down.sql in {directory}: the way back is in the migration files of the "
                    "release that runs now"
                )
            was, to = spelled.get(number, str(number)), spelled.get(before, str(before))
            stages.append(
                Stage(
                    was=was,
                    to=to,
                    down=_without_transactions(*files[number, "down"]),
                    down_books=self._books(was, to, one_row=one_row, down=True),
                    up=_without_transactions(*files[number, "up"]) if (number, "up") in files else None,
                    up_books=self._books(to, was, one_row=one_row, down=False),
                )
            )
        return stages

    def _books(self, was: str, to: str, *, one_row: bool, down: bool) -> tuple[str, ...]:
        column = quoted(self.column)
        check = (
            f"DO $books$ BEGIN IF coalesce((SELECT max({column}::numeric) FROM {self.table}), 0) <> {was} THEN"
            f" RAISE EXCEPTION 'the revision is not {was} any more'; END IF; END $books$"
        )
        lock = f"LOCK TABLE {self.table} IN SHARE ROW EXCLUSIVE MODE"
        if one_row:
            return lock, check, f"UPDATE {self.table} SET {column} = {literal(to)}"
        if down:
            return lock, check, f"DELETE FROM {self.table} WHERE {column} = {literal(was)}"
        return lock, check, f"INSERT INTO {self.table} ({column}) VALUES ({literal(to)})"


def _without_transactions(name: str, text: str) -> str:
    try:
        statements = split(text)
    except ValueError as e:
        raise Halt(f"{name} cannot be read: {e}") from None
    for sql in statements:
        if any(effect.does == "begins or commits" for effect in statement(sql).effects):
            raise Halt(f"{name} says {sql.split()[0].upper()}: leave that to us, or it could be left half done")
    return text


class OwnCommand(Tool):
    """A command of one's own, which has to change the schema in one transaction or to be safe to run again."""

    current: str = Field(description="SQL whose one value is the revision, as SELECT version FROM deployed")
    downgrade: CommandLine = Field(description="Goes back from {from} to {to}, as a list")
    upgrade: tuple[Text, ...] = Field(default=(), description="Goes forward from {from} to {to} again")
    plan: tuple[Text, ...] = Field(default=(), description="Writes the SQL that `downgrade` would run to its output")
    directory: Text = Field(default="", description="Where they run: the files of the release that runs, as {version}")

    async def revision(self, schemas: Schemas, database: str) -> str:
        rows = await schemas.rows(database, self.current)
        if len(rows) != 1 or len(rows[0]) != 1 or (value := next(iter(rows[0].values()))) is None:
            raise Halt(f"{self.current} does not return one value, but {len(rows)} rows")
        return str(value)

    async def stages(self, schemas: Schemas, place: Place, now: str, target: str) -> list[Stage]:
        ends = {"from": now, "to": target}
        told = None
        if self.plan:
            told = await schemas.tool(
                place.database,
                place.filled(self.plan, **ends),
                mark=f"rollback:{place.mark}",
                limits=place.limits,
                within=place.within,
                cwd=place.directory(self.directory),
            )
        back = {"from": target, "to": now}
        return [
            Stage(
                was=now,
                to=target,
                argv_down=place.filled(self.downgrade, **ends),
                argv_up=place.filled(self.upgrade, **back),
                told=told,
                why="a command of your own runs it",
            )
        ]


class Pgroll(_Program):
    """pgroll: while a migration is started and not completed, both schemas live, and going back loses nothing."""

    command: CommandLine = Field(default=("pgroll",), description="How it is called, as a list")

    async def revision(self, schemas: Schemas, database: str) -> str:
        latest = await _latest(schemas, database)
        return str(latest["name"]) if latest else "none"

    async def stages(self, schemas: Schemas, place: Place, now: str, target: str) -> list[Stage]:
        latest = await _latest(schemas, place.database)
        if latest is None or latest["done"]:
            raise Halt(
                f"pgroll has completed {now}: its rollback does nothing any more, and the old schema is gone; "
                "write a migration that goes forward to what the old release needs"
            )
        if str(latest["parent"] or "none") != target:
            raise Halt(f"pgroll can go back from {now} to {latest['parent']} only, not to {target}")
        return [Stage(was=now, to=target, argv_down=place.filled((*self.command, "rollback")), told="")]


async def _latest(schemas: Schemas, database: str) -> dict[str, object] | None:
    sql = "SELECT name, parent, done FROM pgroll.migrations ORDER BY created_at DESC, name DESC LIMIT 1"
    if not (await schemas.rows(database, "SELECT to_regclass('pgroll.migrations') IS NOT NULL AS there"))[0]["there"]:
        return None
    return next(iter(await schemas.rows(database, sql)), None)


async def started_by_pgroll(schemas: Schemas, database: str) -> str:
    """The migration that pgroll has started and not completed; empty where there is none."""
    latest = await _latest(schemas, database)
    return str(latest["name"]) if latest and not latest["done"] else ""

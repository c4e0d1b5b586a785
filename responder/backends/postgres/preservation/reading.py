"""Reads the way of a migration tool, and writes down what is run for it, there and back."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field

from responder.backends.postgres.catalog import KEEP, TABLE, Table
from responder.backends.postgres.checks import fingerprint
from responder.backends.postgres.ddl_effects import Statement
from responder.backends.postgres.migrations import Stage
from responder.backends.postgres.preservation.preservation import Keeper, Kept
from responder.backends.postgres.preservation.side_schema import PREPARE
from responder.backends.postgres.schema_revision import Command, SchemaRevision, Way
from responder.backends.postgres.schemas import Schemas
from responder.backends.postgres.sql import one_line
from responder.backends.postgres.statements import read
from responder.errors import StepFailed


@dataclass
class Reading:
    """What was found out about the way."""

    kept: Kept
    there: list[Way] = field(default_factory=list)
    back: list[Way] = field(default_factory=list)
    alone: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


class Reader:
    """Reads the stages of a way, and writes down what is run for them, there and back."""

    def __init__(
        self, schemas: Schemas, resource: SchemaRevision, variables: dict[str, str], *, preserve: bool
    ) -> None:
        self._schemas, self._resource, self._variables = schemas, resource, variables
        self._keeper = Keeper(self._table, resource.mark, preserve=preserve)
        self._blind = Keeper(self._table, resource.mark, preserve=False)
        self._reading = Reading(self._keeper.kept)

    async def read(self, stages: list[Stage]) -> Reading:
        if not stages:
            raise StepFailed(
                f"{self._resource.database} is at {await self._resource.read(self._schemas)}: there is nothing to undo"
            )
        expects = await fingerprint(self._schemas, self._resource.database)
        ways: list[tuple[Way, Way | None, dict[str, str]]] = []
        for stage in stages:
            self._keeper.touched = {}
            down, again = await (self._rendered(stage, stage.down) if stage.down is not None else self._by_tool(stage))
            touched = self._keeper.touched
            if ways and _whole(ways[-1][0]) and _whole(down):
                before, after, earlier = ways.pop()
                down, again = _joined(before, down), _joined(again, after) if again and after else None
                touched = {**touched, **earlier}
            ways.append((down, again, touched))
        there = [way for way, _, _ in ways]
        there[0] = there[0].model_copy(update={"expects": expects})
        back = [again for _, again, _ in ways if again]
        first = await self._first()
        # After the first way a table may have another name, or be gone: beforehand is locked what goes by one name.
        locked = [
            {now for then, now in touched.items() if n == 0 or then == now} for n, (_, _, touched) in enumerate(ways)
        ]
        self._reading.there = [_prepared(way, first, tables) for way, tables in zip(there, locked, strict=True)]
        self._reading.back = back
        if len(back) < len(there):
            self._reading.lines.append("not all of it has a way forward again: were it needed, a human has to go it")
        for loss in self._blind.kept.losses:
            self._reading.kept.losses.append(loss)
        self._reading.kept.unknown += self._blind.kept.unknown
        self._reading.kept.tables |= self._blind.kept.tables
        return self._reading

    async def _rendered(self, stage: Stage, sql: str) -> tuple[Way, Way | None]:
        statements = _parsed(sql, stage)
        commands, restored = await self._keeper.take(statements)
        self._reading.alone += [statement.sql for statement in statements if statement.alone]
        for statement in statements:
            does = ", ".join(dict.fromkeys(effect.does for effect in statement.effects))
            self._reading.lines.append(f"{stage.was} → {stage.to}: {one_line(statement.sql)} [{does}]")
        there = Way(was=stage.was, to=stage.to, commands=(*commands, *_plain(stage.down_books)))
        if stage.up is None:
            return there, None
        again = self._keeper.again(_parsed(stage.up, stage))
        return there, Way(was=stage.to, to=stage.was, commands=(*again, *_plain((*restored, *stage.up_books))))

    async def _by_tool(self, stage: Stage) -> tuple[Way, Way | None]:
        """The tool runs it in a session of its own, so nothing can be kept in its transaction."""
        self._reading.lines.append(
            f"{stage.was} → {stage.to}: {' '.join(stage.argv_down)} ({stage.why or 'by itself'})"
        )
        before = len(self._blind.kept.losses)
        if stage.preview is None:
            self._blind.kept.unknown.append(f"it is not known what {' '.join(stage.argv_down)} destroys")
        else:
            for statement in _parsed(stage.preview, stage):
                self._reading.lines.append(f"{stage.was} → {stage.to}: {one_line(statement.sql)}")
                await self._blind.take((statement,))
        if stage.why and "Python" in stage.why:
            self._blind.kept.unknown.append(f"{stage.was} runs Python, and what that does to rows is not known")
        directory = str(
            self._resource.context(self._variables).directory(getattr(self._resource.tool, "directory", "")) or ""
        )
        found = [loss.what for loss in self._blind.kept.losses[before:]]
        unsure = stage.preview is None or "Python" in stage.why
        loses = "; ".join([*found, *(["what nobody can tell beforehand"] if unsure else [])])
        there = Way(was=stage.was, to=stage.to, argv=stage.argv_down, directory=directory, loses=loses)
        if not stage.argv_up:
            return there, None
        return there, Way(was=stage.to, to=stage.was, argv=stage.argv_up, directory=directory)

    async def _table(self, name: str, columns: tuple[str, ...] | None) -> Table | None:
        rows = await self._schemas.rows(
            self._resource.database, TABLE, name, None if columns is None else list(columns)
        )
        if not rows:
            return None
        row = rows[0]
        if not row["ours"]:
            raise StepFailed(
                f"{name} belongs to another role: the one that is configured for the database cannot change it"
            )
        return Table(
            schema_name=row["schema"],
            views=tuple(tuple(view.rsplit("|", 1)) for view in row["views"]),
            columns=tuple(json.loads(row["columns"])),
            **{k: tuple((table, tuple(c)) for table, c in json.loads(row[k])) for k in ("along", "emptied")},
            **{
                key: tuple(row[key])
                for key in (
                    "key",
                    "triggers",
                    "children",
                    "follow",
                    "truncated",
                )
            },
            **{key: row[key] for key in ("name", "kind", "about", "ours", "inherits")},
        )

    async def _first(self) -> tuple[Command, ...]:
        """What makes the side schema ready. A role that may not make schemas can do with one that somebody made."""
        rows = await self._schemas.rows(
            self._resource.database,
            "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1) AS there,"
            " has_database_privilege(current_database(), 'CREATE') AS may",
            KEEP,
        )
        if not rows[0]["there"] and not rows[0]["may"] and any(c.keeps for c in self._keeper.kept.commands):
            raise StepFailed(
                f"the role of {self._resource.database} may not create the schema {KEEP}: grant it, or make the schema"
            )
        made = () if rows[0]["there"] else (f"CREATE SCHEMA IF NOT EXISTS {KEEP}",)
        return tuple(Command(sql=sql, keeps=True) for sql in (*made, PREPARE))


def _prepared(way: Way, first: tuple[Command, ...], tables: set[str]) -> Way:
    if not any(command.keeps for command in way.commands):
        return way
    lock = f"LOCK TABLE {', '.join(sorted(tables))} IN SHARE ROW EXCLUSIVE MODE"
    locks = (Command(sql=lock, keeps=True),) if tables else ()
    return way.model_copy(update={"commands": (*first, *locks, *way.commands)})


def _plain(statements: Iterable[str]) -> tuple[Command, ...]:
    return tuple(Command(sql=sql) for sql in statements)


def _whole(way: Way) -> bool:
    """Whether it is one transaction."""
    return bool(way.commands) and not any(command.alone for command in way.commands)


def _joined(first: Way, then: Way) -> Way:
    return first.model_copy(update={"to": then.to, "commands": (*first.commands, *then.commands)})


def _parsed(script: str, stage: Stage) -> tuple[Statement, ...]:
    try:
        return read(script)
    except ValueError as e:
        raise StepFailed(f"the migration from {stage.was} to {stage.to} cannot be read: {e}") from e

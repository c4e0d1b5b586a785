"""What Django alone knows of its migrations: squashes, how they change its table, and work outside of the SQL."""

from __future__ import annotations

import json
from typing import NamedTuple

from responder.errors import StepFailed

_Migration = tuple[str, str]

_MARKER = "rollback-migrations "

PRINT_GRAPH = f"""
import json
from django.apps import apps
from django.db import connection
from django.db.migrations.loader import MigrationLoader
loader = MigrationLoader(connection)
print("\\n{_MARKER}" + json.dumps([
    [
        [list(key), [list(name) for name in squash.replaces], key in loader.graph.nodes]
        for key, squash in loader.replacements.items()
    ],
    [
        list(key)
        for key, migration in loader.disk_migrations.items()
        if apps.is_installed("django.contrib.contenttypes")
        and any(type(operation).__name__ == "RenameModel" for operation in migration.operations)
    ],
]))
"""
"""Prints each squash with the migrations that it replaces, and whether Django uses it instead of them.

Then the migrations that rename a model with a content type: Django renames that in a signal, not in the migration.
"""


class RecordChange(NamedTuple):
    """How a downgrade changes the table of applied migrations."""

    removed: tuple[_Migration, ...]
    added: tuple[_Migration, ...]
    left: list[_Migration]  # those that stay, in their order, and the added ones


class MigrationGraph(NamedTuple):
    """The squashes, and the migrations that rename content types."""

    replaced: dict[_Migration, tuple[_Migration, ...]]
    used: frozenset[_Migration]  # Django uses them instead of those that they replace
    renames: frozenset[_Migration]

    @classmethod
    def parse(cls, output: str) -> MigrationGraph:
        """Reads the output of `PRINT_GRAPH`. Raises StepFailed if it is missing."""
        lines = [line for line in output.splitlines() if line.startswith(_MARKER)]
        if not lines:
            raise StepFailed("the output lacks them: is the command `shell` replaced?")
        squashes, renames = json.loads(lines[-1].removeprefix(_MARKER))
        replaced = {(app, name): tuple((a, n) for a, n in old) for (app, name), old, _ in squashes}
        used = frozenset((app, name) for (app, name), _, used in squashes if used)
        return cls(replaced, used, frozenset((app, name) for app, name in renames))

    def name_of(self, app: str, name: str) -> str:
        """The name under which Django knows the migration: that of a squash that ends with it."""
        ending = (
            key for key, replaced in self.replaced.items() if key in self.used and replaced[-1:] == ((app, name),)
        )
        return next((squash for other, squash in ending if other == app), name)

    def recorded(self, applied: list[_Migration]) -> list[_Migration]:
        """The applied migrations, with squashes whose migrations are all applied."""
        return [*applied, *self._completed(applied)]

    def unapply(self, migration: _Migration, applied: list[_Migration]) -> RecordChange:
        """The change when Django unapplies a migration: with a squash also those that it replaces.

        Django then records every squash whose migrations are all applied.
        """
        gone = {migration, *self.replaced.get(migration, ())}
        left = [kept for kept in applied if kept not in gone]
        added = self._completed(left)
        return RecordChange(tuple(name for name in applied if name in gone), added, [*left, *added])

    def _completed(self, applied: list[_Migration]) -> tuple[_Migration, ...]:
        return tuple(
            squash
            for squash, replaced in self.replaced.items()
            if squash not in applied and all(name in applied for name in replaced)
        )

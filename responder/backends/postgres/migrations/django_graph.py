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
from django.db.migrations import RunPython
from django.db.migrations.loader import MigrationLoader
READ = ("AlterField", "AlterUniqueTogether", "AlterIndexTogether", "AlterOrderWithRespectTo", "RenameIndex")
CHANGED = (*READ, "RenameField", "AlterModelTable", "AddConstraint", "RemoveConstraint", "AddIndex", "RemoveIndex")
loader = MigrationLoader(connection)
typed = apps.is_installed("django.contrib.contenttypes")
def unknown(app, name):
    from django.contrib.contenttypes.models import ContentType
    if ContentType._meta.db_table not in connection.introspection.table_names(): return False
    return not ContentType.objects.filter(app_label=app, model=name.lower()).exists()
def flat(operations):
    for operation in operations:
        yield from flat(operation.database_operations) if hasattr(operation, "database_operations") else [operation]
def reverts(operation):
    return operation.reduces_to_sql or isinstance(operation, RunPython) and operation.reverse_code is RunPython.noop
def model(operation):
    return str(getattr(operation, "model_name", None) or getattr(operation, "name", "")).lower()
def facts(key, migration):
    operations = [(type(operation).__name__, operation) for operation in flat(migration.operations)]
    renames = any(kind == "RenameModel" for kind, _ in operations)
    signals = typed and (
        renames or any(kind == "DeleteModel" and unknown(key[0], operation.name) for kind, operation in operations)
    )
    changed = [model(operation) for kind, operation in operations if kind in CHANGED]
    read = [model(operation) for kind, operation in operations if kind in READ]
    complete = all(reverts(operation) for _, operation in operations)
    return [list(key), signals, complete, read, changed, renames]
print("\\n{_MARKER}" + json.dumps([
    [
        [list(key), [list(name) for name in squash.replaces], key in loader.graph.nodes]
        for key, squash in loader.replacements.items()
    ],
    [facts(key, migration) for key, migration in loader.disk_migrations.items()],
]))
"""
"""Prints each squash with the migrations that it replaces, and whether Django uses it instead of them.

Then what only Django knows of each migration, as in `MigrationFacts`.
"""


class MigrationFacts(NamedTuple):
    """What the SQL of a migration does not show."""

    signals: bool = False  # Django changes content types as well, in a signal
    complete: bool = True  # the SQL of the downgrade is complete: Python does nothing in it
    read: frozenset[str] = frozenset()  # models whose constraints and indexes Django looks up to write the SQL
    changed: frozenset[str] = frozenset()  # models whose constraints, indexes or columns it changes
    renames: bool = False  # it renames a model, and with it columns of others

    def depends_on(self, others: list[MigrationFacts]) -> bool:
        """Whether its SQL depends on what those migrations change in the database."""
        return any(self.read & other.changed or (self.read and other.renames) for other in others)


class RecordChange(NamedTuple):
    """How a downgrade changes the table of applied migrations."""

    removed: tuple[_Migration, ...]
    added: tuple[_Migration, ...]
    left: list[_Migration]  # those that stay, in their order, and the added ones


class MigrationGraph(NamedTuple):
    """The squashes, and what the SQL of each migration does not show."""

    replaced: dict[_Migration, tuple[_Migration, ...]]
    used: frozenset[_Migration]  # Django uses them instead of those that they replace
    facts: dict[_Migration, MigrationFacts]

    @classmethod
    def parse(cls, output: str) -> MigrationGraph:
        """Reads the output of `PRINT_GRAPH`. Raises StepFailed if it is missing."""
        lines = [line for line in output.splitlines() if line.startswith(_MARKER)]
        if not lines:
            raise StepFailed("the output lacks them: is the command `shell` replaced?")
        squashes, listed = json.loads(lines[-1].removeprefix(_MARKER))
        replaced = {(app, name): tuple((a, n) for a, n in old) for (app, name), old, _ in squashes}
        used = frozenset((app, name) for (app, name), _, used in squashes if used)
        facts = {
            (app, name): MigrationFacts(signals, complete, frozenset(read), frozenset(changed), renames)
            for (app, name), signals, complete, read, changed, renames in listed
        }
        return cls(replaced, used, facts)

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

"""New constraints that existing rows violate: PostgreSQL would reject the statement in the middle of the rollback."""

from __future__ import annotations

import re

from responder.backends.postgres.ddl.constraints import new_constraints
from responder.backends.postgres.ddl.effects import Statement
from responder.backends.postgres.preservation.script import ScriptState, Violation
from responder.backends.postgres.sql import quoted

_KEEPS_ROWS = re.compile(r"(ALTER|COMMENT|CREATE|DROP|GRANT|LOCK|REVOKE|SET)\b", re.I)
_CHANGES = ("changes a type", "deletes rows", "unknown", "updates rows")


class ConstraintRecorder:
    """Records the constraints of a script, up to the first statement that may change the rows that they check."""

    def __init__(self, state: ScriptState) -> None:
        self._state, self._rows_are_known = state, True

    def rows_may_change(self) -> None:
        """Call it if something else changes rows before the next statement."""
        self._rows_are_known = False

    def record(self, statement: Statement) -> None:
        """Call it for each statement in order, before the names of the statement are followed."""
        names = self._state.names
        for constraint in new_constraints(statement.sql) if self._rows_are_known else ():
            table = quoted(constraint.table.name)  # the schema may be written or not
            created = any(name.endswith(table) for name in names.created)
            added = {column for name, column in names.added if name.endswith(table)}
            if not created and not added & set(re.findall(r"\w+", statement.sql)):
                query = constraint.count_sql.format(table=names.original(constraint.table))
                description = f"of {constraint.table} in conflict with {constraint.sql}"
                self._state.script.violations.append(Violation(constraint.unit, description, query))
        if not _KEEPS_ROWS.match(statement.sql) or any(effect.does in _CHANGES for effect in statement.effects):
            self._rows_are_known = False

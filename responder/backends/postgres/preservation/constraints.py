"""New constraints that existing rows violate: PostgreSQL would reject the statement in the middle of the rollback."""

from __future__ import annotations

import re

from responder.backends.postgres.ddl.constraints import Constraint, columns_without_value, new_constraints
from responder.backends.postgres.ddl.effects import Statement
from responder.backends.postgres.preservation.script import ScriptState, Violation
from responder.backends.postgres.sql import quoted

_KEEPS_ROWS = re.compile(r"(ALTER|COMMENT|CREATE|DROP|GRANT|LOCK|REVOKE|SET)\b", re.I)
_CHANGES = ("changes a type", "deletes rows", "unknown", "updates rows")


class ConstraintRecorder:
    """Records the constraints of a script, up to the first statement that may change the rows that they check."""

    def __init__(self, state: ScriptState) -> None:
        self._state, self._rows_are_known = state, True
        self._without_value: set[tuple[str, str]] = set()  # tables and columns that the script adds

    def rows_may_change(self) -> None:
        """Call it if something else changes rows before the next statement."""
        self._rows_are_known = False

    def record(self, statement: Statement) -> None:
        """Call it for each statement in order, before the names of the statement are followed."""
        for constraint in new_constraints(statement.sql) if self._rows_are_known else ():
            if query := self._query(constraint, statement.sql):
                description = f"of {constraint.table} in conflict with {constraint.sql}"
                self._state.script.violations.append(Violation(constraint.unit, description, query))
        self._without_value |= {(table.name, column) for table, column in columns_without_value(statement.sql)}
        if not _KEEPS_ROWS.match(statement.sql) or any(effect.does in _CHANGES for effect in statement.effects):
            self._rows_are_known = False

    def _query(self, constraint: Constraint, sql: str) -> str:
        """Counts the rows of today that violate the constraint. Empty if the script creates what it checks."""
        names, table = self._state.names, quoted(constraint.table.name)  # the schema may be written or not
        if any(name.endswith(table) for name in names.created):
            return ""
        original = names.original(constraint.table)
        if (constraint.table.name, constraint.column) in self._without_value:
            return f"SELECT count(*) FROM {original}"
        added = {column for name, column in names.added if name.endswith(table)}
        return "" if added & set(re.findall(r"\w+", sql)) else constraint.count_sql.format(table=original)

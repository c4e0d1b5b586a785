"""SQL that restores rows of several tables in any order, also if their foreign keys form a cycle."""

from __future__ import annotations

from collections.abc import Iterable

from responder.backends.postgres.sql import literal

_DEFER = """DO $rollback_keys$ DECLARE fk record; restore text := ''; BEGIN
 FOR fk IN SELECT conrelid::regclass AS owner, conname FROM pg_constraint WHERE contype = 'f' AND conparentid = 0
   AND NOT condeferrable AND conrelid IN ({tables}) AND confrelid IN ({tables}) ORDER BY oid LOOP
  EXECUTE format('ALTER TABLE %s ALTER CONSTRAINT %I DEFERRABLE', fk.owner, fk.conname);
  restore := restore || format('ALTER TABLE %s ALTER CONSTRAINT %I NOT DEFERRABLE;', fk.owner, fk.conname);
 END LOOP;
 PERFORM set_config('rollback_keep.immediate', restore, true);
END $rollback_keys$"""


def defer_foreign_keys(tables: Iterable[str]) -> tuple[str, str]:
    """Statements for the start of a transaction: PostgreSQL checks foreign keys among these tables at its end."""
    listed = ", ".join(f"to_regclass({literal(table)})" for table in dict.fromkeys(tables)) or "NULL"
    return _DEFER.format(tables=listed), "SET CONSTRAINTS ALL DEFERRED"


CHECK_FOREIGN_KEYS = (
    "SET CONSTRAINTS ALL IMMEDIATE",
    "DO $keys$ BEGIN EXECUTE coalesce(current_setting('rollback_keep.immediate', true), ''); END $keys$",
)
"""Statements for the end of that transaction: they check the foreign keys and restore their settings."""

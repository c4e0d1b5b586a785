"""SQL that lets rows of several tables come back in any order, also where their foreign keys form a circle."""

from __future__ import annotations

from collections.abc import Iterable

from responder.backends.postgres.sql import literal

_DEFER = """DO $rollback_keys$ DECLARE one record; again text := ''; BEGIN
 FOR one IN SELECT conrelid::regclass AS owner, conname FROM pg_constraint WHERE contype = 'f' AND conparentid = 0
   AND NOT condeferrable AND conrelid IN ({tables}) AND confrelid IN ({tables}) ORDER BY oid LOOP
  EXECUTE format('ALTER TABLE %s ALTER CONSTRAINT %I DEFERRABLE', one.owner, one.conname);
  again := again || format('ALTER TABLE %s ALTER CONSTRAINT %I NOT DEFERRABLE;', one.owner, one.conname);
 END LOOP;
 PERFORM set_config('rollback_keep.immediate', again, true);
END $rollback_keys$"""


def deferred(tables: Iterable[str]) -> tuple[str, str]:
    """Statements for the start of a transaction: foreign keys among these tables are checked at its end."""
    listed = ", ".join(f"to_regclass({literal(table)})" for table in dict.fromkeys(tables)) or "NULL"
    return _DEFER.format(tables=listed), "SET CONSTRAINTS ALL DEFERRED"


CHECKED = (
    "SET CONSTRAINTS ALL IMMEDIATE",
    "DO $keys$ BEGIN EXECUTE coalesce(current_setting('rollback_keep.immediate', true), ''); END $keys$",
)
"""Statements for the end of it: the foreign keys are checked, and are as they were before."""

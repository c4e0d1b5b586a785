"""SQL that restores data without firing the triggers of the tables: their effects happened when it was written."""

from __future__ import annotations

from collections.abc import Iterable

from responder.backends.postgres.sql import literal

_SILENCE = """DO $rollback_triggers$ DECLARE t record; enable text := ''; BEGIN
 FOR t IN WITH RECURSIVE tree(oid) AS (SELECT unnest(ARRAY[{tables}]::regclass[])::oid
    UNION SELECT inhrelid FROM pg_inherits JOIN tree ON inhparent = tree.oid)
   SELECT tgrelid::regclass AS owner, tgname, CASE tgenabled WHEN 'A' THEN 'ALWAYS ' ELSE '' END AS mode
     FROM pg_trigger JOIN tree ON tgrelid = tree.oid WHERE NOT tgisinternal AND tgenabled IN ('O', 'A')
    ORDER BY tgrelid, tgname LOOP
  IF enable = '' THEN SET CONSTRAINTS ALL IMMEDIATE; END IF;
  EXECUTE format('ALTER TABLE ONLY %s DISABLE TRIGGER %I', t.owner, t.tgname);
  enable := enable || format('ALTER TABLE ONLY %s ENABLE %sTRIGGER %I;', t.owner, t.mode, t.tgname);
 END LOOP;
 PERFORM set_config('rollback_keep.triggers', enable, true);
END $rollback_triggers$"""


def silence_triggers(tables: Iterable[str]) -> str:
    """Disables the enabled triggers of the tables and their partitions. The role must own those with triggers."""
    listed = ", ".join(f"to_regclass({literal(table)})" for table in dict.fromkeys(tables))
    return _SILENCE.format(tables=listed)


ENABLE_TRIGGERS = """DO $triggers$ DECLARE enable text := current_setting('rollback_keep.triggers', true); BEGIN
 IF enable <> '' THEN SET CONSTRAINTS ALL IMMEDIATE; EXECUTE enable; END IF;
 PERFORM set_config('rollback_keep.triggers', '', true);
END $triggers$"""
"""Enables them again as they were, in the same transaction.

PostgreSQL alters no table with pending checks, so deferred constraints are checked first.
"""

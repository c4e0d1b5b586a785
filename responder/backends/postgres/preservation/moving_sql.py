"""PL/pgSQL that moves objects into the side schema.

It reads the catalogs when it runs, not when the plan is made: earlier statements of the migration may have changed
indexes, keys, sequences and partitions.
"""

from __future__ import annotations

from responder.backends.postgres.catalog import KEEP
from responder.backends.postgres.sql import Name, literal

_BLOCK = "DO $rollback_keep$ {} $rollback_keep$"

# `{prefix}` and the counter make each new name unique in the side schema; PostgreSQL cuts names to 63 bytes.
_MOVE_TABLE = """DECLARE top oid := {found}; part regclass; sql text; n int := 0;
BEGIN
 FOR part IN WITH RECURSIVE below(oid) AS (SELECT top WHERE top IS NOT NULL
    UNION SELECT inhrelid FROM pg_inherits JOIN below ON inhparent = below.oid WHERE {children})
   SELECT b.oid FROM below b JOIN pg_class c ON c.oid = b.oid
    WHERE c.relnamespace <> {keep_schema}::regnamespace ORDER BY b.oid <> top
 LOOP
  FOR sql IN
   SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname) FROM pg_constraint
    WHERE contype = 'f' AND conparentid = 0 AND (conrelid = part OR {cascade} AND confrelid = part)
   UNION ALL SELECT format('DROP TRIGGER %I ON %s', tgname, part) FROM pg_trigger
    WHERE tgrelid = part AND NOT tgisinternal AND tgparentid = 0
   UNION ALL SELECT format('DROP RULE %I ON %s', rulename, part) FROM pg_rewrite WHERE ev_class = part
   UNION ALL SELECT format('DROP POLICY %I ON %s', polname, part) FROM pg_policy WHERE polrelid = part
   UNION ALL SELECT format('ALTER TABLE %s NO FORCE ROW LEVEL SECURITY', part) FROM pg_class
    WHERE oid = part AND relforcerowsecurity
   UNION ALL SELECT format('DROP STATISTICS %s.%I', stxnamespace::regnamespace, stxname) FROM pg_statistic_ext
    WHERE stxrelid = part
   UNION ALL SELECT format('ALTER PUBLICATION %I DROP TABLE ONLY %s', pubname, part)
     FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
    WHERE prrelid = part AND pg_has_role(pubowner, 'USAGE')
  LOOP EXECUTE sql; END LOOP;
  WHILE {cascade} LOOP
   SELECT format('DROP %sVIEW %s CASCADE', CASE v.relkind WHEN 'm' THEN 'MATERIALIZED ' END, v.oid::regclass)
     INTO sql FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid JOIN pg_class v ON v.oid = r.ev_class
    WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = part
      AND v.relkind IN ('v', 'm') LIMIT 1;
   EXIT WHEN NOT FOUND;
   EXECUTE sql;
  END LOOP;
  FOR sql IN
   SELECT format('ALTER %s %s RENAME TO %I', kind, oid::regclass,
      left({prefix} || '-' || n + row_number() OVER (ORDER BY oid) || '_' || relname, 63)) FROM (
     SELECT 'INDEX', indexrelid FROM pg_index WHERE indrelid = part
     UNION ALL SELECT 'SEQUENCE', objid FROM pg_depend WHERE classid = 'pg_class'::regclass
       AND refclassid = 'pg_class'::regclass AND refobjid = part AND deptype IN ('a', 'i')) AS own(kind, oid)
     JOIN pg_class USING (oid) WHERE kind = 'INDEX' OR relkind = 'S'
  LOOP EXECUTE sql; n := n + 1; END LOOP;
  n := n + 1;
  EXECUTE format('ALTER TABLE %s RENAME TO %I', part, CASE part WHEN top THEN {copy}
    ELSE left({prefix} || '-' || n || '_' || (SELECT relname FROM pg_class WHERE oid = part), 63) END);
  EXECUTE format('ALTER TABLE %s SET SCHEMA %I', part, {keep_schema});
 END LOOP;
END"""

_CHILD = """(SELECT c FROM to_regclass({name}) AS c WHERE to_regclass({parent}) IN (
  WITH RECURSIVE above(oid) AS (SELECT inhparent FROM pg_inherits WHERE inhrelid = c
    UNION SELECT inhparent FROM pg_inherits JOIN above ON inhrelid = above.oid) SELECT oid FROM above))"""

_MOVE_TYPE = """DECLARE obj regtype := {found};
BEGIN
 IF EXISTS (SELECT FROM pg_type WHERE oid = obj AND typtype <> 'r') THEN
  EXECUTE format('ALTER TYPE %s RENAME TO %I', obj, {copy});
  EXECUTE format('ALTER TYPE %s SET SCHEMA %I', obj, {keep_schema});
 END IF;
END"""

_MOVE_SEQUENCE = """DECLARE obj regclass := {found};
BEGIN
 IF obj IS NOT NULL THEN
  EXECUTE format('ALTER SEQUENCE %s OWNED BY NONE', obj);
  EXECUTE format('ALTER SEQUENCE %s RENAME TO %I', obj, {copy});
  EXECUTE format('ALTER SEQUENCE %s SET SCHEMA %I', obj, {keep_schema});
 END IF;
END"""


def move_table(name: Name, copy: str, prefix: str, *, cascade: bool, child_of: str = "") -> str:
    """Moves a table and its child tables with their indexes and sequences, each under a new name.

    It drops their triggers, rules, policies, foreign keys, statistics and publications: preserved data must not affect
    live tables. With `cascade` it also drops foreign keys and views that depend on them. With `child_of` it moves only
    the table itself, and only if that still inherits from the named one.
    """
    found = f"{literal(str(name))}::regclass"
    if child_of:
        found = _CHILD.format(name=literal(str(name)), parent=literal(child_of))
    values = {"found": found, "copy": literal(copy), "prefix": literal(prefix)}
    values |= {"cascade": str(cascade).lower(), "children": str(not child_of).lower()}
    return _block(_MOVE_TABLE, **values)


_DROP_RANGE = """BEGIN
 IF EXISTS (SELECT FROM pg_type WHERE oid = to_regtype({object}) AND typtype = 'r') THEN
  EXECUTE 'DROP TYPE ' || {object};
 END IF;
END"""


def drop_range(name: Name) -> str:
    """Drops a range type, which cannot be moved: its functions would stay."""
    return _block(_DROP_RANGE, object=literal(str(name)))


def move_object(kind: str, name: Name, copy: str, *, if_exists: bool) -> str:
    """Moves a TYPE or a SEQUENCE. The SQL fails for a missing one unless `if_exists` is set. Range types stay."""
    cast = {"TYPE": "regtype", "SEQUENCE": "regclass"}[kind]
    found = f"to_{cast}({literal(str(name))})" if if_exists else f"{literal(str(name))}::{cast}"
    return _block(_MOVE_TYPE if kind == "TYPE" else _MOVE_SEQUENCE, found=found, copy=literal(copy))


def _block(body: str, **values: str) -> str:
    return _BLOCK.format(body.format(keep_schema=literal(KEEP), **values))


_DROPPED = {
    "TYPE": "SELECT 'pg_type'::regclass, to_regtype({object})::oid",
    "SEQUENCE": "SELECT 'pg_class'::regclass, to_regclass({object})::oid",
    "COLLATION": "SELECT 'pg_collation'::regclass, to_regcollation({object})::oid",
    "EXTENSION": "SELECT classid, objid FROM pg_depend WHERE refclassid = 'pg_extension'::regclass"
    " AND refobjid = (SELECT oid FROM pg_extension WHERE extname = {bare})",
    "SCHEMA": "SELECT classid, objid FROM pg_depend WHERE refclassid = 'pg_namespace'::regclass"
    " AND refobjid = to_regnamespace({object})",
    "FUNCTION": "SELECT 'pg_proc'::regclass, oid FROM pg_proc WHERE proname = {bare}"
    " AND ({schema} = '' OR pronamespace = to_regnamespace(quote_ident({schema})))",
}
_DROPPED["DOMAIN"] = _DROPPED["TYPE"]
_DROPPED |= dict.fromkeys(("PROCEDURE", "ROUTINE", "AGGREGATE"), _DROPPED["FUNCTION"])

_DEPENDENTS = """
WITH RECURSIVE dropped(classid, objid) AS (SELECT * FROM ({dropped}) AS named(classid, objid) WHERE objid IS NOT NULL
    UNION SELECT d.classid, d.objid FROM dropped g JOIN pg_depend d ON d.refclassid = g.classid AND d.refobjid = g.objid
     WHERE d.classid = 'pg_type'::regclass)
SELECT format('%I.%I', n.nspname, c.relname) AS name, array_remove(array_agg(a.attname::text), NULL) AS columns
  FROM (SELECT objid, 0 AS objsubid FROM dropped WHERE classid = 'pg_class'::regclass
    UNION SELECT d.objid, d.objsubid FROM pg_depend d
      JOIN dropped g ON d.refclassid = g.classid AND d.refobjid = g.objid AND d.classid = 'pg_class'::regclass
     WHERE d.objsubid > 0) AS found
  JOIN pg_class c ON c.oid = objid AND c.relkind IN ('r', 'p') JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = objsubid
 WHERE n.nspname <> {keep_schema} AND (objsubid = 0 OR a.attinhcount = 0)
   AND (objsubid > 0 OR NOT EXISTS (SELECT FROM pg_inherits JOIN dropped p
          ON p.classid = 'pg_class'::regclass AND p.objid = inhparent WHERE inhrelid = c.oid))
 GROUP BY n.nspname, c.relname, objsubid = 0 ORDER BY 1
"""


def dependents(kind: str, names: tuple[Name, ...]) -> str:
    """The query for the tables and columns that a DROP … CASCADE of these objects drops too. No columns: the table."""
    return _DEPENDENTS.format(dropped=_dropped(kind, names), keep_schema=literal(KEEP))


# Parents come before children, which inherit the change. A column comes after what is computed from it.
_DETACH = """DECLARE sql text;
BEGIN
 LOOP
  WITH RECURSIVE dropped(classid, objid) AS (SELECT * FROM ({dropped}) AS named(classid, objid) WHERE objid IS NOT NULL
    UNION SELECT d.classid, d.objid FROM dropped g JOIN pg_depend d ON d.refclassid = g.classid AND d.refobjid = g.objid
     WHERE d.classid IN ('pg_type'::regclass, 'pg_proc'::regclass, 'pg_opclass'::regclass, 'pg_opfamily'::regclass,
       'pg_operator'::regclass)),
   dependent AS (SELECT d.classid, d.objid, d.objsubid
     FROM pg_depend d JOIN dropped g ON d.refclassid = g.classid AND d.refobjid = g.objid),
   preserved(oid) AS (SELECT oid FROM pg_class WHERE relnamespace = to_regnamespace({keep_schema}))
  SELECT change INTO sql FROM (
   SELECT 1, conrelid, format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname)
     FROM dependent JOIN pg_constraint k ON classid = 'pg_constraint'::regclass AND objid = k.oid
     JOIN preserved ON preserved.oid = conrelid WHERE coninhcount = 0
   UNION ALL SELECT 2, indexrelid, coalesce(
      (SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', indrelid::regclass, conname)
         FROM pg_constraint WHERE conindid = indexrelid AND conrelid = indrelid),
      format('DROP INDEX %s', indexrelid::regclass))
     FROM dependent JOIN pg_index ON classid = 'pg_class'::regclass AND objid = indexrelid
     JOIN preserved ON preserved.oid = indrelid
    WHERE NOT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = indexrelid)
   UNION ALL SELECT 3, adrelid, format('ALTER TABLE %s ALTER %I DROP %s', adrelid::regclass, attname,
      CASE WHEN attgenerated = '' THEN 'DEFAULT' ELSE 'EXPRESSION' END)
     FROM dependent JOIN pg_attrdef f ON classid = 'pg_attrdef'::regclass AND objid = f.oid
     JOIN preserved ON preserved.oid = adrelid
     JOIN pg_attribute ON attrelid = adrelid AND attnum = adnum WHERE attinhcount = 0 OR attgenerated = ''
   UNION ALL SELECT 4, attrelid, format('ALTER TABLE %s ALTER %I TYPE text COLLATE "default" USING %I::text',
      attrelid::regclass, attname, attname)
     FROM dependent JOIN pg_attribute ON classid = 'pg_class'::regclass AND attrelid = objid AND attnum = objsubid
     JOIN preserved ON preserved.oid = attrelid WHERE attinhcount = 0 AND NOT attisdropped
  ) AS todo(rank, oid, change) ORDER BY rank, oid LIMIT 1;
  EXIT WHEN NOT FOUND;
  EXECUTE sql;
 END LOOP;
END"""


def detach(kind: str, names: tuple[Name, ...]) -> str:
    """Removes the dependencies of preserved data on objects that are about to be dropped.

    Values of their types become text, and expressions with their functions are dropped. Otherwise PostgreSQL would
    refuse the DROP, or CASCADE would drop preserved values.
    """
    return _block(_DETACH, dropped=_dropped(kind, names))


def _dropped(kind: str, names: tuple[Name, ...]) -> str:
    values = (
        {"object": literal(str(name)), "bare": literal(name.name), "schema": literal(name.schema)} for name in names
    )
    return " UNION ALL ".join(_DROPPED[kind].format(**value) for value in values)

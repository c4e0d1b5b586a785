"""Queries of the catalogs of PostgreSQL: the parts of a table, and a fingerprint of the schema."""

from __future__ import annotations

from foundation.models import FrozenModel

KEEP = "rollback_keep"
"""The side schema, which holds preserved data. Fingerprints leave it out."""

_SCHEMAS = "n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'rollback_keep', 'pgroll')"

FINGERPRINT = f"""
WITH facts(line) AS (
  SELECT format('column %I.%I.%I %s %s %s %s %s', n.nspname, c.relname, a.attname, format_type(a.atttypid, a.atttypmod),
                a.attnotnull, a.attidentity, a.attgenerated, pg_get_expr(d.adbin, d.adrelid))
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
   WHERE {_SCHEMAS} AND a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'f') AND NOT c.relispartition
  UNION ALL
  SELECT format('relation %s %I.%I %s %s %s', c.relkind, n.nspname, c.relname, c.relpersistence,
                c.relrowsecurity, c.relforcerowsecurity)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
   WHERE {_SCHEMAS} AND c.relkind IN ('r', 'p', 'f', 'S', 'c') AND NOT c.relispartition
  UNION ALL
  SELECT format('constraint %I.%I.%I %s %s', n.nspname, coalesce(c.relname, t.typname), k.conname,
                pg_get_constraintdef(k.oid), k.convalidated)
    FROM pg_constraint k JOIN pg_namespace n ON n.oid = k.connamespace
    LEFT JOIN pg_class c ON c.oid = k.conrelid LEFT JOIN pg_type t ON t.oid = k.contypid
   WHERE {_SCHEMAS} AND NOT coalesce(c.relispartition, false) AND k.contype <> 't'
  UNION ALL
  SELECT format('index %s %s', pg_get_indexdef(i.indexrelid), i.indisvalid)
    FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
   WHERE {_SCHEMAS} AND NOT c.relispartition
  UNION ALL
  SELECT format('view %I.%I %s', n.nspname, c.relname, pg_get_viewdef(c.oid))
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {_SCHEMAS} AND c.relkind IN ('v', 'm')
  UNION ALL
  SELECT format('function %s', pg_get_functiondef(p.oid))
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
   WHERE {_SCHEMAS} AND p.prokind IN ('f', 'p')
     AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.objid = p.oid AND e.deptype = 'e')
  UNION ALL
  SELECT format('trigger %s %s', pg_get_triggerdef(t.oid), t.tgenabled)
    FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
   WHERE {_SCHEMAS} AND NOT t.tgisinternal AND NOT c.relispartition AND t.tgname NOT LIKE 'rollback_keep%'
  UNION ALL
  SELECT format('type %I.%I %s %s %s %s', n.nspname, t.typname, t.typtype,
                (SELECT string_agg(e.enumlabel, ',' ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid),
                format_type(nullif(t.typbasetype, 0), t.typtypmod), t.typnotnull)
    FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE {_SCHEMAS} AND t.typtype IN ('e', 'd', 'r')
  UNION ALL
  SELECT format('policy %I.%I.%I %s %s %s', n.nspname, c.relname, p.polname, p.polcmd,
                pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
    FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace
   WHERE {_SCHEMAS}
)
SELECT left(encode(sha256(convert_to(coalesce(string_agg(line, E'\\n' ORDER BY line COLLATE "C"), ''), 'UTF8')),
                   'hex'), 32) AS fingerprint FROM facts
"""
"""Everything that migrations create. Partitions and statistics are left out: they change without migrations."""

INVALID_OBJECTS = f"""
SELECT 'index ' || i.indexrelid::regclass || ' is invalid' AS problem
  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE NOT i.indisvalid AND c.relkind = 'i' AND {_SCHEMAS}
UNION ALL
SELECT format('constraint %I on %s is not validated', k.conname, coalesce(k.conrelid::regclass::text, 'a domain'))
  FROM pg_constraint k JOIN pg_namespace n ON n.oid = k.connamespace WHERE NOT k.convalidated AND {_SCHEMAS}
 ORDER BY 1
"""

TABLE = """
SELECT n.nspname AS schema, c.relname AS name, c.relkind::text AS kind,
       pg_get_userbyid(c.relowner) = current_user OR pg_has_role(c.relowner, 'USAGE') AS owned,
  ARRAY(SELECT a.attname::text FROM unnest((
      SELECT (i.indkey::int2[])[0:i.indnkeyatts - 1] FROM pg_index i
       WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
         AND i.indimmediate
         AND NOT EXISTS (SELECT FROM unnest((i.indkey::int2[])[0:i.indnkeyatts - 1]) k
                           JOIN pg_attribute x ON x.attrelid = c.oid AND x.attnum = k WHERE NOT x.attnotnull)
       ORDER BY i.indisprimary DESC, i.indnatts, i.indexrelid LIMIT 1)) WITH ORDINALITY AS k(num, at)
      JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.num ORDER BY k.at) AS key,
  (SELECT coalesce(json_agg(json_build_object('name', a.attname, 'type', format_type(a.atttypid, a.atttypmod),
        'built_in', coalesce(e.typnamespace, t.typnamespace) = 'pg_catalog'::regnamespace,
        'generated', a.attgenerated <> '',
        'serial', pg_get_serial_sequence(format('%I.%I', n.nspname, c.relname), a.attname) IS NOT NULL)
      ORDER BY a.attnum), '[]')
     FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
     LEFT JOIN pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)::text AS columns,
  ARRAY(WITH RECURSIVE seen(oid) AS (SELECT r.ev_class FROM pg_depend d
          JOIN pg_rewrite r ON r.oid = d.objid AND d.classid = 'pg_rewrite'::regclass
         WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid AND r.ev_class <> c.oid
           AND ($2::text[] IS NULL OR d.refobjsubid IN (SELECT attnum FROM pg_attribute
                 WHERE attrelid = c.oid AND attname = ANY ($2)))
        UNION SELECT r.ev_class FROM seen s
          JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = s.oid
          JOIN pg_rewrite r ON r.oid = d.objid AND d.classid = 'pg_rewrite'::regclass)
        SELECT format('%s|%s', v.oid::regclass, v.relkind) FROM seen JOIN pg_class v USING (oid)
         WHERE v.relkind IN ('v', 'm') ORDER BY v.oid) AS views,
  ARRAY(SELECT format('%I', t.tgname) FROM pg_trigger t
     WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgparentid = 0 ORDER BY 1) AS triggers,
  ARRAY(WITH RECURSIVE below(oid) AS (SELECT inhrelid FROM pg_inherits WHERE inhparent = c.oid
            UNION SELECT i.inhrelid FROM pg_inherits i JOIN below b ON i.inhparent = b.oid)
        SELECT format('%I.%I', m.nspname, b.relname) FROM below JOIN pg_class b USING (oid)
          JOIN pg_namespace m ON m.oid = b.relnamespace ORDER BY 1) AS children,
  EXISTS (SELECT FROM pg_inherits WHERE inhrelid = c.oid) AS inherits,
  ARRAY(WITH RECURSIVE top(oid) AS (SELECT c.oid
            UNION SELECT i.inhrelid FROM pg_inherits i JOIN top t ON i.inhparent = t.oid),
          hit(oid, depth) AS (SELECT oid, 0 FROM top UNION SELECT k.conrelid, h.depth + 1
            FROM pg_constraint k JOIN hit h ON k.confrelid = h.oid
           WHERE k.contype = 'f' AND k.conparentid = 0 AND k.confdeltype = 'c' AND h.depth < 20)
        SELECT format('%I.%I', m.nspname, b.relname) FROM hit JOIN pg_class b USING (oid)
          JOIN pg_namespace m ON m.oid = b.relnamespace WHERE hit.depth > 0
         GROUP BY 1 ORDER BY max(hit.depth) DESC, 1) AS cascaded,
  ARRAY(WITH RECURSIVE top(oid) AS (SELECT c.oid
            UNION SELECT i.inhrelid FROM pg_inherits i JOIN top t ON i.inhparent = t.oid),
          hit(oid, depth) AS (SELECT oid, 0 FROM top UNION SELECT k.conrelid, h.depth + 1
            FROM pg_constraint k JOIN hit h ON k.confrelid = h.oid
           WHERE k.contype = 'f' AND k.conparentid = 0 AND h.depth < 20)
        SELECT format('%I.%I', m.nspname, b.relname) FROM hit JOIN pg_class b USING (oid)
          JOIN pg_namespace m ON m.oid = b.relnamespace WHERE hit.depth > 0
         GROUP BY 1 ORDER BY max(hit.depth) DESC, 1) AS truncated,
  (WITH RECURSIVE top(oid) AS (SELECT c.oid
            UNION SELECT i.inhrelid FROM pg_inherits i JOIN top t ON i.inhparent = t.oid),
          hit(oid) AS (SELECT oid FROM top UNION SELECT k.conrelid
            FROM pg_constraint k JOIN hit h ON k.confrelid = h.oid
           WHERE k.contype = 'f' AND k.conparentid = 0 AND k.confdeltype = 'c')
    SELECT coalesce(json_agg(json_build_array(format('%I.%I', m.nspname, b.relname),
            ARRAY(SELECT attname FROM pg_attribute WHERE attrelid = b.oid AND attnum = ANY (k.conkey)))
          ORDER BY k.oid), '[]')
      FROM pg_constraint k JOIN pg_class b ON b.oid = k.conrelid JOIN pg_namespace m ON m.oid = b.relnamespace
     WHERE k.contype = 'f' AND k.conparentid = 0 AND k.confdeltype IN ('n', 'd')
       AND k.confrelid IN (SELECT oid FROM hit))::text AS cleared,
  (SELECT coalesce(json_agg(json_build_array(format('%I.%I', m.nspname, b.relname),
            ARRAY(SELECT attname FROM pg_attribute WHERE attrelid = b.oid AND attnum = ANY (k.conkey)))
          ORDER BY k.oid), '[]')
     FROM pg_constraint k JOIN pg_class b ON b.oid = k.conrelid JOIN pg_namespace m ON m.oid = b.relnamespace
    WHERE k.contype = 'f' AND k.confrelid = c.oid AND k.conparentid = 0 AND k.confupdtype IN ('c', 'n', 'd')
      AND EXISTS (SELECT FROM pg_attribute WHERE attrelid = c.oid AND attnum = ANY (k.confkey)
                    AND attname = ANY ($2)))::text AS updated_with
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.oid = to_regclass($1)
"""

BLOCKERS = """
SELECT a.pid, a.usename::text AS role, a.application_name AS application, c.oid::regclass::text AS relation,
       extract(epoch FROM clock_timestamp() - a.xact_start)::float8 AS age, a.state, left(a.query, 200) AS query,
       pg_blocking_pids(a.pid) AS waits_for
  FROM pg_locks l JOIN pg_stat_activity a USING (pid) JOIN pg_class c ON c.oid = l.relation
 WHERE l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND c.oid = ANY (SELECT to_regclass(t) FROM unnest($1::text[]) AS t) AND a.pid <> pg_backend_pid()
   AND (a.xact_start < clock_timestamp() - make_interval(secs => $2) OR NOT l.granted)
UNION ALL
SELECT NULL, p.owner::text, p.gid, c.oid::regclass::text, extract(epoch FROM clock_timestamp() - p.prepared)::float8,
       'prepared', '', '{}'
  FROM pg_prepared_xacts p JOIN pg_locks own ON own.transactionid = p.transaction AND own.pid IS NULL
  JOIN pg_locks l ON l.virtualtransaction = own.virtualtransaction AND l.pid IS NULL
  JOIN pg_class c ON c.oid = l.relation
 WHERE p.database = current_database() AND c.oid = ANY (SELECT to_regclass(t) FROM unnest($1::text[]) AS t)
   AND p.prepared < clock_timestamp() - make_interval(secs => $2)
 ORDER BY age DESC NULLS LAST, pid
"""
"""Sessions and prepared transactions that hold or wait for locks of the tables; prepared ones without a process."""

EVENT_TRIGGERS = """
SELECT format('%I on %s', evtname, evtevent) AS trigger FROM pg_event_trigger WHERE evtenabled IN ('O', 'A') ORDER BY 1
"""

PUBLISHED_COPIES = """
SELECT quote_ident(pubname) AS publication FROM pg_publication WHERE puballtables AND EXISTS (
  SELECT FROM pg_replication_slots WHERE plugin = 'pgoutput' AND database = current_database()) ORDER BY 1
"""
"""Publications that also publish new tables, while a subscriber may exist."""

FOLLOWERS = """
SELECT format('replica %s (%s)', application_name, state) AS follower FROM pg_stat_replication
UNION ALL
SELECT format('%s slot %s%s', slot_type, slot_name, CASE WHEN active THEN '' ELSE ', inactive' END)
  FROM pg_replication_slots WHERE slot_type = 'logical' AND database = current_database()
 ORDER BY 1
"""


class Column(FrozenModel):
    """One column of a table."""

    name: str
    type: str
    built_in: bool
    generated: bool
    serial: bool


class Table(FrozenModel):
    """One table, as the catalogs describe it."""

    schema_name: str
    name: str
    kind: str
    owned: bool  # the role of the database owns it
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    views: tuple[tuple[str, str], ...]  # that depend on the table or on the queried columns, each with its kind
    triggers: tuple[str, ...]
    children: tuple[str, ...]
    inherits: bool  # from another table
    cascaded: tuple[str, ...]  # tables that ON DELETE CASCADE reaches; the table itself if keys form a cycle
    cleared: tuple[tuple[str, tuple[str, ...]], ...]  # columns that ON DELETE sets to NULL or a default
    updated_with: tuple[tuple[str, tuple[str, ...]], ...]  # columns that ON UPDATE changes with the queried columns
    truncated: tuple[str, ...]  # tables that TRUNCATE … CASCADE empties

    def column(self, name: str) -> Column | None:
        return next((column for column in self.columns if column.name == name), None)

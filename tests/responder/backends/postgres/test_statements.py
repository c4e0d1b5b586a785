"""Effects are derived from the statements; an unparsed statement is unknown, which counts as a loss."""

from __future__ import annotations

import pytest

from responder.backends.postgres.ddl.parser import parse_script, parse_statement
from responder.backends.postgres.sql import split_statements


@pytest.mark.parametrize(
    ("sql", "does"),
    [
        ("ALTER TABLE a DROP COLUMN b", "drops columns a.b"),
        ("alter table A drop B", "drops columns a.b"),
        ('ALTER TABLE ONLY "S"."A" DROP COLUMN IF EXISTS "B" CASCADE', "drops columns S.A.B"),
        ("ALTER TABLE a DROP b, ADD c int", "drops columns a.b; adds a column a.c"),
        ("DROP TABLE a, s.b CASCADE", "drops a table a; drops a table s.b"),
        ("DROP TYPE mood", "drops a type mood"),
        ('DROP TYPE s."Mood"', "drops a type s.Mood"),
        ("DROP SEQUENCE s", "drops a sequence s"),
        ("TRUNCATE a, b", "deletes rows a; deletes rows b"),
        ("DELETE FROM a WHERE b = ';' -- c", "deletes rows a"),
        ("UPDATE a SET b = 1, c = 2", "updates rows a.b,c"),
        ("ALTER TABLE a ALTER b TYPE int USING b::int", "changes a type a.b"),
        ("ALTER TABLE a RENAME b TO c", "renames a.b"),
        ("ALTER TABLE a RENAME TO c", "renames a"),
        ("CREATE TABLE a (id int)", "creates a table a"),
        ("INSERT INTO a VALUES (1)", "nothing lossy"),
        ("ALTER TABLE a DROP CONSTRAINT b", "nothing lossy a"),
        ("ALTER TABLE a ALTER b SET NOT NULL", "nothing lossy a"),
        ("ALTER TABLE a ALTER b DROP DEFAULT", "nothing lossy a"),
        ("ALTER TABLE a ENABLE ROW LEVEL SECURITY", "nothing lossy a"),
        ("ALTER TYPE mood ADD VALUE 'x'", "nothing lossy"),
        ("CREATE FUNCTION f() RETURNS int AS $$ BEGIN DELETE FROM a; END $$ LANGUAGE plpgsql", "nothing lossy"),
        ("DROP INDEX CONCURRENTLY i", "nothing lossy i"),
        ("COMMENT ON TABLE a IS 'b'", "nothing lossy"),
        ("SET client_min_messages = warning", "nothing lossy"),
        ("ALTER TABLE a DISABLE TRIGGER USER", "nothing lossy a"),
        ("SET LOCAL lock_timeout = '0'", "sets a limit"),
        ("SET statement_timeout TO 0", "sets a limit"),
        ("ABORT", "begins or commits"),
        ("PREPARE TRANSACTION 'x'", "begins or commits"),
        ("UPDATE a SET (b, c) = (1, 2), d[1] = 5, e.f = 6", "updates rows a.b,c,d,e"),
        ("DROP TABLE Ärger", "drops a table Ärger"),
        ("INSERT INTO a VALUES (gen_random_uuid(), now(), lower('X'))", "nothing lossy"),
        # unknown
        ("SET search_path TO other", "sets the search path"),
        ("select set_config('search_path', '', true)", "sets the search path"),
        ("SET ROLE other", "unknown"),
        ("SET row_security = on", "unknown"),
        ("SET standard_conforming_strings = off", "unknown"),
        ("SET application_name = 'x'", "unknown"),
        ("ALTER TABLE a OWNER TO b, DROP COLUMN c", "unknown"),
        ("ALTER TABLE a DISABLE TRIGGER ALL, DROP COLUMN b", "unknown"),
        ("ALTER TABLE a VALIDATE CONSTRAINT c, DROP COLUMN b", "unknown"),
        ("DROP CAST (a AS b) CASCADE", "unknown"),
        ("DROP AGGREGATE f(int) CASCADE", "unknown"),
        ("DROP OPERATOR + (a, b) CASCADE", "unknown"),
        ("INSERT INTO a SELECT lo_unlink(b) FROM c", "nothing lossy; unknown"),
        ("CREATE TABLE a AS SELECT purge()", "creates a table a; unknown"),
        ("DO $$ BEGIN END $$", "unknown"),
        ("SELECT purge()", "unknown"),
        ("CALL purge()", "unknown"),
        ("DROP SCHEMA s CASCADE", "unknown"),
        ("DROP OWNED BY x", "unknown"),
        ("DROP EXTENSION x CASCADE", "unknown"),
        ("DROP FUNCTION f() CASCADE", "unknown"),
        ("ALTER TABLE a DROP CONSTRAINT b CASCADE", "unknown"),
        ("ALTER TABLE a SET SCHEMA b", "renames a"),
        ("ALTER TABLE a DETACH PARTITION b", "unknown"),
        ("WITH x AS (DELETE FROM a RETURNING *) INSERT INTO b SELECT * FROM x", "unknown"),
        ("INSERT INTO a VALUES (1) ON CONFLICT (id) DO UPDATE SET b = 2", "unknown"),
        ("MERGE INTO a USING b ON a.id = b.id WHEN MATCHED THEN DELETE", "unknown"),
        ("COPY a FROM '/tmp/x'", "unknown"),
        ("TRUNCATE PLEASE a b c", "unknown"),
        ("not SQL at all", "unknown"),
        # the parser does not support several names
        ("DROP TYPE a, s.b", "drops a type a; drops a type s.b"),
        ("DROP TYPE IF EXISTS a, b CASCADE", "unknown"),
        ("DROP SEQUENCE a, b RESTRICT", "drops a sequence a; drops a sequence b"),
        ("DROP INDEX a, b", "nothing lossy"),
        ("DROP FUNCTION f, g", "nothing lossy"),
        ("DROP FUNCTION IF EXISTS f(a int, b text[])", "nothing lossy"),
        ("DROP FUNCTION f, g CASCADE", "unknown"),
        ("COMMENT ON COLUMN a.b IS NULL", "nothing lossy"),
        ("ALTER TABLE a RENAME CONSTRAINT b TO c", "nothing lossy a"),
        ("ALTER TYPE mood RENAME TO old", "nothing lossy"),
        ("SELECT 1", "nothing lossy"),
        ("SELECT transform(1)", "unknown"),
        ("SELECT 1 INTO a", "unknown"),
        ("WITH x AS (DELETE FROM a RETURNING *) SELECT 1", "unknown"),
        # rows of one table, selected by others
        ("DELETE FROM a USING b WHERE a.id = b.id", "deletes rows a"),
        ("WITH x AS (SELECT 1 AS id) UPDATE s.a SET b = x.id, c = 2 FROM x", "updates rows s.a.b,c"),
        ("UPDATE a AS q SET b = 1 WHERE q.id = 1 RETURNING *", "updates rows a.b"),
        ("WITH x AS (DELETE FROM b RETURNING *) UPDATE a SET b = x.b FROM x", "unknown"),
    ],
)
def test_effects_of_statements_are_classified(sql: str, does: str) -> None:
    described = []
    for effect in parse_statement(sql).effects:
        on = ".".join(filter(None, (effect.on.schema, effect.on.name))) if effect.on else ""
        described.append(" ".join(filter(None, (effect.does, ".".join(filter(None, (on, ",".join(effect.columns))))))))
    assert "; ".join(described) == does


@pytest.mark.parametrize(
    ("using", "anew"),
    [
        ("", False),
        ("USING b::bigint", False),
        ("USING (b)::bigint", False),
        ("USING CAST(B AS bigint)", False),
        ("USING b", False),
        ("USING c::bigint", True),
        ("USING b::int::bigint", True),
        ("USING 0", True),
        ("USING NULL", True),
        ("USING abs(b)", True),
    ],
)
def test_widening_type_changes_are_lossless(using: str, anew: bool) -> None:
    (effect,) = parse_statement(f"ALTER TABLE a ALTER b TYPE bigint {using}").effects
    assert effect.using is anew


@pytest.mark.parametrize(
    ("sql", "alone"),
    [
        ("DROP INDEX CONCURRENTLY i", True),
        ("CREATE UNIQUE INDEX CONCURRENTLY i ON a (b)", True),
        ("VACUUM a", True),
        ("REINDEX TABLE CONCURRENTLY a", True),
        ("ALTER TABLE a DETACH PARTITION b CONCURRENTLY", True),
        ("DROP INDEX i", False),
        ("ALTER TABLE a DROP COLUMN concurrently", False),
    ],
)
def test_standalone_statements_are_detected(sql: str, alone: bool) -> None:
    assert parse_statement(sql).standalone is alone


def test_a_condition_is_kept_verbatim() -> None:
    (effect,) = parse_statement("DELETE FROM a WHERE (x ~ 'where' AND y::int = 1) OR z @> '{\"a\": 1}'::jsonb").effects
    assert effect.where == "(x ~ 'where' AND y::int = 1) OR z @> '{\"a\": 1}'::jsonb"


@pytest.mark.parametrize(
    ("sql", "where"),
    [
        ("UPDATE t SET a = 1 WHERE (b) > 2 RETURNING c", "(b) > 2"),
        ("UPDATE t q SET a = 1", '(tableoid, ctid) IN (SELECT "q".tableoid, "q".ctid FROM "t" AS "q")'),
        (
            "UPDATE ONLY t SET a = b IS DISTINCT FROM (SELECT 1 FROM x WHERE true) FROM u JOIN v USING (w) WHERE i = 1",
            '(tableoid, ctid) IN (SELECT "t".tableoid, "t".ctid FROM ONLY "t" AS "t", u JOIN v USING (w) WHERE i = 1)',
        ),
        (
            "WITH w AS (SELECT 1 AS i FROM z WHERE 'WHERE' <> '') DELETE FROM s.t USING w WHERE t.i = w.i",
            "(tableoid, ctid) IN (WITH w AS (SELECT 1 AS i FROM z WHERE 'WHERE' <> '')"
            ' SELECT "t".tableoid, "t".ctid FROM "s"."t" AS "t", w WHERE t.i = w.i)',
        ),
    ],
)
def test_rows_that_other_tables_select(sql: str, where: str) -> None:
    (effect,) = parse_statement(sql).effects
    assert effect.where == where


def test_a_script_is_split_into_statements() -> None:
    script = "BEGIN; -- ; not here\nDELETE FROM a WHERE b = ';';/* ; */ DO $x$ BEGIN; END $x$;\n\nSELECT 1; COMMIT"
    assert split_statements(script)[1:4] == ["DELETE FROM a WHERE b = ';'", "DO $x$ BEGIN; END $x$", "SELECT 1"]
    assert len(parse_script(script)) == 3
    with pytest.raises(ValueError, match="cannot be split"):
        split_statements("SELECT 'open")

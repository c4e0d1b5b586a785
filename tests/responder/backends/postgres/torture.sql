-- Everything that a snapshot of PostgreSQL has to carry, in one schema that a plain owner without special rights may make.
-- The parts that need a superuser are marked; all of it is quiet: no clock, no random values.

CREATE SCHEMA IF NOT EXISTS torture;
CREATE SCHEMA "Mixed Case";
SET search_path TO torture;

CREATE TYPE mood AS ENUM ('sad', 'so, so', 'it''s "fine"', 'glücklich');
CREATE TYPE pair AS (left_side int, right_side text);
CREATE TYPE nested AS (one pair, many pair[], mood mood);
CREATE DOMAIN percent AS numeric(5, 2) CHECK (VALUE BETWEEN 0 AND 100);
CREATE DOMAIN words AS text[] CHECK (array_length(VALUE, 1) < 10);
CREATE TYPE float_range AS RANGE (subtype = float8, subtype_diff = float8mi);

CREATE FUNCTION double_of(n int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT n * 2';

-- Every built-in type that a column can have.
CREATE TABLE every_type (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    a_smallint smallint, a_int int, a_bigint bigint, a_numeric numeric, a_numeric_p numeric(30, 10), a_real real,
    a_double double precision, a_money money, a_char char(5), a_varchar varchar(50), a_text text, a_name name,
    a_internal_char "char", a_bytea bytea, a_timestamp timestamp, a_timestamptz timestamptz(6), a_date date, a_time time,
    a_timetz timetz, a_interval interval, a_boolean boolean, a_point point, a_line line, a_lseg lseg, a_box box, a_path path,
    a_polygon polygon, a_circle circle, a_cidr cidr, a_inet inet, a_macaddr macaddr, a_macaddr8 macaddr8, a_bit bit(7),
    a_varbit bit varying(64), a_tsvector tsvector, a_tsquery tsquery, a_uuid uuid, a_xml xml, a_json json, a_jsonb jsonb,
    a_jsonpath jsonpath, a_int4range int4range, a_int8range int8range, a_numrange numrange, a_tsrange tsrange,
    a_tstzrange tstzrange, a_daterange daterange, a_int4multirange int4multirange, a_nummultirange nummultirange,
    a_tstzmultirange tstzmultirange, a_oid oid, a_regclass regclass, a_regproc regproc, a_regprocedure regprocedure,
    a_regoper regoper, a_regtype regtype, a_regnamespace regnamespace, a_regconfig regconfig, a_pg_lsn pg_lsn,
    a_xid xid, a_xid8 xid8, a_cid cid, a_tid tid, a_txid_snapshot txid_snapshot, a_pg_snapshot pg_snapshot,
    a_oidvector oidvector, a_int2vector int2vector,
    a_mood mood, a_pair pair, a_nested nested, a_percent percent, a_words words, a_float_range float_range,
    ints int[], matrix int[][], texts text[], moods mood[], pairs pair[], jsons jsonb[], stamps timestamptz[],
    ranges tstzrange[], byteas bytea[]
);
INSERT INTO every_type (
    a_smallint, a_int, a_bigint, a_numeric, a_numeric_p, a_real, a_double, a_money, a_char, a_varchar, a_text, a_name,
    a_internal_char, a_bytea, a_timestamp, a_timestamptz, a_date, a_time, a_timetz, a_interval, a_boolean, a_point, a_line,
    a_lseg, a_box, a_path, a_polygon, a_circle, a_cidr, a_inet, a_macaddr, a_macaddr8, a_bit, a_varbit, a_tsvector, a_tsquery,
    a_uuid, a_json, a_jsonb, a_jsonpath, a_int4range, a_int8range, a_numrange, a_tsrange, a_tstzrange, a_daterange,
    a_int4multirange, a_nummultirange, a_tstzmultirange, a_oid, a_regclass, a_regproc, a_regprocedure, a_regoper, a_regtype,
    a_regnamespace, a_regconfig, a_pg_lsn, a_xid, a_xid8, a_cid, a_tid, a_txid_snapshot, a_pg_snapshot, a_oidvector,
    a_int2vector, a_mood, a_pair, a_nested, a_percent, a_words, a_float_range, ints, matrix, texts, moods, pairs, jsons,
    stamps, ranges, byteas
) VALUES (
    -32768, 2147483647, -9223372036854775808, 12345678901234567890.123456789012345678901234567890, 1.0000000001, 0.1,
    0.1::float8 + 0.2::float8, '12.34', 'ab', E'tab\tline\nback\\slash', E'quote '' and " and , and {} and \u2028 \U0001F600',
    'name', 'x', '\x00ff10deadbeef', '4713-01-01 00:00:00 BC', '2026-03-29 01:59:59.999999+00', '5874897-12-31', '24:00:00',
    '23:59:59.999999-15:59', '1 year -2 months 3 days -04:05:06.789', true, '(1.5,-2.5)', '{1,2,3}', '[(0,0),(1,1)]',
    '(1,1),(0,0)', '[(0,0),(1,1),(2,0)]', '((0,0),(1,1),(2,0))', '<(0.1,0.2),3>', '10.0.0.0/8', '::1/64',
    '08:00:2b:01:02:03', '08:00:2b:01:02:03:04:05', B'1010101', B'110', '''a b'':1A fat:2B,4C', 'fat:* & (rat | !cat)',
    'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{"b": 1, "a": [1,  2], "a": null}', '{"a": {"b": ["ü", 1e400, null]}, "": ""}',
    '$.a[*] ? (@ > 1)', '[1,10)', '(,5]', 'empty', '[2020-01-01,infinity)', '[2020-01-01 00:00+02,)', '(,)', '{[1,3),[5,7)}',
    '{(,0),(10,)}', '{[2020-01-01 00:00+00,2020-01-02 00:00+00)}', 4294967295, 'torture.every_type', 'torture.double_of',
    'torture.double_of(int)', 'pg_catalog.||/', 'torture.mood[]', 'torture', 'simple', '16/B374D848', '42', '42', '42', '(1,2)',
    '10:20:10,14,15', '10:20:10,14,15', '1 2 3', '1 2 3', 'it''s "fine"', ROW(1, NULL), ROW(ROW(1, ''), ARRAY[ROW(2, 'x')::pair], 'sad'),
    99.99, ARRAY['a', NULL, ''], '[0.1,Infinity)', '{1,NULL,3}', '{{1,2},{3,4}}', ARRAY['', 'NULL', NULL, '{"a,b"}', E'\\'],
    ARRAY['so, so', NULL]::mood[], ARRAY[ROW(1, 'a')::pair, NULL], ARRAY['{"k": []}', 'null']::jsonb[],
    ARRAY['-infinity', '2026-01-01 00:00+00']::timestamptz[], ARRAY['empty', '[2020-01-01 00:00+00,)']::tstzrange[],
    ARRAY['\x', '\x00']::bytea[]
);
INSERT INTO every_type (a_real, a_double, a_numeric, a_timestamp, a_timestamptz, a_date, a_text, a_bytea, a_char, texts, jsons)
VALUES ('NaN', 'NaN', 'NaN', 'infinity', '-infinity', '-infinity', '', '\x', '', '{}', '{}'),
       ('Infinity', '-Infinity', 'Infinity', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
       ('-0', '-0', '-Infinity', 'epoch', 'epoch', '2000-02-29', 'NULL', '\x5c4e', '\N', '{NULL}', '{NULL}'),
       ('1e-45', '5e-324', 1e-1000, NULL, NULL, NULL, E'\\.', NULL, NULL, ARRAY[''], NULL),
       ('3.4028235e38', '1.7976931348623157e308', 1e1000, NULL, NULL, NULL, repeat('ä', 100000), NULL, NULL, NULL, NULL);
UPDATE every_type SET a_xml = '<a b="1">ü<!-- c --></a>' WHERE id = 1;

-- Names that have to be quoted everywhere.
CREATE TABLE "Mixed Case"."select" ("User" int PRIMARY KEY, "from" text, "with ""quotes""" text, "über.punkt" text, r text);
INSERT INTO "Mixed Case"."select" SELECT n, 'f' || n, '"', '.', 'r' FROM generate_series(1, 50) n;
CREATE TABLE "Mixed Case"."a.b c'd""e" (t text, "a.b c'd""e" text);
INSERT INTO "Mixed Case"."a.b c'd""e" VALUES ('', NULL), (NULL, '');
CREATE TABLE "table" (t int, "table" text);  -- a column called as its table
INSERT INTO "table" VALUES (1, 'one'), (1, 'one'), (NULL, NULL);
CREATE TABLE no_columns ();
INSERT INTO no_columns DEFAULT VALUES;
INSERT INTO no_columns DEFAULT VALUES;

-- Columns that are computed, counted, dropped.
CREATE TABLE computed (
    id bigint GENERATED BY DEFAULT AS IDENTITY (START 100 INCREMENT 7) PRIMARY KEY, serial serial, gone int,
    n int DEFAULT 3, doubled int GENERATED ALWAYS AS (torture.double_of(n)) STORED, CHECK (n > 0)
);
INSERT INTO computed (n) SELECT n FROM generate_series(1, 100) n;
ALTER TABLE computed DROP COLUMN gone;
ALTER TABLE computed ADD COLUMN later text DEFAULT 'added later';
CREATE SEQUENCE alone AS smallint START 5 INCREMENT -3 MINVALUE -100 MAXVALUE 100 CYCLE;
SELECT nextval('alone'), nextval('alone');
CREATE SEQUENCE untouched START 42;

-- Partitions of partitions, one with its columns in another order; inheritance with a column that came later.
CREATE TABLE measured (at date NOT NULL, place text NOT NULL, value float8, PRIMARY KEY (at, place)) PARTITION BY RANGE (at);
CREATE TABLE measured_2025 PARTITION OF measured FOR VALUES FROM ('2025-01-01') TO ('2026-01-01') PARTITION BY LIST (place);
CREATE TABLE measured_2025_here PARTITION OF measured_2025 FOR VALUES IN ('here');
CREATE TABLE "measured 2025 Rest" PARTITION OF measured_2025 DEFAULT;
CREATE TABLE measured_2026 (value float8, place text NOT NULL, at date NOT NULL);
ALTER TABLE measured ATTACH PARTITION measured_2026 FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE measured_other PARTITION OF measured DEFAULT;
INSERT INTO measured SELECT '2024-12-01'::date + n, CASE n % 3 WHEN 0 THEN 'here' ELSE 'there ' || n % 7 END, n / 3.0
FROM generate_series(0, 800) n;
CREATE TABLE hashed (id int, t text) PARTITION BY HASH (t);
CREATE TABLE hashed_0 PARTITION OF hashed FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE hashed_1 PARTITION OF hashed FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO hashed SELECT n, 't' || n FROM generate_series(1, 100) n;
CREATE TABLE ancestor (id int, name text);
CREATE TABLE heir (own text) INHERITS (ancestor);
INSERT INTO heir VALUES (1, 'heir', 'own');
ALTER TABLE ancestor ADD COLUMN late int DEFAULT 7;
INSERT INTO ancestor VALUES (2, 'ancestor');

-- Keys that refer to each other, to themselves, and that are checked late.
CREATE TABLE tree (id int PRIMARY KEY, parent int REFERENCES tree DEFERRABLE INITIALLY DEFERRED, name text UNIQUE);
BEGIN;
INSERT INTO tree SELECT n, CASE WHEN n > 1 THEN 200 - n % 13 END, 'node ' || n FROM generate_series(1, 200) n;
COMMIT;
CREATE TABLE egg (id int PRIMARY KEY, chicken int NOT NULL);
CREATE TABLE chicken (id int PRIMARY KEY, egg int NOT NULL REFERENCES egg DEFERRABLE INITIALLY IMMEDIATE);
ALTER TABLE egg ADD CONSTRAINT egg_chicken FOREIGN KEY (chicken) REFERENCES chicken DEFERRABLE INITIALLY DEFERRED;
BEGIN;
INSERT INTO egg VALUES (1, 1), (2, 2);
INSERT INTO chicken VALUES (1, 2), (2, 1);
COMMIT;
CREATE TABLE booked (room int, during tsrange, EXCLUDE USING gist (during WITH &&) WHERE (room = 1));
INSERT INTO booked VALUES (1, '[2026-01-01,2026-01-02)'), (1, '[2026-01-02,2026-01-03)'), (2, '[2026-01-01,2026-01-09)');

-- Triggers, which must not fire on the way back, and rules.
CREATE TABLE audit (n bigint GENERATED ALWAYS AS IDENTITY, what text);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO torture.audit (what) VALUES (TG_OP || ' ' || TG_TABLE_NAME);
    RETURN NEW;
END $$;
CREATE TABLE watched (id int PRIMARY KEY, t text);
CREATE TRIGGER watch AFTER INSERT OR UPDATE ON watched FOR EACH ROW EXECUTE FUNCTION note();
ALTER TABLE watched ENABLE ALWAYS TRIGGER watch;
INSERT INTO watched VALUES (1, 'a'), (2, 'b');
CREATE RULE nothing AS ON DELETE TO watched DO INSTEAD NOTHING;

-- Row-level security, also over the owner.
CREATE TABLE secret (id int PRIMARY KEY, who text);
INSERT INTO secret SELECT n, CASE WHEN n % 2 = 0 THEN 'me' ELSE 'others' END FROM generate_series(1, 20) n;
CREATE POLICY only_mine ON secret USING (who = 'me');
ALTER TABLE secret ENABLE ROW LEVEL SECURITY;

-- Views of views, and materialised ones: one that reads another, one that nobody filled.
CREATE VIEW doubled AS SELECT id, doubled FROM computed WHERE n > 10;
CREATE VIEW redoubled AS SELECT id, double_of(doubled) AS again FROM doubled;
CREATE MATERIALIZED VIEW z_totals AS SELECT place, sum(value) AS total FROM measured GROUP BY place;
CREATE UNIQUE INDEX ON z_totals (place);
CREATE MATERIALIZED VIEW a_largest AS SELECT * FROM z_totals ORDER BY total DESC LIMIT 1;
CREATE MATERIALIZED VIEW never_filled AS SELECT 1 AS one WITH NO DATA;

CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY, t text);
INSERT INTO unlogged SELECT n, md5(n::text) FROM generate_series(1, 100) n;
CREATE INDEX partial_on_expression ON unlogged (lower(t)) INCLUDE (id) WHERE id > 3;
CREATE STATISTICS together ON id, t FROM unlogged;
COMMENT ON TABLE unlogged IS 'it''s a "comment"';

-- Large rows, out of line and compressed.
CREATE TABLE large (id int PRIMARY KEY, t text, b bytea);
ALTER TABLE large ALTER t SET STORAGE EXTERNAL;
INSERT INTO large SELECT n, repeat(md5(n::text), 10000), decode(repeat(md5(n::text), 5000), 'hex') FROM generate_series(1, 5) n;

-- As many columns as a table can have.
DO $$
BEGIN
    EXECUTE 'CREATE TABLE torture.widest (' ||
        (SELECT string_agg(format('c%s %s', n, (ARRAY['int', 'bool', 'text', 'float4'])[n % 4 + 1]), ', ')
         FROM generate_series(1, 1600) n) || ')';
    EXECUTE 'INSERT INTO torture.widest (c1, c2, c800, c1599, c1600) VALUES (true, '''', 3, 1.5, 1600), (NULL, NULL, NULL, ''NaN'', 0)';
END $$;

-- Large objects: an empty one, a small one, one of several pages.
SELECT lo_create(70001);
SELECT lo_from_bytea(70002, '\xdeadbeef');
SELECT lo_from_bytea(70003, decode(repeat('00ff', 20000), 'hex'));
COMMENT ON LARGE OBJECT 70002 IS 'small';

CREATE PROCEDURE nothing_at_all() LANGUAGE sql AS 'SELECT 1';
CREATE AGGREGATE total (int) (SFUNC = int4pl, STYPE = int, INITCOND = '0');

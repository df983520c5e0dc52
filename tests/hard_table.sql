-- One table of everything that is known to break on its way through files: values, types and names.
CREATE TYPE mood AS ENUM ('sad', 'so, so', 'happy "very"');
CREATE DOMAIN year AS integer CHECK (VALUE BETWEEN 1901 AND 30000);
CREATE TYPE point3 AS (x integer, y text);
CREATE TABLE "Hard ""Table"", with spaces" (
    "Id" bigint NOT NULL,
    part smallint NOT NULL,
    "select" text,
    "quote "" and 'single'" character varying(200),
    "extracted_at" date,
    "extracted_at_" text,
    "ünïcödé 😀" text,
    "a_column_with_a_name_of_exactly_sixty_three_bytes_as_pg_allows_x" text,
    fixed character(7),
    bare bpchar,
    one "char",
    internal name,
    money_ money,
    exact numeric(38, 10),
    any_numeric numeric,
    negative_scale numeric(5, -2),
    single real,
    double double precision,
    yes boolean,
    day date,
    clock time(3),
    clock_zone time with time zone,
    stamp timestamp,
    stamp_zone timestamp(6) with time zone,
    span interval,
    span_days interval day to second(3),
    bytes bytea,
    doc json,
    docb jsonb,
    doc_xml xml,  -- its values need a server with libxml, which the embedded one is not
    ints integer[],
    texts text[],
    grid numeric[][],
    id uuid,
    address inet,
    network cidr,
    mac macaddr,
    bits bit(5),
    many_bits bit varying,
    ints_range int4range,
    stamps_range tstzrange,
    ranges int8multirange,
    place point,
    area box,
    words tsvector,
    search tsquery,
    lsn pg_lsn,
    object oid,
    relation regclass,
    feeling mood,
    feelings mood[],
    built year,
    builts year[],
    both_ point3,
    generated integer GENERATED ALWAYS AS (part * 2) STORED,
    PRIMARY KEY (part, "Id")
);
COMMENT ON TABLE "Hard ""Table"", with spaces" IS 'It''s hard';
INSERT INTO "Hard ""Table"", with spaces" VALUES (
    9223372036854775807, 32767, '', 'say "hi", it''s' || chr(10) || 'two\lines' || chr(13) || chr(10) || chr(9) || 'x',
    'infinity', 'x', '😀 é ß 漢字 ‮', '\N', 'ab ', 'ab  ', 'c', 'name', '-92233720368547758.08',
    1234567890123456789012345678.0123456789, 'NaN', 12345, 'NaN', '-Infinity', true,
    '4713-01-01 BC', '23:59:59.999', '12:00:00.5+05:30', '20231-12-31 23:59:59.999999', '294276-12-31 23:59:59.999999+00',
    '-178000000 years 3 mons -4 days 04:05:06.789', '3 days 04:05:06.789',
    '\x00ff0a0d22275c2c', '{"b": 1,  "a": [1, null, "x,y"], "b": 2}', '{"b": 1, "a": [1.50, null, "x\ny", "é"]}',
    NULL, '{1,NULL,-3}', '{"a,b",NULL,"NULL","",  "\"q\"", "\\"}', '{{1.10,2},{NULL,-4.0}}',
    'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '192.168.0.1/24', '2001:db8::/32', '08:00:2b:01:02:03', B'10101', B'1',
    '[1,10)', '["2024-01-01 00:00:00+00",infinity)', '{[1,3),[5,8)}', '(1.1,-2.2)', '((1,2),(3,4))',
    'a:1 cat:2A ''it''''s'':3', 'cat & !dog', '16/B374D848', 4294967295, 'pg_class', 'happy "very"', '{sad,"so, so"}', 2024,
    '{1999,NULL}', ROW(1, 'a, "b"')
), (
    -9223372036854775808, -32768, NULL, '\.', '-infinity', NULL, E'tab\there', ' leading and trailing ', '', '', '"', '',
    '92233720368547758.07', -0.0000000001, 0.1000, -99900, 1.17549435e-38, 2.2250738585072014e-308, false, '5874897-12-31',
    '24:00:00', '00:00:00-15:59', '4713-01-01 00:00:00 BC', '0044-03-15 12:00:00.000001+00 BC', '00:00:00.000001', '0',
    '', 'null', '"text"', NULL, '{}', '{}', '{}', '00000000-0000-0000-0000-000000000000', '::1', '10.0.0.0/8',
    'ff:ff:ff:ff:ff:ff', B'00000', B'', 'empty', '(,)', '{}', '(0,0)', '((0,0),(0,0))', '', 'a <-> b', '0/0', 0, '-',
    'sad', '{}', 1901, '{}', ROW(NULL, '')
), (
    0, 0, 'NULL', 'null', NULL, NULL, E'\\', '\\N', NULL, NULL, NULL, NULL, NULL, NULL, 'Infinity', NULL, 3.4028235e+38,
    1.7976931348623157e+308, NULL, NULL, NULL, NULL, 'infinity', '-infinity', NULL, NULL, NULL, NULL, 'null', NULL, NULL,
    '{NULL}', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    NULL, NULL, NULL, NULL
);
-- No key, several equal rows, one column that is mostly NULL: blank lines in a CSV file.
CREATE TABLE lonely (v text);
INSERT INTO lonely VALUES (NULL), (''), ('\.'), (NULL), ('x'), ('x'), (NULL);
CREATE TABLE "a table of sixty-three bytes, which is all that postgres allows" ("id" integer PRIMARY KEY, "a/b" text);
INSERT INTO "a table of sixty-three bytes, which is all that postgres allows" VALUES (1, '../../x');
CREATE TABLE "../../up" (id integer);
INSERT INTO "../../up" VALUES (1);
CREATE TABLE parts (id integer, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE parts_2024 PARTITION OF parts FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE parts_2025 PARTITION OF parts FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
INSERT INTO parts VALUES (1, '2024-05-05'), (2, '2025-05-05');
CREATE VIEW part_days AS SELECT DISTINCT day FROM parts ORDER BY day;

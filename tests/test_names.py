"""Names are names, whatever is in them: no SQL, no path, no placeholder, no command; all arrive, or are refused."""

import json
import re

import pytest
from landing.core.commands import extract_command, load_command
from landing.core.dates import today
from landing.core.errors import SettingError
from landing.core.sources import declared_sources, source_name
from landing.extract.csv.declaration import Declaration
from landing.model.naming import folder_name
from psycopg2 import sql

DAY = "2024-01-20"
HOSTILE = [
    "../../x", "/etc/passwd", "..", ".", "a/b", "a%2Fb", "a\\..\\b", "~root", "-rf", "--help", "*", "?", "[a-z]",
    "new\nline", "carriage\rreturn", "tab\tbed", "\x1b[2Jscreen", "\x07", "\x7f",
    "semi'; DROP TABLE victim; --", 'quo"te"; DROP TABLE victim; --', "$$; DROP TABLE victim; $$", "/* ", "--",
    "%s", "%(x)s", "100%", "%%", "{}", "{0}", "{x!r}", "${HOME}", "$HOME", "$(touch pwned)", "`touch pwned`",
    "😀" * 15 + "abc", "ü\u0301\u202e\u2066", " lead", "trail ", "dot.", "con", "NUL", "com1.txt", "select", "user",
    "A", "a", "Table", "TABLE", "extracted_at", "source", "_sdc_extracted_at", "_manifest.json", "table=x",
    "source=postgres", "extracted_at=2024-01-20", "x", "x@2024-01-20", "true", "null", "1", "1e5", "a.b.c", "a,b", '""',
]
SCHEMAS = ["public", '../sch"ema; DROP TABLE victim; --%s{}']
TARGET = '../a"b\'; DROP TABLE victim; --%s %(x)s {} $x\n'  # a SCHEMA of the warehouse
ENTITIES = ["../../e", "/e", "e'; DROP TABLE victim; --", 'e"q', "%s e", "{} e", "$(touch pwned) e", "é" * 30]


def create(database, schema, name):
    """A table of that name, with a column of that name, and that name in it."""
    table, column = sql.Identifier(schema, name), sql.Identifier(name)
    with database.connection.cursor() as cursor:
        cursor.execute(sql.SQL("CREATE TABLE {} (id integer PRIMARY KEY, {} text)").format(table, column))
        cursor.execute(sql.SQL("INSERT INTO {} VALUES (1, {})").format(table, sql.Literal(name)))
        cursor.execute(sql.SQL("COMMENT ON TABLE {} IS {}").format(table, sql.Literal(name)))
        cursor.execute(sql.SQL("COMMENT ON COLUMN {}.{} IS {}").format(table, column, sql.Literal(name)))


def everything(folder):
    """All paths of a project's folder but those that a run may make."""
    ours = ("output", "config-", "tap.log", ".meltano")
    return {str(path) for path in folder.rglob("*") if not str(path.relative_to(folder)).startswith(ours)}


@pytest.fixture
def hostile(project):
    """A source, and CSV files, in which every name is an attempt at something."""
    with project.source.connection.cursor() as cursor:
        cursor.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(SCHEMAS[1])))
    for name in HOSTILE:
        create(project.source, SCHEMAS[0], name)
    create(project.source, SCHEMAS[1], "other")
    project.warehouse.run("CREATE TABLE victim (a integer)")
    names = ['"' + name.replace('"', '""') + '"' for name in HOSTILE if not re.search("[\x00-\x1f\x7f]", name)]
    project.csv("hostile.csv", f"{','.join(names)}\n{','.join('1' * len(names))}\n")
    return project


def test_every_name_goes_from_source_to_warehouse_and_back_and_nowhere_else(hostile):
    before = everything(hostile.folder)
    hostile.pipe(hostile.tap_postgres(filter_schemas=SCHEMAS), hostile.target_csv(), DATESTAMP=DAY)
    files = [{"entity": name, "path": "extract/hostile.csv"} for name in ENTITIES]
    hostile.pipe(hostile.tap_csv(*files), hostile.target_csv(), DATESTAMP=DAY)
    names = {(table["schema"], table["name"]) for source in ("postgres", "csv")
             for table in hostile.manifest(source, DAY)["tables"]}
    assert names == {*((SCHEMAS[0], name) for name in HOSTILE), (SCHEMAS[1], "other"), *((None, e) for e in ENTITIES)}
    for source in ("postgres", "csv"):
        day = hostile.output / f"source={source}/extracted_at={DAY}"
        made = {str(path.relative_to(day)) for path in day.rglob("*")} - {"_manifest.json"}
        assert all(re.fullmatch("table=[^/]+(/[0-9TZa-f-]+[.]csv)?", path) for path in made)

    hostile.load(DAY, SCHEMA=TARGET)
    assert proved(hostile, TARGET) == len(names)
    for name in HOSTILE:
        relation, column = sql.Identifier(TARGET, name), sql.Identifier(name)
        with hostile.warehouse.connection.cursor() as cursor:
            cursor.execute(sql.SQL("SELECT id, {} FROM {}").format(column, relation))
            assert cursor.fetchall() == [(1, name)]
            cursor.execute("SELECT obj_description(to_regclass(%s))", (relation.as_string(cursor),))
            assert cursor.fetchone() == (name,)
    assert hostile.warehouse.run("SELECT * FROM victim") == []
    assert everything(hostile.folder) == before
    for arguments in (("list",), ("show", DAY), ("verify", DAY), ("diff", DAY, DAY, "--rows", "1"), ("gc",),
                      ("plan", "--from", DAY, "--to", DAY)):
        said = hostile.landing(*arguments, "--schema", TARGET).text
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f\u202e]", said), arguments
    assert not list(hostile.folder.rglob("pwned"))


def proved(project, schema):
    """How many tables a date has, all of them proved."""
    proofs = json.loads(project.landing("verify", DAY, "--json", "--schema", schema).stdout)
    assert all(one["equal"] for one in proofs), [one for one in proofs if not one["equal"]]
    return len(proofs)


def test_records_carry_every_name_and_its_value_too(hostile):
    config = (hostile.folder / "meltano.yml").read_text()
    (hostile.folder / "meltano.yml").write_text(config.replace("- name: extract_csv", "- name: other"))
    hostile.pipe(hostile.tap_postgres(use_batch=False), hostile.target_csv(), DATESTAMP=DAY)
    hostile.pipe(hostile.tap_landed(use_batch=False), hostile.target_postgres(), EXTRACTED_AT=DAY)
    assert proved(hostile, "public") == len(HOSTILE)
    for name in HOSTILE:
        relation, column = sql.Identifier("public", name), sql.Identifier(name)
        with hostile.warehouse.connection.cursor() as cursor:
            cursor.execute(sql.SQL("SELECT id, {} FROM {}").format(column, relation))
            assert cursor.fetchall() == [(1, name)]


def test_no_two_names_share_a_folder_and_none_leaves_it():
    names = [*HOSTILE, *ENTITIES, *(f"{schema}-{name}" for schema in SCHEMAS for name in HOSTILE), "😀" * 63, "😀" * 64]
    folders = {folder_name(name) for name in names}
    assert len(folders) == len({*names})
    for folder in folders:
        assert folder.startswith("table=")
        assert not set(folder) & {"/", "\0", "\n"}
        assert len(folder.encode()) < 250


@pytest.mark.parametrize("name", ["", "a\0b", "new\nline", "\x1b[2J", "x" * 64, "é" * 32])
def test_an_entity_that_can_be_no_table_is_refused_before_its_file_is_read(name):
    with pytest.raises(SettingError, match="not a valid table name"):
        Declaration(name, "extract/missing.csv")


@pytest.mark.parametrize("name", ["", "..", ".", "../x", "/x", "a/b", "a\\b", "a b", "a\nb", "a\n", "-rf", "$(x)",
                                  "`x`", "a;b", "a'b", 'a"b', "ü", "x" * 101, "*", "%s", "{}", "~", "a=b", "a@b"])
def test_a_source_that_is_no_name_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.setenv("MELTANO_PROJECT_ROOT", str(tmp_path))
    monkeypatch.delenv("SOURCE", raising=False)
    with pytest.raises(SettingError, match="not a valid source name"):
        source_name(None, name)
    monkeypatch.setenv("SOURCE", name)
    with pytest.raises(SettingError, match="not a valid source name"):
        source_name(None, "postgres")
    (tmp_path / "meltano.yml").write_text(json.dumps({"jobs": [{"name": f"extract_{name}", "tasks": []}]}))
    with pytest.raises(SettingError, match="declares the source"):
        declared_sources()


def test_a_hostile_source_lands_nothing(shop):
    done = shop.pipe(shop.tap_csv(), shop.target_csv(), check=False, DATESTAMP=DAY, SOURCE="../../x")
    assert done.returncode == 1
    assert "not a valid source name" in done.stderr
    done = shop.run(shop.target_csv(trust_end_of_input=True), DATESTAMP=DAY, SOURCE="../../x")
    assert done.returncode == 1
    assert "not a valid source name" in done.stderr
    assert "Traceback" not in done.stderr
    assert {path.name for path in shop.output.rglob("*")} <= {"_attempts", "_staging"}


def test_commands_to_run_next_are_quoted_for_a_shell():
    day = today()
    assert f"SCHEMA='a b;c' EXTRACTED_AT={day}" in load_command(day, "a b;c")
    assert f"SOURCE='a$(x)' DATESTAMP={day} meltano run extract_'a$(x)'" in extract_command("a$(x)", day)

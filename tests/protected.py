"""Projects with people whose data is to be protected, in tables and in CSV files."""

import base64

import pytest

DAY, NEXT = "2024-01-20", "2024-01-21"
PLAIN = "Zebra7canary"  # a value that must not be found in plain
KEYS = {"token": b"t" * 32, "old": b"o" * 32, "new": b"n" * 40}


def keys(*ids, **other):
    """The variable PROTECTION_KEYS."""
    found = KEYS | other
    return ",".join(f"{id_}:{base64.b64encode(found[id_]).decode()}" for id_ in ids)


@pytest.fixture
def people(inside):
    """A source with people, whose names are to be protected, and orders of theirs; the only one of the project."""
    job = "jobs:\n- name: extract_postgres\n  tasks: [tap-postgres target-csv]\n"
    (inside.project.folder / "meltano.yml").write_text(job)
    inside.project.source.run(
        "DROP TABLE notes; DROP TABLE orders;"
        "CREATE TABLE people (id integer PRIMARY KEY, name text, email text, phone text, born date);"
        "CREATE TABLE orders (id integer PRIMARY KEY, person_id integer REFERENCES people, amount numeric(9,2));"
        f"INSERT INTO people VALUES (1, '{PLAIN}', 'a@x.org', '555-123-4567', '2000-01-31'),"
        " (2, '', NULL, '12', NULL),"
        f" (3, NULL, 'say \"{PLAIN}\",\nor not', '', '1999-12-31'), (4, '{PLAIN}', 'b@x.org', NULL, NULL);"
        "INSERT INTO orders SELECT g, g % 4 + 1, g / 4.0 FROM generate_series(1, 100) g")
    inside.monkeypatch.setenv("PROTECTION_KEYS", keys("token", "old"))
    return inside


def columns(project, table, day=DAY, source="postgres"):
    found, = (one for one in project.manifest(source, day)["tables"] if one["name"] == table)
    return {column["name"]: column for column in found["columns"]}


def content(project, table, day=DAY, source="postgres"):
    found, = (one for one in project.manifest(source, day)["tables"] if one["name"] == table)
    folder = project.manifest_path(source, day).parent
    return b"".join((folder / file["path"]).read_bytes() for file in found["files"])


PROTECT = {"public.people": {"id": "token", "name": "encrypt", "email": "encrypt", "phone": "mask", "born": "drop"},
           "public.orders": {"person_id": "token"}}


PEOPLE = (f"id;Full name;e-mail;born\n1;{PLAIN};a@x.org;2000-01-31\n2;\"\";;1999-12-31\n"
          f"3;\"{PLAIN}; \"\"x\"\"\ny\";b@x.org;\n")
ENTITY = {"entity": "people", "path": "extract/people.csv", "keys": ["id"], "delimiter": ";",
          "rename": {"Full name": "name"}}


@pytest.fixture
def people_files(people):
    """A project with CSV files of people as its only source."""
    people.project.csv("people.csv", PEOPLE)
    job = "jobs:\n- name: extract_csv\n  tasks: [tap-csv target-csv]\n"
    (people.project.folder / "meltano.yml").write_text(job)
    return people

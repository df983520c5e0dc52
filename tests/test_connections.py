"""DBeaver and pgAdmin open what .env names, and no file but the passfile holds a password."""

import json
import re
import stat
import sys

import connections
import psycopg2
import pytest
from conftest import CANARY, PASSWORD
from landing.core.errors import SettingError

FILES = (".dbeaver/data-sources.json", ".project", ".pgadmin/servers.json", ".pgadmin/pgpass")
FULL = {"SOURCE_POSTGRES_HOST": "db.example", "SOURCE_POSTGRES_PORT": "5433", "SOURCE_POSTGRES_DB": "shop",
        "SOURCE_POSTGRES_USER": "reader", "SOURCE_POSTGRES_PASSWORD": PASSWORD, "SOURCE_POSTGRES_SSLMODE": "require"}


def write(project, check=True, **variables):
    """`make inspect`."""
    result = project.run([sys.executable, connections.__file__], **variables)
    assert not check or result.returncode == 0, result.text
    return result


def written(project, name):
    return json.loads((project.folder / name).read_text())


def test_both_servers_are_named_as_env_has_them_and_no_password_is_in_either_file(project):
    result = write(project)
    dbeaver = {one["name"]: one for one in written(project, FILES[0])["connections"].values()}
    pgadmin = {one["Name"]: one for one in written(project, FILES[2])["Servers"].values()}
    for name, database in (("source", project.source), ("warehouse", project.warehouse)):
        configuration, server = dbeaver[name]["configuration"], pgadmin[name]
        found = [configuration[key] for key in ("host", "port", "database", "user", "url")]
        assert found == [database.host, str(database.port), database.name, database.user,
                         f"jdbc:postgresql://{database.host}:{database.port}/{database.name}"]
        assert (dbeaver[name]["provider"], dbeaver[name]["driver"]) == ("postgresql", "postgres-jdbc")
        assert (dbeaver[name]["save-password"], dbeaver[name]["read-only"]) == (False, name == "source")
        assert configuration["properties"] == {"sslmode": "disable"}
        found = [server[key] for key in ("Host", "Port", "MaintenanceDB", "Username")]
        assert found == [database.host, database.port, database.name, database.user]
        assert server["ConnectionParameters"]["sslmode"] == "disable"
    for path in FILES[:3]:
        text = (project.folder / path).read_text()
        assert CANARY not in text
    assert CANARY not in result.text


def test_the_passfile_opens_what_pgadmin_is_told_to_open_and_only_its_owner_reads_it(project):
    (project.folder / ".pgadmin").mkdir()
    (project.folder / ".pgadmin/pgpass").write_text("old")
    (project.folder / ".pgadmin/pgpass").chmod(0o644)
    write(project)
    for server in written(project, FILES[2])["Servers"].values():
        parameters = server["ConnectionParameters"]
        psycopg2.connect(host=server["Host"], port=server["Port"], dbname=server["MaintenanceDB"],
                         user=server["Username"], **parameters).close()
        with pytest.raises(psycopg2.OperationalError, match="no password"):
            psycopg2.connect(host=server["Host"], port=server["Port"], dbname=server["MaintenanceDB"],
                             user=server["Username"], **parameters | {"passfile": "/dev/null"})
    for path in FILES:
        assert stat.S_IMODE((project.folder / path).stat().st_mode) == 0o600


def test_connections_that_a_person_added_in_dbeaver_stay_and_ours_follow_env(project):
    write(project)
    path = project.folder / FILES[0]
    content = written(project, FILES[0])
    mine = {"provider": "sqlite", "driver": "sqlite_jdbc", "name": "mine", "configuration": {}}
    path.write_text(json.dumps(content | {"connections": {**content["connections"], "mine": mine},
                                          "connection-types": {"dev": {}}}))
    write(project, TARGET_POSTGRES_DB="other")
    found = written(project, FILES[0])
    assert found["connections"].pop("mine") == mine
    assert found["connection-types"] == {"dev": {}}
    assert [one["configuration"]["database"] for one in found["connections"].values()] == [project.source.name, "other"]
    path.write_text("not json")
    result = write(project, check=False)
    assert result.returncode != 0
    assert "Move it away" in result.text
    assert path.read_text() == "not json"


@pytest.mark.parametrize(("host", "jdbc"), [
    ("db.example", "db.example"), ("::1", "[::1]"), ("[::1]", "[::1]"), ("/var/run/postgresql", "localhost"),
    ('o"dd\\host', 'o"dd\\host'),
])
def test_odd_hosts_reach_each_tool_in_its_own_spelling(tmp_path, host, jdbc):
    connections.write(tmp_path, FULL | {"SOURCE_POSTGRES_HOST": host, "SOURCE_POSTGRES_DB": "a b/ü?"})
    only, = json.loads((tmp_path / FILES[0]).read_text())["connections"].values()
    assert only["configuration"]["host"] == jdbc
    assert only["configuration"]["url"] == f"jdbc:postgresql://{jdbc}:5433/a%20b%2F%C3%BC%3F"
    only, = json.loads((tmp_path / FILES[2]).read_text())["Servers"].values()
    assert (only["Host"], only["MaintenanceDB"]) == (host, "a b/ü?")
    line = (tmp_path / FILES[3]).read_text().removesuffix("\n")
    fields = [re.sub(r"\\(.)", r"\1", field) for field in re.findall(r"((?:\\.|[^:\\])*)(?::|$)", line)][:5]
    assert fields == [host, "5433", "*", "reader", PASSWORD]


@pytest.mark.parametrize(("change", "said"), [
    ({"SOURCE_POSTGRES_PORT": "x"}, "SOURCE_POSTGRES_PORT='x' is not a port"),
    ({"SOURCE_POSTGRES_USER": ""}, "HOST is set, but not SOURCE_POSTGRES_USER"),
    ({"SOURCE_POSTGRES_HOST": ""}, "Neither SOURCE_POSTGRES_HOST nor TARGET_POSTGRES_HOST"),
    ({"SOURCE_POSTGRES_PASSWORD": "a\nb"}, "SOURCE_POSTGRES_PASSWORD contains a line break"),
])
def test_what_cannot_be_written_is_refused_before_anything_is(tmp_path, change, said):
    with pytest.raises(SettingError, match=re.escape(said)) as refusal:
        connections.write(tmp_path, FULL | change)
    assert "a\nb" not in str(refusal.value)
    assert CANARY not in str(refusal.value)
    assert not list(tmp_path.iterdir())

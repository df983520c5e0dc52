"""The `landing` command says what is landed and loaded, and proves it or names what differs and what mends it."""

import json
import shlex
from importlib.metadata import version

import pytest
from conftest import CANARY

D1, D2 = "2024-01-20", "2024-01-21"


def listed(project, *arguments, **variables):
    """(source, date, loaded) of each line."""
    rows = json.loads(project.landing("list", "--json", *arguments, **variables).stdout)
    return [(row["source"], row["extracted_at"], row["loaded"]) for row in rows]


@pytest.fixture(autouse=True)
def secret(monkeypatch):
    """No command of these tests may print the password."""
    import conftest

    run = conftest.Project._run

    def checked(*arguments):
        result = run(*arguments)
        assert CANARY not in result.text
        return result

    monkeypatch.setattr(conftest.Project, "_run", checked)


def test_landing_says_its_version(project):
    said = project.landing("--version")
    assert said.stdout == f"landing {version('landing')}\n"


def test_list_follows_a_date_from_landing_to_loading_and_landing_anew(shop):
    assert "Nothing is landed" in shop.landing("list").stdout
    assert listed(shop) == []
    shop.land(D1)
    assert listed(shop) == [("csv", D1, "no"), ("postgres", D1, "no")]
    shop.load(D1)
    assert listed(shop) == [("csv", D1, "yes"), ("postgres", D1, "yes")]
    assert listed(shop, "--schema", "other") == [("csv", D1, "no"), ("postgres", D1, "no")]
    shop.land(D1, "postgres", REEXTRACT="true")
    assert listed(shop) == [("csv", D1, "yes"), ("postgres", D1, "an older run")]
    lines = shop.landing("list").stdout.splitlines()
    assert lines[0].split()[:5] == ["source", "extracted_at", "tables", "rows", "bytes"]
    assert lines[3].split()[:4] == ["postgres", D1, "2", "140"]
    assert lines[3].endswith("an older run")


def test_list_works_without_the_warehouse_and_says_so(shop):
    shop.land(D1, "csv")
    for variables in ({"TARGET_POSTGRES_PORT": "1"}, {"TARGET_POSTGRES_USER": "nobody_of_that_name"}):
        result = shop.landing("list", **variables)
        assert result.stdout.splitlines()[2].endswith("unknown")
        assert "Cannot read from the warehouse what is loaded" in result.stderr
        assert "TARGET_POSTGRES_" in result.stderr
    refused = shop.landing("verify", D1, check=False, TARGET_POSTGRES_PORT="1")
    assert refused.returncode == 1
    assert "Traceback" not in refused.text


def verify_fails(project, day, *said, **variables):
    result = project.landing("verify", day, check=False, **variables)
    assert result.returncode == 1
    assert "Traceback" not in result.text
    for words in said:
        assert words in result.text
    return result.text


def mended(project, said):
    """Run the commands of `To repair it, run:` with the same plugins, not through Meltano: three times as fast."""
    for command in said.strip().splitlines()[-1].split("To repair it, run: ")[1].split(" && "):
        words = shlex.split(command)
        variables = dict(word.split("=", 1) for word in words[:words.index("meltano")])
        assert words[-3:-1] == ["meltano", "run"]
        if words[-1] == "load_to_postgres":
            project.load(variables.pop("EXTRACTED_AT"), **variables)
        else:
            project.land(variables.pop("DATESTAMP"), variables.pop("SOURCE"), **variables)
    return "3 of 3 tables equal" in project.landing("verify", D1).stdout


def test_verify_names_what_differs_and_its_command_mends_it(shop):
    shop.land(D1)
    verify_fails(shop, D1, "postgres.orders (not loaded)", f"EXTRACTED_AT={D1} meltano run load_to_postgres")
    shop.load(D1)
    assert "3 of 3 tables equal, 142 rows." in shop.landing("verify", D1).stdout
    equal = json.loads(shop.landing("verify", D1, "--json").stdout)
    assert all(table["equal"] and table["landed"] == table["files"] == table["warehouse"] for table in equal)
    partition = f'public_history."orders@{D1}"'
    for change in (f"UPDATE {partition} SET freight = 9 WHERE order_id = 1",
                   f"DELETE FROM {partition} WHERE order_id = 1",
                   f"INSERT INTO {partition} (order_id) VALUES (1000)"):
        shop.warehouse.run(change)
        said = verify_fails(shop, D1, "2 of 3 tables equal", "postgres.orders (the warehouse's rows are not those")
        assert "postgres.notes (" not in said
    assert mended(shop, said)
    path = next(shop.output.glob("source=postgres/*/table=public-orders/*.csv"))
    path.write_bytes(path.read_bytes().replace(b"c3", b"c4", 1))
    assert mended(shop, verify_fails(shop, D1, "the files are not what was landed", "REEXTRACT=true"))
    shop.source.run("DROP TABLE notes")
    shop.land(D1, "postgres", REEXTRACT="true")
    said = verify_fails(shop, D1, "postgres.notes (in the warehouse, but no longer landed)")
    assert f"RELOAD=true MELTANO_ENVIRONMENT=load SCHEMA=public EXTRACTED_AT={D1}" in said


def test_verify_refuses_what_it_cannot_prove(shop):
    shop.land(D1, "postgres")
    verify_fails(shop, D1, "Source 'csv' is not landed", f"SOURCE=csv DATESTAMP={D1} meltano run extract_csv")
    verify_fails(shop, "2024-02-30", "is not a date", "YYYY-MM-DD")
    shop.manifest_path("postgres", D1).write_text("{")
    verify_fails(shop, D1, "_manifest.json is not a manifest")


def test_verify_takes_declared_types_for_what_they_are(project):
    project.csv("t.csv", "a,b\n1.50,2024-1-2\n")
    tap = project.tap_csv({"entity": "t", "path": "extract/t.csv", "types": {"a": "real", "b": "date"}})
    jobs = (project.folder / "meltano.yml").read_text().replace("- name: extract_postgres", "- name: other")
    (project.folder / "meltano.yml").write_text(jobs)
    project.pipe(tap, project.target_csv(), DATESTAMP=D2)
    project.load(D2)
    assert "1 of 1 tables equal" in project.landing("verify", D2).stdout
    project.warehouse.run(f'UPDATE public_history."t@{D2}" SET a = 1.6')
    verify_fails(project, D2, "csv.t (the warehouse's rows")


def test_command_is_there_through_meltano(shop):
    assert "Nothing is landed" in shop.meltano("invoke", "landing", "list").stdout

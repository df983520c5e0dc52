"""Several dates are verified in one pass, each by the same rules; one that differs or is not landed stops no other."""

import json
from datetime import date

import pytest
from dates import Dates
from landing.core.sources import load_connections
from landing.verify import reconcile
from landing.verify.dates import verify_dates
from landing.verify.reconcile import Reconciliation
from landing.verify.workers import Workers

D1, D2, D3, D4 = DAYS = [f"2024-01-{day}" for day in (20, 21, 23, 24)]
COLUMNS = {"id": "integer", "a": "text"}


@pytest.fixture
def dates(project):
    """Three dates, landed and loaded."""
    (project.folder / "meltano.yml").write_text("jobs:\n- name: extract_postgres\n")
    dates = Dates(project)
    for number, day in enumerate(DAYS[:3]):
        dates.land(day, t=(COLUMNS, [[str(number), "x"]]), u=(COLUMNS, [["1", None], ["2", ""]]))
        dates.load(day)
    yield dates
    dates.close()


def verify(dates, *arguments, status=0):
    done = dates.project.landing("verify", *arguments, check=False)
    assert (done.returncode, "Traceback" in done.text) == (status, False), done.text
    return done


def shown(done):
    return [(words[0], words[2], words[-1]) for words in map(str.split, done.stdout.splitlines()[2:-1])]


def test_dates_and_ranges_have_one_table_of_results(dates):
    every = [(day, table, "yes") for day in DAYS[:3] for table in "tu"]
    done = verify(dates, *DAYS[:3])
    assert shown(done) == every
    assert done.stdout.splitlines()[-1] == "6 of 6 tables equal, 9 rows. 3 of 3 dates equal."
    assert shown(verify(dates, "--from", D1)) == shown(verify(dates, "--from", "2023-12-31", "--to", D4)) == every
    assert shown(verify(dates, "--from", D2, "--to", "2024-01-22")) == every[2:4]
    assert shown(verify(dates, D3, D1, D3)) == every[4:] + every[:2]
    assert verify(dates, D1).stdout.splitlines()[0].split()[0] == "source"


def test_what_differs_is_named_by_date_with_its_repair(dates):
    dates.run(f'UPDATE public_history."u@{D2}" SET a = \'\' WHERE id = 1')
    path, = dates.project.output.glob(f"source=postgres/extracted_at={D3}/table=t/*.csv")
    path.write_bytes(path.read_bytes().replace(b"x", b"y"))
    done = verify(dates, D1, D2, D3, status=1)
    assert [(day, table) for day, table, equal in shown(done) if equal != "yes"] == [(D2, "u"), (D3, "t")]
    assert "4 of 6 tables equal, 9 rows. 1 of 3 dates equal." in done.stdout
    second, third = done.stderr.strip().splitlines()
    assert second.startswith(f"{D2} failed verification: postgres.u (")
    assert f"EXTRACTED_AT={D2} meltano run load_to_postgres" in second
    assert third.startswith(f"{D3} failed verification: postgres.t (the files are not what was landed")
    assert f"REEXTRACT=true MELTANO_ENVIRONMENT=extract SOURCE=postgres DATESTAMP={D3}" in third


def test_what_a_role_may_not_read_is_not_repaired_by_a_load(dates):
    role = f"reader_{dates.project.warehouse.name}"
    dates.run(f"CREATE ROLE {role} LOGIN PASSWORD '{role}'; GRANT USAGE ON SCHEMA public_history TO {role};"
              f"GRANT SELECT ON ALL TABLES IN SCHEMA public_history TO {role};"
              f'REVOKE SELECT ON public_history."u@{D2}" FROM {role};'
              f"UPDATE public_history.\"t@{D3}\" SET a = 'y'")
    try:
        reader = {"TARGET_POSTGRES_USER": role, "TARGET_POSTGRES_PASSWORD": role}
        done = dates.project.landing("verify", D1, D2, D3, check=False, **reader)
    finally:
        dates.run(f"DROP OWNED BY {role}; DROP ROLE {role}")
    assert done.returncode == 1
    assert [(day, table) for day, table, equal in shown(done) if equal != "yes"] == [(D2, "u"), (D3, "t")]
    unread, differs = done.stderr.strip().splitlines()
    assert f"{D2} was not verified: postgres.u (permission denied for table u@{D2})" in unread
    assert "load/roles/warehouse_loader.sql" in unread
    assert "RELOAD" not in unread
    assert f"{D3} failed verification: postgres.t (" in differs
    assert "RELOAD=true" in differs


def test_a_date_that_cannot_be_verified_stops_no_other(dates):
    dates.project.manifest_path("postgres", D2).write_text("{")
    done = verify(dates, *DAYS, status=1)
    assert shown(done) == [(day, table, "yes") for day in (D1, D3) for table in "tu"]
    assert "2 of 4 dates equal." in done.stdout
    second, fourth = done.stderr.strip().splitlines()
    assert second.startswith(f"{D2} was not verified: ")
    assert "is not a manifest" in second
    assert fourth.startswith(f"{D4} was not verified: Source 'postgres' is not landed")


def test_a_range_has_the_loaded_dates_whose_files_are_lost(dates):
    for path in sorted(dates.project.output.glob(f"source=postgres/extracted_at={D2}/**/*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    done = verify(dates, "--from", D1, status=1)
    assert shown(done) == [(day, table, "yes") for day in (D1, D3) for table in "tu"]
    assert "2 of 3 dates equal." in done.stdout
    assert done.stderr.startswith(f"{D2} was not verified: Source 'postgres' is not landed")
    dates.run(f"UPDATE public_history._loads SET source = 'of_another_project' WHERE extracted_at = '{D2}'")
    assert "2 of 2 dates equal." in verify(dates, "--from", D1).stdout


def test_json_has_each_date_with_its_tables(dates):
    dates.run(f'DELETE FROM public_history."t@{D1}"')
    found = json.loads(verify(dates, D1, D2, D4, "--json", status=1).stdout)
    assert [(one["date"], one["equal"], [table["equal"] for table in one["tables"]]) for one in found] == [
        (D1, False, [False, True]), (D2, True, [True, True]), (D4, False, [])]
    assert [bool(one["problem"]) for one in found] == [False, False, True]
    alone, = json.loads(verify(dates, "--from", D2, "--to", D2, "--json").stdout)
    assert alone["tables"] == json.loads(verify(dates, D2, "--json").stdout)


@pytest.mark.parametrize(("arguments", "said"), [
    ([], "No date is given"),
    (["--to", D2], "No date is given"),
    ([D1, "--from", D2], "--from and --to name the dates"),
    (["--from", D2, "--to", D1], f"--from={D2} is after --to={D1}"),
    (["--from", "2024-1-1"], "is not a date"),
    (["--from", "2030-01-01"], "No date is landed from 2030-01-01 on"),
    ([D1, D2, "--run", "x"], "--run names a run of one date"),
])
def test_dates_that_cannot_be_meant_are_refused(dates, arguments, said):
    assert said in verify(dates, *arguments, status=1).stderr


def test_the_number_of_processes_is_that_of_a_loads_connections(dates, monkeypatch):
    for given in ("0", "65", "two"):
        done = dates.project.landing("verify", D1, check=False, TARGET_POSTGRES_CONNECTIONS=given)
        assert f"TARGET_POSTGRES_CONNECTIONS={given!r} is not a number from 1 to 64" in done.stderr
        assert done.returncode == 1
    assert dates.project.landing("verify", D1, TARGET_POSTGRES_CONNECTIONS="1").returncode == 0
    monkeypatch.setenv("MELTANO_PROJECT_ROOT", str(dates.project.folder))
    assert load_connections() == 2
    with (dates.project.folder / "meltano.yml").open("a") as file:
        file.write("plugins:\n  loaders:\n  - name: target-postgres\n    config: {connections: 3}\n")
    assert load_connections() == 3


def test_processes_are_shared_by_all_dates(dates, monkeypatch):
    monkeypatch.setattr(reconcile, "LARGE", 0)
    monkeypatch.setenv("MELTANO_PROJECT_ROOT", str(dates.project.folder))
    dates.run(f'DELETE FROM public_history."t@{D2}"')
    with Workers(2, dates.connection) as workers:
        found = verify_dates(dates.zone, Reconciliation(dates.zone, dates.connection, "public", workers),
                             map(date.fromisoformat, DAYS[:3]))
        assert len(workers._processes) == 2
    assert [(str(one.day), one.holds, [table.table for table in one.tables]) for one in found] == [
        (D1, True, ["t", "u"]), (D2, False, ["t", "u"]), (D3, True, ["t", "u"])]


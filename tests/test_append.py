"""A file that has only new rows is added to what the newest earlier date has."""

import json

import pytest
from protected import keys

D1, D2, D3, D4 = (f"2024-01-{day}" for day in (20, 21, 22, 23))
SALES = {"entity": "sales", "path": "extract/sales-{date}.csv", "keys": ["id"], "load": "append"}
UUID = "0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"
LOG = {"entity": "log", "path": "extract/log-{date}.csv", "load": "append"}


@pytest.fixture
def files(inside):
    (inside.project.folder / "meltano.yml").write_text("jobs:\n- name: extract_csv\n")
    return Files(inside)


class Files:
    """A source of CSV files, each of one date."""

    def __init__(self, inside):
        self.inside, self.project = inside, inside.project

    def land(self, day, content, check=True, entity=SALES, **settings):
        self.project.csv(f"{entity['entity']}-{day}.csv", content)
        return self.inside.extract(day, "csv", check=check, files=[{**entity, **settings}])

    def load(self, *days, **settings):
        for day in days:
            self.inside.load(day, **settings)

    def table(self, day):
        table, = self.project.manifest("csv", day)["tables"]
        return table

    def rows(self, day, table="sales"):
        return self.project.warehouse.run(f"SELECT * FROM public_history.{table} WHERE extracted_at = %s ORDER BY 2, 3",
                                          day)

    def require_proved(self, *days):
        for day in days:
            assert self.inside.landing("verify", day).returncode == 0


def test_a_date_is_what_the_date_before_has_and_the_file(files):
    files.land(D1, "id,amount\n1,10\n2,20\n")
    files.land(D2, "id,amount\n3,30\n")
    files.land(D4, "amount,id,note\n40.5,4,new column\n")
    assert files.table(D1)["appended"] is True
    assert "increment" not in files.table(D1)
    assert (files.table(D4)["rows"], files.table(D4)["increment"]["total_rows"]) == (1, 4)
    files.load(D4, D1, D2)
    assert [row[1:4] for row in files.rows(D4)] == [(1, 10, None), (2, 20, None), (3, 30, None),
                                                    (4, pytest.approx(40.5), "new column")]
    assert [row[1] for row in files.rows(D2)] == [1, 2, 3]
    files.require_proved(D1, D2, D4)
    files.load(D4, reload=True)
    files.require_proved(D4)
    files.load(D4, batches=False, reload=True)
    files.require_proved(D4)


def test_without_keys_rows_are_added_as_they_are(files):
    files.land(D1, "a,b\nx,1\nx,1\n", entity=LOG)
    files.land(D2, "a,b\nx,1\n", entity=LOG)
    files.load(D1, D2)
    assert files.project.warehouse.one("SELECT count(*) FROM public.log") == 3
    files.require_proved(D1, D2)


@pytest.mark.parametrize("chained", [False, True], ids=["of a whole date", "of a chain"])
def test_on_duplicate_key_decides_about_keys_that_an_earlier_date_has(files, chained):
    files.land(D1, "id,amount\n1,10\n2,20\n")
    total = 2
    if chained:
        files.land(D2, "id,amount\n7,70\n")
        total = 3
    new = "id,amount\n3,30\n02,99\n"  # 02 is the integer 2
    declared = {"types": {"id": "integer"}}
    refused = files.land(D3, new, check=False, **declared)
    assert "line 3: duplicate key (id), first in " + (D2 if chained else D1) in refused.text
    assert not files.project.manifest_path("csv", D3).exists()
    files.land(D3, new, on_duplicate_key="keep_first", **declared)
    assert (files.table(D3)["rows"], files.table(D3)["duplicates"]) == (1, 1)
    assert files.table(D3)["increment"]["total_rows"] == total + 1
    files.load(D3)
    assert (2, 20) in [row[1:3] for row in files.rows(D3)]
    files.land(D3, new, on_duplicate_key="quarantine", **declared)
    quarantine = files.project.manifest_path("csv", D3).parent / files.table(D3)["quarantine"]["path"]
    assert json.loads(quarantine.read_text())["line"] == 3
    files.land(D3, new, on_duplicate_key="keep_last", **declared)
    assert (files.table(D3)["rows"], files.table(D3)["increment"]["total_rows"]) == (2, total + 1)
    files.load(D3)
    assert (2, 99) in [row[1:3] for row in files.rows(D3)]
    assert len(files.rows(D3)) == total + 1
    files.require_proved(D3)


def test_keep_last_works_within_a_file_too(files):
    whole = {**SALES, "load": "replace"}
    files.land(D1, "id,amount\n1,10\n2,20\n1,11\n1,12\n", entity=whole, on_duplicate_key="keep_last")
    assert files.table(D1)["duplicates"] == 2
    files.load(D1)
    assert [row[1:3] for row in files.rows(D1)] == [(1, 12), (2, 20)]


@pytest.mark.parametrize(("type_", "old", "new"), [
    ("numeric(9,2)", "10", "1e1"), ("uuid", f"A{UUID}", f"a{UUID}"),
    ("timestamp without time zone", "2024-01-01T00:00", "2024-01-01 00:00:00.000"), ("double precision", "-0", "0.0")])
def test_a_key_takes_the_place_of_an_earlier_one_however_both_are_spelled(files, type_, old, new):
    declared = {"types": {"id": type_}, "on_duplicate_key": "keep_last"}
    files.land(D1, f"id,amount\n{old},10\n", **declared)
    files.land(D2, f"id,amount\n{new},20\n", **declared)
    assert files.table(D2)["increment"]["total_rows"] == 1
    for settings in ({}, {"reload": True, "batches": False}):  # loaded as files, and as the whole table's RECORDs
        files.load(D2, **settings)
        assert [row[2] for row in files.rows(D2)] == [20]
        files.require_proved(D2)


def test_a_date_that_is_landed_late_names_those_that_lack_its_rows(files):
    files.land(D1, "id,amount\n1,10\n")
    files.land(D3, "id,amount\n3,30\n")
    files.land(D4, "id,amount\n4,40\n")
    said = files.land(D2, "id,amount\n2,20\n").text
    assert f"{D3}, {D4} of csv were landed before {D2} and do not contain its rows" in said
    assert said.index(f"DATESTAMP={D3}") < said.index(f"DATESTAMP={D4}")
    files.land(D3, "id,amount\n3,30\n")
    files.land(D4, "id,amount\n4,40\n")
    files.load(D4)
    assert [row[1] for row in files.rows(D4)] == [1, 2, 3, 4]
    files.require_proved(D4)


def test_rows_are_never_added_to_a_base_that_is_damaged_or_has_another_key(files):
    files.land(D1, "id,amount\n1,10\n")
    refused = files.land(D2, "id,amount\n2,20\n", check=False, keys=["amount"])
    assert "its keys changed since" in refused.text
    path = files.project.manifest_path("csv", D1).parent / files.table(D1)["files"][0]["path"]
    path.write_bytes(path.read_bytes().replace(b"10", b"77"))
    refused = files.land(D2, "id,amount\n2,20\n", check=False)
    assert "expected SHA-256" in refused.text
    path.unlink()
    assert files.land(D2, "id,amount\n2,20\n", check=False).returncode == 1
    assert not files.project.manifest_path("csv", D2).exists()


def test_rows_are_not_added_to_rows_that_are_protected_otherwise(files):
    protect, inside = {"note": "encrypt", "amount": "token"}, files.inside
    inside.monkeypatch.setenv("PROTECTION_KEYS", keys("token", "old"))
    first = "id,amount,note\n1,10,private\n"
    new = "id,amount,note\n2,10,private too\n"
    files.land(D1, first)
    for changed in ({"note": "mask"}, {"note": "drop"}, {"amount": "token"}):
        refused = files.land(D2, new, check=False, protect=changed)
        name, = changed
        assert f"the protection of {name} or the key of its tokens changed since {D1}" in refused.text
    files.land(D1, first, protect=protect)
    assert "the protection of amount, note" in files.land(D2, new, check=False).text
    inside.monkeypatch.setenv("PROTECTION_KEYS", keys("token", "old", token=b"u" * 32))
    assert "the protection of amount or" in files.land(D2, new, check=False, protect=protect).text
    inside.monkeypatch.setenv("PROTECTION_KEYS", keys("token", "new", "old"))  # encrypted values name their key
    files.land(D2, new, protect=protect)
    files.load(D2)
    files.require_proved(D2)
    revealed = inside.landing("reveal", D2, "sales").stdout
    assert {line.split(",")[2] for line in revealed.splitlines()} == {"note", "private", "private too"}
    inside.monkeypatch.setenv("PROTECTION_KEYS", keys("token", "new"))
    assert "the key 'old', which PROTECTION_KEYS does not have" in inside.landing(
        "reveal", D2, "sales", check=False).text

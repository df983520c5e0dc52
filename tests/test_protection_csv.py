"""Columns of CSV files are protected as those of tables are, and rejected rows with them."""

import hashlib
import json

import pytest
from protected import DAY, ENTITY, NEXT, PEOPLE, PLAIN, columns, content, keys


@pytest.mark.parametrize("settings", [{}, {"use_batch": False}, {"compression": "zstd"}])
def test_csv_files_are_protected_like_tables_and_have_the_same_tokens(people_files, settings):
    shop = people_files.project
    people_files.extract(DAY, "csv", files=[ENTITY])
    plain = content(shop, "people", source="csv")
    protect = {"id": "token", "Full name": "encrypt", "e-*": "mask", "born": "drop"}
    people_files.extract(DAY, "csv", files=[ENTITY | {"protect": protect}], **settings)
    found = columns(shop, "people", source="csv")
    assert {name: (one["type"], one["protection"]["type"], one["protection"]["method"]) for name, one in found.items()
            } == {"id": ("text", "integer", "token"), "name": ("text", "text", "encrypt"),
                  "e-mail": ("text", "text", "mask")}
    table, = shop.manifest("csv", DAY)["tables"]
    assert table["dropped"] == ["born"]
    people_files.load(DAY)
    assert people_files.proved(DAY)
    assert shop.warehouse.run('SELECT "e-mail" FROM people ORDER BY 1') == [("****",), ("****",), (None,)]
    people_files.extract(NEXT, "postgres", protect={"public.orders": {"person_id": "token"}})
    tokens = {line.split(b",")[1] for line in content(shop, "orders", NEXT).splitlines()[1:]}
    assert {token for token, in shop.warehouse.run("SELECT id FROM people")} < {token.decode() for token in tokens}
    people_files.extract(DAY, "csv", files=[ENTITY], protect={"*": {"*": "encrypt"}}, **settings)
    target = shop.folder / "people.csv"
    people_files.landing("reveal", DAY, "people", "--to", str(target))
    assert target.read_bytes() == plain


WRONG_CSV = {
    "no column": ([ENTITY | {"protect": {"nmae": "token"}}], {}, "'nmae' of 'people' matches no column"),
    "a pattern of nothing": ([ENTITY], {"*": {"*phone*": "drop"}}, "'*phone*' of '*' matches no column"),
    "no entity": ([ENTITY], {"peple": {"id": "token"}}, "'id' of 'peple' matches no column of the source: it may be"),
    "a masked key": ([ENTITY | {"protect": {"id": "mask"}}], {}, "is part of the key"),
}


@pytest.mark.parametrize("case", WRONG_CSV)
def test_a_setting_of_csv_files_that_would_not_protect_is_refused(people_files, case):
    declared, protect, said = WRONG_CSV[case]
    assert said in people_files.extract(DAY, "csv", check=False, files=declared, protect=protect).text
    assert not people_files.project.landed()


@pytest.mark.parametrize("ring", [keys("token", "old"), keys("token")], ids=["key", "no key"])
def test_a_rejected_row_is_encrypted_as_a_whole_or_left_out_and_reasons_quote_no_value(people_files, ring):
    shop = people_files.project
    bad = f"4;{PLAIN};short\n5;{PLAIN};x;1.5{PLAIN}\n1;{PLAIN} again;x;2001-01-01\n7;{PLAIN} twice\xff;x;2001-01-01\n"
    shop.csv("people.csv", PEOPLE.encode() + bad.encode("latin-1"))
    people_files.monkeypatch.setenv("PROTECTION_KEYS", ring)
    declared = ENTITY | {"protect": {"name": "mask", "born": "mask", "id": "token"}, "types": {"born": "date"},
                         "on_bad_rows": "quarantine", "on_duplicate_key": "quarantine"}
    said = people_files.extract(DAY, "csv", files=[declared]).text
    assert PLAIN not in said
    assert not [key for key, value in shop.landed().items() if PLAIN.encode() in value]
    table, = shop.manifest("csv", DAY)["tables"]
    assert table["quarantine"]["rows"] == 4
    lines = people_files.landing("reveal", DAY, "people", "--quarantine").stdout.splitlines()
    revealed = [json.loads(line) for line in lines]
    texts = [one["text"] for one in sorted(revealed, key=lambda one: one["line"])]
    if "old" in ring:
        assert texts == [line.encode("latin-1").decode(errors="backslashreplace") for line in bad.splitlines()]
    else:
        assert texts == [None] * 4
    declared |= {"on_bad_rows": "fail", "on_duplicate_key": "fail"}
    assert PLAIN not in people_files.extract(DAY, "csv", check=False, files=[declared]).text


def test_the_hash_of_a_row_says_nothing_of_protected_values(people_files):
    shop = people_files.project
    declared = ENTITY | {"metadata": True, "protect": {"name": "token", "born": "drop"}}
    people_files.extract(DAY, "csv", files=[declared])
    lines = content(shop, "people", source="csv").decode().splitlines()
    assert lines[0] == "id,name,e-mail,_source_file,_source_row,_row_hash"
    first = lines[1].split(",")
    assert first[-1] == hashlib.sha256(",".join(first[:3]).encode()).hexdigest()
    assert people_files.landing("reveal", DAY, "people").stdout == "\n".join(lines) + "\n"


def test_inferred_types_of_protected_columns_are_compared_with_those_of_the_date_before(people_files):
    people_files.extract(DAY, "csv", files=[ENTITY | {"protect": {"born": "encrypt"}}])
    people_files.project.csv("people.csv", PEOPLE.replace("1999-12-31", f"in {PLAIN}"))
    said = people_files.extract(NEXT, "csv", files=[ENTITY | {"protect": {"born": "encrypt"}}]).text
    assert "people.born: inferred type text, but date for the date before" in said
    assert PLAIN not in said

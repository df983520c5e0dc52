"""Protected columns are landed as tokens, encrypted, masked or not at all; who has the keys gets them back exactly."""

import base64
import hashlib
import json
import re

import duckdb
import pytest
import zstandard
from conftest import require_others_through
from landed import InStore
from landing.core.errors import SettingError
from landing.extract.postgres.tap import TapPostgres
from landing.model.schema import Protection
from landing.protection.canonical import canonical
from landing.protection.keys import Key, KeyRing, new_entry
from landing.protection.marks import MarkedFile, Marks
from landing.protection.methods import method_of
from landing.storage import hashing
from protected import DAY, ENTITY, KEYS, NEXT, PEOPLE, PLAIN, PROTECT, columns, content, keys
from test_values import HARD, TABLE


def test_a_protected_table_is_landed_loaded_verified_and_revealed(people):
    shop = people.project
    people.extract(DAY)
    plain = content(shop, "people")
    people.extract(DAY, protect=PROTECT)
    landed = content(shop, "people")
    assert PLAIN.encode() not in landed
    assert b"555" not in landed
    assert landed.startswith(b"id,name,email,phone\n")
    found = columns(shop, "people")
    assert [found[name]["type"] for name in found] == ["text"] * 4
    assert [found[name]["protection"]["type"] for name in found] == ["integer", "text", "text", "text"]
    assert [found[name]["protection"]["method"] for name in found] == ["token", "encrypt", "encrypt", "mask"]
    assert [found[name]["protection"].get("key") for name in found] == ["token", "old", "old", None]
    table, = (one for one in shop.manifest("postgres", DAY)["tables"] if one["name"] == "people")
    assert table["dropped"] == ["born"]
    people.load(DAY)
    assert people.proved(DAY)
    names = shop.warehouse.run("SELECT name FROM people ORDER BY name NULLS LAST")
    assert names[0] != names[1] == names[2], "deterministic, and the empty string has a text of its own"
    assert names[3] == (None,)
    assert shop.warehouse.one("SELECT count(*) FROM orders JOIN people ON people.id = person_id") == 100
    revealed = people.landing("reveal", DAY, "public.people").stdout
    assert ["".join(row.split(",")[1:3]) for row in revealed.splitlines()[1:3]] == [f"{PLAIN}a@x.org", '""']
    people.extract(DAY, protect={"public.people": {"*": "encrypt"}})
    assert PLAIN.encode() not in content(shop, "people")
    target = shop.folder / "people.csv"
    people.landing("reveal", DAY, "people", "--to", str(target))
    assert target.read_bytes() == plain
    assert target.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("settings", [{}, {"use_batch": False}, {"compression": "zstd", "connections": 1}])
def test_reveal_is_exact_for_every_type(people, settings):
    shop = people.project
    shop.source.run("DROP TABLE orders, people;" + HARD)
    people.extract(DAY)
    people.extract(NEXT, protect={"*": {"*": "encrypt"}}, **settings)
    for table in shop.manifest("postgres", DAY)["tables"]:
        target = shop.folder / f"{hashlib.sha256(table['name'].encode()).hexdigest()}.csv"
        people.landing("reveal", NEXT, table["name"], "--to", str(target))
        assert target.read_bytes() == content(shop, table["name"]), table["name"]
    assert len(columns(shop, TABLE, NEXT)) == len(columns(shop, TABLE))
    types = {name: column["protection"]["type"] for name, column in columns(shop, TABLE, NEXT).items()}
    assert types == {name: column["type"] for name, column in columns(shop, TABLE).items()}
    people.load(NEXT)
    assert people.proved(NEXT)


def test_files_and_records_of_any_chunks_have_the_same_bytes(people):
    shop = people.project
    shop.source.run(f"INSERT INTO people SELECT g, repeat('{PLAIN},\"x' || g, g), 'x' FROM generate_series(5, 900) g")
    protect = {"public.people": {"name": "mask", "id": "token", "email": "encrypt"}}
    for number, settings in enumerate(({}, {"use_batch": False}, {"connections": 1}, {"compression": "gzip"})):
        people.extract(f"2024-01-{20 + number}", protect=protect, **settings)
    hashes = {shop.manifest("postgres", f"2024-01-{20 + number}")["tables"][1]["files"][0]["sha256"]
              for number in range(4)}
    assert len(hashes) == 1
    assert PLAIN.encode() not in content(shop, "people")


@pytest.mark.parametrize("given", [{}, {"PROTECTION_KEYS": keys("token")}, {"PROTECTION_KEYS": keys("old")}])
def test_a_missing_key_is_refused_before_anything_is_read(people, given):
    people.monkeypatch.delenv("PROTECTION_KEYS")
    for name, value in given.items():
        people.monkeypatch.setenv(name, value)
    refused = people.extract(DAY, protect=PROTECT, check=False)
    assert "landing key" in refused.text
    assert not people.project.landed()
    people.extract(DAY, protect={"public.people": {"name": "mask", "email": "drop"}})  # these need none


def test_another_key_or_none_is_refused_with_a_sentence_and_the_old_one_reveals_after_a_rotation(people):
    shop = people.project
    people.extract(DAY, protect=PROTECT)
    before = content(shop, "people")
    people.monkeypatch.setenv("PROTECTION_KEYS", keys("token", "old", old=b"x" * 32))
    refused = people.landing("reveal", DAY, "people", check=False)
    assert refused.returncode == 1
    assert "The key 'old' in PROTECTION_KEYS is not the one that protected the values" in refused.text
    assert PLAIN not in refused.text
    people.monkeypatch.setenv("PROTECTION_KEYS", keys("new", "token"))
    refused = people.landing("reveal", DAY, "people", check=False)
    assert "the key 'old', which PROTECTION_KEYS does not have" in refused.text
    people.monkeypatch.setenv("PROTECTION_KEYS", keys("new", "token", "old"))
    people.extract(NEXT, protect=PROTECT)
    assert [columns(shop, "people", NEXT)[name]["protection"]["key"] for name in ("id", "name")] == ["token", "new"]
    after = content(shop, "people", NEXT)
    assert [line.split(b",")[0] for line in after.splitlines()] == [line.split(b",")[0] for line in before.splitlines()]
    assert b"enc:old" not in after
    assert people.landing("reveal", DAY, "people").stdout == people.landing("reveal", NEXT, "people").stdout


def test_a_damaged_file_reveals_nothing(people):
    shop = people.project
    people.extract(DAY, protect=PROTECT)
    table, = (one for one in shop.manifest("postgres", DAY)["tables"] if one["name"] == "people")
    path = shop.manifest_path("postgres", DAY).parent / table["files"][0]["path"]
    path.write_bytes(path.read_bytes().replace(b"****", b"***x", 1))
    target = shop.folder / "people.csv"
    refused = people.landing("reveal", DAY, "people", "--to", str(target), check=False)
    assert "Nothing of it was revealed" in refused.text
    assert not target.exists()


WRONG = {
    "no table": ({"public.peple": {"name": "token"}}, "'name' of 'public.peple' matches no column", "public.people"),
    "no column": ({"public.people": {"nmae": "token"}}, "'nmae' of 'public.people' matches no column", "name"),
    "a pattern of nothing": ({"*": {"*phone2*": "mask"}}, "'*phone2*' of '*' matches no column", ""),
    "no method": ({"public.people": {"name": "hide"}}, "'hide' is not a method", "token, encrypt, mask, drop, plain"),
    "no column at all": ({"public.people": "token"}, "'people' of 'public' matches no column", ""),
    "two as exact": ({"*": {"name": "mask"}, "public.people": {"n*": "token"}}, "as exact as each other",
                     "mask by 'name' of '*'"),
    "a masked key": ({"public.people": {"id": "mask"}}, "is part of the key", "Use token or encrypt"),
    "a dropped key": ({"*": {"id": "drop"}}, "is part of the key", ""),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_setting_that_would_not_protect_is_refused(people, case):
    setting, said, more = WRONG[case]
    refused = people.extract(DAY, protect=setting, check=False)
    assert said in refused.text
    assert more in refused.text
    assert not people.project.landed()


def test_a_pattern_protects_new_columns_and_an_exact_name_wins(people):
    shop = people.project
    protect = {"*": {"*mail*": "encrypt", "phone": "drop"}, "public.people": {"email": "plain"}}
    people.extract(DAY, protect=protect)
    assert "protection" not in columns(shop, "people")["email"]
    shop.source.run(f"ALTER TABLE orders ADD COLUMN \"Email or e-mail\" text DEFAULT '{PLAIN}'")
    people.extract(NEXT, protect={"public": {"people": {"email": "plain"}}, **protect})  # as Meltano divides names
    assert columns(shop, "orders", NEXT)["Email or e-mail"]["protection"]["method"] == "encrypt"
    assert PLAIN.encode() not in content(shop, "orders", NEXT)


def test_a_foreign_key_that_no_longer_joins_is_warned_of(people):
    said = people.extract(DAY, protect={"public.people": {"id": "token"}}).text
    assert "public.orders.person_id (plain) references public.people.id (token): they do not join" in said
    assert "do not join" not in people.extract(DAY, protect=PROTECT).text


BAD_KEYS = {
    "no id": base64.b64encode(b"s" * 32).decode(),
    "id and key exchanged": base64.b64encode(b"s" * 33).decode() + ":old",
    "short": "old:" + base64.b64encode(b"s" * 31).decode(),
    "no base64": "old:" + "s" * 50 + "!",
    "twice": keys("old") + "\n" + keys("old", old=b"s" * 32),
}


@pytest.mark.parametrize("case", BAD_KEYS)
def test_a_bad_key_is_refused_and_never_printed(people, case):
    people.monkeypatch.setenv("PROTECTION_KEYS", BAD_KEYS[case])
    refused = people.extract(DAY, protect=PROTECT, check=False)
    assert "of PROTECTION_KEYS" in refused.text
    for part in BAD_KEYS[case].replace("\n", ":").split(":"):
        assert len(part) < 20 or part not in refused.text


def test_keys_are_made_and_rotated_in_a_file_that_only_its_owner_can_read(people):
    shop = people.project
    file = shop.folder / "keys"
    people.landing("key", "token", "--to", str(file))
    people.landing("key", "2026", "--to", str(file))
    said = people.landing("key", "2027", "--to", str(file)).text
    entries = file.read_text().split()
    assert [entry.split(":")[0] for entry in entries] == ["2027", "2026", "token"]
    assert not any(entry.split(":")[1] in said for entry in entries)
    assert file.stat().st_mode & 0o777 == 0o600
    assert "has a key '2026' already" in people.landing("key", "2026", "--to", str(file), check=False).text
    people.monkeypatch.delenv("PROTECTION_KEYS")
    people.monkeypatch.setenv("PROTECTION_KEYS_FILE", "keys")
    people.extract(DAY, protect=PROTECT)
    assert columns(shop, "people")["name"]["protection"]["key"] == "2027"
    assert new_entry("a") != new_entry("a")
    require_others_through(shop.folder)
    file.chmod(0o644)
    assert f"chmod 600 {file}" in people.extract(DAY, protect=PROTECT).text
    people.monkeypatch.setenv("PROTECTION_KEYS_FILE", "nowhere")
    assert "nowhere" in people.extract(DAY, protect=PROTECT, check=False).text


def test_verify_and_certify_say_what_is_protected(people):
    people.monkeypatch.setenv("TAP_POSTGRES_PROTECT", json.dumps(PROTECT | {"public.orders": {"amount": "drop"}}))
    shown = people.landing("certify", "--json").stdout
    found = {f"{one['table']}.{one['column']}": one for one in json.loads(shown)["columns"]}
    assert [found[f"people.{name}"]["verdict"] for name in ("id", "name", "born")] == ["protected"] * 3
    assert [found[f"people.{name}"]["loads_as"] for name in ("id", "name", "born")] == ["text", "text", None]
    assert [found[f"people.{name}"]["type"] for name in ("id", "name", "born")] == ["integer", "text", "date"]
    assert found["orders.person_id"]["verdict"] == "lossless"
    said = people.landing("certify").text
    assert "6 protected" in said
    assert "public.orders.person_id (plain) references public.people.id (token)" in said
    people.monkeypatch.delenv("TAP_POSTGRES_PROTECT")
    people.extract(DAY, protect=PROTECT)
    people.load(DAY)
    said = people.landing("verify", DAY).stdout
    assert ("Protected, so compared as landed and not with the values at the source: orders.person_id (token), "
            "people.id (token)") in said
    people.monkeypatch.setenv("TAP_POSTGRES_PROTECT", '{"public.people": {"nmae": "token"}}')
    assert "matches no column" in people.landing("certify", check=False).text


def test_a_table_none_of_whose_columns_would_be_landed_is_refused_and_certified_as_refused(people):
    people.project.source.run("CREATE TABLE secrets (c text, d text)")
    protect = {"public.secrets": {"*": "drop"}}
    said = "no column would be landed, as `select` or `protect` (drop) leave out all of them"
    assert f"public.secrets: {said}" in people.extract(DAY, check=False, protect=protect).text
    people.monkeypatch.setenv("TAP_POSTGRES_PROTECT", json.dumps(protect))
    certified = people.landing("certify", check=False)
    assert certified.returncode == 1
    assert said in " ".join(certified.stdout.split())
    people.project.csv("people.csv", PEOPLE)
    files = [ENTITY | {"keys": [], "protect": {"*": "drop"}}]
    assert f"people: {said}" in people.extract(DAY, "csv", check=False, files=files).text
    assert not people.project.landed()


def test_a_message_of_postgresql_that_quotes_a_protected_value_is_not_repeated(people):
    people.project.source.run("CREATE VIEW numbers AS SELECT id, name, name::integer AS n FROM people WHERE id = 1")
    refused = people.extract(DAY, check=False, protect={"public.numbers": {"name": "token"}})
    assert "public.numbers could not be read completely: InvalidTextRepresentation (22P02)" in refused.text
    assert PLAIN not in refused.text


def test_an_incremental_stream_cannot_have_a_protected_replication_key(people):
    shop = people.project
    tap = TapPostgres(config={**shop.source.settings(), "filter_schemas": ["public"]})
    catalog = tap.catalog_dict
    for stream in catalog["streams"]:
        if stream["table_name"] == "people":
            stream |= {"replication_method": "INCREMENTAL", "replication_key": "born"}
            for entry in stream["metadata"]:
                if not entry["breadcrumb"]:
                    entry["metadata"] |= {"replication-method": "INCREMENTAL", "replication-key": "born"}
                    entry["metadata"].pop("forced-replication-method", None)
    tap = TapPostgres(config={**shop.source.settings(), "filter_schemas": ["public"], "protect": PROTECT},
                      catalog=catalog)
    with pytest.raises(SettingError, match="replication key"):
        tap.sync_all()


def test_diff_copy_and_export_work_on_protected_values(people):
    shop = people.project
    people.extract(DAY, protect=PROTECT)
    shop.source.run(f"UPDATE people SET name = '{PLAIN} II' WHERE id = 1; DELETE FROM orders WHERE id = 7")
    people.extract(NEXT, protect=PROTECT)
    for day in (DAY, NEXT):
        people.load(day)
    found = json.loads(people.landing("diff", DAY, NEXT, "--json", "--rows", "9").stdout)
    changed = {one["table"]: one for one in found}
    assert [changed["people"][kind] for kind in ("inserted", "updated", "deleted")] == [0, 1, 0]
    assert [changed["orders"][kind] for kind in ("inserted", "updated", "deleted")] == [0, 0, 1]
    assert changed["people"]["rows"][0]["after"]["name"].startswith("enc:old:")
    for command in (("copy", "--all", "--to", "other"), ("export", "--all", "--to", "parquet")):
        people.landing(*command)
    for root in ("other", "parquet"):
        files = [path for path in (shop.folder / root).rglob("*") if path.is_file()]
        assert files
        assert not [path for path in files if PLAIN.encode() in path.read_bytes()]
    exported, = (shop.folder / "parquet").rglob(f"*extracted_at={NEXT}/table=public-people/*.parquet")
    names = duckdb.sql(f"SELECT name FROM read_parquet('{exported}')").fetchall()
    assert {name and name[:8] for name, in names} == {"enc:old:", None}
    revealed = people.landing("reveal", NEXT, "people").stdout
    people.monkeypatch.setenv("LANDING_ROOT", "other")
    assert people.landing("reveal", NEXT, "people").stdout == revealed
    assert f"{PLAIN} II" in revealed


@pytest.mark.parametrize("store", ["fakes3"], indirect=True)
def test_a_store_holds_protected_values_only(people, store):
    shop = people.project
    shop.land_in(InStore(store, f"zone-{shop.source.name}"))
    files = [{**ENTITY, "protect": {"Full name": "encrypt"}, "on_bad_rows": "quarantine"}]
    shop.csv("people.csv", PEOPLE + f"8;{PLAIN}\n")
    for tap in (shop.tap_postgres(protect=PROTECT, compression="zstd"), shop.tap_csv(*files, max_bad_rows=1)):
        shop.pipe(tap, shop.target_csv(), DATESTAMP=DAY)
    landed = shop.landed()
    assert len([key for key in landed if key.endswith("_manifest.json")]) == 2
    assert not [key for key, value in landed.items() if PLAIN.encode() in content_of(key, value)]
    for source in ("postgres", "csv"):
        assert PLAIN in shop.landing("reveal", DAY, "people", "--source", source).stdout
    assert PLAIN in shop.landing("reveal", DAY, "people", "--source", "csv", "--quarantine").stdout
    assert "Several tables" in shop.landing("reveal", DAY, "people", check=False).text


def content_of(key, value):
    """A file's content."""
    return zstandard.ZstdDecompressor().stream_reader(value).read() if key.endswith(".zst") else value


def test_tokens_of_equal_values_are_equal_whatever_their_type(people):
    shop = people.project
    shop.source.run(
        "CREATE TABLE forms (a smallint, b text, c numeric(9,3), d float, e character(5), f numeric, g bigint);"
        "INSERT INTO forms VALUES (1, '1', 1, 1, '1', 1.0, 1), (-7, '-7', -7, -7, '-7', '-7.00', -7),"
        "(0, '0', 0, '-0', '0', '0.0', 0), (100, '100', 100, 1e2, '100', 100, 100);"
        "CREATE TABLE others (a uuid, b text); INSERT INTO others VALUES "
        "('A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'), (NULL, ''), (NULL, ' ')")
    people.extract(DAY, protect={"public.forms": {"*": "token"}, "public.others": {"*": "token"}})
    rows = [line.split(b",") for line in content(shop, "forms").splitlines()[1:]]
    assert [len({*row}) for row in rows] == [1] * 4
    assert len({row[0] for row in rows}) == 4
    first, *empty = [line.split(b",") for line in content(shop, "others").splitlines()[1:]]
    assert first[0] == first[1]
    assert [row[0] for row in empty] == [b"", b""]
    assert len({row[1] for row in empty}) == 2
    assert all(len(row[1]) == 43 for row in [first, *empty])


CANONICAL = [
    ("integer", b"+007", b"7"), ("integer", b" 12", b"12"), ("bigint", b"-0", b"0"), ("numeric(9,2)", b"1.50", b"1.5"),
    ("numeric", b"1e3", b"1000"), ("numeric", b"NaN", b"NaN"), ("real", b"1e+20", b"100000000000000000000"),
    ("double precision", b"-Infinity", b"-Infinity"), ("boolean", b"true", b"t"), ("boolean", b"off", b"f"),
    ("character(4)", b"ab  ", b"ab"), ("text", b"ab  ", b"ab  "), ("integer[]", b"{1}", b"{1}"), ("text", b"", b""),
]


@pytest.mark.parametrize(("type_", "value", "form"), CANONICAL)
def test_the_canonical_text_of_a_value(type_, value, form):
    assert canonical(type_)(value) == form


def test_what_is_written_does_not_depend_on_chunks():
    ring = KeyRing({id_: Key(id_, secret) for id_, secret in KEYS.items()})
    marks = Marks({name: method_of(Protection(method, "text"), ring) for name, method in
                   (("a", "encrypt"), ("b", "mask"))})
    a, b = "".join(marks.of("a")), "".join(marks.of("b"))
    words, odd = "é,".encode().hex(), b"secret \n,".hex()
    lines = f'a,x,b\n{a}{words},"x\ny",{b}{odd}\n,,\n{a},"",{b}\n'.encode()
    found = set()
    for size in range(1, len(lines) + 1):
        raw = hashing.discard()
        with MarkedFile(raw, marks) as file:
            for begin in range(0, len(lines), size):
                file.write(lines[begin:begin + size])
        found.add((raw.sha256, raw.size))
    assert len(found) == 1
    landed = marks.replaced(lines)
    assert hashlib.sha256(landed).hexdigest() == found.pop()[0]
    assert re.fullmatch(rb'a,x,b\nenc:old:[^,]+,"x\ny","\*{4}\n,"\n,,\nenc:old:[^,]+,"",\*{4}\n', landed)

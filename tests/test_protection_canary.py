"""No plain value of a protected column, and no key, is anywhere: in files, also of a run at work, and in logs."""

import os
import shutil
import stat
import threading
import time
from pathlib import Path

import pytest
from conftest import ROOT
from landing.extract.csv.fields import Fields
from protected import DAY, ENTITY, NEXT, PLAIN, content, keys

LOUD = {"LOGLEVEL": "DEBUG", "TAP_POSTGRES_LOGLEVEL": "DEBUG", "TAP_CSV_LOGLEVEL": "DEBUG",
        "TARGET_CSV_LOGLEVEL": "DEBUG", "TARGET_POSTGRES_LOGLEVEL": "DEBUG"}
RING = keys("old", "token", old=os.urandom(32), token=os.urandom(32))  # of these tests alone
SECRETS = [PLAIN, PLAIN.encode().hex(), *(entry.partition(":")[2] for entry in RING.split(","))]
LOCK = 7_304_118  # an advisory lock that the end of the view `big` waits for
# Rows of several buffers, and an end that comes when the test lets it.
BIG = f"""
CREATE VIEW big AS SELECT g AS id, '{PLAIN}' || g AS name, '{PLAIN}' AS email, 'x{PLAIN}x' AS phone, g AS other
FROM generate_series(1, 60000) g UNION ALL SELECT 0, '', NULL, '', 0 FROM pg_advisory_lock_shared({LOCK})
"""
PROTECT = {"public.big": {"name": "encrypt", "email": "token", "phone": "mask"},
           "public.people": {"name": "token", "email": "encrypt"}}


def found_in(*folders, besides=()):
    """Where secrets are: files that were written below the folders."""
    found = []
    for path in (path for folder in folders for path in Path(folder).rglob("*")):
        if path.is_file() and not path.is_symlink() and path.name not in besides:
            content = path.read_bytes()
            found += [f"{path}: {one}" for one in SECRETS if one.encode() in content]
    return found


def running():
    """Command lines and environments of this user's processes, but for this one."""
    for folder in Path("/proc").glob("[0-9]*"):
        if folder.name != str(os.getpid()):
            try:
                yield (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
            except OSError:
                continue


def test_no_plain_value_and_no_key_is_anywhere_while_a_run_is_at_work_and_after_it(people, server, tmp_path_factory):
    shop, scratch = people.project, tmp_path_factory.mktemp("scratch")
    shop.source.run(BIG)
    for database in (shop.source, shop.warehouse):
        database.run(f"ALTER DATABASE {database.name} SET log_statement = 'all'")
        database.run(f"ALTER DATABASE {database.name} SET log_duration = on")
    people.monkeypatch.delenv("PROTECTION_KEYS")
    (shop.folder / "ring").write_text(RING.replace(",", "\n"))
    log = Path(server.data).parent / "log"
    begin = log.stat().st_size
    variables = {**LOUD, "PROTECTION_KEYS_FILE": "ring", "TMPDIR": str(scratch)}
    shop.source.run(f"SELECT pg_advisory_lock({LOCK})")
    results = []

    def land():
        results.append(shop.pipe(shop.tap_postgres(protect=PROTECT), shop.target_csv(), DATESTAMP=DAY, **variables))

    run = threading.Thread(target=land)
    run.start()
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    deadline = time.monotonic() + 60
    while not shop.source.one(waiting):
        assert run.is_alive(), results
        assert time.monotonic() < deadline, "the tap never came to the end of its rows"
        time.sleep(0.02)
    staged = [path for path in (shop.output / "_staging").rglob("*.csv") if "big" in str(path)]
    while not sum(path.stat().st_size for path in staged) > 1 << 20:
        assert time.monotonic() < deadline, "nothing is staged"
        time.sleep(0.02)
    assert not found_in(shop.folder, scratch, besides={"ring"})
    assert not [one for one in running() for secret in SECRETS if secret.encode() in one]
    shop.source.run(f"SELECT pg_advisory_unlock({LOCK})")
    run.join()
    loaded = shop.load(DAY, **variables)
    shown = shop.landing("verify", DAY, **variables)
    texts = [*(one.text for one in results), loaded.text, shown.text, log.read_bytes()[begin:].decode()]
    assert "encode(convert_to(concat" in texts[-1], "the log has the statements"
    assert not [text[max(0, text.find(secret) - 200):][:400] for text in texts for secret in SECRETS if secret in text]
    assert not found_in(shop.folder, scratch, besides={"ring"})
    history = shop.warehouse.run("SELECT t::text FROM public_history._loads t")
    assert history
    assert not [one for one in [*history, *shop.warehouse.run("SELECT t::text FROM people t")]
                for secret in SECRETS if secret in one[0]]


def test_a_csv_file_at_work_has_no_plain_value_in_the_landing_zone_and_scratch_is_private(people_files):
    shop, seen = people_files.project, []
    rows = "".join(f"{number};{PLAIN}{number};x;2000-01-01\n" for number in range(20_000))
    shop.csv("people.csv", ("id;Full name;e-mail;born\n" + rows).encode("utf-16"))  # DuckDB reads a decoded copy
    scratch = shop.folder.parent / f"{shop.folder.name}-scratch"
    scratch.mkdir()
    protect, original = {"name": "encrypt", "*mail": "drop"}, Fields.protected

    def protected(self, content):
        copies = [*scratch.rglob("*.csv")]
        seen.append(len(copies))
        assert not found_in(shop.output)
        for folder in scratch.iterdir():
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        return original(self, content)

    people_files.monkeypatch.setattr(Fields, "protected", protected)
    people_files.monkeypatch.setattr("tempfile.tempdir", str(scratch))
    people_files.extract(DAY, "csv", files=[ENTITY | {"protect": protect}])
    assert len(seen) > 5
    assert min(seen) == 1
    assert not found_in(shop.output, scratch)


@pytest.mark.parametrize("fault", ["decoding", "duckdb"])
def test_a_refused_file_is_refused_without_its_values(people_files, fault, caplog):
    shop = people_files.project
    bad = f"9;{PLAIN}\xe9;;\n" if fault == "decoding" else f"9; \"{PLAIN}\";;\n"
    shop.csv("people.csv", b"id;Full name;e-mail;born\n1;a;;\n" + bad.encode("latin-1"))
    declared = ENTITY | {"protect": {"name": "encrypt"}, "after_landing": {"failed": "extract/failed"}}
    caplog.set_level("DEBUG")
    refused = people_files.extract(DAY, "csv", check=False, files=[declared])
    assert "line 3" in refused.text
    assert PLAIN not in refused.text
    reasons, = (shop.folder / "extract/failed").glob("*.reasons.json")
    assert PLAIN not in reasons.read_text()


def test_a_real_run_keeps_values_and_keys_out_of_meltanos_logs_and_settings(people):
    shop = people.project
    shutil.copy(ROOT / "meltano.yml", shop.folder)
    text = (shop.folder / "meltano.yml").read_text()
    (shop.folder / "meltano.yml").write_text(text.replace(
        "      filter_schemas: [public]\n", "      filter_schemas: [public]\n      protect:\n"
        "        public.people: {id: token, name: encrypt, email: mask}\n        \"*\": {\"*phone*\": drop}\n", 1))
    (shop.folder / "ring").write_text(RING.replace(",", "\n"))
    with (shop.folder / ".env").open("a") as env:
        env.write("PROTECTION_KEYS_FILE=ring\n")
    people.monkeypatch.delenv("PROTECTION_KEYS")
    run = shop.meltano("--log-level", "debug", "run", "extract_postgres", MELTANO_ENVIRONMENT="extract", DATESTAMP=DAY)
    assert content(shop, "people").startswith(b"id,name,email,born\n")
    shown = shop.meltano("config", "print", "tap-postgres", check=False)
    assert "protect" in shown.text
    assert not [one for one in SECRETS if one in run.text + shown.text]
    assert not found_in(shop.folder, besides={"ring"})
    assert PLAIN in shop.landing("reveal", DAY, "people").stdout
    variable = '{"public.people": {"id": "token", "email": "drop"}, "*": {"name": "encrypt"}}'
    shop.meltano("run", "extract_postgres", MELTANO_ENVIRONMENT="extract", DATESTAMP=NEXT,
                 TAP_POSTGRES_PROTECT=variable)
    assert content(shop, "people", NEXT).startswith(b"id,name,phone,born\n"), "Meltano loses keys with a dot"
    assert PLAIN.encode() not in content(shop, "people", NEXT)

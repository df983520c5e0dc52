"""Landed files may be compressed: rows, hashes and proof are the same, and damage is named."""

import gzip

import pytest
import zstandard

DAY = "2024-01-20"
OPEN = {"gzip": gzip.open, "zstd": zstandard.open}


@pytest.fixture(params=["gzip", "zstd"])
def compressed(request, shop):
    """A project whose two sources are landed compressed, and how."""
    for tap in (shop.tap_postgres, shop.tap_csv):
        shop.pipe(tap(compression=request.param), shop.target_csv(), DATESTAMP=DAY)
    return shop, request.param


def files(project):
    """Landed files with what their manifest says of them, by table."""
    return {table["name"]: (project.manifest_path(source, DAY).parent / table["files"][0]["path"], table["files"][0])
            for source in ("postgres", "csv") for table in project.manifest(source, DAY)["tables"]}


def test_a_compressed_date_has_the_rows_and_hashes_of_a_plain_one_and_is_proved(compressed):
    project, how = compressed
    packed = files(project)
    project.load(DAY)
    assert "3 of 3 tables equal" in project.landing("verify", DAY).stdout
    project.land(DAY, REEXTRACT="true")
    for name, (_, file) in files(project).items():
        packed_path, said = packed[name]
        assert packed_path.suffix == {"gzip": ".gz", "zstd": ".zst"}[how]
        assert {key: said[key] for key in ("rows", "bytes", "sha256")} == {
            key: file[key] for key in ("rows", "bytes", "sha256")}
        assert "stored" not in file


def test_other_tools_can_read_it(compressed):
    project, how = compressed
    path, file = files(project)["orders"]
    assert path.stat().st_size == file["stored"] < file["bytes"]
    with OPEN[how](path, "rb") as opened:
        assert len(opened.read()) == file["bytes"]


def test_its_rows_go_as_records_too(compressed):
    project, _ = compressed
    target = project.target_csv(datestamp="2024-01-25", source="again")
    project.pipe(project.tap_landed(use_batch=False), target, EXTRACTED_AT=DAY)
    tables = {table["name"]: table["rows"] for table in project.manifest("again", "2024-01-25")["tables"]}
    assert tables == {"orders": 100, "notes": 40, "order_details": 2}


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_damage_is_refused_before_the_warehouse_changes_naming_the_file(compressed, damage):
    project, _ = compressed
    project.load(DAY)
    before = project.rows("orders")
    path, _ = files(project)["orders"]
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes(whole[:-8] if damage == "cut" else
                     whole[:middle] + bytes([whole[middle] ^ 0x10]) + whole[middle + 1:])
    refused = project.load(DAY, check=False, RELOAD="true")
    assert refused.returncode != 0
    assert str(path) in refused.text
    assert "REEXTRACT=true" in refused.text
    assert project.rows("orders") == before
    unproved = project.landing("verify", DAY, check=False)
    assert unproved.returncode != 0
    assert "2 of 3 tables equal" in unproved.stdout


def test_records_of_other_taps_are_compressed_by_the_target(shop):
    shop.pipe(shop.tap_postgres(use_batch=False), shop.target_csv(compression="zstd"), DATESTAMP=DAY)
    paths = [path.name for path in shop.output.glob("source=postgres/*/table=*/*")]
    assert len(paths) == 2
    assert all(name.endswith(".csv.zst") for name in paths)

"""A path with {date}: each date takes its own file, and a missing one is said with what there is instead."""

from datetime import date

import pytest
from landing.core.commands import how_to_land
from landing.core.errors import SettingError, SourceError
from landing.core.sources import has_files_of_each_date
from landing.verify.backfill import BackfillPlanner
from landing.zone.landing_zone import LandingZone

DAY = date(2024, 1, 20)


@pytest.mark.parametrize(("path", "file"), [
    ("inbox/sales_{date}.csv", "inbox/sales_2024-01-20.csv"),
    ("inbox/sales_{date:%Y%m%d}.csv", "inbox/sales_20240120.csv"),
    ("in/{date:%Y/%m}/{date:%d}/*.csv", "in/2024/01/20/any.csv"),
    ("in/{date:%Y}/{date:%j}", "in/2024/020/a.csv"),
    ("in/{{x}}/{date:%-d.%-m.%y}.csv", "in/{x}/20.1.24.csv"),
    ("in/{{date}}.csv", "in/{date}.csv"),
])
def test_a_date_takes_the_file_of_its_own_date(convert, tmp_path, path, file):
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text("a\n1\n")
    assert convert(path=path, day=DAY).text == "a\n1\n"


def test_a_missing_file_is_said_with_its_date_and_the_nearest_dates_that_have_one(convert, tmp_path):
    for day in ("2022-01-20", "2024-01-02", "2024-01-18", "2024-01-19", "2024-01-22", "2024-02-01", "2024-03-01"):
        (tmp_path / f"sales_{day}.csv").write_text("a\n1\n")
    with pytest.raises(SourceError) as refused:
        convert(path="sales_{date}.csv", day=DAY)
    for said in (f"{tmp_path}/sales_2024-01-20.csv does not exist (path 'sales_{{date}}.csv' for 2024-01-20)",
                 "Nearest dates with a file: 2024-01-02, 2024-01-18, 2024-01-19, 2024-01-22, 2024-02-01. ",
                 "Nothing of this source's date was committed"):
        assert said in str(refused.value)


def test_a_path_of_many_dates_names_none_of_them_as_the_nearest(convert, tmp_path):
    for number in range(1, 32):
        (tmp_path / f"month_2024-{number % 12 + 1:02}.csv").write_text("a\n1\n")
    with pytest.raises(SourceError) as refused:
        convert(path="month_{date:%G-%m}.csv", day=date(2025, 1, 31))
    assert "Nearest dates" not in str(refused.value)


def test_a_typo_in_the_format_is_seen_by_the_names_beside_it(convert, tmp_path):
    for name in ("sales_20240119.csv", "sales_20240120.csv", "other.txt"):
        (tmp_path / name).write_text("a\n1\n")
    for path in ("sales_{date}.csv", "sales_{date}*.csv", "sale_20240120.csv"):
        with pytest.raises(SourceError, match=r"There is: .*sales_202401(19|20)\.csv, .*sales_202401(19|20)\.csv\. "):
            convert(path=path, day=DAY)
    with pytest.raises(SourceError, match=r"2024/01/20\.csv does not exist \(path .* for 2024-01-20\)\. Nothing"):
        convert(path="in/{date:%Y/%m/%d}.csv", day=DAY)


@pytest.mark.parametrize("path", ["{foo}.csv", "{}.csv", "{0}.csv", "{date.year}.csv", "{date!r}.csv", "a{.csv",
                                  "a}.csv", "{date:%H}.csv", "{date:sales}.csv", "{date:%Q}.csv", "{date:%Y{x}}.csv"])
def test_any_other_brace_is_a_wrong_setting_that_names_the_placeholders(convert, path):
    with pytest.raises(SettingError) as refused:
        convert(path=path, day=DAY)
    for said in (repr(path), "{date} for the date", "{date:%Y%m%d}", "{{ and }} for braces"):
        assert said in str(refused.value)


def test_a_file_with_the_placeholder_in_its_name_does_not_silently_give_way_to_another(convert, tmp_path):
    for path, meant in [("sales_{date}.csv", "sales_2024-01-20.csv"), ("a{{b}}.csv", "a{b}.csv")]:
        (tmp_path / path).write_text("a\n1\n")
        with pytest.raises(SettingError, match="there is also a file of just that name") as refused:
            convert(path=path, day=DAY)
        assert repr(meant) in str(refused.value)
    assert convert(path="sales_{{date}}.csv", day=DAY).text == "a\n1\n"


DECLARED = """
jobs:
- {name: extract_csv, tasks: [tap-csv target-csv]}
- {name: extract_shop, tasks: [tap-shop target-csv]}
plugins:
  extractors:
  - {name: tap-csv, config: {files: [{entity: a, path: "a_{date}.csv"}, {entity: b, path: %s}]}}
  - {name: tap-shop, inherit_from: tap-csv}
"""


@pytest.mark.parametrize(("path", "dated"), [('"b/{date:%Y/%m/%d}"', True), ("b.csv", False),
                                             ('"{date:%Y}.csv"', False), ('"{date:%Y-%m}.csv"', False),
                                             ('"{date:%G-%V}.csv"', False), ('"{date:%a}.csv"', False),
                                             ('"{date:%d}.csv"', False), ('"{date:%Y-%j}.csv"', True),
                                             ('"{{date}}.csv"', False),
                                             ('"{x}.csv"', False)])
@pytest.mark.parametrize("day", [DAY, date(2024, 4, 1)])  # the first of a month, a quarter and a week
def test_a_past_date_is_as_it_was_if_all_files_of_a_source_are_of_their_dates(tmp_path, monkeypatch, path, dated, day):
    monkeypatch.setenv("MELTANO_PROJECT_ROOT", str(tmp_path))
    (tmp_path / "meltano.yml").write_text(DECLARED % path)
    for source in ("csv", "shop"):
        said = how_to_land([source], day)
        assert said.startswith("Land it first: ") == dated
        assert ("today's rows" in said) != dated
        late = BackfillPlanner(LandingZone.configured(), None, False).plan(day, day)[0].late
        assert (source in late) != dated
    assert not has_files_of_each_date("unknown", day)


def test_dates_land_and_load_by_the_jobs_without_a_variable_in_the_settings(project):
    settings = project.folder / "meltano.yml"
    entry = "path: inbox/orders_{date}.csv\n        columns: {price: {type: numeric, decimal_comma: true}}"
    settings.write_text(settings.read_text().replace("path: extract/order_details.csv", entry)
                        .replace("- name: extract_postgres\n  tasks:\n  - tap-postgres target-csv\n", ""))
    (project.folder / "inbox").mkdir()
    for day, price in [("2024-01-19", 1), ("2024-01-20", 2)]:
        path = project.folder / f"inbox/orders_{day}.csv"
        path.write_text(f"order_id;product_id;price\n1;1;{price},5\n")
        project.meltano("run", "extract_csv", MELTANO_ENVIRONMENT="extract", DATESTAMP=day)
    project.meltano("run", "load_to_postgres", MELTANO_ENVIRONMENT="load", EXTRACTED_AT="2024-01-19")
    assert project.rows("order_details") == [("(1,1,1.5)",)]
    for change in (lambda: path.write_text("order_id;product_id;price\n1;1;3\n"), path.unlink):
        change()  # the past date is frozen all the same, and its file may be archived
        project.meltano("run", "extract_csv", MELTANO_ENVIRONMENT="extract", DATESTAMP="2024-01-20")
    project.load("2024-01-20")
    assert project.rows("order_details") == [("(1,1,2.5)",)]
    run = project.meltano("run", "extract_csv", MELTANO_ENVIRONMENT="extract", DATESTAMP="2024-01-21", check=False)
    assert run.returncode
    assert "orders_2024-01-21.csv does not exist" in " ".join(run.text.split())
    assert ("csv", "2024-01-21") not in project.landed()

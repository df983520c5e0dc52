"""A setting table_names that changed later: `landing move` moves what is loaded; until then loads are refused."""

import json

import pytest
from dates import Dates
from landing.core.errors import RefusedError
from test_drop import landing
from test_table_names import D1, D2, D3, A, declare, relations, same_names

BOTH = ("postgres", "crm")


@pytest.fixture
def dates(project, monkeypatch):
    monkeypatch.setenv("MELTANO_PROJECT_ROOT", str(project.folder))
    declare(project, "postgres")
    dates = Dates(project)
    dates.use = lambda **names: (setattr(dates, "names", names), monkeypatch.setenv(
        "TARGET_POSTGRES_TABLE_NAMES", json.dumps(names)))
    yield dates
    dates.close()


def moved(*arguments):
    return [(".".join(one["old"]), ".".join(one["new"]), one["dates"])
            for one in json.loads(landing("move", *arguments, "--json"))]


def without_places(dates):
    """As an older version left the load history."""
    dates.run("ALTER TABLE public_history._loads DROP COLUMN table_schema, DROP COLUMN source_schema, "
              "DROP COLUMN source_table, ADD PRIMARY KEY (source, extracted_at, table_name)")


@pytest.mark.parametrize("older", [False, True])
def test_a_changed_setting_stops_loads_until_its_tables_are_moved_with_all_that_people_built_on_them(dates, older):
    dates.use()
    for number, day in enumerate((D1, D2), 1):
        same_names(dates, day, "postgres", number=number, more={"old": (A, [["5"]])} if day == D1 else None)
        dates.load(day)
    dates.run("CREATE SCHEMA mine; CREATE VIEW mine.seen AS SELECT a FROM public.orders;"
              "COMMENT ON VIEW public.orders IS 'ours'; GRANT SELECT ON public.orders TO PUBLIC")
    if older:
        without_places(dates)
    dates.use(postgres="shop.p_{table}")
    same_names(dates, D3, "postgres", number=3)
    with pytest.raises(RefusedError, match=r"its history is in public.orders \(2 dates, the newest 2024-01-21\)") as no:
        dates.load(D3)
    assert "meltano invoke landing move --schema public --yes" in str(no.value)
    planned = landing("plan", "--from", D3, "--to", D3)
    assert "its history is in public.orders" in planned
    assert dates.unproved(D1, D2) == []
    expected = [("public.old", "shop.p_old", 1), ("public.orders", "shop.p_orders", 2)]
    assert moved() == expected
    assert "public.orders" in relations(dates)
    assert moved("--yes") == expected
    assert moved() == []
    assert relations(dates) == ["mine.seen", "shop.p_old", "shop.p_orders", "shop_history.p_old",
                                "shop_history.p_orders"]
    assert dates.run("SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE "
                     "nspname = 'public_history' AND relkind = 'r'") == [("_loads",)]
    assert dates.unproved(D1, D2) == []
    dates.load(D3)
    assert dates.unproved(D1, D2, D3) == []
    assert dates.run("TABLE mine.seen") == dates.run("TABLE shop.p_orders") == [(31,)]
    assert dates.one("SELECT obj_description('shop.p_orders'::regclass)") == "ours"
    assert dates.one("SELECT relacl::text LIKE '%%,=r/%%' FROM pg_class WHERE oid = 'shop.p_orders'::regclass")
    assert dates.one("SELECT obj_description('shop.p_old'::regclass)") == (
        f"Not in the source since {D2}: see shop_history.")
    dates.use()
    assert moved("--yes") == [("shop.p_old", "public.old", 1), ("shop.p_orders", "public.orders", 3)]
    dates.load(D3)
    assert dates.unproved(D1, D2, D3) == []
    assert dates.run("TABLE mine.seen") == dates.run("TABLE orders") == [(31,)]


def test_sources_can_trade_their_places_in_one_move(dates):
    declare(dates.project, "crm")
    dates.use(crm="c.{table}")
    same_names(dates, D1, *BOTH)
    dates.load(D1, *BOTH)
    dates.use(postgres="c.{table}")
    assert moved("--yes") == [("c.orders", "public.orders", 1), ("public.orders", "c.orders", 1)]
    assert (dates.run("TABLE c.orders"), dates.run("TABLE orders")) == ([(11,)], [(12,)])
    assert all(one.holds for one in dates.proofs(D1, *BOTH))


def test_a_move_to_a_name_that_is_taken_is_refused_and_changes_nothing(dates):
    dates.use()
    same_names(dates, D1, "postgres")
    dates.load(D1)
    dates.run("CREATE SCHEMA shop; CREATE TABLE shop.orders (a integer)")
    dates.use(postgres="shop.{table}")
    before = relations(dates)
    assert landing("move", "--yes", check=False) == 1
    assert relations(dates) == before
    assert dates.unproved(D1) == []

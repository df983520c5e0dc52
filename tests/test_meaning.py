"""What source and files mean arrives in the warehouse: comments, original headers, foreign keys."""

import json

import pytest
from conftest import NORTHWIND

D1, D2 = "2024-01-20", "2024-01-21"

COMMENTS = """
SELECT c.relname || coalesce('.' || a.attname, ''), d.description
FROM pg_description d
JOIN pg_class c ON c.oid = d.objoid AND d.classoid = 'pg_class'::regclass AND c.relnamespace::regnamespace::text = %s
LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.objsubid AND d.objsubid > 0
"""


def comments(project, schema):
    """Comments by `table` and `table.column`."""
    return dict(project.warehouse.run(COMMENTS, schema))


def day(project, when, **variables):
    project.land(when, **variables)
    return project.load(when)


@pytest.fixture
def commented(project):
    """A source with comments, and keys of one column and of two."""
    project.source.run(
        "CREATE TABLE customers (country text, id integer, PRIMARY KEY (country, id));"
        "CREATE TABLE orders (order_id integer PRIMARY KEY, country text, customer integer, extracted_at date,"
        " parent integer REFERENCES orders, FOREIGN KEY (customer, country) REFERENCES customers (id, country));"
        "COMMENT ON TABLE orders IS E'It''s 100 % \\\\ of\\nall; orders';"
        "COMMENT ON COLUMN orders.customer IS 'Who ordered';"
        "COMMENT ON COLUMN orders.extracted_at IS 'Its own'"
    )
    return project


def test_comments_and_foreign_keys_stand_on_views_and_on_history(commented):
    day(commented, D1)
    both = "Foreign key (customer, country) to customers (id, country)"
    expected = {"orders": "It's 100 % \\ of\nall; orders", "orders.customer": f"Who ordered\n{both}",
                "orders.country": both, "orders.parent": "Foreign key to orders (order_id)"}
    assert comments(commented, "public") == expected | {"orders.extracted_at": "Its own"}
    assert comments(commented, "public_history") == expected | {"orders.extracted_at_": "Its own"}


def test_what_the_source_says_next_follows_and_an_older_date_does_not_bring_the_old_back(commented):
    day(commented, D1)
    commented.source.run("COMMENT ON TABLE orders IS 'New'; ALTER TABLE orders DROP CONSTRAINT orders_parent_fkey;"
                         "ALTER TABLE orders DROP COLUMN customer")
    day(commented, D2)
    expected = {"orders": "New", "orders.extracted_at": "Its own"}
    assert comments(commented, "public") == expected
    assert comments(commented, "public_history")["orders.customer"].startswith("Who ordered")
    before = comments(commented, "public_history")
    commented.load(D1, RELOAD="true")
    assert comments(commented, "public") == expected
    assert comments(commented, "public_history") == before


def test_what_people_wrote_stays_where_the_source_says_nothing(commented):
    day(commented, D1)
    mine = "Mine: 100 %\n\nand more"
    for what in ("VIEW customers", "COLUMN customers.id", "COLUMN orders.parent", "TABLE public_history.customers",
                 "COLUMN orders.customer", "VIEW orders"):
        commented.warehouse.run(f"COMMENT ON {what} IS '{mine}'")
    day(commented, D2)
    kept = comments(commented, "public")
    assert (kept["customers"], kept["customers.id"]) == (mine, mine)
    assert kept["orders.parent"] == f"{mine}\nForeign key to orders (order_id)"
    assert kept["orders.customer"].startswith("Who ordered")
    assert kept["orders"].startswith("It's")
    assert comments(commented, "public_history")["customers"] == mine


def test_a_renamed_column_of_a_csv_file_says_what_its_header_was(project):
    project.source.run("CREATE TABLE t (id integer)")
    project.csv("prices.csv", "Preis (€);id\n1;2\n")
    files = {"entity": "prices", "path": "extract/prices.csv", "rename": {"Preis (€)": "price"}}
    project.land(D1, "postgres")
    project.pipe(project.tap_csv(files), project.target_csv(), DATESTAMP=D1)
    project.load(D1)
    for schema in ("public", "public_history"):
        assert comments(project, schema) == {"prices.price": "CSV header: Preis (€)"}


def test_comments_that_are_there_already_are_not_written_again(commented):
    day(commented, D1)
    stamps = ("SELECT objoid, objsubid, xmin::text FROM pg_description WHERE objoid::regclass::text LIKE %s "
              "ORDER BY 1, 2")
    before = commented.warehouse.run(stamps, "%orders")
    assert len(before) == 10
    day(commented, D2)
    assert commented.warehouse.run(stamps, "%orders") == before


def test_a_foreign_key_is_named_once_though_its_table_has_partitions_and_by_its_place_in_the_warehouse(project):
    project.source.run(
        "CREATE SCHEMA crm; CREATE TABLE crm.people (id integer PRIMARY KEY) PARTITION BY LIST (id);"
        "CREATE TABLE crm.people_1 PARTITION OF crm.people FOR VALUES IN (1);"
        "CREATE TABLE calls (person integer REFERENCES crm.people) PARTITION BY LIST (person);"
        "CREATE TABLE calls_1 PARTITION OF calls FOR VALUES IN (1)"
    )
    day(project, D1)
    assert comments(project, "public") == {"calls.person": "Foreign key to people (id)"}
    assert comments(project, "public_history") == {"calls.person": "Foreign key to people (id)"}


def test_a_column_that_is_not_selected_takes_its_foreign_key_with_it(commented):
    tap = commented.tap_postgres()
    catalog = json.loads(commented._run([*tap, "--discover"], True, {}).stdout)
    for stream in catalog["streams"]:
        for entry in stream["metadata"]:
            if entry["breadcrumb"] == ["properties", "country"] and stream["table_name"] == "orders":
                entry["metadata"]["selected"] = False
    path = commented.folder / "catalog.json"
    path.write_text(json.dumps(catalog))
    commented.pipe([*tap, "--catalog", str(path)], commented.target_csv(), DATESTAMP=D1)
    orders = commented.manifest("postgres", D1)["tables"][1]
    assert [key["columns"] for key in orders["foreign_keys"]] == [["parent"]]


@pytest.mark.skipif(not NORTHWIND.exists(), reason="Northwind is not on this machine")
def test_northwinds_foreign_keys_are_all_there(project):
    project.source.run((NORTHWIND / "northwind.sql").read_text())
    day(project, D1)
    expected = {
        "customer_customer_demo.customer_id": "customers (customer_id)",
        "customer_customer_demo.customer_type_id": "customer_demographics (customer_type_id)",
        "employee_territories.employee_id": "employees (employee_id)",
        "employee_territories.territory_id": "territories (territory_id)",
        "employees.reports_to": "employees (employee_id)",
        "orders.customer_id": "customers (customer_id)",
        "orders.employee_id": "employees (employee_id)",
        "orders.ship_via": "shippers (shipper_id)",
        "products.category_id": "categories (category_id)",
        "products.supplier_id": "suppliers (supplier_id)",
        "territories.region_id": "region (region_id)",
    }
    expected = {place: f"Foreign key to {what}" for place, what in expected.items()}
    assert comments(project, "public") == comments(project, "public_history") == expected

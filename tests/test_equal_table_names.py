"""Two databases with equal table names and CSV files, as docs/how-to/sources.md declares them, by Meltano itself."""

import json
import re

import pytest
import yaml
from conftest import ROOT

DAY = "2024-01-20"
PAGE = ROOT / "docs/how-to/sources.md"


def declared(folder):
    """Write the examples of the page into meltano.yml, as a person does."""
    path = folder / "meltano.yml"
    content = yaml.safe_load(path.read_text())
    for text in re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL):
        example = yaml.safe_load(text)
        content["jobs"] += example.get("jobs", [])
        for kind, plugins in example.get("plugins", {}).items():
            for plugin in plugins:
                known = next((one for one in content["plugins"][kind] if one["name"] == plugin["name"]), None)
                if known:
                    known["config"] |= plugin["config"]
                else:
                    content["plugins"][kind].append(plugin)
    path.write_text(yaml.safe_dump(content, sort_keys=False))


@pytest.fixture
def two(shop, make_database):
    """The shop, and a second database with a table `orders` of its own, on the same server."""
    crm = make_database("crm")
    crm.run("CREATE TABLE orders (order_id integer PRIMARY KEY, customer text); INSERT INTO orders VALUES (1, 'Ada')")
    declared(shop.folder)
    variables = {"CRM_HOST": crm.host, "CRM_PORT": str(crm.port), "CRM_DB": crm.name, "CRM_USER": crm.user,
                 "CRM_PASSWORD": crm.password}
    return shop, variables


def test_the_example_of_the_page_loads_two_databases_with_equal_table_names(two):
    shop, variables = two
    shop.land(DAY)
    shop.meltano("run", "extract_crm", MELTANO_ENVIRONMENT="extract", DATESTAMP=DAY, **variables)
    shop.meltano("run", "load_to_postgres", MELTANO_ENVIRONMENT="load", EXTRACTED_AT=DAY)
    assert shop.warehouse.run("SELECT customer FROM crm.orders") == [("Ada",)]
    assert shop.warehouse.one("SELECT count(*) FROM public.orders") == 100
    assert "crm.orders" in shop.landing("verify", DAY).stdout
    assert shop.landing("move").stdout.startswith("Nothing to move")
    # The variable wins over meltano.yml, for Meltano and for the commands alike.
    names = {"TARGET_POSTGRES_TABLE_NAMES": json.dumps({"crm": "crm_{table}"})}
    load = {"MELTANO_ENVIRONMENT": "load", "EXTRACTED_AT": DAY, **names}
    refused = shop.meltano("run", "load_to_postgres", check=False, **load)
    assert "its history is in crm.orders (1 dates, the newest 2024-01-20)" in refused.text
    assert "the name public.crm_orders" in refused.text
    assert "public.crm_orders" in shop.landing("move", "--yes", **names).stdout
    assert shop.warehouse.run("SELECT customer FROM public.crm_orders") == [("Ada",)]
    shop.meltano("run", "load_to_postgres", **load)
    assert "public.crm_orders" not in shop.landing("verify", DAY, **names).text

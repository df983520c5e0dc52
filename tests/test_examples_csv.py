"""The examples of CSV files: the figures of their pages, computed a second way in plain Python on the files."""

import csv
import importlib.util
import io
import json
import os
import re
import shutil
import string
import subprocess
import unicodedata
from collections import Counter
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import obstore
import pytest
import yaml
from conftest import BIN, PASSWORD, ROOT
from landing.core.errors import SettingError

DAY, NEXT, LATER = (date(2024, 1, day) for day in (20, 21, 22))
DBT = ROOT / "transform/.venv/bin/dbt"
pytestmark = pytest.mark.skipif(not DBT.exists(), reason="dbt is not installed: make transform/.venv/ready")
FLAGS = {"accepts_animals": "Animal accepté", "has_free_tasting": "Dégustations gratuites", "is_free": "Tarif gratuit ",
         "has_guided_individual_visits_on_request": "Visites guidées proposées aux individuels sur demande"}
PACKED = {"offer_types": "Type d'offre", "labels": "Labels", "wine_appellations": "Appellation pour les vins",
          "sectors": "Secteur d'activité", "languages": "Langues parlées à l'accueil",
          "visit_languages": "Langue(s) parlée(s) pendant les visites",
          "payment_methods": "Modes de paiement acceptés"}
ADDRESS = ("Adresse1", "Adresse1Suite", "Adresse partie 2", "Adresse partie 3")
KEY = ("Nom de l'offre touristique", "Adresse1", "Code postal", "Commune du lieu de visite", "Latitude", "Longitude")


class Example:
    """An example in the folder of a project of its own."""

    def __init__(self, name, project):
        self.project, self.folder = project, ROOT / "examples" / name
        spec = importlib.util.spec_from_file_location(f"generate_{name}", self.folder / "generate.py")
        self.generate = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.generate)
        if (self.folder / "load").exists():
            shutil.copytree(self.folder / "load", project.folder / "load")

    def land(self, day, check=True):
        """With tap-csv as the example's meltano.yml has it."""
        text = string.Template((self.folder / "meltano.yml").read_text()).safe_substitute(os.environ)
        taps = {one["name"]: one["config"] for one in yaml.safe_load(text)["plugins"]["extractors"]}
        source = {"source": self.folder.name}
        tap = self.project.tap_csv(*taps["tap-csv"]["files"], **source)
        return self.project.pipe(tap, self.project.target_csv(**source), check, DATESTAMP=str(day))

    def load(self, day, **settings):
        target = [self.project.target_postgres()[0], "--config",
                  self.project.config(**{**self.project.warehouse.settings(), **settings})]
        return self.project.pipe(self.project.tap_landed(sources=[self.folder.name]), target, EXTRACTED_AT=str(day))

    def build(self, day, *options, check=True):
        """The models and their tests; what dbt printed."""
        warehouse = self.project.warehouse
        target = {"HOST": warehouse.host, "PORT": str(warehouse.port), "DB": warehouse.name, "USER": warehouse.user,
                  "PASSWORD": PASSWORD, "SSLMODE": "disable"}
        variables = self.project.environment(
            MELTANO_PROJECT_ROOT=str(self.project.folder), DBT_PROJECT_DIR=str(self.folder / "transform"),
            EXTRACTED_AT=str(day), **{f"TARGET_POSTGRES_{name}": value for name, value in target.items()})
        done = subprocess.run([BIN / "landing-dbt", "build", *options], capture_output=True, text=True, env=variables)
        assert (done.returncode == 0) is check, done.stdout[-5000:] + done.stderr[-2000:]
        return done.stdout

    def rows(self, query):
        return self.project.warehouse.run(query)


@pytest.fixture
def example(project, monkeypatch):
    """An example by its name; the working directory is its project's."""
    monkeypatch.syspath_prepend(ROOT / "examples")
    monkeypatch.chdir(project.folder)
    monkeypatch.setenv("MELTANO_PROJECT_ROOT", str(project.folder))
    return lambda name: Example(name, project)


# Activities


def misspelt(header):
    """As another export may have it: other accents, apostrophes, spaces and case."""
    return unicodedata.normalize("NFD", header.replace("'", "’").replace(": ", "\N{NO-BREAK SPACE}:  ")).capitalize()


def hard_rows(header):
    """Rows that mean something else than they look like; the last one is of the same offer as the one before."""
    def row(**values):
        return [{**dict(zip(("Nom de l'offre touristique", "Commune du lieu de visite"), ("Domaine", "Belley"),
                            strict=True)), **values}.get(name, "") for name in header]
    free, animals = (next(one for one in header if one.startswith(FLAGS[name])) for name in
                     ("has_free_tasting", "accepts_animals"))
    most = "Nombre personnes max pour les groupes"
    return [
        row(**{free: "OUI ", animals: "\N{NO-BREAK SPACE}non", "Code postal": "01000", "Adresse partie 3": " "}),
        row(**{free: "peut-être", animals: "Oui", most: "jusqu'à 50", "Adresse partie 3": "BP 3"}),
        row(**{"Cedex": "9", "Tarif": "5.00", "Situation de l'offre": 'À "gauche";\r\nparking', "Labels": "Vin, cidre",
               "localisation": "45.1, 5.20", "Horaires d'ouvertures": "2024-01-20", "N° de fax": "0241000000"}),
        row(**{"Labels": ",Bio,, Bio ,Céramique, faïence, émail,Bio", most: "12.0", "Latitude": "45.123456789012345"}),
        row(**{"Labels": "Bio", "Latitude": "45.123461", "Longitude": "5", "Code postal": "01300"}),
        row(**{"Labels": "Bio", "Latitude": "45.123459", "Longitude": "5.000001", "Code postal": "01300"}),
    ]


def text(value):
    return value.strip(" \t\r\n\N{NO-BREAK SPACE}")


def items(packed):
    """The distinct values that a field packs."""
    return {text(one) for one in re.split(r",(?!\s)", text(packed))} - {""}


def key(row):
    parts = [text(row[name]) for name in KEY]
    return (*parts[:4], *(one and str(Decimal(one).quantize(Decimal("0.00001"), ROUND_HALF_UP)) for one in parts[4:]))


def flag(header, name):
    return next(one for one in header if one.startswith(FLAGS[name]))


def test_offers_mean_what_the_file_says_whatever_the_spelling_of_its_headers(example, project, monkeypatch):
    activities = example("activities")
    header = activities.generate.HEADER
    rows = activities.generate.rows(DAY)[:150] + hard_rows(header)
    path = project.folder / "offers.csv"
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file, delimiter=";").writerows([[misspelt(name) for name in header], *rows])
    monkeypatch.setenv("FILES", "offers.csv")
    activities.land(DAY)
    activities.load(DAY)
    said = activities.build(DAY)

    rows = [dict(zip(header, row, strict=True)) for row in rows]
    counted = activities.rows("SELECT count(*), count(DISTINCT activity_key), count(*) FILTER (WHERE is_address_given) "
                              "FROM staging.activities")
    assert counted == [(len(rows), len({key(row) for row in rows}),
                        sum(any(text(row[name]) for name in ADDRESS) for row in rows))]
    repeated = sum(count > 1 for count in Counter(map(key, rows)).values())
    assert f"WARN {repeated} unique_activities_activity_key" in said
    for name in FLAGS:
        spelled = Counter(text(row[flag(header, name)]).lower() for row in rows)
        found = activities.rows(f"SELECT yes, no, nothing FROM marts.activity_flags WHERE flag = '{name}'")
        assert found == [(spelled["oui"], spelled["non"], len(rows) - spelled["oui"] - spelled["non"])]
    for field, column in PACKED.items():
        by_offer = {(key(row), item) for row in rows for item in items(row[column])}
        expected = Counter(item for _, item in by_offer)
        assert dict(activities.rows(f"SELECT value, count(*) FROM staging.activity_{field} GROUP BY 1")) == expected
        shown = activities.rows(f"SELECT value, activities FROM marts.activity_items WHERE field = '{field}'")
        assert dict(shown) == expected
        assert expected["Céramique, faïence, émail"] == {"labels": 1, "sectors": expected[
            "Céramique, faïence, émail"]}.get(field, 0)
    most = "Nombre personnes max pour les groupes"
    expected = [(text(row["Code postal"]) or None, row["Latitude"] or None, whole(row[most])) for row in rows]
    found = activities.rows("SELECT post_code, latitude::text, group_max_persons FROM staging.activities "
                            "ORDER BY source_row")
    assert found == expected
    declared = yaml.safe_load((activities.folder / "transform/models/staging/activities.yml").read_text())["models"][0]
    for column in (one for one in declared["columns"] if one.get("data_type") == "text"):
        found = activities.rows(f"SELECT {column['name']} FROM staging.activities ORDER BY source_row")
        assert found == [(text(row[column["description"]]) or None,) for row in rows], column
    unread = activities.rows("SELECT column_name, value FROM marts.activity_unread_values WHERE value <> 'sur demande'")
    assert set(unread) == {("has_free_tasting", "peut-être"), ("group_max_persons", "jusqu'à 50")}
    assert re.search(r"WARN \d+ nothing_activities_unread_values", said)
    raw = activities.rows("SELECT _source_file, _source_row, _row_hash FROM public.activities")
    assert set(raw) == set(activities.rows("SELECT source_file, source_row, row_hash FROM staging.activities"))
    assert activities.rows("SELECT DISTINCT run_id FROM staging.activities") == activities.rows(
        "SELECT run_id FROM public_history._loads")

    other = ["Tarifs" if name == "Tarif" else name for name in header]
    path.write_text(f"{';'.join(other)}\n{';' * 56}\n")
    activities.land(NEXT)
    activities.load(NEXT)
    said = activities.build(NEXT, "--select", "activities", check=False)
    assert re.search(r"no column for these headers: Tarif\..*Columns that no header fits: Tarifs\.", said, re.DOTALL)


def whole(number):
    """A number of persons, or None for what is none."""
    return int(float(number)) if re.fullmatch(r"\d+(\.0)?", number) else None


def figures(name):
    """The figures of an example's README by date, in order."""
    text = (ROOT / f"examples/{name}/README.md").read_text()
    found = re.findall(r"^\| [a-z ]+ \| ([\d,.]+) \| ([\d,.]+) \|$", text, re.M)
    return [[Decimal(number.replace(",", "")) for number in numbers] for numbers in zip(*found, strict=True)]


def shown(name):
    """The figures of its committed page's picture."""
    return re.findall('class="figure">([^<]+)<', (ROOT / f"docs/dashboards/{name}.svg").read_text())


def test_the_readme_of_the_activities_has_the_figures_of_their_files(example):
    activities = example("activities")
    expected = []
    for day in (DAY, NEXT):
        rows = [dict(zip(activities.generate.HEADER, row, strict=True)) for row in activities.generate.rows(day)]
        free = flag(activities.generate.HEADER, "has_free_tasting")
        expected.append([len(rows), sum(any(text(row[name]) for name in ADDRESS) for row in rows),
                         sum(text(row[free]).lower() == "oui" for row in rows),
                         sum(len(items(row[column])) for row in rows for column in PACKED.values()),
                         sum(one == "sur demande" for row in rows for one in row.values())])
    assert figures("activities") == expected
    assert shown("activities") == [f"{one:,}" for one in expected[1]]


# Sales


def reason(row, seen):
    """Why a row is rejected, by column and rule; None if it is not."""
    for column in ("customer_id", "product_id", "store_id"):
        if not row[column]:
            return column, "required"
    if "/" in row["timestamp"]:
        return "timestamp", "type"
    for column, rule, broken in (("quantity", "exclusiveMinimum", lambda one: one <= 0),
                                 ("unit_price", "minimum", lambda one: one < 0),
                                 ("discount", "maximum", lambda one: one > Decimal("0.15"))):
        if row[column] and broken(Decimal(row[column])):
            return column, rule
    return ("transaction_id", "unique") if row["transaction_id"] in seen else None


def sold(content, known):
    """The rows of a file that are new sales, by transaction, and how many are rejected for which reason."""
    accepted, rejected = {}, Counter()
    for row in csv.DictReader(io.StringIO(content.decode())):
        if why := reason(row, accepted):
            rejected[why] += 1
            continue
        row["payment_method"] = row["payment_method"].strip().lower()
        full = int(Decimal(row["quantity"])) * Decimal(row["unit_price"]) * (1 - Decimal(row["discount"] or 0))
        row["total_amount"] = row["total_amount"] or str(full.quantize(Decimal("0.01"), ROUND_HALF_UP))
        accepted[row["transaction_id"]] = row
    return {name: row for name, row in accepted.items() if name not in known}, rejected


def test_sales_of_a_container_are_added_once_over_tls_and_each_file_is_moved(example, project, server, monkeypatch):
    sales = example("sales")
    monkeypatch.setattr("servers.DEMO", server.folder)
    monkeypatch.setenv("FILES", sales.generate.FILES)
    target = {"HOST": "127.0.0.1", "PORT": str(server.port), "DB": project.warehouse.name, "USER": "tester",
              "PASSWORD": PASSWORD, "SSLMODE": "disable"}
    for name, value in target.items():
        monkeypatch.setenv(f"TARGET_POSTGRES_{name}", value)
    expected, rejected = {}, {}
    with sales.generate.serving(sampled=True):
        tls = {"host": "localhost", "port": int(os.environ["TARGET_POSTGRES_PORT"]), "ssl_mode": "verify-full"}
        for day in (DAY, NEXT):
            for _ in range(2):  # the second time, the file is there
                sales.generate.generate(day)
            new, rejected[day] = sold(sales.generate.content(day), expected)
            expected |= new
            sales.land(day)
            sales.load(day, **tls)
            sales.generate.loaded(day, "public")
            assert not sales.generate.has_new_files()
        assert "is landed and past: kept as it is" in sales.land(day).text
        assert "nothing changed" in sales.load(day, **tls).text
        inbox = sales.generate.inbox()
        obstore.put(inbox, "broken.csv", b"transaction_id,quantity\nTX-1,2\n")
        assert sales.generate.has_new_files()
        assert "It is now" in sales.land(LATER, check=False).text
        names = {one["path"] for page in obstore.list(inbox) for one in page}
    assert {Path(name).stem.removesuffix(".csv.reasons") for name in names if name.startswith("failed/")} == {"broken"}
    assert {name for name in names if not name.startswith("failed/")} == {
        f"done/sales_{day}.csv" for day in (DAY, NEXT)}
    assert tls["port"] != server.port
    assert os.environ["TARGET_POSTGRES_PORT"] == str(server.port)

    said = sales.build(NEXT)
    rows = [*expected.values()]
    total = sum(Decimal(row["total_amount"]) for row in rows)
    distinct = [len({row[name] for row in rows}) for name in ("customer_id", "product_id", "store_id")]
    assert sales.rows("SELECT sales, revenue, customers, products, stores FROM marts.sales_totals") == [
        (len(rows), total, *distinct)]
    assert dict(sales.rows("SELECT payment_method, sales FROM marts.sales_by_payment_method")) == Counter(
        row["payment_method"] for row in rows)
    for day in (DAY, NEXT):
        found = sales.rows(f"SELECT column_name, rule, rows FROM marts.rejected_by_reason WHERE extracted_at = '{day}'")
        assert {(column, rule): count for column, rule, count in found} == rejected[day]
        assert rejected[day].total() == 60
    assert "PASS totals_match" in said
    plain = {}
    for day in (DAY, NEXT):  # each has its own new rows
        shown = project.landing("reveal", str(day), "sales", PROTECTION_KEYS_FILE=".sample-keys").stdout
        plain |= {row["transaction_id"]: row["customer_id"] for row in csv.DictReader(io.StringIO(shown))}
    assert plain == {name: row["customer_id"] for name, row in expected.items()}
    assert sales.rows("SELECT count(*) FROM sales WHERE customer_id NOT LIKE 'enc:sample:%'") == [(0,)]


def test_the_readme_of_the_sales_has_the_figures_of_their_files(example):
    sales = example("sales")
    known, rejected, expected = {}, 0, []
    for day in (DAY, NEXT):
        new, why = sold(sales.generate.content(day), known)
        known, rejected = known | new, rejected + why.total()
        expected.append([len(known), sum(Decimal(row["total_amount"]) for row in known.values()),
                         len({row["customer_id"] for row in known.values()}), rejected])
    assert figures("sales") == expected
    assert shown("sales")[:3] == [f"{one:,.0f}" for one in expected[1][:3]]
    assert shown("sales")[-1] == str(rejected)


def test_a_sale_is_read_as_it_was_meant(example, project, monkeypatch):
    sales = example("sales")
    when = "2024-01-20 10:00:00"
    (project.folder / "own").mkdir()
    (project.folder / "own" / "may.csv").write_text("\n".join([
        ",".join(sales.generate.HEADER),
        f"TX-1,C,P,S,3.0,0,,,\" CARD\t\",{when}",          # a whole number, a price of nothing, derived
        f"TX-2,C,P,S,1,9.99,0.15,8.49,cash,{when}",          # the largest discount
        f"TX-3,C,P,S,1,9.99,0.1501,8.49,cash,{when}",
        f"TX-4,C,P,S,1.5,9.99,,9.99,cash,{when}",
        f"TX-5,\"\",P,S,1,9.99,,9.99,cash,{when}",           # an empty string is no value
        f"TX-6,C,P,S,1,9.99,,12,\"  \",{when}",
        f"TX-7,C,P,S,1,9.99,,12,cash,{when}",                # a wrong total is reported, and no reason to reject
        f"TX-7,C,P,S,1,9.99,,12,cash,{when}",
        f",C,P,S,1,9.99,,12,cash,{when}", ""]))
    monkeypatch.setenv("PROTECTION_KEYS", "k:" + "A" * 43 + "=")
    own_files = sales.generate.beside.own_files
    with own_files("az://inbox/of/sales_*.csv"):
        assert os.environ["INBOX"] == "az://inbox/of"
    with pytest.raises(SettingError, match=r"FILES='none/\*\.csv' finds no file"), own_files("none/*.csv"):
        pass
    for _ in range(2):  # the second time, the date is landed and past
        with own_files("own/*.csv"):
            sales.land(DAY)
    assert sorted(map(str, Path().rglob("may.csv"))) == ["output/inbox/done/may.csv", "own/may.csv"]
    sales.load(DAY)
    assert sales.rows("SELECT transaction_id, quantity, total_amount::text, payment_method FROM sales ORDER BY 1") == [
        ("TX-1", 3, "0.00", "card"), ("TX-2", 1, "8.49", "cash"), ("TX-7", 1, "12", "cash")]
    folder = project.output / "source=sales" / f"extracted_at={DAY}" / "table=sales"
    found = [json.loads(line) for line in next(folder.glob("*.jsonl")).read_text().splitlines()]
    assert [(one["line"], one["column"], one["rule"]) for one in found] == [
        (4, "discount", "maximum"), (5, "quantity", "type"), (6, "customer_id", "required"),
        (7, "payment_method", "required"), (9, "transaction_id", "unique"), (10, "transaction_id", "key")]

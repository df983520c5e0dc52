"""The sample source: a shop in the shape of Northwind, made up anew from a seed.

    python demo/shop.py write [--factor F] [--day N]    write the shop as it was on day N
    python demo/shop.py next-day                        the day after the one that was written last
    python demo/shop.py clean                           remove the CSV file that was written

Thirteen tables go to the database that SOURCE_POSTGRES_* names (environment, else .env), and the lines of the
orders to extract/order_details.csv. The same seed, factor and day give the same bytes, on any day and machine.
Nothing that this module did not write is overwritten.
"""

import argparse
import contextlib
import hashlib
import io
import json
import os
import random
import sys
from collections import namedtuple
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import cycle, product
from pathlib import Path

import psycopg2
from psycopg2 import sql

PROJECT = Path(__file__).resolve().parent.parent
STATE = PROJECT / ".demo" / "shop.json"
CSV = PROJECT / "extract" / "order_details.csv"
SCHEMA = Path(__file__).with_name("shop.sql")
MARK = "Sample shop, written by demo/shop.py and replaced by it without asking."
ROWS_AT_ONCE = 10_000

FIRST_DAY = date(2024, 1, 20)  # day 0; orders reach back two years from it
FIRST_ORDER = 10_001
SMALLINT_MAX = 32_767
ORDERS, ORDER_LINES, CUSTOMERS = 830, 2_155, 91  # at factor 1; the other tables do not grow
PRODUCTS, SUPPLIERS, EMPLOYEES, TERRITORIES, ASSIGNED = 77, 29, 9, 53, 49
INSERTED, SHIPPED, UPDATED, DELETED = 12, 6, 8, 4  # orders a day; the shipped ones are among the updated

# In the order of shop.sql: each table after those that it refers to.
TABLES = (
    "categories", "customer_demographics", "customers", "customer_customer_demo", "employees", "region",
    "territories", "employee_territories", "suppliers", "products", "shippers", "us_states", "orders",
)  # fmt: skip

ADDRESS = "address city region postal_code country phone"
Customer = namedtuple("Customer", f"customer_id company_name contact_name contact_title {ADDRESS} fax")
Supplier = namedtuple("Supplier", f"supplier_id company_name contact_name contact_title {ADDRESS} fax homepage")
Product = namedtuple(
    "Product",
    "product_id product_name supplier_id category_id quantity_per_unit unit_price units_in_stock units_on_order"
    " reorder_level discontinued",
)
Order = namedtuple(
    "Order",
    "order_id customer_id employee_id order_date required_date shipped_date ship_via freight"
    " ship_name ship_address ship_city ship_region ship_postal_code ship_country",
)
Line = namedtuple("Line", "order_id product_id unit_price quantity discount")


# Words. "#" is any digit, "{}" a number or a last name. Every country's people, streets and shops sound like it.

Tongue = namedtuple("Tongue", "first last streets companies")
TONGUES = {
    name: Tongue(*(words.split("|") for words in lists))
    for name, lists in {
        "de": (
            "Anke|Jürgen|Katrin|Lukas|Monika|Sönke|Ulrike|Wolfram",
            "Ackermann|Böhm|Dreyer|Grünwald|Köhler|Möllering|Schäfer|Weiß|Zöllner",
            "Lindenallee {}|Am Alten Markt {}|Mühlenweg {}|Königstraße {}",
            "{} & Söhne|Feinkost {}|Kaufhaus {} GmbH|Kolonialwaren {}, Inh. K. Voß",
        ),
        "en": (
            "Alice|Brendan|Chloe|Darragh|Edith|Fergus|Imogen|Jasper",
            "Ashworth|Brannigan|Carmody|D'Arcy|Ellison|Fairbairn|O'Malley|Pemberton|Quigley",
            "{} Harbour Road|{} St. Anne's Lane|{} Orchard Terrace, Unit 4|Mill House, {} Bridge Street",
            "{}'s Pantry|{} & Daughters, Ltd.|The \"{}\" Larder|{} Provisions",
        ),
        "fr": (
            "Amélie|Benoît|Céline|Étienne|Hélène|Margaux|Noé|Théo",
            "Beaumont|Chevrier|d'Aubigny|Delacroix|Garçonnet|Lefèvre|Rousselot|Vauquelin",
            "{}, rue de l'Église|{} bis, quai Saint-Jean|{}, avenue du Général-Roux",
            'Épicerie {}|Chez {}|Maison {}, père et fils|"Au Panier" {}',
        ),
        "es": (
            "Álvaro|Beatriz|Íñigo|Lucía|Nuria|Ramón|Sofía|Tomás",
            "Carreño|Echeverría|Ibáñez|Muñoz|Ordóñez|Peñalver|Quintana|Zúñiga",
            "Calle Mayor, {}|Paseo de la Ribera {}|Plaza del Olmo, {}, 2º B",
            'Almacenes {}|Ultramarinos "{}"|{} Hermanos, S.A.|La Despensa de {}',
        ),
        "it": (
            "Alessio|Bianca|Chiara|Dario|Giulia|Niccolò|Renzo|Serena",
            "Bellandi|Caruso|Dell'Orto|Ferrante|Lombardo|Paganelli|Sartori|Viganò",
            "Via dell'Arco {}|Corso Libertà {}|Piazza San Rocco, {}",
            "Bottega {}|Fratelli {} S.r.l.|L'Angolo di {}|Salumeria {}",
        ),
        "pt": (
            "Caetano|Fátima|Gonçalo|Inês|João|Luísa|Otávio|Vitória",
            "Araújo|Brandão|Conceição|Falcão|Magalhães|Noronha|Sequeira|Valadão",
            "Rua do Poço, {}|Av. da Liberdade, {}|Travessa das Flores, {}, loja A",
            "Mercearia {}|Irmãos {} Lda.|Casa {}, Importação|Empório {}",
        ),
        "no": (
            "Åsa|Bjørn|Elin|Henrik|Ingrid|Jørgen|Søren|Tuva",
            "Bjerregaard|Eklöf|Hæggstrøm|Kjærgaard|Lindqvist|Nygård|Sjöberg|Ångström",
            "Havnegata {}|Kyrkogatan {}|Nørregade {}, st.",
            "{} Handel|Brødrene {}|Skafferiet hos {}|{} & Co",
        ),
    }.items()
}
Place = namedtuple("Place", "country tongue city region postal_code phone")
PLACES = [
    Place(*(field or None for field in line.split("|")))
    for line in """\
Argentina|es|Córdoba||X50##|(351) 4##-####
Austria|de|Innsbruck||60##|0512-######
Brazil|pt|Florianópolis|SC|880##-###|(48) 3###-####
Brazil|pt|Belém|PA|660##-###|(91) 3###-####
Canada|en|Halifax|NS|B3H #K#|(902) 555-01##
Canada|fr|Québec|QC|G1R #P#|(418) 555-01##
Denmark|no|Aalborg||90##|98 ## ## ##
Finland|no|Turku||20###|02-### ####
France|fr|Besançon||250##|03.81.##.##.##
France|fr|Rennes||350##|02.99.##.##.##
Germany|de|Bremen||28###|0421-######
Germany|de|Göttingen||37###|0551-######
Germany|de|Nürnberg||904##|0911-######
Ireland|en|Galway|Co. Galway||091 ######
Italy|it|Bologna||401##|051-######
Italy|it|Forlì||471##|0543-#####
Mexico|es|Mérida|Yucatán|97###|(999) ###-####
Mexico|es|Puebla||72###|(222) ###-####
Norway|no|Tromsø||90##|77 ## ## ##
Portugal|pt|Évora||70##-###|266 ### ###
Spain|es|A Coruña||150##|981 ## ## ##
Spain|es|Zaragoza||500##|976 ## ## ##
Sweden|no|Umeå||903 ##|090-## ## ##
Switzerland|de|Zürich||80##|044-### ## ##
UK|en|Bristol||BS# #QX|(0117) 496 0###
UK|en|St Andrews|Scotland|KY16 #XE|(01334) 46####
USA|en|Duluth|MN|558##|(218) 555-01##
USA|en|Portland|ME|041##|(207) 555-01##
USA|en|Savannah|GA|314##|(912) 555-01##
USA|en|Spokane|WA|992##|(509) 555-01##""".splitlines()
]
TITLES = "Buyer|Owner|Owner/Manager|Head of Purchasing|Store Manager|Sales Assistant|Accounts, Deputy".split("|")
CATEGORIES = (  # name, description, nouns, packages
    ("Drinks", "Teas, coffees, juices and ales", "Tea|Cold Brew|Cider|Ginger Ale|Cordial",
     "24 - 330 ml bottles|10 boxes x 20 bags|6 - 1 l bottles"),
    ("Sauces & Oils", 'Relishes, oils, and what a cook calls "a dash"', "Mustard|Walnut Oil|Chutney|Pesto|Vinegar",
     "12 - 250 ml jars|6 - 500 ml bottles"),
    ("Sweets", "Chocolate, biscuits, honey and jam", "Nougat|Shortbread|Truffles|Marmalade|Honey Drops",
     "16 x 100 g bars|30 gift boxes|12 - 340 g jars"),
    ("Cheese & Milk", "Cheeses, butter, yoghurt; kept at 4 °C", "Cheddar|Brie|Goat Cheese|Butter|Skyr",
     "5 kg wheels|20 - 250 g packs"),
    ("Bread & Pasta", "Bread, crackers, pasta and flour", "Crispbread|Tagliatelle|Rye Loaf|Crackers|Semolina",
     "24 - 500 g pkgs.|10 kg sacks"),
    ("Meat", "Prepared meats", "Salami|Ham|Pâté|Chorizo",
     "10 - 400 g pieces|48 tins x 200 g"),
    ("Fruit & Veg", "Dried fruit, pickles and bean curd", "Apricots|Sauerkraut|Tofu|Olives|Cranberries",
     "40 - 100 g pkgs.|12 - 1 lb jars"),
    ("Fish", "Seaweed, shellfish and fish", "Herring|Mussels|Smoked Trout|Nori|Crab Paste",
     "24 - 150 g tins|4 - 450 g glasses|10 sheets, vacuum"),
)  # fmt: skip
FLAVOURS = (
    'Old Town|Wild|Grandma\'s|Crème|Käthe\'s|"No. 7"|Alpine|Harbour|Señora Luz\'s|Midnight|Jalapeño|Late Harvest|'
    "Blue Door|Sjögren's"
).split("|")
CARRIERS = "Swallow Freight|Two Rivers Parcel|Nordlys Cargo|Kestrel & Sons|Blåtoft Express|Long Road, Inc.".split("|")
REGIONS = "Atlantic|Central|Mountain|Pacific".split("|")
TOWNS = [a + b for a, b in product("Ash Bram Cold Elm Fern Oak Stone".split(), "brook dale field ton ville".split())]
STATES = {  # region: states and the district, from the east on
    "Northeast": "Connecticut CT|Maine ME|Massachusetts MA|New Hampshire NH|New Jersey NJ|New York NY|"
    "Pennsylvania PA|Rhode Island RI|Vermont VT",
    "South": "Alabama AL|Arkansas AR|Delaware DE|District of Columbia DC|Florida FL|Georgia GA|Kentucky KY|"
    "Louisiana LA|Maryland MD|Mississippi MS|North Carolina NC|Oklahoma OK|South Carolina SC|Tennessee TN|"
    "Texas TX|Virginia VA|West Virginia WV",
    "Midwest": "Illinois IL|Indiana IN|Iowa IA|Kansas KS|Michigan MI|Minnesota MN|Missouri MO|Nebraska NE|"
    "North Dakota ND|Ohio OH|South Dakota SD|Wisconsin WI",
    "West": "Alaska AK|Arizona AZ|California CA|Colorado CO|Hawaii HI|Idaho ID|Montana MT|Nevada NV|New Mexico NM|"
    "Oregon OR|Utah UT|Washington WA|Wyoming WY",
}


class ShopError(RuntimeError):
    """The shop was not written; the message says why and what to do."""


@dataclass
class Shop:
    """The shop on one day: the rows of each table in the order of its columns, and the lines of the orders."""

    tables: dict[str, list[tuple]]
    order_details: list[Line]


def build(factor: int = 1, day: int = 0, seed: int = 1996) -> Shop:
    """The shop on `day`, with `factor` times the customers, orders and lines of Northwind.

    Each later day changes the one before it: new, changed and deleted orders with their lines, one price, and
    one telephone number each of a customer and a supplier.
    """
    rng = random.Random(f"{seed}/{factor}")
    companies = {
        name: cycle(rng.sample(combined, len(combined)))
        for name, tongue in TONGUES.items()
        for combined in [[shape.format(last) for shape in tongue.companies for last in tongue.last]]
    }
    customers = _customers(rng, companies, CUSTOMERS * factor)
    suppliers = [_supplier(rng, companies, number) for number in range(1, SUPPLIERS + 1)]
    products = _products(rng)
    orders, lines = _orders(rng, customers, products, factor)
    tables = {**_fixed_tables(rng), "customers": customers, "suppliers": suppliers, "products": products}
    next_id = FIRST_ORDER + len(orders)
    for today in range(1, day + 1):
        rng = random.Random(f"{seed}/{factor}/{today}")
        _trade(rng, FIRST_DAY + timedelta(today), next_id, customers, products, orders, lines)
        next_id += INSERTED
        _raise_a_price(rng, products)
        _change_a_phone(rng, customers)
        _change_a_phone(rng, suppliers)
    tables["orders"] = list(orders.values())
    return Shop(tables, [line for order in lines.values() for line in order])


def _trade(
    rng: random.Random, today: date, next_id: int, customers: list[Customer], products: list[Product],
    orders: dict[int, Order], lines: dict[int, list[Line]],
) -> None:  # fmt: skip
    """One day's business with orders, in place."""
    waiting = [number for number, order in orders.items() if order.shipped_date is None]
    shipped = rng.sample(waiting, min(SHIPPED, len(waiting)))
    for number in shipped:
        orders[number] = orders[number]._replace(shipped_date=today)
    others = rng.sample(sorted(orders.keys() - shipped), UPDATED - len(shipped) + DELETED)
    for number in others[DELETED:]:
        orders[number] = orders[number]._replace(freight=round(orders[number].freight + rng.randint(1, 900) / 100, 2))
    for number in others[:DELETED]:
        del orders[number], lines[number]
    for number in range(next_id, next_id + INSERTED):
        lines[number] = _lines(rng, number, products, rng.randint(1, 5))
        orders[number] = _order(rng, number, today, rng.choice(customers), len(lines[number]))


def _raise_a_price(rng: random.Random, products: list[Product]) -> None:
    index = rng.randrange(len(products))
    price = products[index].unit_price + rng.randint(1, 20) / 20
    products[index] = products[index]._replace(unit_price=round(price, 2))


def _change_a_phone(rng: random.Random, rows: list) -> None:
    index = rng.randrange(len(rows))
    old = phone = rows[index].phone
    while phone == old:
        phone = _fill(rng, old[:-2] + "##")
    rows[index] = rows[index]._replace(phone=phone)


def _fill(rng: random.Random, pattern: str) -> str:
    return "".join(str(rng.randrange(10)) if character == "#" else character for character in pattern)


def _address(rng: random.Random, place: Place) -> tuple:
    """The columns of ADDRESS."""
    street = rng.choice(TONGUES[place.tongue].streets).format(rng.randint(1, 180))
    postal_code = place.postal_code and _fill(rng, place.postal_code)
    return street, place.city, place.region, postal_code, place.country, _fill(rng, place.phone)


def _company(rng: random.Random, companies: dict[str, cycle]) -> tuple:
    """The columns from company_name to fax."""
    place = rng.choice(PLACES)
    tongue = TONGUES[place.tongue]
    contact = f"{rng.choice(tongue.first)} {rng.choice(tongue.last)}"
    # No fax number is known (NULL), or it is known that there is none (the empty string).
    fax = rng.choice([_fill(rng, place.phone), None, None, ""])
    return next(companies[place.tongue]), contact, rng.choice(TITLES), *_address(rng, place), fax


def _customers(rng: random.Random, companies: dict[str, cycle], count: int) -> list[Customer]:
    customers: dict[str, Customer] = {}
    for _ in range(count):
        company = _company(rng, companies)
        letters = [letter for letter in company[0].upper() if "A" <= letter <= "Z"]
        code = "".join(letters)[:5].ljust(5, "X")
        while code in customers:
            code = code[:2] + "".join(rng.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(3))
        customers[code] = Customer(code, *company)
    return list(customers.values())


def _supplier(rng: random.Random, companies: dict[str, cycle], number: int) -> Supplier:
    homepage = rng.choice([f"https://supplier-{number}.example/?lang=en&from=shop", None, None])
    return Supplier(number, *_company(rng, companies), homepage)


def _products(rng: random.Random) -> list[Product]:
    names = [
        (f"{flavour} {noun}", category, packages)
        for category, (_, _, nouns, packages) in enumerate(CATEGORIES, 1)
        for flavour, noun in product(FLAVOURS, nouns.split("|"))
    ]
    return [
        Product(
            number, name, rng.randint(1, SUPPLIERS), category, rng.choice(packages.split("|")),
            rng.choice((1, 1, 2, 4)) * rng.randint(40, 500) / 20, rng.randint(0, 125),
            rng.choice((0, 0, 0, 10, 40, 70)), rng.randrange(0, 35, 5), int(rng.random() < 0.1),
        )
        for number, (name, category, packages) in enumerate(rng.sample(names, PRODUCTS), 1)
    ]  # fmt: skip


def _orders(
    rng: random.Random, customers: list[Customer], products: list[Product], factor: int
) -> tuple[dict[int, Order], dict[int, list[Line]]]:
    """The orders of the two years before FIRST_DAY and their lines, each by order_id."""
    count = ORDERS * factor
    sizes = [1] * count
    while (missing := ORDER_LINES * factor - sum(sizes)) > 0:
        for index in (rng.randrange(count) for _ in range(missing)):
            sizes[index] = min(sizes[index] + 1, 8)
    orders, lines = {}, {}
    for index, size in enumerate(sizes):
        number, ordered = FIRST_ORDER + index, FIRST_DAY - timedelta(730 - index * 730 // count)
        lines[number] = _lines(rng, number, products, size)
        order = _order(rng, number, ordered, rng.choice(customers), size)
        shipped = ordered + timedelta(rng.choice((2, 3, 5, 8, 13, 21)))
        orders[number] = order if shipped > FIRST_DAY else order._replace(shipped_date=shipped)
    return orders, lines


def _order(rng: random.Random, number: int, ordered: date, customer: Customer, size: int) -> Order:
    """An order that is not shipped yet."""
    required = ordered + timedelta(rng.choice((14, 28, 28, 28, 42)))
    freight = rng.randint(40, 2500) * size / 100
    # address, city, region, postal_code, country
    target = (customer.company_name, *customer[4:9])
    employee, carrier = rng.randint(1, EMPLOYEES), rng.randint(1, len(CARRIERS))
    return Order(number, customer.customer_id, employee, ordered, required, None, carrier, freight, *target)


def _lines(rng: random.Random, number: int, products: list[Product], size: int) -> list[Line]:
    discount = rng.choice((0, 0, 0, 0.05, 0.1, 0.15, 0.2, 0.25))
    return [
        Line(number, item.product_id, item.unit_price, rng.randint(1, 12) * rng.choice((1, 2, 5)), discount)
        for item in sorted(rng.sample(products, size))
    ]


def _fixed_tables(rng: random.Random) -> dict[str, list[tuple]]:
    """The tables that neither grow nor change."""
    territories = [
        (_fill(rng, f"{region_id * 2}####"), rng.choice(TOWNS), region_id + 1)
        for region_id in (index % len(REGIONS) for index in range(TERRITORIES))
    ]
    states = sorted((*state.rsplit(" ", 1), region) for region in STATES for state in STATES[region].split("|"))
    return {
        "categories": [
            (number, name, description, b"\x89PNG" + rng.randbytes(4))
            for number, (name, description, _, _) in enumerate(CATEGORIES, 1)
        ],
        "customer_demographics": [],
        "customer_customer_demo": [],
        "employees": [_employee(rng, number) for number in range(1, EMPLOYEES + 1)],
        "region": list(enumerate(REGIONS, 1)),
        "territories": sorted(territories),
        "employee_territories": sorted(
            (rng.randint(1, EMPLOYEES), territory_id) for territory_id, *_ in rng.sample(territories, ASSIGNED)
        ),
        "shippers": [(number, name, _fill(rng, "(555) 01#-####")) for number, name in enumerate(CARRIERS, 1)],
        "us_states": [(number, *state) for number, state in enumerate(states, 1)],
    }


def _employee(rng: random.Random, number: int) -> tuple:
    tongue = TONGUES["en"]
    first, last = tongue.first[number % len(tongue.first)], tongue.last[number - 1]
    title = {1: "Head of Sales", 2: "Sales Manager"}.get(number, "Sales Representative")
    place = rng.choice([place for place in PLACES if place.country in ("USA", "UK")])
    street, *rest = _address(rng, place)
    born = date(1960, 1, 1) + timedelta(rng.randrange(12_000))
    hired = date(2015, 1, 1) + timedelta(rng.randrange(2_000))
    notes = (
        f'{first} joined in {hired.year}, and calls it "the best job in {place.city}".\n'
        f"Speaks {rng.choice(['French', 'Türkçe', 'Español'])}; on holiday each {rng.choice(['May', 'August'])}."
    )
    photo = b"\x89PNG" + rng.randbytes(6)
    path = f"https://intranet.example/photos/{number}.png"
    boss = {1: None, 2: 1}.get(number, 2)
    courtesy, extension = rng.choice(["Ms.", "Mr.", "Dr."]), _fill(rng, "####")
    # An address of two lines, as people do write them.
    street += f"\nApt. {number}" if number % 3 == 0 else ""
    return (
        number, last, first, title, courtesy, born, hired, street, *rest, extension, photo, notes, boss, path,
    )  # fmt: skip


def write_database(connection: "psycopg2.extensions.connection", shop: Shop) -> None:
    """Replace the 13 tables in schema public, in one transaction, and print how many rows they hold.

    Raises ShopError, and changes nothing, when tables of these names are there that this module did not write.
    """
    with connection, connection.cursor() as cursor:
        _refuse_foreign_tables(cursor)
        tables = sql.SQL(", ").join(map(sql.Identifier, TABLES))
        cursor.execute("SET LOCAL search_path TO public")
        cursor.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(tables))
        cursor.execute(SCHEMA.read_text(encoding="utf-8"))
        if max(order.order_id for order in shop.tables["orders"]) > SMALLINT_MAX:
            cursor.execute("ALTER TABLE orders ALTER order_id TYPE integer")
        for table in TABLES:
            _copy(cursor, table, shop.tables[table])
        cursor.execute("COMMENT ON TABLE orders IS %s", [MARK])
    counts = ", ".join(f"{table} {len(shop.tables[table])}" for table in TABLES)
    print(f"wrote {len(TABLES)} tables to {connection.info.dbname}: {counts}")


def _refuse_foreign_tables(cursor: "psycopg2.extensions.cursor") -> None:
    cursor.execute(
        "SELECT relname, obj_description(oid, 'pg_class') FROM pg_class"
        " WHERE relnamespace = 'public'::regnamespace AND relname = ANY(%s)",
        [list(TABLES)],
    )
    found = dict(cursor.fetchall())
    if found and found.get("orders") != MARK:
        raise ShopError(
            f"the database {cursor.connection.info.dbname} has a table {min(found)} that is not the sample shop's: "
            "nothing was changed; name an empty database in SOURCE_POSTGRES_DB"
        )


def _copy(cursor: "psycopg2.extensions.cursor", table: str, rows: list[tuple]) -> None:
    statement = sql.SQL("COPY {} FROM STDIN").format(sql.Identifier(table))
    for start in range(0, len(rows), ROWS_AT_ONCE):
        text = "".join(map(_copy_line, rows[start : start + ROWS_AT_ONCE]))
        cursor.copy_expert(statement, io.StringIO(text))


COPY_ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})


def _copy_line(row: Iterable) -> str:
    return "\t".join(map(_copy_field, row)) + "\n"


def _copy_field(value: object) -> str:
    if value is None:
        return r"\N"
    text = rf"\x{value.hex()}" if isinstance(value, bytes) else str(value)
    return text.translate(COPY_ESCAPES)


def write_csv(path: Path, shop: Shop) -> None:
    """Write the lines of the orders atomically; numbers as short as they are: 14, 9.8, 0, 0.15."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_bytes(_csv_bytes(shop))
    os.replace(temporary, path)


def _csv_bytes(shop: Shop) -> bytes:
    lines = [Line._fields, *shop.order_details]
    return "".join(",".join(_short(field) for field in line) + "\n" for line in lines).encode()


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _settings() -> dict[str, str]:
    """SOURCE_POSTGRES_* without the prefix, from the environment, else from .env."""
    env = PROJECT / ".env"
    lines = env.read_text(encoding="utf-8").splitlines() if env.exists() else []
    pairs = (line.split("=", 1) for line in lines if "=" in line and not line.lstrip().startswith("#"))
    values = {name.strip(): value.strip().strip("\"'") for name, value in pairs} | os.environ
    prefix = "SOURCE_POSTGRES_"
    missing = [prefix + name for name in ("HOST", "PORT", "DB", "USER", "PASSWORD") if prefix + name not in values]
    if missing:
        raise ShopError(f"{', '.join(missing)} not set, neither in the environment nor in .env: see .env.example")
    return {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}


def _connect() -> "psycopg2.extensions.connection":
    values = _settings()
    return psycopg2.connect(
        host=values["HOST"], port=values["PORT"], dbname=values["DB"], user=values["USER"],
        password=values["PASSWORD"], sslmode=values.get("SSLMODE") or "prefer",
        client_encoding="UTF8", connect_timeout=10,
    )  # fmt: skip


def _state() -> dict:
    return json.loads(STATE.read_text()) if STATE.exists() else {}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def write(factor: int, day: int) -> None:
    """Write the shop of `day` to the source database and to the CSV file, and remember which it was."""
    shop = build(factor, day)
    with contextlib.closing(_connect()) as connection:
        write_database(connection, shop)
    known = {_state().get("csv_sha256"), _digest(_csv_bytes(shop))}
    if CSV.exists() and _digest(CSV.read_bytes()) not in known:
        print(f"{CSV.relative_to(PROJECT)} is not one that this program wrote: left as it is")
    else:
        write_csv(CSV, shop)
        print(f"wrote {len(shop.order_details)} lines to {CSV.relative_to(PROJECT)} (factor {factor}, day {day})")
    STATE.parent.mkdir(exist_ok=True)
    STATE.write_text(json.dumps({"factor": factor, "day": day, "csv_sha256": _digest(_csv_bytes(shop))}))


def next_day() -> None:
    state = _state()
    if not state:
        raise ShopError("no day has been written yet: run `python demo/shop.py write`")
    write(state["factor"], state["day"] + 1)


def clean() -> None:
    """Remove the CSV file if it is as this module left it, and forget the day."""
    if CSV.exists() and _digest(CSV.read_bytes()) == _state().get("csv_sha256"):
        CSV.unlink()
    STATE.unlink(missing_ok=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["write", "next-day", "clean"])
    parser.add_argument("--factor", type=int, default=1, help="times the size of Northwind (write)")
    parser.add_argument("--day", type=int, default=0, help="0 is the first (write)")
    arguments = parser.parse_args()
    if arguments.factor < 1 or arguments.day < 0:
        parser.error("--factor starts at 1, --day at 0")
    try:
        if arguments.command == "write":
            write(arguments.factor, arguments.day)
        else:
            {"next-day": next_day, "clean": clean}[arguments.command]()
    except (ShopError, OSError, psycopg2.Error) as error:
        sys.exit(f"demo/shop.py {arguments.command}: {str(error).strip()}")


if __name__ == "__main__":
    main()

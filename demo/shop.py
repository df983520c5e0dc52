"""The sample source: a shop with Northwind's schema, generated from a seed and the words in words.json.

    python demo/shop.py write [--factor F] [--day N]    write the shop as it was on day N
    python demo/shop.py sample                          write day 0 if the embedded server has no shop
    python demo/shop.py next-day                        write the next day
    python demo/shop.py clean                           remove the CSV file

Thirteen tables go to the database named by SOURCE_POSTGRES_* (environment, else .env), the order lines to
extract/order_details.csv. The same seed, factor and day always give the same bytes. Nothing that this module did not
write is overwritten.
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
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import cycle, product
from pathlib import Path
from string import ascii_uppercase

import psycopg2
import servers
from landing.api import LandingError, connect
from psycopg2 import sql
from servers import DEMO, PROJECT

STATE = DEMO / "shop.json"
CSV = PROJECT / "extract" / "order_details.csv"
SCHEMA = Path(__file__).with_name("shop.sql").read_text(encoding="utf-8")
WORDS = json.loads(Path(__file__).with_name("words.json").read_text(encoding="utf-8"))
MARK = "Sample shop: written, and replaced without asking, by demo/shop.py."
ROWS_AT_ONCE = 10_000

FIRST_DAY = date(2024, 1, 20)  # day 0; orders start two years earlier
FIRST_ORDER = 10_001
SMALLINT_MAX = 32_767
CUSTOMERS, ORDERS, ORDER_LINES = 91, 830, 2_155  # at factor 1; the other tables have a fixed size
PRODUCTS, SUPPLIERS, EMPLOYEES, TERRITORIES, ASSIGNED = 77, 29, 9, 53, 49
# Orders per day. UPDATED includes SHIPPED.
INSERTED, SHIPPED, UPDATED, DELETED = 12, 6, 8, 4

# In the order of shop.sql: each table after those that it references.
TABLES = (
    "categories",
    "customer_demographics",
    "customers",
    "customer_customer_demo",
    "employees",
    "region",
    "territories",
    "employee_territories",
    "suppliers",
    "products",
    "shippers",
    "us_states",
    "orders",
)

Place = namedtuple("Place", "country tongue city region postal_code phone")
PLACES = [Place(*place) for place in WORDS["places"]]
COMPANY = "company_name contact_name contact_title address city region postal_code country phone fax"
Customer = namedtuple("Customer", f"customer_id {COMPANY}")
Supplier = namedtuple("Supplier", f"supplier_id {COMPANY} homepage")
Product = namedtuple(
    "Product",
    "product_id product_name supplier_id category_id quantity_per_unit unit_price"
    " units_in_stock units_on_order reorder_level discontinued",
)
Order = namedtuple(
    "Order",
    "order_id customer_id employee_id order_date required_date shipped_date ship_via freight"
    " ship_name ship_address ship_city ship_region ship_postal_code ship_country",
)
Line = namedtuple("Line", "order_id product_id unit_price quantity discount")


class ShopError(RuntimeError):
    """The shop was not written."""


@dataclass
class Shop:
    """The shop on one day: each table's rows as tuples, and the order lines."""

    tables: dict[str, list[tuple]]
    order_details: list[Line]


def build(factor: int = 1, day: int = 0, seed: int = 1996) -> Shop:
    """Build the shop on `day`, with `factor` times the customers, orders and order lines of Northwind.

    Each day changes the one before: orders are placed, shipped, changed, and deleted with their lines; one price
    rises; one customer and one supplier get a new phone number.
    """
    rng = random.Random(f"{seed}/{factor}")
    names = _company_names(rng)
    customers = _customers(rng, names, CUSTOMERS * factor)
    suppliers = [_supplier(rng, names, number) for number in range(1, SUPPLIERS + 1)]
    products = _products(rng)
    orders, lines = _orders(rng, customers, products, factor)
    tables = {**_fixed_tables(rng), "customers": customers, "suppliers": suppliers, "products": products}
    next_id = FIRST_ORDER + len(orders)
    for today in range(1, day + 1):
        rng = random.Random(f"{seed}/{factor}/{today}")
        _change_orders(rng, FIRST_DAY + timedelta(today), orders, lines)
        for number in range(next_id, next_id + INSERTED):
            lines[number] = _lines(rng, number, products, rng.randint(1, 5))
            placed = FIRST_DAY + timedelta(today)
            orders[number] = _order(rng, number, placed, rng.choice(customers), len(lines[number]))
        next_id += INSERTED
        _raise_a_price(rng, products)
        _change_a_phone(rng, customers)
        _change_a_phone(rng, suppliers)
    tables["orders"] = list(orders.values())
    return Shop(tables, [line for order in lines.values() for line in order])


def _change_orders(
    rng: random.Random, today: date, orders: dict[int, Order], lines: dict[int, list[Line]]
) -> None:
    """Ship, change and delete orders in place; each order changes at most once a day."""
    waiting = [number for number, order in orders.items() if order.shipped_date is None]
    shipped = rng.sample(waiting, min(SHIPPED, len(waiting)))
    others = rng.sample(sorted(orders.keys() - shipped), UPDATED - len(shipped) + DELETED)
    for number in shipped:
        orders[number] = orders[number]._replace(shipped_date=today)
    for number in others[DELETED:]:
        freight = round(orders[number].freight + rng.randint(1, 900) / 100, 2)
        orders[number] = orders[number]._replace(freight=freight)
    for number in others[:DELETED]:
        del orders[number], lines[number]


def _raise_a_price(rng: random.Random, products: list[Product]) -> None:
    index = rng.randrange(len(products))
    price = round(products[index].unit_price + rng.randint(1, 20) / 20, 2)
    products[index] = products[index]._replace(unit_price=price)


def _change_a_phone(rng: random.Random, rows: list) -> None:
    index = rng.randrange(len(rows))
    old = phone = rows[index].phone
    while phone == old:
        phone = _fill(rng, old[:-2] + "##")
    rows[index] = rows[index]._replace(phone=phone)


def _fill(rng: random.Random, pattern: str) -> str:
    """Replace each # of a pattern with a random digit."""
    return "".join(str(rng.randrange(10)) if character == "#" else character for character in pattern)


def _company_names(rng: random.Random) -> dict[str, cycle]:
    """Endless company names by tongue; all are used before one repeats."""
    names = {}
    for key, tongue in WORDS["tongues"].items():
        combined = [shape.format(last) for shape, last in product(tongue["companies"], tongue["last"])]
        names[key] = cycle(rng.sample(combined, len(combined)))
    return names


def _address(rng: random.Random, place: Place) -> tuple:
    """The columns from address to phone."""
    street = rng.choice(WORDS["tongues"][place.tongue]["streets"]).format(rng.randint(1, 180))
    postal_code = place.postal_code and _fill(rng, place.postal_code)
    return street, place.city, place.region, postal_code, place.country, _fill(rng, place.phone)


def _company(rng: random.Random, names: dict[str, cycle]) -> tuple:
    """The columns of COMPANY."""
    place = rng.choice(PLACES)
    tongue = WORDS["tongues"][place.tongue]
    contact = f"{rng.choice(tongue['first'])} {rng.choice(tongue['last'])}"
    # NULL: fax number unknown. Empty string: no fax.
    fax = rng.choice([_fill(rng, place.phone), None, None, ""])
    return next(names[place.tongue]), contact, rng.choice(WORDS["titles"]), *_address(rng, place), fax


def _customers(rng: random.Random, names: dict[str, cycle], count: int) -> list[Customer]:
    """Customers with five-letter codes, taken from the company's name where that is unique."""
    customers: dict[str, Customer] = {}
    for _ in range(count):
        company = _company(rng, names)
        code = "".join(letter for letter in company[0].upper() if letter in ascii_uppercase)[:5]
        while code in customers:
            code = code[:2] + "".join(rng.choice(ascii_uppercase) for _ in range(3))
        customers[code] = Customer(code, *company)
    return list(customers.values())


def _supplier(rng: random.Random, names: dict[str, cycle], number: int) -> Supplier:
    homepage = rng.choice([f"https://supplier-{number}.example/?from=shop&lang=en", None, None])
    return Supplier(number, *_company(rng, names), homepage)


def _products(rng: random.Random) -> list[Product]:
    kinds = [
        (f"{flavour} {noun}", category, packages)
        for category, (_, _, nouns, packages) in enumerate(WORDS["categories"], 1)
        for flavour, noun in product(WORDS["flavours"], nouns)
    ]
    return [
        Product(
            product_id=number,
            product_name=name,
            supplier_id=rng.randint(1, SUPPLIERS),
            category_id=category,
            quantity_per_unit=rng.choice(packages),
            unit_price=rng.choice((1, 1, 2, 4)) * rng.randint(40, 500) / 20,
            units_in_stock=rng.randint(0, 125),
            units_on_order=rng.choice((0, 0, 0, 10, 40, 70)),
            reorder_level=rng.randrange(0, 35, 5),
            discontinued=int(rng.random() < 0.1),
        )
        for number, (name, category, packages) in enumerate(rng.sample(kinds, PRODUCTS), 1)
    ]


def _orders(
    rng: random.Random, customers: list[Customer], products: list[Product], factor: int
) -> tuple[dict[int, Order], dict[int, list[Line]]]:
    """Orders of the two years before FIRST_DAY and their lines, by order_id."""
    count = ORDERS * factor
    sizes = [1] * count
    for _ in range(ORDER_LINES * factor - count):
        sizes[rng.randrange(count)] += 1
    orders, lines = {}, {}
    for index, size in enumerate(sizes):
        number, placed = FIRST_ORDER + index, FIRST_DAY - timedelta(730 - index * 730 // count)
        lines[number] = _lines(rng, number, products, size)
        order = _order(rng, number, placed, rng.choice(customers), size)
        shipped = placed + timedelta(rng.choice((2, 3, 5, 8, 13, 21)))
        orders[number] = order if shipped > FIRST_DAY else order._replace(shipped_date=shipped)
    return orders, lines


def _order(rng: random.Random, number: int, placed: date, customer: Customer, size: int) -> Order:
    """A new order, not shipped yet."""
    return Order(
        order_id=number,
        customer_id=customer.customer_id,
        employee_id=rng.randint(1, EMPLOYEES),
        order_date=placed,
        required_date=placed + timedelta(rng.choice((14, 28, 28, 28, 42))),
        shipped_date=None,
        ship_via=rng.randint(1, len(WORDS["carriers"])),
        freight=rng.randint(40, 2500) * size / 100,
        ship_name=customer.company_name,
        ship_address=customer.address,
        ship_city=customer.city,
        ship_region=customer.region,
        ship_postal_code=customer.postal_code,
        ship_country=customer.country,
    )


def _lines(rng: random.Random, number: int, products: list[Product], size: int) -> list[Line]:
    discount = rng.choice((0, 0, 0, 0.05, 0.1, 0.15, 0.2, 0.25))
    return [
        Line(number, item.product_id, item.unit_price, rng.randint(1, 12) * rng.choice((1, 2, 5)), discount)
        for item in sorted(rng.sample(products, size))
    ]


def _fixed_tables(rng: random.Random) -> dict[str, list[tuple]]:
    """The tables that never change."""
    territories = sorted(
        (f"{index % 4 * 2}{digits:04}", rng.choice(WORDS["towns"]), index % 4 + 1)
        for index, digits in enumerate(rng.sample(range(10_000), TERRITORIES))
    )
    assigned = ((rng.randint(1, EMPLOYEES), territory[0]) for territory in rng.sample(territories, ASSIGNED))
    categories = [(name, text, b"\x89PNG" + rng.randbytes(4)) for name, text, _, _ in WORDS["categories"]]
    carriers = [(name, _fill(rng, "(555) 01#-####")) for name in WORDS["carriers"]]
    states = [
        (*state.rsplit(" ", 1), region)
        for region, listed in WORDS["states"].items()
        for state in listed.split("|")
    ]
    return {
        "categories": _numbered(categories),
        "customer_customer_demo": [],
        "customer_demographics": [],
        "employees": [_employee(rng, number) for number in range(1, EMPLOYEES + 1)],
        "employee_territories": sorted(assigned),
        "region": list(enumerate(WORDS["regions"], 1)),
        "shippers": _numbered(carriers),
        "territories": territories,
        "us_states": _numbered(sorted(states)),
    }


def _numbered(rows: list[tuple]) -> list[tuple]:
    return [(number, *row) for number, row in enumerate(rows, 1)]


def _employee(rng: random.Random, number: int) -> tuple:
    tongue = WORDS["tongues"]["en"]
    first, last = tongue["first"][number % len(tongue["first"])], tongue["last"][number - 1]
    title = {1: "Head of Sales", 2: "Sales Manager"}.get(number, "Sales Representative")
    boss = {1: None, 2: 1}.get(number, 2)
    street, *rest = _address(rng, rng.choice([place for place in PLACES if place.country in ("USA", "UK")]))
    if number % 3 == 0:
        street += f"\nApt. {number}"  # some addresses have two lines
    born = date(1960, 1, 1) + timedelta(rng.randrange(12_000))
    hired = date(2015, 1, 1) + timedelta(rng.randrange(2_000))
    language, month = rng.choice(["French", "Türkçe", "Español"]), rng.choice(["May", "August"])
    notes = f'{first} joined in {hired.year} and calls it "the best job in {rest[0]}".\n'
    notes += f"Speaks English and {language}; on holiday each {month}."
    photo, path = b"\x89PNG" + rng.randbytes(6), f"https://intranet.example/photos/{number}.png"
    courtesy = ("Ms.", "Mr.")[number % 2]  # as the first names alternate
    person = (number, last, first, title, courtesy, born, hired, street, *rest)
    return (*person, _fill(rng, "####"), photo, notes, boss, path)


def write_database(connection: "psycopg2.extensions.connection", shop: Shop) -> None:
    """Replace the 13 tables in schema public, in one transaction.

    Raises:
        ShopError: A table with one of these names was not written by this module. Nothing changed.
    """
    with connection, connection.cursor() as cursor:
        _refuse_foreign_tables(cursor)
        tables = sql.SQL(", ").join(map(sql.Identifier, TABLES))
        cursor.execute("SET LOCAL search_path TO public")
        cursor.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(tables))
        cursor.execute(SCHEMA)
        if shop.tables["orders"][-1].order_id > SMALLINT_MAX:
            cursor.execute("ALTER TABLE orders ALTER order_id TYPE integer")
        cursor.execute("COMMENT ON TABLE orders IS %s", [MARK])
        for table in TABLES:
            _copy(cursor, table, shop.tables[table])
    counts = ", ".join(f"{table} {len(shop.tables[table])}" for table in TABLES)
    print(f"wrote {len(TABLES)} tables to database {connection.info.dbname}: {counts}")


def _refuse_foreign_tables(cursor: "psycopg2.extensions.cursor") -> None:
    cursor.execute(
        "SELECT relname, obj_description(oid, 'pg_class') FROM pg_class"
        " WHERE relnamespace = 'public'::regnamespace AND relname = ANY(%s)",
        [list(TABLES)],
    )
    found = dict(cursor.fetchall())
    if found and found.get("orders") != MARK:
        raise ShopError(
            f"database {cursor.connection.info.dbname} has a table {min(found)} that is not the sample shop's. Nothing "
            "was written. Set SOURCE_POSTGRES_DB to an empty database"
        )


def _copy(cursor: "psycopg2.extensions.cursor", table: str, rows: list[tuple]) -> None:
    statement = sql.SQL("COPY {} FROM STDIN").format(sql.Identifier(table))
    for start in range(0, len(rows), ROWS_AT_ONCE):
        text = "".join(map(_copy_line, rows[start : start + ROWS_AT_ONCE]))
        cursor.copy_expert(statement, io.StringIO(text))


def _copy_line(row: tuple) -> str:
    return "\t".join(map(_copy_field, row)) + "\n"


def _copy_field(value: object) -> str:
    """One value in COPY's text format."""
    if value is None:
        return r"\N"
    text = rf"\x{value.hex()}" if isinstance(value, bytes) else str(value)
    return text.translate(COPY_ESCAPES)


COPY_ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})


def write_csv(path: Path, shop: Shop) -> None:
    """Write the order lines atomically."""
    _replace(path, _csv(shop))


def _replace(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def _csv(shop: Shop) -> bytes:
    """The order lines with a header; numbers in their shortest form: 14, 9.8, 0, 0.15."""
    rows = [Line._fields, *([f"{field:g}" for field in line] for line in shop.order_details)]
    return "".join(",".join(row) + "\n" for row in rows).encode()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _connect() -> "psycopg2.extensions.connection":
    connection = connect("SOURCE")
    connection.autocommit = False
    return connection


def _state() -> dict:
    return json.loads(STATE.read_text()) if STATE.exists() else {}


def write(factor: int, day: int) -> None:
    """Write the shop of `day` to the source database and the CSV file, and save which day it is."""
    shop = build(factor, day)
    with contextlib.closing(_connect()) as connection:
        write_database(connection, shop)
    name, content = CSV.relative_to(PROJECT), _csv(shop)
    digest = _digest(content)
    # Equal content is ours too: a killed run may have written the file, but not the state.
    if CSV.exists() and _digest(CSV.read_bytes()) not in (digest, _state().get("csv_sha256")):
        print(f"{name} was changed since it was written: not replaced. Remove it to get the sample's")
    else:
        _replace(CSV, content)
        print(f"wrote {len(shop.order_details)} lines to {name} (factor {factor}, day {day})")
    _replace(STATE, json.dumps({"factor": factor, "day": day, "csv_sha256": digest}).encode())


def next_day() -> None:
    """Write the day after the saved one."""
    state = _state()
    if not state:
        raise ShopError("no day has been written yet. Run `python demo/shop.py write`")
    write(state["factor"], state["day"] + 1)


def clean() -> None:
    """Remove the CSV file, unless it was changed, and the saved state."""
    if CSV.exists() and _digest(CSV.read_bytes()) == _state().get("csv_sha256"):
        CSV.unlink()
    STATE.unlink(missing_ok=True)


def sample() -> None:
    """Write day 0 into an embedded server without a shop; never into other servers."""
    if servers.ours() and not STATE.exists():
        write(factor=1, day=0)


def main() -> None:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("command", choices=["write", "sample", "next-day", "clean"])
    parser.add_argument("--factor", type=int, default=1, help="write: size, in multiples of Northwind")
    parser.add_argument("--day", type=int, default=0, help="write: the day, from 0")
    arguments = parser.parse_args()
    if arguments.factor < 1 or arguments.day < 0:
        parser.error("--factor must be at least 1, --day at least 0")
    os.chdir(PROJECT)  # where .env is
    try:
        if arguments.command == "write":
            write(arguments.factor, arguments.day)
        elif arguments.command == "sample":
            sample()
        elif arguments.command == "next-day":
            next_day()
        else:
            clean()
    except (LandingError, ShopError, OSError, psycopg2.Error) as error:
        sys.exit(f"demo/shop.py {arguments.command}: {str(error).strip()}")


if __name__ == "__main__":
    main()

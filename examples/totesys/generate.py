"""The sample: the orders of a manufacturer, in eleven tables of schema `public`, from a seed.

The first date has orders of the two years before it. Each later one adds orders, payments and a design, and changes
rows: quantities, payments that arrive, a member of staff who moves to another department, a phone number.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import sample
from servers import PROJECT

FOLDER = Path(__file__).resolve().parent
WORDS = json.loads((PROJECT / "demo" / "words.json").read_text("utf-8"))
TONGUES = list(WORDS["tongues"].values())
CURRENCIES = ("GBP", "USD", "EUR")
PAYMENT_TYPES = ("SALES_RECEIPT", "SALES_REFUND", "PURCHASE_PAYMENT", "PURCHASE_REFUND")
DEPARTMENTS = ("Sales", "Purchasing", "Production", "Dispatch", "Finance", "Facilities", "Communications", "HR")
PLACES = (("Leeds", "United Kingdom"), ("Lyon", "France"), ("Porto", "Portugal"), ("Bergen", "Norway"),
          ("Bilbao", "Spain"), ("Bremen", "Germany"), ("Parma", "Italy"), ("Boston", "United States"))
MATERIALS, THINGS = ("Wooden", "Steel", "Bronze", "Granite", "Concrete", "Rubber"), ("Chair", "Lamp", "Bowl", "Clock",
                                                                                   "Shelf", "Hat")
ADDRESSES, STAFF, COUNTERPARTIES, DESIGNS = 30, 20, 20, 36
SALES, PURCHASES, DAYS = 2400, 800, 730  # of the first day, over so many days before it
NEW_SALES, NEW_PURCHASES, CHANGED = 14, 5, 6  # of each later day


def generate(day: date) -> None:
    """Bring the sample to a day."""
    sample.bring_to(day, FOLDER, change, first_day)


def moment(rng: random.Random, day: date) -> datetime:
    return datetime(day.year, day.month, day.day, rng.randint(8, 17), rng.randrange(60), rng.randrange(60),
                    rng.randrange(1000) * 1000)


def first_day(rng: random.Random, day: date) -> Iterable[tuple[str, list[tuple]]]:
    """The tables as they are on the first day, each after those that it references."""
    start = day - timedelta(DAYS)
    yield from fixed_tables(rng, moment(rng, start))
    sales = [sales_order(rng, number, start + timedelta(number * DAYS // SALES)) for number in range(SALES)]
    purchases = [purchase_order(rng, number, start + timedelta(number * DAYS // PURCHASES))
                 for number in range(PURCHASES)]
    yield "sales_order", sales
    yield "purchase_order", purchases
    yield from transactions(rng, 1, sales, purchases)


def fixed_tables(rng: random.Random, at: datetime) -> Iterable[tuple[str, list[tuple]]]:
    """What sales and purchases refer to."""
    times = (at, at)
    yield "department", [(number, name, rng.choice(PLACES)[0], person(rng)[0], *times)
                         for number, name in enumerate(DEPARTMENTS, 1)]
    yield "currency", [(number, code, *times) for number, code in enumerate(CURRENCIES, 1)]
    yield "payment_type", [(number, name, *times) for number, name in enumerate(PAYMENT_TYPES, 1)]
    yield "address", [address(rng, number, at) for number in range(1, ADDRESSES + 1)]
    yield "design", [design(rng, number, at) for number in range(1, DESIGNS + 1)]
    people = [person(rng) for _ in range(STAFF)]
    yield "staff", [(number, *name.split(" ", 1), rng.randint(1, len(DEPARTMENTS)),
                     f"{name.split()[0].lower()}.{number}@totesys.example", *times)
                    for number, (name, _) in enumerate(people, 1)]
    yield "counterparty", [(number, rng.choice(tongue["companies"]).format(name.split(" ", 1)[1]),
                            rng.randint(1, ADDRESSES), name, rng.choice([person(rng)[0], None]), *times)
                           for number, (name, tongue) in enumerate([person(rng) for _ in range(COUNTERPARTIES)], 1)]


def person(rng: random.Random) -> tuple[str, dict[str, Any]]:
    """A name, and the words of its tongue."""
    tongue = rng.choice(TONGUES)
    return f"{rng.choice(tongue['first'])} {rng.choice(tongue['last'])}", tongue


def address(rng: random.Random, number: int, at: datetime) -> tuple:
    city, country = rng.choice(PLACES)
    _, tongue = person(rng)
    return (number, rng.choice(tongue["streets"]).format(rng.randint(1, 180)), rng.choice([None, None, "Gate 2"]),
            rng.choice([None, "North", "Harbour"]), city, f"{rng.randrange(100_000):05}", country, phone(rng), at, at)


def phone(rng: random.Random) -> str:
    return f"{rng.randrange(10_000):04} {rng.randrange(1_000_000):06}"


def design(rng: random.Random, number: int, at: datetime) -> tuple:
    name = f"{MATERIALS[number % len(MATERIALS)]} {THINGS[number // len(MATERIALS) % len(THINGS)]}"
    file = f"{name.lower().replace(' ', '-')}-{at:%Y%m%d}-{rng.randrange(16**4):04x}.json"
    return number, at, name, rng.choice(["/usr/share", "/home/user/dir", "/private/var"]), file, at


def sales_order(rng: random.Random, number: int, day: date) -> tuple:
    """A sales order of a day; more are sold before each year's end."""
    at = moment(rng, day)
    units = rng.randint(100, 9_000) * (14 + (day.month > 9) * 4 + (day.month == 12) * 4) // 14
    price = Decimal(rng.randint(200, 400)) / 100
    return (number + 1, at, at, rng.randint(1, DESIGNS), rng.randint(1, STAFF), rng.randint(1, COUNTERPARTIES), units,
            price, rng.choice((1, 1, 2, 2, 3)), *agreed(rng, day), rng.randint(1, ADDRESSES))


def purchase_order(rng: random.Random, number: int, day: date) -> tuple:
    at = moment(rng, day)
    return (number + 1, at, at, rng.randint(1, STAFF), rng.randint(1, COUNTERPARTIES),
            "".join(rng.choices("ABCDEFGHJKLMNPRSTUVWXYZ0123456789", k=7)), rng.randint(1, 1000),
            Decimal(rng.randint(1_000, 100_000)) / 100, rng.choice((1, 2, 3)), *agreed(rng, day),
            rng.randint(1, ADDRESSES))


def agreed(rng: random.Random, day: date) -> tuple[str, str]:
    """Dates of delivery and payment, as text."""
    return str(day + timedelta(rng.randint(2, 6))), str(day + timedelta(rng.randint(1, 7)))


def transactions(rng: random.Random, first: int, sales: list[tuple],
                 purchases: list[tuple]) -> Iterable[tuple[str, list[tuple]]]:
    """A transaction and a payment of each order; a sale has no purchase order, and a purchase no sales order."""
    orders = sorted([("SALE", order) for order in sales] + [("PURCHASE", order) for order in purchases],
                    key=lambda one: one[1][1])
    yield "transaction", [(number, kind, order[0] if kind == "SALE" else None,
                           order[0] if kind == "PURCHASE" else None, order[1], order[1])
                          for number, (kind, order) in enumerate(orders, first)]
    yield "payment", [payment(rng, number, kind, order) for number, (kind, order) in enumerate(orders, first)]


def payment(rng: random.Random, number: int, kind: str, order: tuple) -> tuple:
    sale = kind == "SALE"
    counterparty, units, price, currency = (order[5], *order[6:9]) if sale else (order[4], *order[6:9])
    due = order[10]
    paid = rng.random() < 0.9
    return (number, order[1], order[1], number, counterparty, units * price, currency, 1 if sale else 3, paid, due,
            rng.randint(10_000_000, 99_999_999), rng.randint(10_000_000, 99_999_999))


def change(cursor: sample.Cursor, rng: random.Random, day: date) -> None:
    """One day: new rows, and changed ones, which get a new `last_updated`."""
    designs, sales, purchases, latest = sample.fetch(cursor, """
        SELECT max(design_id) FROM design UNION ALL SELECT max(sales_order_id) FROM sales_order
        UNION ALL SELECT max(purchase_order_id) FROM purchase_order
        UNION ALL SELECT max(transaction_id) FROM transaction""")
    sample.insert(cursor, "design", [design(rng, designs + 1, moment(rng, day))])
    sold = [sales_order(rng, sales + number, day) for number in range(NEW_SALES)]
    bought = [purchase_order(rng, purchases + number, day) for number in range(NEW_PURCHASES)]
    sample.insert(cursor, "sales_order", sold)
    sample.insert(cursor, "purchase_order", bought)
    for table, rows in transactions(rng, latest + 1, sold, bought):
        sample.insert(cursor, table, rows)
    at = moment(rng, day)
    for number in rng.sample(range(1, sales + 1), CHANGED):
        cursor.execute("UPDATE sales_order SET units_sold = units_sold + 100, last_updated = %s "
                       "WHERE sales_order_id = %s", [at, number])
    cursor.execute("UPDATE payment SET paid = true, last_updated = %s WHERE payment_id IN "
                   "(SELECT payment_id FROM payment WHERE NOT paid ORDER BY payment_id LIMIT %s)", [at, CHANGED])
    cursor.execute("UPDATE staff SET department_id = department_id %% %s + 1, last_updated = %s WHERE staff_id = %s",
                   [len(DEPARTMENTS), at, rng.randint(1, STAFF)])
    cursor.execute("UPDATE address SET phone = %s, last_updated = %s WHERE address_id = %s",
                   [phone(rng), at, rng.randint(1, ADDRESSES)])

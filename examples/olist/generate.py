"""The sample: a Brazilian marketplace, in nine tables of schema `cpstn`, from a seed.

It has what the real data have: a postal code with several spellings of its city, repeated rows without a key, products
without a category, categories without a translation, comments with line breaks and emoji, orders that never arrived.
Each later day delivers orders, adds new ones with their items, payments and reviews, and changes a price.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterable, Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import product
from pathlib import Path

import sample

FOLDER = Path(__file__).resolve().parent
READ_SCHEMA = "cpstn"
# State: share of the customers, and a city in its spellings.
PLACES = {
    "SP": (42, "sao paulo", "são paulo", "SAO PAULO"), "RJ": (13, "rio de janeiro", "rio de janeiro "),
    "MG": (12, "belo horizonte", "belo horizonte-mg"), "RS": (6, "porto alegre"), "PR": (5, "curitiba", "Curitiba"),
    "SC": (4, "florianopolis", "florianópolis"), "BA": (4, "salvador"), "DF": (2, "brasilia", "brasília"),
    "ES": (2, "vitoria", "vitória"), "GO": (2, "goiania", "goiânia"), "PE": (2, "recife"), "CE": (2, "fortaleza"),
    "PA": (1, "belem", "belém"), "MT": (1, "cuiaba", "cuiabá"), "MA": (1, "sao luis", "são luís"),
    "RN": (1, "natal"), "AM": (1, "manaus"), "AC": (1, "rio branco"),
}
THINGS = {"livros": "books", "moveis": "furniture", "jogos": "games", "flores": "flowers", "relogios": "watches",
          "malas": "luggage", "brinquedos": "toys", "ferramentas": "tools", "papelaria": "stationery",
          "perfumaria": "perfumery", "audio": "audio", "telefonia": "telephony", "bebidas": "drinks",
          "alimentos": "food", "musica": "music", "artes": "art", "cama_mesa_banho": "bed_bath_table",
          "esporte_lazer": "sports_leisure", "moda": "fashion", "climatizacao": "air_conditioning",
          "eletronicos": "electronics", "pet_shop": "pet_shop", "automotivo": "auto", "fraldas": "diapers",
          "instrumentos": "instruments"}
KINDS = {"": "", "_infantil": "_for_children", "_escritorio": "_for_the_office"}
CATEGORIES = [(f"{thing}{kind}", f"{THINGS[thing]}{KINDS[kind]}") for kind, thing in product(KINDS, THINGS)][:73]
UNTRANSLATED = 2
PRODUCTS, SELLERS, ZIP_CODES, GEOLOCATIONS = 330, 60, 150, 3000
ORDERS, DAYS = 1500, 700  # of the first day, over so many days before it
NEW = 16  # orders of each later day
COMMENTS = ("Recebi bem antes do prazo 👍", "Produto veio com defeito\r\nquero trocar 😡", "Bom!\r\n\r\nRecomendo",
            'Disseram "amanhã", e nada', None, None, None, "")
TABLES = ("olist_customers", "olist_orders", "olist_order_items", "olist_order_payments", "olist_order_reviews")
Rows = dict[str, list[tuple]]


def generate(day: date) -> None:
    """Bring the sample to a day."""
    sample.bring_to(day, FOLDER, change, first_day, READ_SCHEMA)


def first_day(rng: random.Random, day: date) -> Iterator[tuple[str, list[tuple]]]:
    """The tables as they are on the first day."""
    zip_codes = [(f"{number * 613 % 100_000:05}", rng.choices(list(PLACES), [place[0] for place in PLACES.values()])[0])
                 for number in range(2, ZIP_CODES + 2)]
    yield "product_category_name_translation", CATEGORIES[:-UNTRANSLATED]
    yield "olist_geolocation", geolocations(rng, zip_codes)
    sellers = [(key(rng), *place(rng, zip_codes)) for _ in range(SELLERS)]
    products = [a_product(rng, number) for number in range(PRODUCTS)]
    yield "olist_sellers", sellers
    yield "olist_products", products
    found: Rows = {table: [] for table in TABLES}
    for number in range(ORDERS):
        placed = datetime(day.year, day.month, day.day) - timedelta(DAYS - number * DAYS / ORDERS)
        add_order(rng, found, placed, datetime(day.year, day.month, day.day), zip_codes, products, sellers)
    yield from found.items()


def key(rng: random.Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128)))


def place(rng: random.Random, zip_codes: list[tuple[str, str]]) -> tuple[str, str, str]:
    """Postal code, city in one of its spellings, and state."""
    code, state = rng.choice(zip_codes)
    return code, rng.choice(PLACES[state][1:]), state


def geolocations(rng: random.Random, zip_codes: list[tuple[str, str]]) -> list[tuple]:
    """Several rows a postal code; one in ten is a repeat of another."""
    rows = []
    for _ in range(GEOLOCATIONS):
        code, city, state = place(rng, zip_codes)
        latitude, longitude = (Decimal(rng.randrange(-33 * 10**14, 10**14)) / 10**14,
                               Decimal(rng.randrange(-60 * 10**14, -35 * 10**14)) / 10**14)
        rows.append(rng.choice(rows) if rows and rng.random() < 0.1 else (code, latitude, longitude, city, state))
    return rows


def a_product(rng: random.Random, number: int) -> tuple:
    """Every category has products; one product in fifty has none, and nothing else that describes it."""
    if number % 50 == 49:
        return key(rng), *[None] * 4, *measures(rng)
    return (key(rng), CATEGORIES[number % len(CATEGORIES)][0], rng.randint(20, 64), rng.randint(100, 3900),
            rng.randint(1, 9), *measures(rng))


def measures(rng: random.Random) -> tuple[int, Decimal, Decimal, Decimal]:
    return rng.randint(50, 30_000), *(Decimal(rng.randint(200, 10_000)) / 100 for _ in range(3))


def add_order(rng: random.Random, rows: Rows, placed: datetime, now: datetime, zip_codes: list[tuple[str, str]],
              products: list[tuple], sellers: list[tuple]) -> None:
    """Add an order of `placed` as it is at `now`, and what belongs to it."""
    customer, order = key(rng), key(rng)
    placed = (placed + timedelta(seconds=rng.randrange(86_000))).replace(microsecond=0)
    approved, handed = placed + timedelta(minutes=rng.randint(5, 2_000)), placed + timedelta(days=rng.uniform(1, 4))
    arrived = handed + timedelta(days=rng.expovariate(1 / 8) + 0.5)
    canceled = rng.random() < 0.02
    done = arrived < now and (not canceled or rng.random() < 0.3)  # some are canceled after they arrived
    noted = done and rng.random() < 0.99  # of the others nobody noted when
    status = "canceled" if canceled else "delivered" if done else "shipped" if handed < now else "processing"
    rows["olist_customers"].append((customer, key(rng).replace("-", ""), *place(rng, zip_codes)))
    rows["olist_orders"].append((
        order, customer, status, placed, approved, whole(handed) if status in ("shipped", "delivered") else None,
        whole(arrived) if noted else None, (placed + timedelta(days=rng.randint(14, 30))).date()))
    total = Decimal(0)
    for item in range(1, rng.choice((1, 1, 1, 1, 1, 1, 2, 3)) + 1):
        price, freight = Decimal(rng.randint(990, 40_000)) / 100, Decimal(rng.randint(500, 6_000)) / 100
        rows["olist_order_items"].append((order, item, rng.choice(products)[0], rng.choice(sellers)[0],
                                          placed + timedelta(days=5), price, freight))
        total += price + freight
    rows["olist_order_payments"] += payments(rng, order, total)
    if noted:
        rows["olist_order_reviews"].append(review(rng, order, arrived))


def whole(moment: datetime) -> datetime:
    return moment.replace(microsecond=0)


def payments(rng: random.Random, order: str, total: Decimal) -> Iterable[tuple]:
    """One payment, or two of which the first is a voucher."""
    voucher = rng.random() < 0.05
    if voucher:
        yield order, 1, "voucher", 1, Decimal(5)
    kind = rng.choice(("credit_card", "credit_card", "credit_card", "boleto", "debit_card"))
    yield (order, 1 + voucher, kind, rng.randint(1, 10) if kind == "credit_card" else 1,
           total - (5 if voucher else 0))


def review(rng: random.Random, order: str, arrived: datetime) -> tuple:
    written = datetime(arrived.year, arrived.month, arrived.day) + timedelta(days=1)
    return (key(rng), order, rng.choice((5, 5, 5, 4, 4, 3, 2, 1)), rng.choice(("recomendo", None, None)),
            rng.choice(COMMENTS), written, written + timedelta(hours=rng.randint(1, 90)))


def change(cursor: sample.Cursor, rng: random.Random, day: date) -> None:
    """One day: orders arrive and are reviewed, new ones are placed, and a wrong state is corrected."""
    noon = datetime(day.year, day.month, day.day, 12)
    for order in sample.fetch(cursor, "SELECT order_id FROM olist_orders WHERE order_status = 'shipped' "
                              "ORDER BY order_purchase_timestamp, order_id LIMIT %s", NEW):
        arrived = noon + timedelta(seconds=rng.randrange(20_000))
        cursor.execute("UPDATE olist_orders SET order_status = 'delivered', order_delivered_customer_date = %s "
                       "WHERE order_id = %s", [arrived, order])
        sample.insert(cursor, "olist_order_reviews", [review(rng, order, arrived)])
    cursor.execute("UPDATE olist_orders SET order_status = 'shipped', order_delivered_carrier_date = %s "
                   "WHERE order_status = 'processing'", [noon])
    cursor.execute("SELECT DISTINCT customer_zip_code_prefix, customer_state FROM olist_customers ORDER BY 1, 2")
    zip_codes = cursor.fetchall()
    products, sellers = ([(one,) for one in sample.fetch(cursor, query)] for query in (
        "SELECT product_id FROM olist_products ORDER BY 1", "SELECT seller_id FROM olist_sellers ORDER BY 1"))
    found: Rows = {table: [] for table in TABLES}
    for _ in range(NEW):
        add_order(rng, found, noon - timedelta(hours=12), noon, zip_codes, products, sellers)
    for table, rows in found.items():
        if rows:
            sample.insert(cursor, table, rows)
    cursor.execute("UPDATE olist_customers SET customer_state = 'AC' WHERE customer_id = "
                   "(SELECT customer_id FROM olist_customers WHERE customer_state = 'SP' ORDER BY customer_id LIMIT 1)")

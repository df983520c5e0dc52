"""Sales in the shape of the real files, a file for each date, in a container of Azurite behind TLS.

Seeded: a date always has the same file. Some rows break the contract, and some transactions are of the day before.
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
import tempfile
import uuid
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random

import rejected
import serving as beside
from tls import Authority

FILES = "az://sales/*.csv"  # of the sample
SCHEMA = "public"
MADE = (".azurite", ".sample-keys", "inbox")
ROWS = 3000
AGAIN = 50  # transactions of the day before
HEADER = ("transaction_id", "customer_id", "product_id", "store_id", "quantity", "unit_price", "discount",
          "total_amount", "payment_method", "timestamp")
PAYMENTS = ("credit_card", "debit_card", "cash", "paypal", "Credit_Card", " cash ", "CASH")
# What breaks the contract, by column.
BROKEN = {"customer_id": "", "product_id": "", "store_id": "", "quantity": "0", "unit_price": "-4.50",
          "discount": "0.5", "timestamp": "31/12/2024 10:00"}


def rows(day: date) -> list[list[str]]:
    """The rows of a date's file, in the order of HEADER."""
    random = Random(f"sales/{day}/rejected")
    found = _sold(day - timedelta(days=1))[:AGAIN] + _sold(day)
    for number in range(60):
        row = list(random.choice(found[AGAIN:]))
        column = random.choice([*BROKEN, "again", "negative"])
        if column != "again":  # else the same transaction twice
            row[0] = f"TX-{uuid.UUID(int=random.getrandbits(128), version=4)}"
            row[HEADER.index("quantity" if column == "negative" else column)] = BROKEN.get(column, "-2")
        found.insert(AGAIN + number * 40 + 40, row)
    return found


def _sold(day: date) -> list[list[str]]:
    """The valid rows of a date."""
    random = Random(f"sales/{day}")
    return [_row(random, day) for _ in range(ROWS)]


def _row(random: Random, day: date) -> list[str]:
    quantity, price = random.randint(1, 9), Decimal(random.randint(99, 49999)) / 100
    discount = random.choice(["", "", "0", "0.05", "0.1", "0.15"])
    total = (quantity * price * (1 - Decimal(discount or 0))).quantize(Decimal("0.01"))
    when = datetime.combine(day, time()) + timedelta(seconds=random.randrange(86400))
    return [f"TX-{uuid.UUID(int=random.getrandbits(128), version=4)}", f"CUST-{random.randint(1, 400):03}",
            f"PROD-{random.randint(1, 80):03}", f"STORE-{random.randint(1, 12):02}", str(quantity), str(price),
            discount, "" if random.random() < 0.02 else str(total), random.choice(PAYMENTS),
            f"{when:%Y-%m-%d %H:%M:%S}"]


def content(day: date) -> bytes:
    """The file of a date."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    writer.writerows(rows(day))
    return text.getvalue().encode()


def generate(day: date) -> None:
    """Put the file of a date into the inbox, unless that had it before."""
    import obstore

    store = inbox()
    name = f"sales_{day}.csv"
    if any(one.rpartition("/")[2] == name for one in _names(store)):
        print(f"{name} has come before: nothing new for {day}", flush=True)
        return
    obstore.put(store, name, content(day))
    print(f"{os.environ['INBOX']}/{name} is there", flush=True)


def has_new_files() -> bool:
    """Whether the inbox has files: those that were landed or refused are in folders below it."""
    return any("/" not in name and name.endswith(".csv") for name in _names(inbox()))


def _names(store: object) -> Iterator[str]:
    import obstore

    return (one["path"] for page in obstore.list(store) for one in page)


def inbox() -> object:
    """The container, or the folder, that INBOX names."""
    from obstore.store import LocalStore, from_url

    place = os.environ["INBOX"]
    return from_url(place) if "://" in place else LocalStore(Path(place).absolute(), mkdir=True)


@contextlib.contextmanager
def serving(sampled: bool) -> Iterator[None]:
    """Have the files in INBOX, keys of protected columns, and TLS before the embedded PostgreSQL."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        authority = Authority(Path(folder), "examples")
        files = beside.container("sales", authority) if sampled else beside.own_files(os.environ["FILES"])
        for one in (files, beside.variables(beside.keys(sampled)), beside.warehouse(authority)):
            stack.enter_context(one)
        yield


def loaded(day: date, schema: str) -> None:
    """Copy the date's rejected rows into the warehouse."""
    rejected.copy("sales", day, schema)

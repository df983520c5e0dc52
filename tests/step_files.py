"""Steps that change the CSV files, and how they are declared."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st
from model_files import APPEND, FAIL, KEEP_FIRST, KEEP_LAST, QUARANTINE, REPLACE
from step_loads import Loads, change
from steps import places, step
from world import CANARY, NAMES

CSV_VALUES = [None, "", "1", "20", "007", "1.50", "ten", "n/a", "'yes'", 'a "b", c', "two\nlines", "9007199254740993",
              "2024-01-20", "\\."]
NUMBERS = ["1", "2", "3", "4", "7", "12"]
# Rows of orders, without their number: some keep the contract, some break a rule.
GOOD = [["10", "open", "AB1", CANARY], ["0.5", " Closed ", "AB123", ""], ["999.99", None, None, None]]
BAD = [["-0.01", "open", "AB1", CANARY], ["1000", "open", "AB1", "x"], ["1.005", "open", "AB1", "two\nlines"],
       ["ten", "cheque", "ab", None], ["1", "cheque", "AB1", CANARY], ["1", "open", "ab1", "x"],
       ["1", "open", "AB", "x"], ["1", "open", "ABC1", "x"], ["1", "open", "AB1234", None], [None, "closed", None, "x"]]
free = st.sampled_from(["items", "notes", "sales"])  # entities without a contract
entities = st.sampled_from(["items", "notes", "sales", "orders"])


class FileChanges(Loads):
    """What happens to the files, and to their entries in meltano.yml."""

    @change(entity=free, a=st.sampled_from(CSV_VALUES), b=st.sampled_from(CSV_VALUES))
    def csv_row(self, entity, a, b):
        header, rows = self.world.csv[entity]
        number = str(1 + max((int(row[header.index("id")]) for row in rows), default=0)) if "id" in header else a
        values = dict.fromkeys(header, b) | {"a": a, "id": number}
        rows.append([values[name] for name in header])
        self.world.write_csv(entity)

    @change(entity=entities, turn=st.integers(1, 3))
    def csv_reorder(self, entity, turn):
        header, rows = self.world.csv[entity]
        turn %= len(header)
        self.world.csv[entity] = header[turn:] + header[:turn], [row[turn:] + row[:turn] for row in rows]
        self.world.write_csv(entity)

    @change(entity=free, name=st.sampled_from(NAMES), value=st.sampled_from(CSV_VALUES))
    def csv_column(self, entity, name, value):
        """Comes, or goes if it is there."""
        header, rows = self.world.csv[entity]
        if name in header:
            place = header.index(name)
            for row in [header, *rows]:
                del row[place]
        else:
            header.append(name)
            for row in rows:
                row.append(value)
        self.world.write_csv(entity)

    @change(entity=free, column=places, value=st.sampled_from([*CSV_VALUES, *["no rows"] * 3]))
    def csv_fill(self, entity, column, value):
        """Every value of a column: it becomes empty, a number, a text; or all rows go."""
        header, rows = self.world.csv[entity]
        if value == "no rows":
            rows.clear()
        elif header[column % len(header)] != "id":
            for row in rows:
                row[column % len(header)] = value
        self.world.write_csv(entity)

    @change(numbers=st.lists(st.sampled_from([*NUMBERS, None]), max_size=3), value=st.sampled_from(CSV_VALUES))
    def new_sales(self, numbers, value):
        """A file with new rows only, some perhaps of keys that there were, or without one."""
        header = self.world.csv["sales"][0]
        rows = [[number if name == "id" else value for name in header] for number in numbers]
        self.world.csv["sales"] = header, rows
        self.world.write_csv("sales")

    @change(numbers=st.lists(st.sampled_from([*NUMBERS, "51", "x", None]), min_size=1, max_size=4),
            values=st.lists(st.sampled_from([*GOOD * 4, *BAD]), min_size=4, max_size=4))
    def new_orders(self, numbers, values):
        """Rows that keep the contract, and rows that break a rule of it."""
        header = self.world.csv["orders"][0]
        rows = [dict(zip(["id", "amount", "state", "code", "secret"], [number, *row], strict=True))
                for number, row in zip(numbers, values, strict=False)]
        self.world.csv["orders"] = header, [[row[name] for name in header] for row in rows]
        self.world.write_csv("orders")

    @step(entity=st.sampled_from(["notes", "sales", "sales", "orders"]),
          load=st.sampled_from([REPLACE, APPEND, APPEND]),
          on_duplicate_key=st.sampled_from([FAIL, KEEP_FIRST, KEEP_LAST, QUARANTINE]),
          on_bad_rows=st.sampled_from([FAIL, QUARANTINE, QUARANTINE]))
    def declare(self, entity, load, on_duplicate_key, on_bad_rows):
        """Other options of an entity."""
        self.world.entities[entity] = replace(
            self.world.entities[entity], load=load, on_duplicate_key=on_duplicate_key, on_bad_rows=on_bad_rows)

"""Steps that change the databases."""

from __future__ import annotations

from hypothesis import strategies as st
from step_loads import Loads, change
from steps import databases, places, quoted
from world import CANARY, NAMES, PEOPLE, World

# Types, with values as text.
VALUES = {
    "smallint": ["0", "7", "-32768"],
    "integer": ["1", "42", "2147483647"],
    "bigint": ["5", "9007199254740993"],
    "numeric": ["1.50", "0", "-0.001"],
    "numeric(7,2)": ["10.25", "99999.99"],
    "numeric(10,2)": ["10.20", "12345678.90"],
    "numeric(12,4)": ["3.1416", "7.0000"],
    "real": ["0.1", "2.5", "16777216"],
    "double precision": ["0.1", "2.5", "1e+300"],
    "character varying(5)": ["", "abc", "yes"],
    "character varying(20)": ["", "a longer value"],
    "text": ["", "ten", "1", "'q', \"d\"", "two\nlines", "\\."],
    "date": ["2024-02-29", "0001-01-01"],
    "timestamp(0) without time zone": ["2024-01-20 10:00:00"],
    "timestamp without time zone": ["2024-01-20 10:00:00.123456"],
    "timestamp with time zone": ["2024-01-20 10:00:00.5+00"],
    "boolean": ["t", "f"],
    "integer[]": ["{1,NULL}", "{}"],
    "jsonb": ['{"a": [1, null]}'],
    "mood": ["sad", "glad"],
}


class DatabaseChanges(Loads):
    """What happens to tables and views at the source."""

    def _pick(self, source: str, table: int, column: int = 0) -> tuple[str, str] | None:
        """A table and a column of it, as SQL names them, or None."""
        names = table_names(self.world, source)
        if not names:
            return None
        name = names[table % len(names)]
        columns = list(self.world.tables(source)[name].columns)
        return quoted(name), quoted(columns[column % len(columns)])

    def _change(self, source: str, statement: str, *, table: int, column: int = 0, **names: str) -> None:
        if picked := self._pick(source, table, column):
            self.world.change(source, statement.format(t=picked[0], c=picked[1], **names))

    @change(source=databases, table=places, number=st.integers(0, 40), value=places)
    def insert(self, source, table, number, value):
        picked = self._pick(source, table)
        if picked:
            columns = self.world.tables(source)[picked[0].strip('"')].columns
            values = [str(number) if name == "id" else _value(type_, value + place)
                      for place, (name, type_) in enumerate(columns.items())]
            literals = ", ".join("NULL" if one is None else "'" + one.replace("'", "''") + "'" for one in values)
            self.world.change(source, f"INSERT INTO {picked[0]} VALUES ({literals})")

    @change(source=databases, table=places, column=places)
    def update(self, source, table, column):
        self._change(source, "UPDATE {t} SET {c} = NULL WHERE ctid = (SELECT max(ctid) FROM {t})", table=table,
                     column=column)

    @change(source=databases, table=places,
          how=st.sampled_from(["DELETE FROM {t} WHERE ctid = (SELECT min(ctid) FROM {t})", "TRUNCATE {t}"]))
    def delete(self, source, table, how):
        self._change(source, how, table=table)

    @change(source=databases, table=places, name=st.sampled_from(NAMES), type_=st.sampled_from([*VALUES]), value=places)
    def add_column(self, source, table, name, type_, value):
        default = (VALUES[type_] + [None])[value % (len(VALUES[type_]) + 1)]
        default = "NULL" if default is None else "'" + default.replace("'", "''").replace("{", "{{").replace(
            "}", "}}") + "'"
        self._change(source, f'ALTER TABLE {{t}} ADD COLUMN "{name}" {type_} DEFAULT {default}', table=table)

    @change(source=databases, table=places, column=places)
    def drop_column(self, source, table, column):
        picked = self._pick(source, table, column)
        if picked and len(self.world.tables(source)[picked[0].strip('"')].columns) > 1:
            self._change(source, "ALTER TABLE {t} DROP COLUMN {c} CASCADE", table=table, column=column)

    @change(source=databases, table=places, column=places, name=st.sampled_from(NAMES))
    def rename_column(self, source, table, column, name):
        self._change(source, f'ALTER TABLE {{t}} RENAME COLUMN {{c}} TO "{name}"', table=table, column=column)

    @change(source=databases, table=places, turn=st.integers(1, 3))
    def reorder_columns(self, source, table, turn):
        """By a table that takes the place of the old one."""
        if picked := self._pick(source, table):
            before = self.world.tables(source)[picked[0].strip('"')]
            columns = [*map(quoted, before.columns)]
            turn %= len(columns)
            key = f"; ALTER TABLE {picked[0]} ADD PRIMARY KEY ({', '.join(map(quoted, before.key))})"
            self.world.change(
                source, f"CREATE TABLE other AS SELECT {', '.join(columns[turn:] + columns[:turn])} FROM {picked[0]}; "
                f"DROP TABLE {picked[0]} CASCADE; ALTER TABLE other RENAME TO {picked[0]}{key if before.key else ''}")

    @change(source=databases, table=places, column=places, type_=st.sampled_from([*VALUES]))
    def alter_type(self, source, table, column, type_):
        self._change(source, f"ALTER TABLE {{t}} ALTER COLUMN {{c}} DROP DEFAULT, ALTER COLUMN {{c}} TYPE {type_} "
                     f"USING {{c}}::text::{type_}", table=table, column=column)

    @change(source=databases, table=places, column=places)
    def change_key(self, source, table, column):
        if picked := self._pick(source, table, column):
            constraint = self.world.sources[source].run(
                "SELECT conname FROM pg_constraint WHERE conrelid = to_regclass(%s) AND contype = 'p'", picked[0])
            drop = f"DROP CONSTRAINT {quoted(constraint[0][0])}, " if constraint else ""
            if not self.world.change(source, f"ALTER TABLE {picked[0]} {drop}ADD PRIMARY KEY ({picked[1]})") and drop:
                self.world.change(source, f"ALTER TABLE {picked[0]} {drop.rstrip(', ')}")

    @change(source=databases, number=places, type_=st.sampled_from([*VALUES]))
    def create_table(self, source, number, type_):
        self.world.change(source, f"CREATE TABLE t_{number} (id integer PRIMARY KEY, a {type_})")

    @change(source=databases, table=places)
    def drop_table(self, source, table):
        if len(table_names(self.world, source)) > 1:  # a source without a table is refused
            self._change(source, "DROP TABLE {t} CASCADE", table=table)

    @change(source=databases, table=places, number=places)
    def rename_table(self, source, table, number):
        self._change(source, f"ALTER TABLE {{t}} RENAME TO t_{number}", table=table)

    @change(source=databases, table=places, kind=st.sampled_from(["VIEW", "MATERIALIZED VIEW"]))
    def create_view(self, source, table, kind):
        self._change(source, f"CREATE {kind} t_view AS SELECT * FROM {{t}} WHERE true", table=table)

    @change(source=databases, what=st.sampled_from(["DROP", "DROP MATERIALIZED", "REFRESH MATERIALIZED"]))
    def change_view(self, source, what):
        self.world.change(source, f"{what} VIEW t_view")

    @change(source=databases, number=st.integers(1, 4),
            value=st.sampled_from(["'10'", "'1.50'", "'a long text'", "NULL"]))
    def person(self, source, number, value):
        """A row of the table that has all columns that may be protected."""
        self.world.change(source, f"INSERT INTO {PEOPLE} VALUES ({number}, 1, {value}, 'c', '{CANARY}', {value}) "
                          f"ON CONFLICT (id) DO UPDATE SET a = {PEOPLE}.a + 1, b = {value}, secret = EXCLUDED.secret")


def table_names(world: World, source: str) -> list[str]:
    """Names of the tables of a database that steps change."""
    return [name for name, in world.sources[source].run(
        "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> %s ORDER BY 1", PEOPLE)]


def _value(type_: str, place: int) -> str | None:
    values = [*VALUES.get(type_, ["x"]), None]
    return values[place % len(values)]

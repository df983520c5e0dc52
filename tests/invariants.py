"""What holds after every step: each check compares the world with the model, naming what differs."""

from __future__ import annotations

import contextlib
import json
from datetime import date

from landing.postgres.connect import connect
from landing.verify.reconcile import Reconciliation
from landing.zone.landing_zone import LandingZone
from model import Model, Rows, Table, Take, comparable, found, history_name, placed
from world import CANARY, World


def landing_zone(world: World, model: Model) -> None:
    """Every date that was landed is there, whole, with the rows that its source had, and nothing else is there."""
    manifests, files, landed = world.manifests(), world.files(), {}
    same(manifests.keys(), model.landed.keys(), "landed dates")
    for at, manifest in manifests.items():
        found, listed = _date(world, manifest, model.landed[at], files.get(at, {}), f"{at[0]} of {at[1]}")
        landed |= {(*at, name): rows for name, rows in found.items()}
        more = files.get(at, {}).keys() - listed
        assert not more or at in model.leftovers, f"{at}: files that no manifest lists: {sorted(more)}"
    for (source, day), take in model.landed.items():
        for name, table in take.tables.items() if model.whole(source, take) else ():
            rows: dict[object, tuple] = {}
            for at, entry in chain(manifests, source, day, name):
                rows |= _by_key(entry, at, landed[source, at, name], list(table.columns))
            where = f"{source} of {day}, {name}"
            same(sorted(rows.values(), key=repr), sorted(table.rows, key=repr), f"{where}: landed rows")
            total = entry.get("increment", {}).get("total_rows", len(rows))
            assert total == len(rows), f"{where}: {total} rows, its manifest says, and it has {len(rows)}"
    unfinished = files.keys() - manifests.keys() - model.leftovers
    assert not unfinished, f"files of dates without a manifest: {[sorted(files[date]) for date in unfinished]}"
    assert model.killed or not world.staged(), f"left in _staging: {world.staged()}"


def _date(world: World, manifest: dict, take: Take, there: dict[str, str], where: str
          ) -> tuple[dict[str, Rows], set[str]]:
    """The rows that a date's own files have, by table, and the files that its manifest lists."""
    same(manifest["run_id"], take.run_id, f"{where}: its run")
    same(tuple(sorted(manifest["declared"])), tuple(sorted(take.declared)), f"{where}: sources that its date needs")
    same(sorted(table["name"] for table in manifest["tables"]), sorted(take.tables), f"{where}: its tables")
    landed, listed = {}, set()
    for table in manifest["tables"]:
        name, quarantine = table["name"], table.get("quarantine")
        part = take.parts.get(name, take.tables[name])
        listed |= {file["path"] for file in [*table["files"], *filter(None, [quarantine])]}
        landed[name] = _landed(world, table, part, there, f"{where}, {name}")
        if name in take.parts:
            same(sorted(landed[name], key=repr), sorted(part.rows, key=repr), f"{where}, {name}: rows")
        same(_rejected(world, quarantine, there), take.rejected.get(name, []), f"{where}, {name}: rejected rows")
        if take.ways[name].get("secret", "plain") != "plain":
            secret = [path for path in listed if CANARY.encode() in world.content(there[path])]
            assert not secret, f"{where}: a protected value is in {secret}"
    return landed, listed


def chain(manifests: dict, source: str, day: str, name: str) -> list[tuple[str, dict]]:
    """Dates and entries of the manifests that make up a table, the whole one first."""
    entry = next(table for table in manifests[source, day]["tables"] if table["name"] == name)
    below = chain(manifests, source, entry["increment"]["base"], name) if "increment" in entry else []
    return [*below, (day, entry)]


def _by_key(entry: dict, day: str, rows: Rows, columns: list[str]) -> dict[object, tuple]:
    """Rows with these columns by the values of their key, or by date and number where they have none."""
    places = {column["name"]: place for place, column in enumerate(entry["columns"])}
    key = [places[name] for name in entry["primary_key"]]
    found = {tuple(row[place] for place in key) or (day, number): tuple(
        row[places[name]] if name in places else None for name in columns) for number, row in enumerate(rows)}
    assert len(found) == len(rows), f"{entry['name']}: a key comes twice"
    return found


def _rejected(world: World, quarantine: dict | None, files: dict) -> list[tuple[int, str]]:
    """Lines and rules of a table's rejected rows."""
    if not quarantine:
        return []
    content = world.content(files[quarantine["path"]])
    found = [(row["line"], row["rule"]) for row in map(json.loads, content.decode().splitlines())]
    assert len(found) == quarantine["rows"], f"{quarantine}: {found}"
    return sorted(found)


def _landed(world: World, entry: dict, table: Table, files: dict, where: str) -> Rows:
    """The rows of an entry's files."""
    same({column["name"]: column["type"] for column in entry["columns"]}, table.columns, f"{where}: types")
    same(tuple(entry["primary_key"]), table.key, f"{where}: key")
    rows: Rows = []
    for file in entry["files"]:
        assert file["path"] in files, f"{where}: {file['path']} is gone; there is {sorted(files)}"
        header, some = world.landed_rows(files[file["path"]], file["sha256"])
        same(header, list(table.columns), f"{where}: columns in order")
        rows += some
    return rows


def warehouse(world: World, model: Model) -> None:
    """Every loaded date has its rows and no other, the ledger says so, and views show their source's newest date."""
    for name, schema in model.schemas.items():
        same(world.ledger(name), schema.ledger(), f"{name}: the ledger")
        partitions, history, views = world.partitions(name), world.history(name), world.views(name)
        same(partitions.keys(), schema.partitions(), f"{name}: partitions")
        for (source, day), take in schema.loaded.items():
            for table, expected in placed(source, take).items():
                rows_of_date(history[table], expected, day, f"{name}_history.{table} of {source}, {day}")
        for view, expected in schema.views().items():
            assert view in views, f"{name}.{view} is gone"
            shows(views[view], expected, history[view], f"{name}.{view}")
        texts = [at for at in schema.numbers() if history[at[0]].columns[at[1]] == "text"]
        assert not texts, f"{name}_history: text, and its values were never anything but numbers: {texts}"
        left = world.warehouse.run("SELECT tablename FROM pg_tables WHERE schemaname IN (%s, %s) "
                                   "AND starts_with(tablename, '_staging_')", f"{name}_history", f"{name}_crm_history")
        assert model.killed or not left, f"{name}: staging tables are left: {left}"


def people(world: World, model: Model, built: dict[str, tuple[str, str, str, str]]) -> None:
    """What people built on views shows what the views show, and what they granted is granted."""
    for name, (schema, view, column, kind) in built.items():
        if not kind.endswith("materialized"):
            shown = model.schemas[schema].views().get(view)
            values = [row[list(shown.columns).index(column)] for row in shown.rows] if shown else []
            found = world.warehouse.run(f"SELECT rows, filled FROM people.{name}")
            same(found, [(len(values), sum(value is not None for value in values))],
                 f"people.{name}, on {column} of {schema}.{view}")
        relation = world.relation(schema, view)
        granted = world.warehouse.one("SELECT has_table_privilege('pg_monitor', %s, 'SELECT')", relation)
        assert granted, f"{relation} is no longer granted"


def rows_of_date(history: Table, expected: Table, day: str, where: str) -> None:
    """The rows of a date in a table of history, and NULL in the columns that it has not."""
    names = list(history.columns)
    place = {name: names.index(name) for name in names}
    mine = [history_name(column) for column in expected.columns]
    assert {*mine} <= {*names}, f"{where}: columns {mine}, and history has {names}"
    rows = [row for row in history.rows if row[place["extracted_at"]] == day]
    _same_rows([tuple(row[place[name]] for name in mine) for row in rows], expected, history, where)
    others = [name for name in names if name not in {*mine, "extracted_at"}]
    full = [(name, row[place[name]]) for row in rows for name in others if row[place[name]] is not None]
    assert not full, f"{where}: values in columns that the date has not: {full}"


def shows(view: Table, expected: Table | None, history: Table, where: str) -> None:
    """A view has the columns and rows of the source's newest date, in order; or none, where that lacks the table."""
    same(view.columns, {name: history.columns[history_name(name)] for name in view.columns}, f"{where}: types")
    if expected is None:
        same(view.rows, [], f"{where}: rows, since the newest date has no such table")
        return
    same(list(view.columns), list(expected.columns), f"{where}: columns")
    _same_rows(view.rows, expected, history, where)


def _same_rows(rows: Rows, expected: Table, history: Table, where: str) -> None:
    types = list(expected.columns.values())
    stored = [history.columns[history_name(name)] for name in expected.columns]
    same(found(rows, types, stored), comparable(expected.rows, types, stored), f"{where}: rows")


def proofs(world: World, model: Model) -> None:
    """Every date that is loaded as it is landed is proved by the product itself."""
    zone = LandingZone(world.zone.storage())
    with contextlib.closing(connect(world.warehouse.dsn(), "test")) as connection:
        for name, schema in model.schemas.items():
            proof = Reconciliation(zone, connection, name)
            for (source, day), take in schema.loaded.items():
                if model.landed.get((source, day)) == take and model.whole(source, take):
                    broken = [one for one in proof.tables(zone.require(source, date.fromisoformat(day)))
                              if not one.holds]
                    assert not broken, f"{name}, {source} of {day} is not proved: {broken}"


def same(found: object, expected: object, what: str) -> None:
    """Equal, or an AssertionError that says what differs."""
    if isinstance(expected, dict) and isinstance(found, dict):
        expected, found = list(expected.items()), list(found.items())
    elif not isinstance(expected, list | tuple | str | type(None)):
        expected, found = sorted(expected), sorted(found)
    if found != expected:
        hint = ""
        if isinstance(expected, list) and isinstance(found, list):
            hint = (f"\n  missing: {[one for one in expected if one not in found][:5]}"
                    f"\n  too much: {[one for one in found if one not in expected][:5]}")
        raise AssertionError(f"{what}:\n  expected {expected!r:.1500}\n  found    {found!r:.1500}{hint}")

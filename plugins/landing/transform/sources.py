"""dbt's declaration of what is landed: tables and columns of the newest manifest of each source."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from landing.core.commands import extract_command
from landing.core.dates import today
from landing.core.errors import NotLandedError
from landing.load.table_names import TableNames
from landing.model.manifest import Manifest
from landing.model.schema import Column, Table
from landing.zone.landing_zone import LandingZone

MARK = "# Written by `landing dbt-sources` from the manifests of the landing zone. To change it, run that again.\n"
DEFAULT = "landed"  # name of dbt's source of the tables in SCHEMA
# Dates are due every 24 hours.
FRESHNESS = {"warn_after": {"count": 26, "period": "hour"}, "error_after": {"count": 50, "period": "hour"}}
JINJA = re.compile(r"\{[{%#]")  # dbt reads it in descriptions


def newest_manifests(zone: LandingZone, sources: Iterable[str]) -> list[Manifest]:
    """The newest manifest of each source. Raises NotLandedError if one was never landed."""
    found = []
    for source in sources:
        days = [day for _, day in zone.landed(source)]
        if not days:
            raise NotLandedError(f"{source} was never landed in {zone.storage.describe()}. Land it first: "
                                 f"{extract_command(source, today())}")
        found.append(zone.require(source, max(days)))
    return found


def declaration(manifests: Iterable[Manifest], names: TableNames) -> str:
    """The text of sources.yml: a dbt source `landed` for SCHEMA, and one for each other schema, named like it."""
    tables: dict[str, list[dict[str, Any]]] = {}
    for manifest in manifests:
        for table in manifest.tables:
            schema, name = names.place(manifest.source, table.schema, table.name)
            tables.setdefault(DEFAULT if schema == names.default else schema, []).append(
                _table(manifest.source, table, name))
    sources = [_source(name, sorted(found, key=lambda one: one["name"])) for name, found in tables.items()]
    return MARK + yaml.safe_dump({"version": 2, "sources": sources}, sort_keys=False, allow_unicode=True, width=120)


def _source(name: str, tables: list[Mapping[str, Any]]) -> dict[str, Any]:
    schema = "{{ env_var('SCHEMA', '') or 'public' }}" if name == DEFAULT else _literal(name)
    return {"name": name, "schema": schema, "config": {
        "freshness": FRESHNESS, "loaded_at_query": "{{ landed_at(this) }}"}, "tables": tables}


def _table(source: str, table: Table, name: str) -> dict[str, Any]:
    found = {"name": name, "description": _literal(table.comment or ""),
             "config": {"meta": {"source": source, "primary_key": table.primary_key}},
             "columns": [_column(column) for column in table.columns]}
    return {key: value for key, value in found.items() if value}


def _column(column: Column) -> dict[str, str]:
    protected = f"Protected ({column.protection.method})." if column.protection else ""
    about = " ".join(filter(None, [column.comment, protected]))
    return {"name": column.name, "data_type": column.type} | ({"description": _literal(about)} if about else {})


def _literal(text: str) -> str:
    """A text that dbt takes as it is, and not as Jinja."""
    return JINJA.sub(lambda found: f"{{{{ '{found[0]}' }}}}", text)

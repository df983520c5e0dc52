"""Write the parts of the documentation that come from elsewhere: settings, commands and the diagram of the packages
from the code, figures from the results of the benchmark.

    plugins/.venv/bin/python docs/generate.py

tests/test_docs.py compares the committed files with what the code gives now.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from html import escape
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import grimp
from landing.cli.main import main as landing_command
from landing.export.mapping import AS_TEXT, mapped

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
sys.path.insert(0, str(ROOT / "bench"))

import pages  # noqa: E402

NOTE = "<!-- Written by docs/generate.py. To change it, change the code and run `make docs`. -->"
PLUGINS = {
    "tap-postgres": "Extracts a PostgreSQL database.",
    "tap-csv": "Extracts CSV files. With `from_landing`, reads a landed date instead (`tap-landing` in `meltano.yml`).",
    "target-csv": "Writes the landing zone.",
    "target-postgres": "Loads the warehouse.",
}
# Settings that the Singer SDK gives every plugin.
OF_THE_SDK = ("stream_map", "faker_config", "flattening", "batch_config", "use_singer_decimal", "add_record_metadata",
              "load_method", "batch_size_rows", "validate_records", "process_activate_version_messages")


def settings() -> str:
    """All settings of the four plugins, from their own schemas."""
    lines = [NOTE, "# Settings", "",
             "Set a setting in `meltano.yml` under the plugin's `config`, or in `.env` as `<PLUGIN>_<SETTING>`, such "
             "as `TAP_POSTGRES_CONNECTIONS=4`. Settings of the MeltanoLabs variants keep their names. Environment "
             "variables that decide a run are in [Variables](variables.md).", ""]
    for plugin, purpose in PLUGINS.items():
        found = _schema(f"landing-{plugin}")
        stock = _schema(plugin).keys() if plugin.endswith("postgres") else ()
        sdk = [name for name in found if name.startswith(OF_THE_SDK)]
        own, known = ({name: found[name] for name in found if (name in stock) == is_stock and name not in sdk}
                      for is_stock in (False, True))
        lines += [f"## {plugin}", "", purpose, "", *_table(own), ""]
        lines += [f"As in MeltanoLabs' `{plugin}`:", "", *_table(known), ""] if known else []
        lines += [f"From the Singer SDK: {', '.join(f'`{name}`' for name in sdk)}.", ""]
    return "\n".join(lines)


def _schema(program: str) -> dict[str, Any]:
    """A plugin's settings; its own description of itself."""
    about = subprocess.run([Path(sys.executable).with_name(program), "--about", "--format=json"],
                           capture_output=True, check=True)
    return json.loads(about.stdout)["settings"]["properties"]


def _table(properties: Mapping[str, Any]) -> Iterator[str]:
    yield from ("| setting | type | default | |", "|---|---|---|---|")
    yield from _rows(properties, "")


def _rows(properties: Mapping[str, Any], above: str) -> Iterator[str]:
    for name, schema in properties.items():
        kind = " or ".join(one for one in _listed(schema.get("type", "any")) if one != "null")
        default = schema.get("default")
        shown = "" if default is None or default == [] else f"`{json.dumps(default)}`" if default != "" else '`""`'
        about = " ".join(str(schema.get("description") or "").split())
        if values := schema.get("enum"):
            about += f" One of {', '.join(f'`{value}`' for value in values if value is not None)}."
        about = re.sub(r"(?<!\\)\|", r"\\|", about.replace("<", "&lt;") if "`" not in about else about)
        yield f"| `{above}{name}` | {kind} | {shown} | {about} |"
        yield from _rows(schema.get("properties") or {}, f"{above}{name}.")
        yield from _rows((schema.get("items") or {}).get("properties") or {}, f"{above}{name}[].")


def _listed(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


def commands() -> str:
    """`make` targets from the Makefile, and the help of `landing`."""
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^([a-z-]+):.*?## (.*)$", makefile, re.M)
    lines = [NOTE, "# Commands", "", "## make", "", "| command | |", "|---|---|",
             *(f"| `make {name}` | {_capital(purpose)} |" for name, purpose in targets), "",
             "## meltano run", "", "| command | |", "|---|---|",
             "| `meltano run extract_<source>` | Extract one source into the landing zone. |",
             "| `meltano run load_to_postgres` | Load one date of all sources into the warehouse. |",
             "| `meltano run transform` | Build and test the models of a loaded date with dbt. |", "",
             "[Variables](variables.md) say which date, source and schema.", "",
             "## landing", "", "Run it as `meltano invoke landing …`. Exit status 0: success; 1: something failed or "
             "differs, and the last line says what; 2: wrong usage.", "", *_help("landing", landing_command)]
    for name in landing_command.list_commands(click.Context(landing_command)):
        lines += [f"## landing {name}", "", *_help(f"landing {name}", landing_command.commands[name])]
    return "\n".join(lines)


def _capital(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def _help(name: str, command: click.Command) -> list[str]:
    context = click.Context(command, info_name=name, terminal_width=100, max_content_width=100)
    return ["```text", command.get_help(context), "```", ""]


def parquet() -> str:
    """How each type is exported, from the mapping itself."""
    lines = [NOTE, "# Types in Parquet", "",
             "What becomes of a column's type when a date is [exported](../how-to/export.md). A column with a value "
             "that its type does not hold, as the last column says, is text in that export. Texts are the landed ones: "
             "`character(n)` with its blanks, numbers with all their digits.", "",
             "| PostgreSQL | Parquet | text, since | text, if |", "|---|---|---|---|"]
    kept = ["smallint", "integer", "bigint", "real", "double precision", "boolean", "numeric(p,s)", "date",
            "timestamp without time zone", "timestamp with time zone", "bytea", "text", "character varying",
            "character", *AS_TEXT]
    for name in kept:
        typed = mapped(name.replace("(p,s)", "(38,9)"))
        lines.append(f"| `{name}` | {typed.parquet.replace('38,9', 'p,s')} | {typed.as_text or ''} | {typed.fails} |")
    decimal = mapped("numeric(39,0)")
    lines += [f"| `numeric(p,s)` of more than 38 digits | {decimal.parquet} | {decimal.as_text} | |",
              f"| arrays of these | LIST of the type of its elements | | {mapped('integer[]').fails} |",
              f"| all others | {mapped('inet').parquet} | {mapped('inet').as_text} | |", "",
              "Timestamps have microseconds. One with time zone is a moment in UTC; one without is local "
              "(`isAdjustedToUTC` is false). A scale that is negative or larger than the precision widens the DECIMAL: "
              "`numeric(3,-5)` is DECIMAL(8,0).", "",
              "Values of CSV files with declared types, and of other vendors' taps, are typed only where their text is "
              "in PostgreSQL's own form, and their arrays are text. With `lossy: true`, columns other than integers, "
              "booleans and bytea are text: the landed text may say more than the type.", ""]
    return "\n".join(lines)


ROW, LEFT, WIDE, BOX, GAP, HIGH = 58, 16, 1060, 120, 24, 34
STYLE = """<style>
text{font:14px system-ui,sans-serif;fill:#1f2328} .name{font-weight:600;text-anchor:middle} .of{fill:#59636e}
rect{fill:#f6f8fa;stroke:#0b6e4f;stroke-width:1.5} path{stroke:#59636e;fill:none} marker path{fill:#59636e}
@media (prefers-color-scheme:dark){text{fill:#f0f6fc} .of{fill:#9198a1} rect{fill:#151b23;stroke:#3fb68b}
path{stroke:#9198a1} marker path{fill:#9198a1}}
</style>"""


def packages() -> str:
    """The packages of `landing` as SVG: each may import those below it. Arrows that follow from others are left out."""
    graph = grimp.build_graph("landing")
    names = sorted(graph.find_children("landing"))
    needs = {name: {other for other in names if other != name and graph.direct_import_exists(
        importer=name, imported=other, as_packages=True)} for name in names}
    ranks: dict[str, int] = {}
    for name in names:
        _rank(name, needs, ranks)
    rows = [[name for name in names if ranks[name] == rank] for rank in range(max(ranks.values()), -1, -1)]
    place = {name: (LEFT + column * (BOX + GAP), 10 + row * ROW) for row, line in enumerate(rows)
             for column, name in enumerate(line)}
    text = LEFT + max(map(len, rows)) * (BOX + GAP) + 10
    drawn = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDE} {len(rows) * ROW}" role="img" '
             'aria-label="Packages of landing and the direction of their imports">', STYLE,
             '<marker id="arrow" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
             '<path d="M0 0 8 4 0 8z"/></marker>']
    for name in names:
        x, y = place[name]
        drawn += [f'<rect x="{x}" y="{y}" width="{BOX}" height="{HIGH}" rx="5"/>',
                  f'<text class="name" x="{x + BOX // 2}" y="{y + 22}">{name.removeprefix("landing.")}</text>']
        drawn += [f'<path d="M{x + BOX // 2} {y + HIGH}L{place[other][0] + BOX // 2} {place[other][1] - 1}" '
                  'marker-end="url(#arrow)"/>' for other in sorted(needs[name] - _implied(name, needs))]
    for row, line in enumerate(rows):
        lines = [f"{name.removeprefix('landing.')}: {_purpose(name)}" if len(line) > 1 else _purpose(name)
                 for name in line]
        top = 32 + row * ROW - 9 * (len(lines) - 1)
        drawn += [f'<text class="of" x="{text}" y="{top + 18 * number}">{escape(one)}</text>'
                  for number, one in enumerate(lines)]
    return "\n".join([*drawn, "</svg>", ""])


def _rank(name: str, needs: Mapping[str, set[str]], ranks: dict[str, int]) -> int:
    """0 for a package that imports no other, else one more than the highest that it imports."""
    if name not in ranks:
        ranks[name] = 1 + max((_rank(other, needs, ranks) for other in needs[name]), default=-1)
    return ranks[name]


def _implied(name: str, needs: Mapping[str, set[str]]) -> set[str]:
    """What the packages that this one imports import in turn."""
    return {two for one in needs[name] for two in needs[one] | _implied(one, needs)}


def _purpose(name: str) -> str:
    return (import_module(name).__doc__ or "").strip().splitlines()[0]


def quoting(name: str) -> Callable[[], str]:
    """A page that a person writes, with the figures of the benchmark's results filled in."""
    return lambda: pages.filled((DOCS / name).read_text("utf-8"))


QUOTING = ("performance.md", "scale.md", "../README.md", "../mkdocs.yml")
FILES = {"reference/settings.md": settings, "reference/commands.md": commands, "reference/parquet.md": parquet,
         "pictures/packages.svg": packages, **{name: quoting(name) for name in QUOTING}}


def main() -> None:
    """Write the files that differ."""
    for name, made in FILES.items():
        path, content = DOCS / name, made()
        if not path.exists() or path.read_text("utf-8") != content:
            path.parent.mkdir(exist_ok=True)
            path.write_text(content, "utf-8")
            print(f"wrote docs/{name}")


if __name__ == "__main__":
    main()

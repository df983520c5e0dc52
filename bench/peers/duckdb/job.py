"""DuckDB with its postgres extension: `job.py extract|load TABLE FILE [SQL]`; libpq's variables name the database.

`job.py csv - FILE INPUT COLUMNS CONDITION` reads a CSV file instead, with typed columns as JSON.
"""

import json
import sys
from pathlib import Path

import duckdb
import duckdb_extension_postgres_scanner

phase, table, file, *key = sys.argv[1:]
if phase == "csv":
    source, columns, condition = key
    duckdb.execute(f"COPY (FROM read_csv('{source}', columns={json.loads(columns)}, ignore_errors=true) "
                   f"WHERE {condition}) TO '{file}' (FORMAT csv, HEADER)")
    sys.exit()
[extension] = Path(duckdb_extension_postgres_scanner.__file__).parent.rglob("*.duckdb_extension")
options = "FORMAT parquet, COMPRESSION zstd" if file.endswith(".parquet") else "FORMAT csv, HEADER"
duck = duckdb.connect()
duck.execute("SET preserve_insertion_order = false")
duck.execute(f"LOAD '{extension}'")
duck.execute("ATTACH '' AS pg (TYPE postgres)")
if phase == "extract":
    duck.execute(f"COPY pg.public.{table} TO '{file}' ({options})")
else:
    duck.execute(f"COPY pg.public.{table} FROM '{file}' ({options.split(', COMPRESSION')[0]})")
for statement in key:
    duck.execute("CALL postgres_execute('pg', ?)", [statement])

"""dlt: `job.py extract|load TABLE FOLDER`; DATABASE_URL is the database.

Of its ways of reading, connectorx is the fastest; of writing, Parquet that its ADBC driver copies.
"""

import os
import sys

import dlt
import fsspec
import pyarrow.parquet
from dlt.sources.sql_database import sql_table

phase, table, folder = sys.argv[1:]
url = os.environ["DATABASE_URL"]


@dlt.resource(name=table, write_disposition="replace")
def landed():
    """The Parquet files of `extract`, as Arrow tables; ADBC stumbles over one without rows."""
    files = fsspec.filesystem(folder.partition("://")[0] if "://" in folder else "file")
    for path in sorted(files.glob(f"{folder}/**/{table}/*.parquet")):
        rows = pyarrow.parquet.read_table(path, filesystem=files)
        if rows.num_rows:
            yield rows


if phase == "extract":
    driver = url.replace(":", "+psycopg2:", 1)  # SQLAlchemy's own choice would be another
    source = sql_table(driver, table=table, schema="public", backend="connectorx", write_disposition="replace")
    destination = dlt.destinations.filesystem(folder if "://" in folder else f"file://{folder}")
else:
    source, destination = landed, dlt.destinations.postgres(url)
pipeline = dlt.pipeline(phase, destination=destination, dataset_name="bench")
pipeline.run(source, loader_file_format="parquet").raise_on_failed_jobs()

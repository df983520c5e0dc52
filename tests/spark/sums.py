"""Sums of each column of Parquet files as Spark reads them: JSON on stdout.

    sums.py TABLE.json    {"table": [files], …}
"""

import json
import sys
from pathlib import Path

from pyspark.sql import SparkSession
from pyspark.sql import functions as f
from pyspark.sql import types as t


def sums(frame):
    """By column: type, number of values, and a sum that is exact but for floats."""
    made = []
    for field in frame.schema:
        column, kind = f.col("`" + field.name.replace("`", "``") + "`"), field.dataType
        made += [f.count(column), _sum(column, kind).cast("string")]
    row = frame.agg(*[one.alias(str(number)) for number, one in enumerate(made)]).first()
    return {field.name: [field.dataType.simpleString(), row[2 * number], row[2 * number + 1]]
            for number, field in enumerate(frame.schema)}


def _sum(column, kind):
    if isinstance(kind, (t.ByteType, t.ShortType, t.IntegerType, t.LongType)):
        return f.sum(column.cast("decimal(38,0)"))
    if isinstance(kind, t.DecimalType):
        return f.sum(column.cast(f"decimal(38,{kind.scale})"))
    if isinstance(kind, (t.FloatType, t.DoubleType)):
        return f.sum(column.cast("double"))
    if isinstance(kind, t.BooleanType):
        return f.sum(column.cast("int"))
    if isinstance(kind, t.DateType):
        return f.sum(f.unix_date(column))
    if isinstance(kind, (t.TimestampType, t.TimestampNTZType)):
        return f.sum(f.unix_micros(column.cast("timestamp")).cast("decimal(38,0)"))
    if isinstance(kind, t.StringType):
        return f.sum(f.octet_length(column))
    if isinstance(kind, t.BinaryType):
        return f.sum(f.octet_length(column))
    return f.sum(f.size(column))


def main():
    spark = (SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
             .config("spark.sql.session.timeZone", "UTC").config("spark.driver.bindAddress", "127.0.0.1")
             .config("spark.driver.host", "127.0.0.1").getOrCreate())
    tables = json.loads(Path(sys.argv[1]).read_text())
    print(json.dumps({name: sums(spark.read.parquet(*files)) for name, files in tables.items()}))
    spark.stop()


main()

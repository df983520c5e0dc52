"""A CSV file of a million sales, of which a thousand break one of eight rules: landed, and read by DuckDB."""

from __future__ import annotations

import contextlib
import json
from typing import Any, ClassVar

from contestant import EXTRACT, Contestant
from data import EMPTY, SALES, Data
from measure import Cost
from others import DuckDB
from ours import DAY, Landing

TYPES = {"transaction_id": "text", "customer_id": "text", "product_id": "text", "store_id": "text",
         "quantity": "integer", "unit_price": "numeric(10,2)", "discount": "numeric(4,2)",
         "total_amount": "numeric(12,4)", "payment_method": "text", "timestamp": "timestamp"}
TOTAL = "quantity * unit_price * (1 - coalesce(discount, 0))"
RULES: dict[str, dict[str, Any]] = {
    "transaction_id": {"required": True, "unique": True, "pattern": "TX-[0-9a-f]+"},
    "customer_id": {"required": True, "pattern": "CUST-[0-9]{3}"},
    "store_id": {"minLength": 3, "maxLength": 5},
    "quantity": {"required": True, "exclusiveMinimum": 0, "maximum": 100},
    "unit_price": {"required": True, "minimum": 0, "exclusiveMaximum": 1000},
    "discount": {"minimum": 0, "maximum": 0.15},
    "payment_method": {"normalize": ["trim", "lower"], "enum": ["card", "cash"]},
    "timestamp": {"minimum": "2024-01-01"},
}
# The same rules in DuckDB's SQL, over typed columns; a value that its type does not hold is left out by the reader.
ACCEPTED = f"""
regexp_full_match(transaction_id, 'TX-[0-9a-f]+') AND regexp_full_match(customer_id, 'CUST-[0-9]{{3}}')
AND length(store_id) BETWEEN 3 AND 5 AND quantity > 0 AND quantity <= 100 AND unit_price >= 0 AND unit_price < 1000
AND (discount IS NULL OR discount BETWEEN 0 AND 0.15) AND lower(trim(payment_method)) IN ('card', 'cash')
AND timestamp >= TIMESTAMP '2024-01-01' AND coalesce(total_amount, {TOTAL}) = {TOTAL}
QUALIFY row_number() OVER (PARTITION BY transaction_id) = 1
"""


class CsvFile(Contestant):
    """Mixed into a contestant: it reads a file that was written before."""

    phases = (EXTRACT,)

    @classmethod
    def takes(cls, data: Data, phase: str) -> bool:
        return (data is EMPTY or data.shape is SALES) and phase in cls.phases

    def before_extract(self, data: Data) -> None:
        """Without rows the file is a header."""
        super().before_extract(data)
        self.file = self.folder / f"{data.name}-input.csv"
        if data is EMPTY:
            self.file.write_text(",".join(TYPES) + "\n")
        elif not self.file.exists():
            with contextlib.closing(self.databases.server.connect(data.name)) as connection, (
                    connection.cursor()) as cursor, self.file.open("w") as file:
                cursor.copy_expert(f"COPY {data.shape.table} TO STDOUT (FORMAT csv, HEADER)", file)


class LandingCsv(CsvFile, Landing):
    name = "landing, CSV file"
    settings = "`meltano run tap-csv target-csv`; types declared, `transaction_id` the key, bad rows quarantined"
    twice = False
    rate = 200_000
    entry: ClassVar[dict[str, Any]] = {"types": TYPES, "keys": ["transaction_id"]}

    def _extract(self, data: Data, key: bool) -> Cost:
        files = [{"entity": "sales", "path": str(self.file), "on_bad_rows": "quarantine",
                  "max_bad_rows": 2000 + data.rows // 500, **self.entry}]
        return self._meltano(data, key, "run", "tap-csv", "target-csv", MELTANO_ENVIRONMENT="extract", DATESTAMP=DAY,
                             TAP_CSV_FILES=json.dumps(files))


class LandingContract(LandingCsv):
    name = "landing, CSV file with a contract"
    settings = "the same with 19 rules, one check of whole rows, a derived column, a normalized one, and no key"
    rate = 100_000
    entry: ClassVar = {"types": TYPES, "columns": RULES, "derive": {"total_amount": TOTAL},
                       "checks": {"total_matches": f"total_amount = {TOTAL}"}}


class DuckDBCsvFile(CsvFile, DuckDB):
    name = "DuckDB, CSV file"
    settings = "`COPY (FROM read_csv(…)) TO` CSV with the same types, 2 threads; rows that these do not hold left out"
    rate = 1_500_000
    suffix = "csv"
    where = "true"

    def extract(self, data: Data) -> Cost:
        types = {"text": "VARCHAR", "numeric": "DECIMAL"}
        columns = {name: types.get(type_.split("(")[0], type_.split("(")[0].upper()) + type_[len(type_.split("(")[0]):]
                   for name, type_ in TYPES.items()}
        return self.run(self.python("csv", "-", self.out(data, key=True), self.file, json.dumps(columns), self.where),
                        database=data.name)


class DuckDBContract(DuckDBCsvFile):
    name = "DuckDB, CSV file with the rules"
    settings = "the same with the contract's rules as a WHERE; rows that break one are left out, without a reason"
    where = ACCEPTED

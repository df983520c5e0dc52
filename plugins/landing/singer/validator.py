"""Singer messages as a target reads them: a line each, refused where it can't be taken as it was meant.

Python's JSON forgives what loses data: of two equal keys it takes the last, NaN is a number to it, and half a surrogate
a character. Here a line is UTF-8, holds one message with all that belongs to its type, and keeps every digit.
"""

from __future__ import annotations

from decimal import Context, localcontext
from typing import Any

from jsonschema import Draft4Validator, Draft202012Validator
from singer_sdk.sinks.core import BaseJSONSchemaValidator

from landing.model.csv_dialect import json_text
from landing.singer.reader import DIGITS_AFTER, DIGITS_BEFORE, BadLineError

EXACT = Context(prec=DIGITS_BEFORE + DIGITS_AFTER)
DRAFTS = Draft202012Validator, Draft4Validator


class Validator(BaseJSONSchemaValidator):
    """Holds what came against its schema; what it says names no values, which may be secret or long."""

    def __init__(self, schema: dict[str, Any]) -> None:
        """For a schema of today's JSON Schema or, as Singer's older taps have it, of draft 4; else BadLineError."""
        super().__init__(schema)
        draft = next((kind for kind in DRAFTS if kind(kind.META_SCHEMA).is_valid(schema)), None)
        if draft is None:
            problem = next(DRAFTS[0](DRAFTS[0].META_SCHEMA).iter_errors(schema))
            raise BadLineError(f"a SCHEMA is no JSON Schema: {problem.message[:200]}")
        self.validator = draft(schema)

    def validate(self, record: dict[str, Any]) -> None:
        """BadLineError where it is not as the schema says."""
        with localcontext(EXACT):  # `multipleOf` divides
            error = next(self.validator.iter_errors(record), None)
        if error is not None:
            where = "/".join(map(str, error.absolute_path)) or "it"
            expected = json_text(error.validator_value)[:200]
            raise BadLineError(f"{where} is {_kind(error.instance)}; expected {error.validator}: {expected}")


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")

"""Validates records against their SCHEMA."""

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
    """A JSON Schema validator whose messages have no values, which may be secret or long."""

    def __init__(self, schema: dict[str, Any]) -> None:
        """Raises BadLineError unless `schema` is one of JSON Schema 2020-12 or, as older taps send, of draft 4."""
        super().__init__(schema)
        draft = next((kind for kind in DRAFTS if kind(kind.META_SCHEMA).is_valid(schema)), None)
        if draft is None:
            problem = next(DRAFTS[0](DRAFTS[0].META_SCHEMA).iter_errors(schema))
            raise BadLineError(f"a SCHEMA is not valid JSON Schema: {problem.message[:200]}")
        self.validator = draft(schema)

    def validate(self, record: dict[str, Any]) -> None:
        """Raise BadLineError if a record does not match the schema."""
        with localcontext(EXACT):  # `multipleOf` divides
            error = next(self.validator.iter_errors(record), None)
        if error is not None:
            where = "/".join(map(str, error.absolute_path)) or "it"
            expected = json_text(error.validator_value)[:200]
            raise BadLineError(f"{where} is {_kind(error.instance)}; expected {error.validator}: {expected}")


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")

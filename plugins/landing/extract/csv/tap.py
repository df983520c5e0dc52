"""CSV files -> Singer."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from singer_sdk import typing as th

from landing.core.dates import run_date
from landing.core.errors import BadFileError, SettingError, SourceError
from landing.core.sources import source_name, stock_source
from landing.core.variables import objects
from landing.extract.csv.declaration import Declaration, declarations
from landing.extract.csv.inputs import InputFile, SourceInputs, refuse_conflicts
from landing.extract.csv.stream import CsvStream
from landing.extract.tap import ExtractTap
from landing.protection import rules
from landing.protection.columns import TableProtection, table_protections
from landing.singer.scratch import scratch_prefix
from landing.singer.settings import (
    COMPRESSION,
    DISK_HEADROOM,
    EXTRACTED_AT,
    FROM_LANDING,
    LANDING_ROOT,
    SOURCE,
    SOURCES,
    USE_BATCH,
)
from landing.singer.stream import LandingStream
from landing.storage.base import Prefix

BAD_ROWS = ["fail", "quarantine"]
DUPLICATES = ["fail", "keep_first", "keep_last", "quarantine"]
VALUE_OPTIONS = [
    th.Property("null_values", th.CustomType({"type": ["array", "object", "string"]}),
                description="Texts that mean NULL: a list for all columns, or lists by column."),
    th.Property("true_values", th.CustomType({"type": ["array", "object", "string"]}),
                description="Texts that mean true in boolean columns: likewise."),
    th.Property("false_values", th.CustomType({"type": ["array", "object", "string"]}),
                description="Texts that mean false: likewise."),
    th.Property("decimal_comma", th.CustomType({"type": ["boolean", "array", "object"]}),
                description="Numbers as `1.234,50`: `true` for all columns, or a list of columns."),
    th.Property("date_format", th.CustomType({"type": ["string", "object"]}),
                description="Format of dates and times such as `%d.%m.%Y`: for all columns, or by column."),
    th.Property("normalize", th.CustomType({"type": ["array", "object", "string"]}),
                description="How texts are changed before all else: `[trim, lower]` or `upper`, for all columns, or by "
                "column."),
]
BOUND = th.CustomType({"type": ["number", "string"]})
RULES = [
    th.Property("required", th.BooleanType, description="Whether each row has a value."),
    th.Property("unique", th.BooleanType, description="Whether no two rows have the same value."),
    th.Property("minimum", BOUND, description="Compared by the column's type, as are the next three."),
    th.Property("maximum", BOUND),
    th.Property("exclusiveMinimum", BOUND),
    th.Property("exclusiveMaximum", BOUND),
    th.Property("enum", th.ArrayType(BOUND), description="The values that are accepted."),
    th.Property("pattern", th.StringType, description="Regular expression (RE2) of the whole value."),
    th.Property("minLength", th.IntegerType(minimum=0), description="Characters."),
    th.Property("maxLength", th.IntegerType(minimum=0), description="Characters."),
]


class TapCSV(ExtractTap):
    """Singer tap for CSV files."""

    name = "tap-csv"
    package_name = "landing"
    dynamic_catalog = True  # discovery validates the settings
    config_jsonschema = th.PropertiesList(
        th.Property(
            "files",
            th.ArrayType(
                th.ObjectType(
                    th.Property("entity", th.StringType, required=True, description="Name of the table."),
                    th.Property("path", th.StringType, required=True,
                                description="A file, a folder or a pattern, also as `s3://BUCKET/…`, `gs://BUCKET/…` "
                                "or `az://CONTAINER/…`. `{date}` and `{date:%Y%m%d}` (any format) "
                                "stand for the run's date, `{{` and `}}` for braces."),
                    th.Property("keys", th.ArrayType(th.StringType), description="Columns of the primary key."),
                    th.Property("delimiter", th.StringType, description="Default: the most frequent in the header."),
                    th.Property("encoding", th.StringType, description="Default: by byte order mark, else UTF-8."),
                    th.Property("quote", th.StringType, description='Default: `"`.'),
                    th.Property("escape", th.StringType, description="Escapes a quote. Default: the quote itself."),
                    th.Property("types", th.ObjectType(additional_properties=th.StringType),
                                description="SQL types by column. Default: inferred without loss."),
                    *VALUE_OPTIONS,
                    th.Property("columns", th.ObjectType(additional_properties=th.ObjectType(
                        th.Property("type", th.StringType), *VALUE_OPTIONS, *RULES, additional_properties=False)),
                        description="By column: its `type`, the options above for it alone, and its rules: `required`, "
                        "`unique`, `minimum`, `maximum`, `exclusiveMinimum`, `exclusiveMaximum`, `enum`, `pattern`, "
                        "`minLength`, `maxLength`."),
                    th.Property("derive", th.ObjectType(additional_properties=th.StringType),
                                description="SQL by column, over the others of its row: it fills the column where that "
                                "is empty, or makes a new one."),
                    th.Property("checks", th.ObjectType(additional_properties=th.StringType),
                                description="Conditions that each row keeps, by name: SQL over its columns."),
                    th.Property("lossy", th.BooleanType,
                                description="Accept values that their declared type does not hold exactly."),
                    th.Property("rename", th.ObjectType(additional_properties=th.StringType),
                                description="New column names, by name in the header."),
                    th.Property("long_headers", th.StringType, allowed_values=["fail", "shorten"],
                                description="For column names over 63 bytes. Default: `fail`."),
                    th.Property("metadata", th.BooleanType,
                                description="Add the columns `_source_file`, `_source_row` and `_row_hash`."),
                    th.Property("load", th.StringType, allowed_values=["replace", "append"],
                                description="Whether the files have the whole table (`replace`, the default), or rows "
                                "to add to what the newest earlier date has (`append`)."),
                    th.Property("on_duplicate_key", th.StringType, allowed_values=DUPLICATES,
                                description="For this entity."),
                    th.Property("on_bad_rows", th.StringType, allowed_values=BAD_ROWS, description="For this entity."),
                    th.Property("max_bad_rows", th.IntegerType(minimum=0), description="For this entity."),
                    th.Property("protect", th.ObjectType(additional_properties=True),
                                description="Methods by column, names or patterns; as below, for this entity."),
                    th.Property("after_landing", th.ObjectType(
                        th.Property("done", th.StringType,
                                    description="Folder or URL to move files to after the commit; `{date}` as above."),
                        th.Property("failed", th.StringType,
                                    description="Folder or URL to move a refused file to, with its reasons."),
                        additional_properties=False),
                        description="What becomes of the files. Default: they stay."),
                    additional_properties=False,
                )
            ),
            default=[],
            description="The CSV files of this source.",
        ),
        th.Property("on_duplicate_key", th.StringType, allowed_values=DUPLICATES, default="fail",
                    description="For a row with the key of an earlier row: `fail`, drop and count it (`keep_first`), "
                    "drop the earlier one (`keep_last`), or `quarantine` it."),
        th.Property("on_bad_rows", th.StringType, allowed_values=BAD_ROWS, default="fail",
                    description="For a row that cannot be landed: `fail`, or write it to a file beside the table "
                    "(`quarantine`)."),
        th.Property("max_bad_rows", th.IntegerType(minimum=0), default=1000,
                    description="More rejected lines than this in one entity fail the run."),
        th.Property("protect", th.ObjectType(additional_properties=True),
                    description="Protected columns, by entity and column, each a name or a pattern: `{\"*\": "
                    "{\"*email*\": encrypt, customer_id: token}}`. Methods: `token`, `encrypt`, `mask`, `drop`; "
                    "`plain` is an exception from a pattern."),
        FROM_LANDING,
        EXTRACTED_AT,
        SOURCES,
        SOURCE,
        LANDING_ROOT,
        USE_BATCH,
        COMPRESSION,
        DISK_HEADROOM,
    ).to_dict()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.date = run_date("DATESTAMP")  # an invalid date is rejected before anything is read
        super().__init__(*args, **kwargs)

    @property
    def source(self) -> str:
        """The source's name."""
        return source_name(self.config.get("source"), stock_source("csv"))

    @cached_property
    def scratch(self) -> Prefix:
        """Temporary storage of this process, for files whose rows are sent as RECORDs."""
        return scratch_prefix()

    def discover_streams(self) -> Sequence[LandingStream]:
        """One stream per declared entity."""
        defaults = {name: self.config[name] for name in ("on_duplicate_key", "on_bad_rows", "max_bad_rows")}
        declared = declarations(self.config["files"], self.date, **defaults)
        inputs = SourceInputs(self.landing_zone, self.source, declared, past=self.date < self.started_at.date())
        if self._runs:
            inputs.complete_moves()
        found = [(declaration, self._files(inputs, declaration)) for declaration in declared]
        refuse_conflicts({declaration.entity: files for declaration, files in found if files})
        return [*filter(None, (self._stream(declaration, files) for declaration, files in found if files))]

    @property
    def _runs(self) -> bool:
        """Whether this process lands rows: a discovery, which comes before it, moves nothing."""
        return "--discover" not in sys.argv

    @property
    def acts(self) -> bool:
        """Whether a refused file is moved."""
        return self._runs and not self.frozen

    @cached_property
    def protections(self) -> dict[str, TableProtection]:
        """How columns are protected, by entity, where some are. Raises SettingError if they cannot be."""
        config = objects(self.name, self.config, {"protect": {"*": {"*email*": "encrypt"}}})
        given = rules.rules(config.get("protect") or {})
        for stream in self.streams.values():
            given += rules.rules({stream.name: stream.declaration.protect})
        return table_protections(given, {name: one.names_by_column for name, one in self.streams.items()},
                                 {name: one.primary_keys for name, one in self.streams.items()})

    def _files(self, inputs: SourceInputs, declaration: Declaration) -> list[InputFile] | None:
        """The files of an entity; None for a frozen date whose files are gone."""
        try:
            return inputs.of(declaration)
        except SourceError:
            if not self.frozen:
                raise
            return None

    def _stream(self, declaration: Declaration, files: Sequence[InputFile]) -> CsvStream | None:
        """The stream of an entity; None for a frozen date whose files have other columns today.

        None also for a file that the run itself, which follows a discovery, is to refuse and move.
        """
        try:
            return CsvStream(self, declaration, files)
        except (SourceError, SettingError) as error:
            if isinstance(error, BadFileError) and declaration.after.failed and not self._runs:
                self.logger.warning("%s", error)
            elif not self.frozen:
                raise
            return None

    def sync_all(self) -> None:
        """Sync all streams, unless the landed date is frozen."""
        self.log_slips()
        if not self.keep_if_frozen():
            self.refuse_unmatched()
            self.require_whole_catalog("tap-csv declares")
            self.protections  # noqa: B018 (checked before a file is read)
            if self.config["use_batch"]:
                self.require_room(sum(stream.size for stream in self.streams.values() if stream.selected))
        super().sync_all()

    def closing(self) -> dict[str, Any]:
        """The completion message: the entities that were sent, and those that were not."""
        sent = {} if self.kept else {name: one.inputs for name, one in self.streams.items() if one.sent and one.inputs}
        return {"inputs": sent, **self.landed_closing({one.name: one.names for one in self.streams.values()})}

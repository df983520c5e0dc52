"""The base of all taps: it ends with a completion message."""

from __future__ import annotations

import json
import logging
import sys
from datetime import date
from typing import Any

from singer_sdk import Tap
from singer_sdk.singerlib.encoding import SimpleSingerWriter

from landing.core.dates import now
from landing.core.errors import CatalogError, storage_error
from landing.model.naming import new_run_id
from landing.singer import meltano_files
from landing.singer.completion import Completion
from landing.singer.signals import SignalHandling


class LandingTap(SignalHandling, Tap):
    """A tap that ends with a completion message."""

    message_writer_class = SimpleSingerWriter  # where msgspec is installed, tap-postgres has a writer of its own
    date: date  # to land or to load
    needs_catalog = True  # to know which streams are selected
    kept = False  # the landed date is frozen, so nothing is sent

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.run_id, self.started_at = new_run_id(), now()
        super().__init__(*args, **kwargs)
        self.point.done = self.point.unknown = "The target's own lines tell whether it committed what was sent."
        self.metrics_logger.setLevel(logging.WARNING)  # the target's last line sums up

    @property
    def catalog_json_text(self) -> str:
        """What `--discover` prints."""
        return json.dumps(meltano_files.with_run_id(self.catalog_dict, sys.argv), indent=2)

    @property
    def retry_command(self) -> str:
        """The command that repeats this run."""
        raise NotImplementedError

    def require_whole_catalog(self, having: str) -> None:
        """Raise CatalogError if the given catalog lacks a stream. (To leave out a stream, deselect it.)"""
        given = self.input_catalog
        if given is not None and (missing := sorted(self.streams.keys() - given.keys())):
            raise CatalogError(
                f"The catalog lacks {', '.join(missing)}, which {having}. Nothing was landed or loaded. Discover it "
                f"anew by running again: {self.retry_command}. To leave a table out, deselect it by `select` in "
                "meltano.yml."
            )

    def closing(self) -> dict[str, Any]:
        """Fields of Completion that a subclass adds."""
        return {}

    def sync_all(self) -> None:
        """Sync all streams, then send the completion message. On any failure the run's staging is removed.

        Raises:
            ZoneError: The file system refused something.
        """
        try:
            with self.until_stopped():
                if self.needs_catalog:
                    meltano_files.require_catalog(sys.argv)
                if not self.kept:
                    super().sync_all()
                streams = {name: sent for stream in self.streams.values() for name, sent in stream.sent.items()}
                completion = Completion(run_id=self.run_id, streams=streams, **self.closing())
                with self.point.passing(_target_may_have_it):  # from here on the target may move the files
                    self.state_writer.write_state({**self.state, **completion.to_state()})
        except BaseException as error:
            self.close_connections()
            self.clean_up()
            if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):  # the target logs its cause
                raise storage_error(error, self.retry_command) from error
            raise

    def close_connections(self) -> None:
        """Hook: close what still writes into staging."""


def _target_may_have_it() -> bool:
    """Whether the completion message may have been read although writing it failed."""
    return not isinstance(sys.exception(), BrokenPipeError)

"""Plugins in this process: a fault comes at an exact place, and a case costs no start of a plugin."""

import contextlib
import io
import logging

from click.testing import CliRunner
from conftest import Database, Project, Result
from landing.cli import main
from landing.core.errors import reported
from landing.extract.csv.tap import TapCSV
from landing.extract.postgres.tap import TapPostgres
from landing.load.tap import TapLanding
from landing.load.target import TargetPostgres
from landing.singer.signals import SignalHandling
from landing.zone.target import TargetCSV

ENTITY = {"entity": "order_details", "path": "extract/order_details.csv", "keys": ["order_id", "product_id"]}


class Inside:
    """A project's plugins and commands. What none of them may raise goes on to the test."""

    def __init__(self, project: Project, monkeypatch, caplog) -> None:
        self.project, self.monkeypatch, self.caplog = project, monkeypatch, caplog
        monkeypatch.setenv("MELTANO_PROJECT_ROOT", str(project.folder))
        monkeypatch.setattr(SignalHandling, "_setup_signal_handlers", lambda self: None)

    def use(self, source: Database | None = None, warehouse: Database | None = None) -> None:
        """Another source, another warehouse."""
        self.project.source, self.project.warehouse = source or self.project.source, warehouse or self.project.warehouse
        if warehouse:
            self.monkeypatch.setenv("TARGET_POSTGRES_PORT", str(warehouse.port))
            self.monkeypatch.setenv("TARGET_POSTGRES_DB", warehouse.name)

    def extract(self, day: str, source: str = "postgres", check: bool = True, discovered=lambda: None,
                target: dict | None = None, **settings: object) -> Result:
        """Tap and target, one after the other; `discovered` is called when the tap knows its tables."""
        def tap():
            running = (TapCSV(config={"files": [ENTITY], **settings}) if source == "csv" else
                       TapPostgres(config={**self.project.source.settings(), "filter_schemas": ["public"], **settings}))
            assert running.streams is not None
            discovered()
            running.sync_all()

        variables = {"DATESTAMP": day, "REEXTRACT": "true"}
        sent = self._ended(tap, **variables)
        taken = self._ended(lambda: TargetCSV(config={"source": source, **(target or {})}).listen(
            io.StringIO(sent.stdout)), **variables)
        return _both(sent, taken, check)

    def load(self, day: str, check: bool = True, reload: bool = False, batches: bool = True,
             **settings: object) -> Result:
        """Likewise, of all declared sources."""
        sent = self._ended(lambda: TapLanding(config={"from_landing": True, "use_batch": batches}).sync_all(),
                           EXTRACTED_AT=day)
        taken = self._ended(lambda: TargetPostgres(
            config={**self.project.warehouse.settings(), "reload": reload, **settings}
        ).listen(io.StringIO(sent.stdout))) if sent.stdout else sent
        return _both(sent, taken, check)

    def landing(self, *arguments: str, check: bool = True) -> Result:
        """The `landing` command."""
        self.caplog.clear()
        ended = CliRunner().invoke(main.main, arguments)
        if ended.exception and not isinstance(ended.exception, SystemExit):
            raise ended.exception
        return _checked(Result(arguments, ended.exit_code, ended.output, self.caplog.text), check)

    def proved(self, day: str) -> bool:
        """Whether every table of a date is."""
        return self.landing("verify", day, check=False).returncode == 0

    def _ended(self, work, **variables: str) -> Result:
        self.caplog.clear()
        said, status = io.StringIO(), 0
        with self.monkeypatch.context() as patch, contextlib.redirect_stdout(said):
            for name, value in variables.items():
                patch.setenv(name, value)
            try:
                with reported(logging.getLogger("inside")):
                    work()
            except SystemExit as end:
                status = end.code
        return Result([], status, said.getvalue(), self.caplog.text)


def _both(sent: Result, taken: Result, check: bool) -> Result:
    assert not sent.returncode or taken.returncode, "a target commits what its tap did not send to the end"
    words = sent.stderr + (taken.stderr if taken is not sent else "")
    return _checked(Result([], sent.returncode or taken.returncode, "", words), check)


def _checked(result: Result, check: bool) -> Result:
    assert "Traceback" not in result.text, result.text
    assert not check or result.returncode == 0, result.text
    return result

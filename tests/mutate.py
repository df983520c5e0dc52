"""Change one thing in a module that commits, verifies or widens, and see whether a test notices. Run by hand.

    plugins/.venv/bin/python tests/mutate.py zone              every change of one group, and those that nobody noticed
    plugins/.venv/bin/python tests/mutate.py zone --only 17    one change, with the tests' own output
    plugins/.venv/bin/python tests/mutate.py --list

Tools of the trade start a test run for each change; here each is a fork of one process that has imported all else, with
one PostgreSQL server for all, and plugins forked from it see the change too.
"""

import argparse
import ast
import contextlib
import importlib.abc
import importlib.util
import itertools
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "demo")]
PLUGINS = HERE.parent / "plugins" / "landing"
TIMEOUT = 150  # seconds; a change that makes a loop endless is noticed by that

# Tests that need no server and start no plugin: a change costs some seconds.
ALONE = ["test_commit.py", "test_files.py", "test_power_loss.py"]
SERVERLESS = {*ALONE, "test_verify.py -k (sum_of_rows|many_lines)", "test_outcome.py -k the_point"}
ZONE_TESTS = [*ALONE, "test_replay.py", "test_outcome.py -k not(process|target_csv|folders)"]
WAREHOUSE_TESTS = ["test_older_dates.py", "test_verify.py"]
# Module, its functions and classes (none: all), and the tests that have to notice, the quickest first.
GROUPS = {
    "zone": ("zone/commit", [], ZONE_TESTS),
    "landing_zone": ("zone/landing_zone", ["locked", "claim", "discard", "staged", "file"], ZONE_TESTS),
    "local": ("storage/local", [], ZONE_TESTS),
    "commit_point": ("core/commit_point", [], ["test_outcome.py -k the_point", *ALONE, "test_outcome.py"]),
    "target_csv": ("zone/target", ["listen", "accept", "_claim", "commit", "clean_up", "_commit_or_keep", "_files",
                                   "_quarantine", "_keep"], [*ZONE_TESTS, "test_one_decision.py"]),
    "hashing": ("storage/hashing", ["RowSum", "HashedFile", "sha256"],
                ["test_verify.py -k (sum_of_rows|many_lines)", *ALONE, *WAREHOUSE_TESTS]),
    "reconcile": ("verify/reconcile", [], WAREHOUSE_TESTS),
    "contents": ("verify/contents", [], ["test_verify.py", "test_verify_parallel.py"]),
    "history": ("load/history", [], WAREHOUSE_TESTS),
    "evolution": ("model/evolution", [], WAREHOUSE_TESTS),
    "warehouse": ("load/warehouse", ["loaded", "swap"], WAREHOUSE_TESTS),
    "swap": ("load/swap", ["publish", "_retire", "replaceable"], WAREHOUSE_TESTS),
    "newest_views": ("load/newest_views", ["lock", "update", "point"], WAREHOUSE_TESTS),
    "locks": ("load/locks", ["LockRetry"], WAREHOUSE_TESTS),
}

COMPARED = {ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
            ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is}
COUNTED = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr,
           ast.BitXor: ast.BitOr, ast.Mod: ast.Mult}


@dataclass(frozen=True)
class Change:
    """One thing that is otherwise."""

    line: int
    what: str
    tree: ast.Module


def changes(path: Path, names: list[str]) -> list[Change]:
    """All changes of a module's functions and classes of these names; messages for people are left as they are."""
    source = path.read_text()
    count = len([*_places(ast.parse(source), names)])
    found = []
    for number in range(count):
        tree = ast.parse(source)
        node, change = [*_places(tree, names)][number]
        before = ast.unparse(node)
        change()
        ast.fix_missing_locations(tree)
        after = "" if isinstance(node, ast.Pass) else ast.unparse(node)
        if before != after:
            found.append(Change(node.lineno, f"{_short(before)} -> {_short(after) or 'nothing'}", tree))
    return found


def _short(text: str) -> str:
    return " ".join(text.split())[:70]


def _places(tree: ast.Module, names: list[str]) -> Iterator[tuple[ast.AST, object]]:
    for top in ast.walk(tree):
        if isinstance(top, (ast.FunctionDef, ast.ClassDef)) and (
                top.name in names if names else top in tree.body):
            yield from _inside(top)


def _inside(node: ast.AST) -> Iterator[tuple[ast.AST, object]]:
    for field, value in ast.iter_fields(node):
        if field in ("decorator_list", "annotation", "returns", "args", "bases"):
            continue
        for index, child in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(child, ast.AST) and not _for_people(child):
                yield from _of(child, node, field, index if isinstance(value, list) else None)
                yield from _inside(child)


def _for_people(node: ast.AST) -> bool:
    """A docstring, a line of log or the text of an error."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True
    if isinstance(node, ast.Expr) and "logger" in ast.unparse(node)[:30]:
        return True
    return isinstance(node, (ast.Raise, ast.JoinedStr))


def _of(node: ast.AST, parent: ast.AST, field: str, index: int | None) -> Iterator[tuple[ast.AST, object]]:
    def put(new: ast.AST) -> None:
        ast.copy_location(new, node)
        ast.fix_missing_locations(new)
        if index is None:
            setattr(parent, field, new)
        else:
            getattr(parent, field)[index] = new

    def replaced(new: ast.AST) -> tuple[ast.AST, object]:
        return _Shown(node, new), lambda: put(new)

    if isinstance(node, ast.Compare):
        for place, operator in enumerate(node.ops):
            if type(operator) in COMPARED:
                yield node, partial(node.ops.__setitem__, place, COMPARED[type(operator)]())
    elif isinstance(node, (ast.BinOp, ast.AugAssign)) and type(node.op) in COUNTED:
        yield node, lambda: setattr(node, "op", COUNTED[type(node.op)]())
    elif isinstance(node, ast.BoolOp):
        yield node, lambda: setattr(node, "op", ast.Or() if isinstance(node.op, ast.And) else ast.And())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield replaced(node.operand)
    elif isinstance(node, ast.Constant) and isinstance(node.value, (bool, int)):
        yield node, lambda: setattr(node, "value", not node.value if isinstance(node.value, bool) else node.value + 1)
    elif isinstance(node, ast.Expr) and isinstance(node.value, (ast.Call, ast.YieldFrom)):
        yield replaced(ast.Pass())
    elif isinstance(node, ast.Return) and node.value is not None and not isinstance(node.value, ast.Constant):
        yield node, lambda: setattr(node, "value", ast.Constant(None))
    elif isinstance(node, (ast.If, ast.IfExp)):
        yield replaced_test(node, value=True)
        yield replaced_test(node, value=False)
    elif isinstance(node, ast.With) and len(node.items) == 1 and node.items[0].optional_vars is None:
        yield replaced(ast.With(items=[ast.withitem(context_expr=ast.parse(
            "__import__('contextlib').nullcontext()", mode="eval").body)], body=node.body))


def replaced_test(node: ast.If | ast.IfExp, *, value: bool) -> tuple[ast.AST, object]:
    """A condition that is always so."""
    test = node.test
    new = ast.copy_location(ast.Constant(value), test)
    return _Shown(test, new), lambda: setattr(node, "test", new)


class _Shown(ast.Expr):
    """What is shown of a change is its place before, and after."""

    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        super().__init__(value=ast.Name(id="x"))
        self.texts, self.lineno, self.col_offset = [ast.unparse(ast.fix_missing_locations(one)) for one in (old, new)
                                                    ], old.lineno, 0


_unparse = ast.unparse


def _unparsed(node: ast.AST) -> str:
    return node.texts.pop(0) if isinstance(node, _Shown) else _unparse(node)


ast.unparse = _unparsed


class Changed(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module as it is changed."""

    def __init__(self, name: str, path: Path, tree: ast.Module) -> None:
        self.name, self.path, self.tree = name, path, tree

    def find_spec(self, name, path, target=None):
        return importlib.util.spec_from_file_location(name, self.path, loader=self) if name == self.name else None

    def exec_module(self, module):
        exec(compile(self.tree, str(self.path), "exec"), module.__dict__)  # noqa: S102


class Numbers:
    """For pytest: databases of this fork have names of their own."""

    def __init__(self, first: int) -> None:
        self.first = first

    def pytest_sessionstart(self) -> None:
        import conftest

        conftest.numbers = itertools.count(self.first)


def attempt(module: str, change: Change | None, tests: list[str], server: object, first: int, output: Path) -> int:
    """Exit status of the tests in a fork with a change; they stop at the first that notices."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        with contextlib.suppress(BaseException):
            _run(module, change, tests, server, first, output)
        os._exit(99)
    end = time.monotonic() + TIMEOUT
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return -1


def _run(module, change, tests, server, first, output):
    with output.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    if change:  # before any of ours is imported
        assert not any(name.split(".")[0] == "landing" for name in sys.modules)
        sys.meta_path.insert(0, Changed("landing." + module.replace("/", "."), PLUGINS / f"{module}.py", change.tree))
    sys.dont_write_bytecode = True
    import servers
    import warm

    shared = type("Shared", (), {"__init__": lambda self, *_: self.__dict__.update(server.__dict__), "start": _nothing,
                                 "remove": _nothing, "connect": servers.Server.connect, "user": server.user,
                                 "host": server.host, "running": lambda _: True, "data": "/no/such/folder"})
    servers.Server = shared
    folder = tempfile.mkdtemp(prefix="mutate-")
    if {*tests} <= SERVERLESS:
        warm.Server = type("NoServer", (), {"close": _nothing})
    else:
        _forking(warm)
    import pytest

    status = 0
    for test in tests:
        name, *more = test.split(" ", 2)
        status = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", f"--basetemp={folder}/t",
                              f"--rootdir={HERE}", "-c", str(HERE / "pytest.ini"), str(HERE / name),
                              *([more[0], more[1].replace("(", " (").replace("|", " or ")] if more else [])],
                             plugins=[Numbers(first)])
        if status:
            break
    shutil.rmtree(folder, ignore_errors=True)
    sys.stdout.flush()
    os._exit(int(status))


def _nothing(*_: object) -> None:
    pass


def _forking(warm: object) -> None:
    """Have the process that plugins are forked from be a fork of this one, with its change."""

    def start(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="warm-")  # no TemporaryDirectory: the first plugin's end would remove it
        warm.Plugin.address = f"{self._folder}/socket"
        read, write = os.pipe()
        self._keep = write
        self._pid = os.fork()
        if self._pid == 0:
            os.close(write)
            os.dup2(read, 0)
            sys.stdin, sys.stdout, sys.stderr = (  # pytest's are in their place
                open(number, mode, closefd=False) for number, mode in ((0, "r"), (1, "w"), (2, "w")))  # noqa: SIM115
            for command in warm.COMMANDS.values():
                command.load()
            for start in warm.starts(warm.Plugin.address):
                warm.become(start)
            os._exit(0)
        os.close(read)
        while not os.path.exists(warm.Plugin.address):
            time.sleep(0.01)
        time.sleep(0.05)

    def close(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._keep)
        shutil.rmtree(self._folder)

    warm.Server = type("Server", (), {"__init__": start, "close": close})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("group", nargs="?", choices=GROUPS)
    parser.add_argument("--only", type=int, nargs="+", default=[])
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="only with tests that need no server")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    if options.list or not options.group:
        for group, (module, names, _) in GROUPS.items():
            print(group, len(changes(PLUGINS / f"{module}.py", names)))
        return
    os.nice(10)
    module, names, tests = GROUPS[options.group]
    if options.quick:
        tests = [test for test in tests if test in SERVERLESS]
    everything = list(enumerate(changes(PLUGINS / f"{module}.py", names)))
    chosen = [everything[number] for number in options.only] or everything[::options.every]
    import servers

    folder = Path(tempfile.mkdtemp(prefix="mutate-server-"))
    folder.chmod(0o755)
    server = servers.Server(folder, {"fsync": "off", "max_connections": "150"})
    if not {*tests} <= SERVERLESS:
        server.start()
    for heavy in ("pytest", "_pytest.assertion.rewrite", "psycopg2", "psycopg", "sqlalchemy", "singer_sdk",
                  "target_postgres.target", "tap_postgres.tap", "duckdb", "click.testing", "hypothesis"):
        with contextlib.suppress(ImportError):
            importlib.import_module(heavy)
    output = folder / "output"
    survived, started = [], time.monotonic()
    try:
        if attempt(module, None, tests, server, 0, output):
            print("\n".join(line for line in output.read_text().splitlines() if line[:1] in "E>F"))
            sys.exit("The tests fail without any change.")
        print(f"{len(chosen)} changes; the tests take {time.monotonic() - started:.0f} s", flush=True)
        for number, change in chosen:
            status = attempt(module, change, tests, server, (number + 1) * 100000, output)
            if status == 0:
                survived.append((number, change))
            told = {0: "SURVIVED", 1: "noticed", -1: "never ended"}.get(status, f"status {status}")
            print(f"{number:4} line {change.line:4} {told:12} {change.what}", flush=True)
            if len(options.only) == 1:
                print(output.read_text())
    finally:
        server.remove()
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{len(chosen) - len(survived)} of {len(chosen)} changes were noticed, in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()

"""The documentation says what the code says, and builds into a site that fetches nothing."""

import inspect
import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT
from landing.core import errors

DOCS = ROOT / "docs"
MESSAGES = (DOCS / "reference/messages.md").read_text()
sys.path.insert(0, str(DOCS))
import generate  # noqa: E402


@pytest.mark.parametrize("name", generate.FILES)
def test_what_comes_from_the_code_is_as_the_code_gives_it(name):
    assert (DOCS / name).read_text() == generate.FILES[name](), "run `make docs`"


def test_every_documented_message_is_one_of_the_code():
    code = "".join(path.read_text() for path in (ROOT / "plugins/landing").rglob("*.py"))
    joined = re.sub(r'"\s*f?"', "", code)
    ours = MESSAGES.split("## Ours")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \|", ours, re.M)
    assert len(rows) > 15
    for row in rows:
        for phrase in re.findall("`(.*?)`", row):
            for part in filter(None, (part.strip(" ,") for part in phrase.split("…"))):
                assert part in joined, phrase


def test_every_class_of_error_is_documented():
    classes = {name for name, one in vars(errors).items()
               if inspect.isclass(one) and issubclass(one, errors.LandingError)}
    assert set(re.findall(r"^\| `(\w+Error)` \|", MESSAGES, re.M)) == classes


def test_the_site_builds_strictly_and_fetches_nothing(tmp_path):
    done = subprocess.run([DOCS / ".venv/bin/mkdocs", "build", "--quiet", "--site-dir", tmp_path], cwd=ROOT,
                          env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 25
    for page in pages:
        assert not re.search(r"""<(script|img|iframe)[^>]*src=["']?(https?:)?//|<link[^>]*href=["']?(https?:)?//""",
                             page.read_text()), page

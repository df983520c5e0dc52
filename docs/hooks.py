"""What MkDocs needs beside its configuration: files of the project outside of docs/ that pages link to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
TRIALS = ("-short", "-some")  # results of the benchmark that git ignores
OUTSIDE = ("CONTRIBUTING.md", "bench/results/*.md", "bench/results/*.svg")


def on_files(files: Files, config: Any) -> Files:
    """Add them, at the same path below the site."""
    for pattern in OUTSIDE:
        for path in sorted(one for one in ROOT.glob(pattern) if not one.stem.endswith(TRIALS)):
            files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Links to them are relative to the repository, as on GitHub; here their files are one folder nearer."""
    up = "../" * page.file.src_uri.count("/")
    for top in {pattern.partition("/")[0] for pattern in OUTSIDE}:
        markdown = markdown.replace(f"]({up}../{top}", f"]({up}{top}")
    return markdown

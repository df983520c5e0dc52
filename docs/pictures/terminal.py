"""Record a command as an SVG that plays its output once, at its own pace, and then stays at its end.

    python docs/pictures/terminal.py docs/pictures/demo.svg make demo

Pauses are cut to PAUSE seconds. The project's own path is left out, and Meltano's log keeps only what it says of a run.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COLUMNS, ROWS, LINE, CHARACTER, EDGE, BAR = 118, 30, 17, 7.23, 14, 26
PAUSE = 1.5  # seconds
LOGGED = re.compile(r"^\S+ \[info +\] meltano +")
STYLE = """<style>
text{font:12px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;fill:#d6dde4;white-space:pre}
.typed{fill:#7ee0b5;font-weight:700} .no{fill:#ff8f8f} .yes{fill:#7ee0b5}
</style>"""


def record(command: list[str]) -> list[tuple[float, str]]:
    """Each line with the second at which it came."""
    lines, at, before = [(0.0, "$ " + " ".join(command))], 0.6, time.monotonic()
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        for line in process.stdout:
            now = time.monotonic()
            at, before = at + min(now - before, PAUSE), now
            text = LOGGED.sub("", line.rstrip("\n").replace(f"{ROOT}/", ""))
            if not text.startswith(("Meltano 4", "Environment '")):
                lines += [(at, text[start:start + COLUMNS]) for start in range(0, max(len(text), 1), COLUMNS)]
    return lines


def drawn(line: str) -> str:
    """A line as SVG text; commands and verdicts in colour."""
    if line.startswith("$ "):
        return f'<tspan class="typed">{escape(line)}</tspan>'
    verdict = re.compile(r"\b(?:(?P<yes>yes)|(?P<no>NO: .*))$")
    return verdict.sub(lambda found: f'<tspan class="{found.lastgroup}">{found[0]}</tspan>', escape(line, quote=False))


def svg(lines: list[tuple[float, str]]) -> str:
    """The recording. What does not play it (a converter) shows the end."""
    shown = min(len(lines), ROWS)
    width, height = round(2 * EDGE + COLUMNS * CHARACTER), BAR + 2 * EDGE + shown * LINE
    offsets = [(at, (number + 1 - ROWS) * LINE) for number, (at, _) in enumerate(lines) if number >= ROWS]
    last = offsets[-1][1] if offsets else 0
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
           f'aria-label="{escape(lines[0][1])}">', STYLE,
           f'<rect width="{width}" height="{height}" rx="8" fill="#161b22"/>',
           *(f'<circle cx="{18 + 18 * number}" cy="16" r="5" fill="#3d444d"/>' for number in range(3)),
           f'<svg y="{BAR}" width="{width}" height="{height - BAR - EDGE // 2}"><g transform="translate(0 -{last})">']
    if offsets:
        end = lines[-1][0]
        times = ";".join(f"{at / end:.4f}" for at, _ in offsets)
        values = ";".join(f"0 -{offset}" for _, offset in offsets)
        out.append('<animateTransform attributeName="transform" type="translate" calcMode="discrete" '
                   f'dur="{end:.2f}s" keyTimes="0;{times}" values="0 0;{values}"/>')
    for number, (at, line) in enumerate(lines):
        hidden = f'<set attributeName="visibility" to="hidden" begin="0s" end="{at:.2f}s"/>' if at else ""
        out.append(f'<text x="{EDGE}" y="{EDGE + LINE * number + 12}">{hidden}{drawn(line)}</text>' if line else "")
    return "\n".join([*filter(None, out), "</g></svg></svg>", ""])


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(svg(record(sys.argv[2:])), "utf-8")

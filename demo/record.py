"""A picture of the demo: it runs in a terminal of its own, and the terminal's last state becomes an SVG.

Nothing is drawn by hand: what the picture shows is what a person saw, from the line that holds `since` on.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

COLUMNS, ROWS = 110, 50
# What programs write to a terminal besides text: colours stay in the text, movements are followed, the rest is dropped.
TOKENS = re.compile(r"(\x1b\[[0-9;?]*[A-Za-z])|(\x1b[^\[])|(\r)|(\n)|([^\x1b\r\n]+)")

# rich's own template fetches a font from the network; a picture in a repository must not.
SVG = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: {char_height}px;
line-height: {line_height}px; font-variant-east-asian: full-width; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def record(argv: Sequence[str], picture: Path, *, since: str) -> int:
    """Run a command in a terminal of 110 columns, show what it says here too, and draw it; return its exit code."""
    code, seen = in_terminal(argv)
    if code == 0:
        picture.write_text(draw(screen(seen), since=since), encoding="utf-8")
    return code


def in_terminal(argv: Sequence[str]) -> tuple[int, str]:
    """Run a command in a pseudo-terminal; return its exit code and everything it wrote."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS)}
    process = subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    seen = bytearray()
    while chunk := _read(ours):
        seen += chunk
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
    os.close(ours)
    return process.wait(), seen.decode("utf-8", errors="replace")


def screen(seen: str) -> list[str]:
    """Return the lines that stand in the terminal at the end, with their colours. Pure."""
    lines, row, fresh = [""], 0, False
    for movement, _other, carriage_return, line_feed, text in TOKENS.findall(seen):
        if text or movement.endswith("m"):
            lines[row] = (text or movement) if fresh else lines[row] + (text or movement)
            fresh = False
        elif carriage_return:
            fresh = True  # what follows, if anything, is written over the line
        elif line_feed:
            row, fresh = row + 1, False
            lines += [""] * (row + 1 - len(lines))
        elif movement.endswith("A"):
            row = max(0, row - int(movement[2:-1] or 1))
        elif movement.endswith("K"):
            lines[row] = ""
    return lines


def draw(lines: Sequence[str], *, since: str) -> str:
    """Return the lines as an SVG, from the first one that holds `since` on. Raises ValueError when none does."""
    first = next((n for n, line in enumerate(lines) if since in line), None)
    if first is None:
        msg = f"no line holds {since!r}"
        raise ValueError(msg)
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True, color_system="truecolor")
        for line in "\n".join(lines[first:]).rstrip().splitlines():
            console.print(Text.from_ansi(line), soft_wrap=True)
        return console.export_svg(title="make demo", code_format=SVG, unique_id="demo")


def _read(descriptor: int) -> bytes:
    """Return the next bytes, nothing at the end: Linux tells the end of a terminal as EIO."""
    try:
        return os.read(descriptor, 65536)
    except OSError:
        return b""

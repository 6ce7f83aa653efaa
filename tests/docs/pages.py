"""The Markdown files of the project: their links, their anchors, and the commands they show."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
IMAGE = re.compile(r"<img[^>]+src=\"([^\"]+)\"")
FENCE = re.compile(r"^(```|~~~)")


def pages() -> list[Path]:
    """Return every Markdown file that people read."""
    top = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")]
    return [*top, *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "roles").glob("*/README.md"))]


def prose(text: str) -> str:
    """Return a page without its code."""
    return "\n".join(line for line, code in lines(text) if not code)


def code(text: str) -> list[str]:
    """Return the lines of a page that are code, fenced or indented."""
    return [line for line, is_code in lines(text) if is_code]


def lines(text: str) -> Iterator[tuple[str, bool]]:
    """Yield each line of a page and whether it is code."""
    fenced = False
    for line in text.splitlines():
        if FENCE.match(line):
            fenced = not fenced
            continue
        yield line, fenced or line.startswith("    ")


def links(text: str) -> list[str]:
    """Return where the links and pictures of a page go."""
    return LINK.findall(prose(text)) + IMAGE.findall(prose(text))


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(text), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


def broken_links(path: Path, text: str) -> list[str]:
    """Return the links of a page that lead nowhere in this repository."""
    wrong = []
    for target in links(text):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        there = (path.parent / name).resolve() if name else path
        if not there.exists() or (anchor and anchor not in anchors(text if there == path else there.read_text())):
            wrong.append(target)
    return wrong


def shown_commands(text: str, program: str) -> list[list[str]]:
    """Return the words of each command line of a program that a page shows, in code blocks and in `ticks`."""
    ticked = re.findall(rf"`((?:\$ )?{program} [^`]+)`", prose(text))
    found = [line.strip().removeprefix("$ ") for line in [*code(text), *ticked]]
    found = [line.split(" && ")[-1] if line.startswith("cd ") else line for line in found]
    return [_words(line) for line in found if line.startswith(f"{program} ")]


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line, comments=True)
    except ValueError:
        return line.split()

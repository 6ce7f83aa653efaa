"""What people read can be followed: links lead somewhere, commands exist, the words are ours."""

from __future__ import annotations

import re

import click
import pytest

from mcpops.cli.app import cli
from mcpops.deploy.release import SCHEMA
from tests.docs.pages import ROOT, anchors, broken_links, code, lines, links, pages, shown_commands

IDS = [str(path.relative_to(ROOT)) for path in pages()]
NO_COMMAND = {"-h", "--help", "--version"}


@pytest.mark.parametrize("path", pages(), ids=IDS)
def test_links_lead_somewhere(path):
    assert broken_links(path, path.read_text()) == []


@pytest.mark.parametrize("path", pages(), ids=IDS)
def test_commands_that_are_shown_exist(path):
    for words in shown_commands(path.read_text(), "mcpops"):
        assert problem(words[1:]) == "", " ".join(words)


@pytest.mark.parametrize("path", pages(), ids=IDS)
def test_targets_of_make_exist(path):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for words in shown_commands(path.read_text(), "make"):
        named = {word for word in words[1:] if "=" not in word}
        assert named <= targets, " ".join(words)


@pytest.mark.parametrize("path", pages(), ids=IDS)
def test_a_page_names_no_place_of_the_machine_it_was_written_on(path):
    assert re.findall(r"/work/|/tmp/h\d|/home/|/root/", path.read_text()) == []


@pytest.mark.parametrize("path", [page for page in pages() if "reference" not in page.parts], ids=str)
def test_lines_of_prose_are_short_enough_to_read(path):
    text = path.read_text()
    too_long = [line for line, is_code in lines(text) if len(line) > 125 and not is_code and not line.startswith("|")]
    assert too_long == []


def test_every_how_to_and_explanation_is_reached_from_the_readme():
    seen = {ROOT / "README.md"}
    todo = list(seen)
    while todo:
        page = todo.pop()
        for target in links(page.read_text()):
            there = (page.parent / target.partition("#")[0]).resolve()
            if there.suffix == ".md" and there.is_file() and there not in seen:
                seen.add(there)
                todo.append(there)
    assert [str(path.relative_to(ROOT)) for path in pages() if path not in seen] == []


def test_every_key_of_a_release_file_is_documented():
    page = (ROOT / "docs/how-to/write-a-release.md").read_text()
    assert [key for key in SCHEMA["properties"] if f"| `{key}` |" not in page] == []


def problem(words: list[str]) -> str:
    """Return what is wrong with a command line of mcpops, as far as names go."""
    command: click.Command = cli
    context = click.Context(cli)
    while isinstance(command, click.Group):
        name = words.pop(0) if words else ""
        if name in NO_COMMAND or name.isupper() or name in ("…", "..."):
            return ""
        found = command.get_command(context, name)
        if found is None:
            return f"no command {name!r}" if name else "a group without a command"
        command = found
        if isinstance(command, click.Group) and not words:
            return ""  # `mcpops lab`: the group itself is meant
    known = {option for parameter in command.params for option in parameter.opts} | {"-h", "--help"}
    unknown = [word for word in words if word.startswith("-") and word.partition("=")[0] not in known]
    return f"no option {unknown[0]}" if unknown else ""


def test_the_checks_see_what_is_wrong():
    assert problem(["no-such-command"]) == "no command 'no-such-command'"
    assert problem(["deploy", "--no-such-option"]) == "no option --no-such-option"
    assert problem(["runs", "frobnicate"]) == "no command 'frobnicate'"
    assert problem(["runs", "show", "ID", "--json"]) == ""
    page = ROOT / "README.md"
    assert broken_links(page, "[a](no/such/file.md) [b](#no-such-heading)") == ["no/such/file.md", "#no-such-heading"]
    assert broken_links(page, "# A heading\n[b](#a-heading) [c](docs/glossary.md)") == []
    assert anchors("## `vars: step:`, and more") == {"vars-step-and-more"}
    assert code("text\n```console\n$ mcpops status\n```\n    indented\n") == ["$ mcpops status", "    indented"]
    assert shown_commands("say `mcpops status`\n\n    mcpops lab up\n", "mcpops") == [
        ["mcpops", "lab", "up"],
        ["mcpops", "status"],
    ]

"""The warm connection never changes a result: the whole corpus both ways, on twins, compared field by field."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from mcpops.lab.lab import Lab, to_stderr
from tests.lab.warm.compare import Difference, Record, compare, load, report
from tests.lab.warm.meant import not_meant, not_seen
from tests.lab.warm.rules import Rules
from tests.lab.warm.stand import LOGINS, Ended, Plays, Stand, Target

pytestmark = pytest.mark.lab

WAYS = ("ssh", "warm")
# Each play by the login for which it says most.
QUICK: Plays = {
    "outcomes": ["deploy"],
    "world": ["root"],
    "files": ["deploy"],
    "commands": ["root"],
    "facts": ["root"],
    "system": ["deploy"],
    "become": ["deploy"],
    "roles": ["root"],
    "flow": ["root"],
    "delegation": LOGINS,
    "changes": ["deploy"],
}
FULL: Plays = dict.fromkeys(QUICK, LOGINS)


@dataclass(frozen=True)
class Extent:
    """How much of the corpus: plays, those of them that run again in check mode, options, and the least numbers."""

    plays: Plays
    checked: tuple[str, ...]
    options: tuple[str, ...]
    cases_min: int
    modules_min: int


# `quick` is for every `make test`: three minutes on two cores. `full` has every case by both logins: ten.
EXTENTS = {
    "quick": Extent(QUICK, ("files", "system"), ("--skip-tags", "more"), cases_min=200, modules_min=45),
    "full": Extent(FULL, ("files", "system", "roles"), (), cases_min=400, modules_min=60),
}

# Why a command may take the ordinary way, and which may (a module's name, or what else goes over a connection).
# What is not here should have been warm.
ORDINARY: dict[str, frozenset[str]] = {
    "not a Python module of Ansible's": frozenset({"command"}),
    "an environment that an interpreter reads at its start": frozenset({"world"}),
    "another become than sudo to root": frozenset({"world", "command", "copy", "file", "stat"}),
    "another interpreter than a plain Python": frozenset({"world"}),
    "another shell": frozenset({"world"}),
    "sudo asks for a password": frozenset({"world", "command"}),
    "no server can be started": frozenset({"world", "command", "ping"}),  # the host cannot be reached, or sudo refuses
    "no server can be there": frozenset({"command"}),  # after that
    "a large file, or none": frozenset({"put"}),
}
WARM_SHARE_MIN = 0.8
CODE = re.compile(r"/tmp/ansible_[\w.]+_payload_")

WHOLE = (pytest.mark.slow, pytest.mark.timeout(1800))
# For tests of what only the whole corpus has.
ONLY_FULL = pytest.mark.parametrize("twins", [pytest.param("full", marks=WHOLE)], indirect=True)


@dataclass(frozen=True)
class Pair:
    """The same playbook run both ways, and the states of the twins after it: way -> login -> state."""

    runs: dict[str, Ended]
    states: dict[str, dict[str, Any]]

    def rules(self, way: str) -> Rules:
        """What only the run of this way has."""
        return Rules(names=self.runs[way].names)

    def records(self, way: str) -> list[Record]:
        """What came of the tasks."""
        return load(self.runs[way].results)


@dataclass(frozen=True)
class Twins:
    """Hosts for each way and login, and how much of the corpus is to run on them."""

    stand: Stand
    extent: Extent

    def targets(self, way: str) -> list[Target]:
        """One lets Ansible look for its interpreter, the other names it."""
        interpreters = {"root": None, "deploy": "/usr/bin/python3"}
        return [Target(login, self.stand.lab[f"{login}-{way}"], login, interpreters[login]) for login in LOGINS]

    def both_ways(self, playbook: str, plays: Plays, *options: str) -> Pair:
        """Run a playbook both ways at a time: much of each is waiting for one host."""
        options = (*self.extent.options, *options)
        with ThreadPoolExecutor() as pool:
            ended = pool.map(lambda way: self.stand.run(way, self.targets(way), plays, playbook, *options), WAYS)
            runs = dict(zip(WAYS, ended, strict=True))
            states = {
                way: dict(zip(LOGINS, pool.map(self.stand.state, self.targets(way)), strict=True)) for way in WAYS
            }
        return Pair(runs, states)


@pytest.fixture(scope="module", params=["quick", pytest.param("full", marks=WHOLE)])
def twins(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    stand = Stand(Lab("warmtest", say=to_stderr), tmp_path_factory.mktemp("warm"))
    try:
        stand.up(f"{login}-{way}" for login in LOGINS for way in WAYS)
        yield Twins(stand, EXTENTS[request.param])
    finally:
        stand.down()


@pytest.fixture(scope="module")
def pair(twins: Twins) -> Pair:
    """The corpus, on fresh twins."""
    return twins.both_ways("site.yml", twins.extent.plays, "--diff")


@pytest.fixture(scope="module")
def checked(twins: Twins, pair: Pair) -> Pair:
    """What a second run would change, on the same twins."""
    plays = {play: names if play in twins.extent.checked else [] for play, names in twins.extent.plays.items()}
    return twins.both_ways("check.yml", plays, "--check", "--diff")


def _differences(pair: Pair) -> list[Difference]:
    one, other = (pair.records(way) for way in WAYS)
    return compare(one, other, (pair.rules(WAYS[0]), pair.rules(WAYS[1])))


def _assert_same_results(pair: Pair) -> None:
    found = not_meant(_differences(pair))
    assert not found, f"{len(found)} fields differ between ssh (one) and warm (other):\n{report(found)}"


def test_every_task_has_the_same_result(pair):
    _assert_same_results(pair)


def test_every_task_has_the_same_result_in_check_mode(checked):
    _assert_same_results(checked)


@ONLY_FULL
def test_what_is_meant_to_differ_still_does(pair, twins):
    gone = not_seen(_differences(pair))
    assert not gone, f"these leave meant.py: {[meant.field for meant in gone]}"


def _assert_same_words(pair: Pair) -> None:
    assert [pair.runs[way].code for way in WAYS] == [0, 0]
    said = {way: sorted(map(pair.rules(way).text, pair.runs[way].error.splitlines())) for way in WAYS}
    assert said["ssh"] == said["warm"]


def test_ansible_says_the_same_and_ends_the_same(pair):
    assert "[WARNING]: one more" in pair.runs["ssh"].error, "that no warning is seen proves nothing"
    _assert_same_words(pair)


def test_ansible_says_the_same_and_ends_the_same_in_check_mode(checked):
    _assert_same_words(checked)


@pytest.mark.parametrize("what", ["files", "processes"])
@pytest.mark.parametrize("login", LOGINS)
def test_the_hosts_are_left_the_same(pair, login, what):
    rules = {way: pair.rules(way) for way in WAYS}
    left = {way: rules[way].normal(pair.states[way][login][what]) for way in WAYS}
    if what == "files":
        left = {way: [f"{path} {' '.join(seen)}" for path, seen in held.items()] for way, held in left.items()}
    assert len(left["ssh"]) > 5
    # Modules that are killed leave the directory of their code, where they have one; its content has a date in it.
    code = {way: [line for line in lines if CODE.match(line)] for way, lines in left.items()}
    assert len(code["warm"]) <= len(code["ssh"])
    left = {way: [line for line in lines if line not in code[way]] for way, lines in left.items()}
    only = [f"{way}: {line}" for way, other in (WAYS, WAYS[::-1]) for line in left[way] if line not in left[other]]
    assert not only, "only after one of the two ways:\n" + "\n".join(only)


def test_the_corpus_is_as_large_as_it_should_be(pair, twins):
    """Its cases are tasks and items of loops; and tasks come to each kind of end."""
    records = [record for record in pair.records("ssh") if record.event not in ("stats", "notify", "retry")]
    cases = {(record.play, record.task, str(record.item)) for record in records}
    assert len(cases) >= twins.extent.cases_min
    assert len({record.action.rpartition(".")[2] for record in records}) >= twins.extent.modules_min
    ends = {record.event for record in pair.records("ssh")}
    assert {"ok", "failed", "failed, ignored", "skipped", "unreachable", "retry", "notify"} <= ends


def test_the_ordinary_run_was_ordinary_and_the_warm_one_warm(pair):
    assert pair.runs["ssh"].log == ()
    log = pair.runs["warm"].log
    unexpected = [row for row in log if row["way"] == "ssh" and row["what"] not in ORDINARY.get(row["why"], ())]
    assert unexpected == []
    warm = Counter(row["what"] for row in log if row["way"] == "warm")
    assert warm.total() >= WARM_SHARE_MIN * len(log), Counter(row["why"] for row in log)
    assert {"put", "shell", "copy", "file", "command", "setup", "apt", "user", "ends", "world", "twin"} <= set(warm)


@ONLY_FULL
def test_every_reason_for_the_ordinary_way_is_met(pair, twins):
    """A reason that no case has is not known to be one."""
    met = {row["why"] for row in pair.runs["warm"].log if row["way"] == "ssh"}
    assert met == set(ORDINARY)

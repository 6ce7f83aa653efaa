"""What two runs of one way cannot share, each as narrow as it can be said, with the reason.

A rule never drops anything: it puts a word in the place of what varies, and only when that has the shape it should
have. What is missing, empty or of another shape stays as it is, and so differs. The list was found by comparing two
ordinary runs on twins; nothing else differed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


def _at(pattern: str, path: str) -> bool:
    """Tell whether a dotted path ends with names that match a pattern."""
    return re.search(rf"(?:^|\.)(?:{pattern})$", path) is not None


@dataclass(frozen=True)
class Value:
    """The whole value at a path that ends so, in results of these actions (none: of all), when it has this shape."""

    path: str
    shape: str
    why: str
    actions: tuple[str, ...] = ()

    def applies(self, path: str, value: object, action: str) -> bool:
        """Tell whether a value is one that this rule is about; numbers are looked at as text, other kinds never."""
        return (
            (not self.actions or action.rpartition(".")[2] in self.actions)
            and _at(self.path, path)
            and isinstance(value, str | int | float)
            and not isinstance(value, bool)
            and re.fullmatch(self.shape, str(value)) is not None
        )


@dataclass(frozen=True)
class Unordered:
    """A list, or a text of words, that comes from a set: it is compared in the order of the alphabet."""

    path: str
    why: str
    actions: tuple[str, ...]

    def applies(self, path: str, action: str) -> bool:
        """Tell whether what lies there is a set."""
        return action.rpartition(".")[2] in self.actions and _at(self.path, path)


@dataclass(frozen=True)
class Text:
    """A part of any text; `word` stands in its place."""

    pattern: str
    word: str
    why: str


_FACTS = ("setup", "gather_facts")
_UNITS = ("systemd_service", "service")
_COUNT = r"\d+"
_NUMBER = r"\d+(\.\d+)?"
_STAMP = r"\d{10}(\.\d+)?"
_MOMENT = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+"
_DAY_AND_TIME = r"\w{3} \d{4}-\d\d-\d\d \d\d:\d\d:\d\d \w+"
_RANDOM = r"[a-z0-9_]{8}"

VALUES = (
    Value("start|end", _MOMENT, "when a command began and ended"),
    Value("delta", r"\d+:\d\d:\d\d\.\d+", "how long a command took"),
    Value(
        "elapsed",
        _COUNT,
        "seconds that a module waited: one more on a busy machine",
        ("wait_for", "wait_for_connection", "uri", "get_url"),
    ),
    Value("date", r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", "when a web server answered", ("uri",)),
    Value("cache_update_time", _COUNT, "when a twin read the index of its packages", ("apt",)),
    Value("[acm]time", _STAMP, "times of a file", ("stat", "find")),
    Value("inode", _COUNT, "where a file lies on its disk", ("stat", "find")),
    Value("dev", _COUNT, "the number of a disk, given by the kernel at its mount", ("stat", "find")),
    Value("_original_basename", rf"\.{_RANDOM}", "where copy keeps a content before it is sent: mkstemp"),
    Value("child_pid", r"[1-9]\d*", "the number of a process", ("command",)),
    Value("_ansible_delegated_vars.ansible_connection", "ssh|warm", "the variable by which the two ways are chosen"),
    Value("drawn", r"[0-9a-z_.-]+", "what must differ even between two modules", ("chance",)),
    Value("(ansible_env|values).SSH_CLIENT", r"[\d.]+ \d+ 22", "the port of a connection"),
    Value("(ansible_env|values).SSH_CONNECTION", r"[\d.]+ \d+ <address> 22", "the port of a connection"),
    Value("ansible_env.XDG_SESSION_ID", _COUNT, "the number of a session", _FACTS),
    Value("ansible_ssh_host_key_ed25519_public", r"[A-Za-z0-9+/]{68}", "each host has its own key", _FACTS),
    Value("macaddress", r"([0-9a-f]{2}:){5}[0-9a-f]{2}", "each interface has its own", _FACTS),
    Value("ansible_docker0.id", r"8000\.[0-9a-f]{12}", "the bridge's hardware address", _FACTS),
    Value(
        "ansible_date_time.(date|day|epoch|epoch_int|hour|iso8601\\w*|minute|month|second|time|weekday\\w*|weeknumber|year)",
        r"[\w:.-]+",
        "the clock, but not its zone",
        _FACTS,
    ),
    Value("ansible_uptime_seconds", _COUNT, "the clock", _FACTS),
    Value("ansible_loadavg.(1|5|15)m", _NUMBER, "what else runs", _FACTS),
    Value("ansible_(memfree|swapfree)_mb", _COUNT, "what else runs", _FACTS),
    Value("ansible_memory_mb.(nocache|real|swap).(free|used|cached)", _COUNT, "what else runs", _FACTS),
    Value("ansible_mounts.(block|inode|size)_(available|used)", _COUNT, "what else writes", _FACTS),
    Value("status.\\w+Timestamp", _DAY_AND_TIME, "when something happened to a unit", _UNITS),
    Value("status.\\w+TimestampMonotonic", _COUNT, "when something happened to a unit", _UNITS),
    Value("status.(Exec)?MainPID", r"[1-9]\d*", "the number of a process that runs", _UNITS),
    Value("status.InvocationID", r"[0-9a-f]{32}", "each start has its own", _UNITS),
    Value("status.ControlGroupId", r"[1-9]\d*", "given by the kernel", _UNITS),
    Value("status.(MemoryCurrent|CPUUsageNSec|TasksCurrent)", _COUNT, "how far a process that starts has got", _UNITS),
)

SETS = (
    Unordered("status.(After|Before|Requires|Wants)", "systemd keeps units in a hash table", _UNITS),
    Unordered("ansible_mounts", "Ansible looks at all of them at a time", _FACTS),
    Unordered("ansible_all_ipv[46]_addresses", "Ansible keeps interfaces in a set", _FACTS),
    Unordered("ansible_interfaces", "Ansible keeps names in a set", _FACTS),
    Unordered("ansible_virtualization_tech_(guest|host)", "Ansible keeps names in a set", _FACTS),
)

TEXTS = (
    Text(
        rf"ansible_([\w.]+)_payload_{_RANDOM}\b", r"ansible_\1_payload_<random>", "where a module was unpacked: mkdtemp"
    ),
    Text(r"ansible-tmp-\d+\.\d+-\d+-\d+", "ansible-tmp-<random>", "the directory of a task: time, process and chance"),
    Text(rf"ansible-moduletmp-\d+\.\d+-{_RANDOM}", "ansible-moduletmp-<random>", "a module's own directory: mkdtemp"),
    Text(rf"ansible-local-\d+{_RANDOM}", "ansible-local-<random>", "the directory of a run here: process and chance"),
    Text(rf"/tmp{_RANDOM}\b", "/tmp<random>", "a temporary file by its default name: mkstemp"),
    Text(rf"/corpus{_RANDOM}\.tmp\b", "/corpus<random>.tmp", "the file that a task of the corpus has made: mkstemp"),
    Text(r"\.\d+\.\d{4}-\d\d-\d\d@\d\d:\d\d:\d\d~", ".<process and time>~", "the copy that a module keeps"),
    Text(r"\bj\d{6,12}\.\d+\b", "<job>", "a task in the background: chance and process"),
    Text(r"BECOME-SUCCESS-[a-z]{32}\b", "BECOME-SUCCESS-<random>", "by which Ansible knows that sudo let it in"),
    Text(rf"start_time=\[{_DAY_AND_TIME}\]", "start_time=[<time>]", "when a unit's process began"),
    Text(r" pid=[1-9]\d* ;", " pid=<number> ;", "a unit's process that runs"),
    Text(
        r"Data could not be sent to remote host [\"']<address>[\"']\. Make sure this host can be reached over "
        r"(?:SSH: \[Errno 32\] Broken pipe|ssh: ssh: connect to host <address> port 9: Connection refused|"
        r"ssh: none_of_that_name@<address>: Permission denied \([\w,-]+\)\.)",
        "<no connection>",
        "a race in Ansible's ssh: it looks whether ssh has ended a millisecond after a pipe broke",
    ),
    Text(r"\bfe80::[0-9a-f:]+\b", "<link-local>", "an address made from an interface's hardware address"),
    Text(r"\bsocket:\[\d+\]", "socket:[<number>]", "a descriptor that sshd left open: given by the kernel"),
)


@dataclass(frozen=True)
class Rules:
    """All rules, and the names that only one run has: text -> what stands for it."""

    names: Mapping[str, str] = field(default_factory=dict)

    def normal(self, value: Any, action: str = "", path: str = "") -> Any:
        """Return a value of a result with a word in the place of all that varies."""
        if isinstance(value, Mapping):
            return {self.text(str(key)): self.normal(held, action, f"{path}.{key}") for key, held in value.items()}
        if isinstance(value, list):
            return self._in_order([self.normal(held, action, path) for held in value], action, path)
        held = self.text(value) if isinstance(value, str) else value
        if any(rule.applies(path, held, action) for rule in VALUES):
            return f"<{path.rpartition('.')[2]}>"
        if isinstance(held, str) and any(rule.applies(path, action) for rule in SETS):
            return " ".join(sorted(held.split(" ")))
        return held

    def text(self, text: str) -> str:
        """Return a text with a word in the place of all that varies in it."""
        if len(text) > 100_000:
            return text  # the large outputs of the corpus: nothing in them varies, and to look takes seconds
        for name, word in self.names.items():
            text = text.replace(name, word)
        for rule in TEXTS:
            text = re.sub(rule.pattern, rule.word, text)
        return text

    @staticmethod
    def _in_order(values: list[Any], action: str, path: str) -> Iterable[Any]:
        return sorted(values, key=str) if any(rule.applies(path, action) for rule in SETS) else values

"""Know the commands that Ansible builds: one that starts an interpreter, and a few of its own.

A command is taken apart, put together again, and known only if that gives the same text: so nothing that a shell would
expand is left in it. Built by `_low_level_execute_command` (plugins/action), the shell plugins and the sudo plugin of
ansible-core.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from mcpops.warm.errors import Unknown

_SH = "/bin/sh -c "
_LAST = " && sleep 0"  # Ansible's, against an ssh that dropped output
_INTERPRETER = re.compile(r"/[\w./+-]*python[\d.]*")
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
# What an interpreter, the C library or the loader reads once, at its start; no fork can take that in.
_EARLY = re.compile(
    r"PYTHON|OPENSSL_|LD_|LC_|LANG|GLIBC_|MALLOC_|TZ$|HOME$|SHELL$|USER$|LOGNAME$|PATH_LOCALE$|NLSPATH$"
)
_SUDO = re.compile(r"sudo(?: -[HSn]+)* +-u root")
_SUDO_ASKS = re.compile(r'sudo(?: -[HS]+)* +-p "(\[sudo via ansible, key=\w+\] password:)" -u root')
READY = b"MCPOPS-WARM"  # printed before the server starts: what stands before it is the login's
# Reads the program from standard input by its length, and leaves what follows there.
_BOOTSTRAP = "import io;f=io.BufferedReader(io.FileIO(0),1);exec(f.read(int(f.readline())))"

_PATH = r"[\w./+~-]+"
_OWN = (
    r"echo ~[\w-]*",
    rf'\( umask 77 && mkdir -p "` echo {_PATH} `"&& mkdir "` echo {_PATH} `" && echo {_PATH}="` echo {_PATH} `" \)',
    rf"rm -f -r {_PATH} > /dev/null 2>&1",
    rf"chmod u\+r?w?x {_PATH}(?: {_PATH})*",
)
_OWN_COMMAND = re.compile("|".join(f"(?:{shape})" for shape in _OWN))


@dataclass(frozen=True)
class Interpreter:
    """A command that only starts an interpreter: as the login user, or as root by sudo (`sudo` is that command)."""

    path: str
    environment: Mapping[str, str]
    sudo: str = ""
    prompt: str = ""

    @property
    def user(self) -> str:
        """Who it runs as: `login`, or the command of sudo without what is new in it each time."""
        return self.sudo.replace(self.prompt, "") if self.sudo else "login"

    def start(self) -> str:
        """Return the command that starts a server in its place."""
        program = f"echo {READY.decode()}; exec {self.path} -c {shlex.quote(_BOOTSTRAP)}"
        inner = f"exec {self.sudo} {_SH}{shlex.quote(program)}" if self.sudo else program
        return _SH + shlex.quote(inner)


def interpreter(command: str, success: str) -> Interpreter:
    """Return what a command comes to; `success` is what the become plugin has it print. Raises Unknown."""
    body = unwrap(command)
    if not body.endswith(_LAST):
        raise Unknown("a command that does more than start an interpreter")
    body = body[: -len(_LAST)]
    sudo, shell, rest = body.partition(f" {_SH}")
    if not shell:
        return Interpreter(*_words(body))
    asks = _SUDO_ASKS.fullmatch(sudo)
    if not asks and not (_SUDO.fullmatch(sudo) and re.search(" -[HS]*n", sudo)):
        raise Unknown("another become than sudo to root")
    inner, begins = unwrap(_SH + rest), f"echo {success} ; "
    if not success or not inner.startswith(begins):
        raise Unknown("another become than sudo to root")
    return Interpreter(*_words(inner[len(begins) :]), sudo=sudo, prompt=asks[1] if asks else "")


def is_own(command: str) -> bool:
    """Whether a command is one of Ansible's own, about its temporary directory: known by its shape."""
    try:
        body = unwrap(command)
    except Unknown:
        return False
    return body.endswith(_LAST) and bool(_OWN_COMMAND.fullmatch(body[: -len(_LAST)])) and ".." not in body


def unwrap(command: str) -> str:
    """Return the text that a command gives to /bin/sh."""
    if not command.startswith(_SH):
        raise Unknown("another shell")
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise Unknown("a command that cannot be taken apart") from error
    if len(words) != 3 or _SH + shlex.quote(words[2]) != command:
        raise Unknown("a command that cannot be taken apart")
    return words[2]


def _words(text: str) -> tuple[str, dict[str, str]]:
    """Return the interpreter and the environment of `NAME=value ... interpreter`."""
    try:
        *assigned, path = shlex.split(text)
    except ValueError as error:
        raise Unknown("a command that cannot be taken apart") from error
    pairs = [_ASSIGNMENT.fullmatch(word) for word in assigned]
    if not _INTERPRETER.fullmatch(path) or not all(pairs):
        raise Unknown("another interpreter than a plain Python")
    environment = {pair[1]: pair[2] for pair in pairs if pair}
    if " ".join([*(f"{name}={shlex.quote(value)}" for name, value in environment.items()), path]) != text:
        raise Unknown("a command that cannot be taken apart")
    early = [name for name in environment if _EARLY.match(name)]
    if early:
        raise Unknown("an environment that an interpreter reads at its start")
    return path, environment

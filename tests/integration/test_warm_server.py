"""The program that runs on hosts, as a real process on this machine, with a small payload of our own.

Each interpreter that is here and that hosts may have: what is sent to them must run in all of them.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mcpops.core import proc
from mcpops.warm.command import Interpreter
from mcpops.warm.errors import Absent, Broken, Refused, Unknown
from mcpops.warm.link import Answer, Link
from mcpops.warm.park import leave
from mcpops.warm.program import program
from mcpops.warm.start import Start, start

VERSIONS = ("3.9", "3.10", "3.11", "3.12", "3.13")
BASIC = "_ANSIBLE_ARGS = None\nWHO = 'basic'\n"
LOADER = """\
import runpy
from ansible.module_utils import basic
def run_module(*, json_params, profile, module_fqn, modlib_path, extensions):
    basic._ANSIBLE_ARGS = json_params
    runpy.run_module(mod_name=module_fqn, run_name="__main__", alter_sys=True)
"""
MODULE = """\
import json, os, subprocess, sys, time
from ansible.module_utils import basic
given = json.loads(basic._ANSIBLE_ARGS)
exec(given["do"])
"""
SITECUSTOMIZE = "path = %r\n"


def found() -> dict[str, str]:
    """The interpreters of this machine, by version."""
    here = {f"{sys.version_info[0]}.{sys.version_info[1]}": sys.executable}
    for version in VERSIONS:
        places = [
            *Path("~/.pyenv/versions").expanduser().glob(f"{version}.*/bin/python3"),
            shutil.which(f"python{version}"),
        ]
        for path in filter(None, places):
            if subprocess.run([path, "-c", ""], check=False, capture_output=True).returncode == 0:
                here.setdefault(version, str(path))
    return here


INTERPRETERS = found()


def payload(basic: str = BASIC, module: str = MODULE) -> bytes:
    """A zip as Ansible makes it, with a module that runs the text it is given."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for package in (
            "",
            "/module_utils",
            "/module_utils/_internal",
            "/module_utils/_internal/_ansiballz",
            "/modules",
        ):
            archive.writestr(f"ansible{package}/__init__.py", "")
        archive.writestr("ansible/module_utils/basic.py", basic)
        archive.writestr("ansible/module_utils/_internal/_ansiballz/_loader.py", LOADER)
        archive.writestr("ansible/modules/do.py", module)
    return data.getvalue()


class Far:
    """A session with a server, started as ssh starts it but by a shell of this machine."""

    def __init__(self, interpreter: str, home: Path, *, idle_s: float = 30, fence: dict | None = None) -> None:
        self.environment = {"HOME": str(home), "PATH": "/usr/bin:/bin", "PYTHONPATH": str(home / "site")}
        (home / "site").mkdir(exist_ok=True)
        argv = ["env", "-i", *(f"{name}={value}" for name, value in self.environment.items())]
        how = Interpreter(interpreter, {})
        end, self.shell = start(
            Start(
                argv=[word.encode() for word in [*argv, "sh", "-c", f"cd {home}; exec {how.start()}"]],
                program=program({"idle_s": idle_s, "fence": fence}),
                timeout_s=20,
            )
        )
        self.link = Link(end, os.getppid())
        self.pid = self.shell.pid  # each of them replaces itself by the next

    def keep(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        request = {"op": "payload", "digest": digest, "sitecustomize": SITECUSTOMIZE}
        assert self.link.ask(request, data) == "kept"
        return digest

    def ask(
        self, do: str, digest: str = "", *, nofile: int = 0, environment: dict | None = None, **more
    ) -> Answer | str:
        variables = json.dumps(environment or {}).encode()
        request = {
            "op": "module", "digest": digest or self.keep(payload()), "fqn": "ansible.modules.do",
            "profile": "legacy", "nofile": nofile, "environment": len(variables),
        }  # fmt: skip
        return self.link.ask(request, variables + json.dumps({"do": do, **more}).encode())

    def say(self, do: str, **more) -> object:
        """What an expression is in a module."""
        answer = self.ask(f"print(json.dumps({do}))", **more)
        assert (answer.code, answer.error) == (0, b""), answer
        return json.loads(answer.out)


def command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def gone(pids: list[int], within_s: float = 5.0) -> bool:
    end_s = time.monotonic() + within_s
    while any(proc.alive(pid) for pid in pids) and time.monotonic() < end_s:
        time.sleep(0.02)
    return not any(proc.alive(pid) for pid in pids)


@pytest.fixture(params=VERSIONS)
def each(request) -> str:
    if request.param not in INTERPRETERS:
        pytest.skip(f"not on this machine: Python {request.param}")
    return INTERPRETERS[request.param]


@pytest.fixture
def began(tmp_path: Path) -> Iterator[Callable[..., Far]]:
    """Start sessions; each is over, and its server gone, after the test."""
    begun: list[Far] = []

    def begin(interpreter: str = sys.executable, **more) -> Far:
        begun.append(Far(interpreter, tmp_path, **more))
        return begun[-1]

    yield begin
    for far in begun:
        far.link.close()
        far.shell.wait(5)
        assert gone([far.pid]), "a server outlives its session"


@pytest.fixture
def far(began) -> Far:
    return began()


def test_a_module_runs_in_each_python(began, each):
    far = began(each)
    digest = far.keep(payload())

    assert far.ask("print('a'); sys.stderr.write('b'); sys.exit(3)", digest) == Answer(3, b"a\n", b"b")
    assert far.ask("print('again')", digest) == Answer(0, b"again\n", b"")


def test_a_payload_that_is_not_there_is_asked_for(far):
    assert far.ask("pass", "0" * 64) == "wanted"
    assert far.ask("print(1)") == Answer(0, b"1\n", b"")


ENDINGS = [
    ("pass", 0, b"", b""),
    ("sys.exit()", 0, b"", b""),
    ("sys.exit(300)", 300 & 0xFF, b"", b""),
    ("sys.exit('text')", 1, b"", b"text\n"),
    ("os._exit(4)", 4, b"", b""),
    ("os.kill(os.getpid(), 9)", 137, b"", b"Killed\n"),
    ("print('text'); import atexit; atexit.register(os.write, 1, b'junk')", 0, b"text\njunk", b""),
    ("import atexit; atexit.register(print, 'late'); print('early')", 0, b"early\nlate\n", b""),
    (
        "import threading; threading.Thread(target=lambda: (time.sleep(.2), print('thread'))).start()",
        0,
        b"thread\n",
        b"",
    ),
    ("sys.stdout.buffer.write(bytes(range(256)))", 0, bytes(range(256)), b""),
    ("os.write(1, b'x' * 3000000)", 0, b"x" * 3_000_000, b""),
    ("print('x', end=''); os.close(1)", 120, b"", re.compile(rb"Exception ignored in: <.*stdout.*>\nOSError: .*\n")),
]


@pytest.mark.parametrize(("do", "code", "out", "error"), ENDINGS, ids=[ending[0][:30] for ending in ENDINGS])
def test_each_ending_is_pythons_own(began, each, do, code, out, error):
    answer = began(each).ask(do)

    assert (answer.code, answer.out) == (code, out)
    assert re.fullmatch(error if isinstance(error, re.Pattern) else re.escape(error), answer.error)


def test_an_exception_is_a_traceback_and_one(far):
    answer = far.ask("raise KeyboardInterrupt('stop')")

    assert answer.code == 130  # of the shell around a Python, which ends itself by SIGINT
    assert answer.error.startswith(b"Traceback")
    assert answer.error.endswith(b"KeyboardInterrupt: stop\n")


def test_any_other_exception_is_one(far):
    assert far.ask("raise BaseExceptionGroup('all', [ValueError()])").code == 1


LOOKS = (
    "argv=getattr(sys, 'orig_argv', [])[1:]",
    "flags=str(sys.flags)",
    "stdin=sys.stdin.read()",
    "terminal=sys.stdin.isatty()",
    "handles=sorted(map(int, os.listdir('/proc/self/fd')))[:-1]",
    "directory=os.getcwd()",
    "umask=os.umask(0)",
    "path=[path for path in sys.path if path and 'proc' not in path]",
    "nice=os.nice(0)",
    "environment={k: v for k, v in os.environ.items() if k not in ('_', 'PWD', 'OLDPWD', 'SHLVL')}",
    "encoding=sys.stdout.encoding",
    "leads=[os.getsid(0) == os.getpid(), os.getpgid(0) == os.getpid()]",
    "signals=[str(__import__('signal').getsignal(number)) for number in (1, 2, 13, 15, 17)]",
    "blocked=len(__import__('signal').pthread_sigmask(0, []))",
)


def test_a_module_is_as_in_a_new_python(began, each, tmp_path):
    """Compared with the same questions to the interpreter itself, started as Ansible starts it."""
    asked = f"dict({', '.join(LOOKS)})"
    far = began(each)
    plain = subprocess.run(
        ["env", "-i", *(f"{name}={value}" for name, value in far.environment.items()), each],
        input=f"import json, os, sys\nprint(json.dumps({asked}))".encode(),
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip

    assert far.say(asked) == json.loads(plain.stdout)


def test_environment_and_limit_are_the_tasks_own_and_end_with_it(far):
    nofile = "__import__('resource').getrlimit(__import__('resource').RLIMIT_NOFILE)[0]"
    before = far.say(nofile)

    assert far.say("os.environ['A']", environment={"A": "x'y$Z"}) == "x'y$Z"
    assert far.say(nofile, nofile=77) == 77
    assert far.say("os.environ.get('A')") is None
    assert far.say(nofile) == before


def test_what_one_module_does_to_python_the_next_does_not_see(far):
    digest = far.keep(payload())
    assert far.ask("basic.WHO = 'changed'; sys.path.append('/x'); os.chdir('/'); os.umask(0o77)", digest).code == 0

    looks = "[basic.WHO, '/x' in sys.path, os.getcwd() == '/', os.umask(0) == 0o77]"
    assert far.say(looks, digest=digest) == ["basic", False, False, False]


def test_a_payload_with_other_utilities_gets_its_own(far):
    assert far.say("basic.WHO") == "basic"
    assert far.say("basic.WHO", digest=far.keep(payload(BASIC.replace("'basic'", "'other'")))) == "other"
    assert far.say("basic.WHO") == "basic"


def test_a_child_finds_the_payload_by_its_path_as_respawn_needs(far):
    do = (
        "here = basic.__file__.split('/ansible/')[0];"
        "print(subprocess.check_output([sys.executable, '-c',"
        " 'import sitecustomize, ansible.module_utils.basic as b; print(b.WHO, sitecustomize.path)'],"
        " env={'PYTHONPATH': here}).decode().split() == ['basic', here])"
    )
    assert far.ask(do) == Answer(0, b"True\n", b"")


def test_a_payload_that_cannot_be_imported_is_refused_and_the_next_is_not(far):
    broken = payload(BASIC + "import nothing_of_that_name\n")
    with pytest.raises(Refused, match="nothing_of_that_name"):
        far.keep(broken)
    assert far.ask("print(1)") == Answer(0, b"1\n", b"")


def test_a_module_that_does_not_compile_says_so_as_python_does(far):
    answer = far.ask("", far.keep(payload(module="def broken(:\n")))

    assert answer.code == 1
    assert b"SyntaxError" in answer.error


def test_who_keeps_the_output_open_is_waited_for_as_ssh_does(far):
    answer = far.ask("subprocess.Popen(['sh', '-c', 'sleep 0.5; echo late'], start_new_session=True); print('early')")

    assert answer == Answer(0, b"early\nlate\n", b"")


def test_what_is_printed_while_importing_is_no_answer(far):
    assert (
        far.ask("print(basic.WHO)", far.keep(payload(BASIC + "print('junk'); import os; os.write(1, b'X')\n"))).code
        == 0
    )


@pytest.mark.parametrize("how", ["close", "kill", "term"])
def test_with_the_session_or_the_server_ends_the_module_and_all_below_it(far, tmp_path, how):
    written = tmp_path / "pids"
    do = (
        "child = subprocess.Popen(['sh', '-c', 'trap \"\" TERM; sleep 60 & wait; sleep 60']);"
        "time.sleep(.3);"
        f"open({str(written)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}'); time.sleep(60)"
    )
    digest = far.keep(payload())
    request = {
        "op": "module",
        "digest": digest,
        "fqn": "ansible.modules.do",
        "profile": "",
        "nofile": 0,
        "environment": 2,
    }
    body = b"{}" + json.dumps({"do": do}).encode()
    head = json.dumps({**request, "size": len(body)}).encode()
    far.link.end.sendall(len(head).to_bytes(4, "big") + head + body)
    while not (written.exists() and len(written.read_text().split()) == 2):
        time.sleep(0.02)
    pids = [far.pid, *map(int, written.read_text().split())]
    below = proc.descendants(far.pid)
    assert len(below) >= 3

    if how == "close":
        far.link.close()
    else:
        os.kill(far.pid, signal.SIGTERM if how == "term" else signal.SIGKILL)

    assert gone([*pids[:2]] if how == "kill" else [*pids, *below])
    for pid in below:  # what a SIGKILL of the server left
        if proc.alive(pid):
            os.kill(pid, signal.SIGKILL)


def test_a_server_that_nobody_asks_says_goodbye_and_leaves(began):
    far = began(idle_s=0.3)
    assert far.ask("print(1)").code == 0

    assert gone([far.pid])
    with pytest.raises(Absent, match="idle"):
        far.ask("print(1)", "0" * 64)


@pytest.mark.parametrize("change", [lambda site: (site / "new.py").write_text(""), lambda site: site.rmdir()])
def test_a_server_whose_surroundings_changed_says_so_and_does_nothing(far, tmp_path, change):
    digest = far.keep(payload())
    change(tmp_path / "site")

    with pytest.raises(Absent, match="changed"):
        far.ask(f"open({str(tmp_path / 'effect')!r}, 'w')", digest)
    assert gone([far.pid])
    assert not (tmp_path / "effect").exists()


@pytest.mark.parametrize("name", ["sitecustomize.py", "some.pth"])
def test_a_server_whose_python_would_start_in_another_way_says_so(began, tmp_path, name):
    (tmp_path / "site").mkdir()
    at = tmp_path / "site" / name
    elsewhere = tmp_path / "elsewhere"  # as Debian has it in /etc: the directory of the link does not change
    elsewhere.write_text("")
    at.symlink_to(elsewhere)
    far = began()
    digest = far.keep(payload())
    assert far.ask("pass", digest).code == 0

    elsewhere.write_text("import sys\n")

    with pytest.raises(Absent, match="changed"):
        far.ask("pass", digest)


def fence(tmp_path: Path, *numbers: int) -> dict:
    directory = tmp_path / ".mcpops/fence/x"
    directory.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        (directory / str(number)).touch()
    return {"number": 100, "directory": ".mcpops/fence/x", "beside": [str(tmp_path / "service.json")]}


@pytest.mark.parametrize("where", ["directory", "beside"])
def test_a_higher_fence_is_asked_for_before_each_task(began, tmp_path, where):
    far = began(fence=fence(tmp_path, 100))
    digest = far.keep(payload())
    assert far.ask("print(1)", digest).code == 0

    if where == "directory":
        fence(tmp_path, 101)
    else:
        (tmp_path / "service.json").write_text(json.dumps({"fence": 101}))

    effect = tmp_path / "effect"
    with pytest.raises(Refused, match="fenced by 101") as refused:
        far.ask(f"open({str(effect)!r}, 'w')", digest)
    assert refused.value.fence == 101
    with pytest.raises(Refused):
        far.link.ask({"op": "put", "path": str(effect), "mode": 0o600}, b"x")
    with pytest.raises(Refused):
        far.link.ask({"op": "shell", "command": f"touch {effect}"})
    assert not effect.exists()


def test_a_lower_fence_or_a_file_that_is_no_fence_says_nothing(began, tmp_path):
    far = began(fence=fence(tmp_path, 100, 99))
    (tmp_path / "service.json").write_text("nonsense")

    assert far.ask("print(1)").code == 0


def test_where_the_fence_is_not_kept_there_is_no_server(tmp_path):
    with pytest.raises(Unknown, match="the fence of this run is not kept"):
        Far(sys.executable, tmp_path, fence=fence(tmp_path, 99))


def test_a_file_is_written_with_its_mode_and_a_command_runs_by_sh(far, tmp_path):
    target = tmp_path / "file"

    assert far.link.ask({"op": "put", "path": str(target), "mode": 0o600}, b"data\0").code == 0
    assert (target.read_bytes(), target.stat().st_mode & 0o777) == (b"data\0", 0o600)
    assert far.link.ask({"op": "shell", "command": "echo $0 ~; exit 5"}) == Answer(
        5, f"/bin/sh {tmp_path}\n".encode(), b""
    )
    answer = far.link.ask({"op": "put", "path": str(tmp_path / "none/file"), "mode": 0o600}, b"data")
    assert answer.code == 1
    assert b"FileNotFoundError" in answer.error


def scratch(tmp_path: Path, name: str) -> tuple[Path, str]:
    """A temporary directory of Ansible's, and the command by which it makes it."""
    path = tmp_path / "tmp" / name
    return path, (
        f'( umask 77 && mkdir -p "` echo {path.parent} `"&& mkdir "` echo {path} `" && echo {name}="` echo {path} `" )'
        " && sleep 0"
    )


def test_a_directory_that_is_there_is_refused_in_the_words_of_the_shell(far, tmp_path):
    path, made = scratch(tmp_path, "ansible-tmp-1.1-1-1")
    said = f"{path.name}={path}\n".encode()

    assert far.link.ask({"op": "shell", "command": made}) == Answer(0, said, b"")
    answer = far.link.ask({"op": "shell", "command": made})

    assert answer.code == 1
    assert b"File exists" in answer.error
    assert not subprocess.run(["pgrep", "-P", str(far.pid)], capture_output=True, check=False).stdout


def test_what_ansible_left_in_its_temporary_directories_is_removed_at_the_end(far, tmp_path):
    names = ("ansible-tmp-1.1-1-1", "ansible-tmp-1.1-1-2", "ansible-tmp-1.1-1-3")
    left, removed, background = (scratch(tmp_path, name) for name in names)
    for path, made in (left, removed, background):
        assert far.link.ask({"op": "shell", "command": made}).code == 0
        assert far.link.ask({"op": "put", "path": str(path / "source"), "mode": 0o600}, b"secret").code == 0
    assert far.link.ask({"op": "shell", "command": f"rm -f -r {removed[0]}/ > /dev/null 2>&1 && sleep 0"}).code == 0
    removed[0].mkdir()  # by somebody else: not ours to remove any more
    far.link.ask({"op": "put", "path": str(background[0] / "async_wrapper.py"), "mode": 0o600}, b"")

    far.link.close()

    assert gone([far.pid])
    assert sorted(path.name for path in (tmp_path / "tmp").iterdir()) == sorted(names[1:])


def test_a_server_that_nobody_asks_waits_while_a_task_uses_a_directory_that_it_made(began, tmp_path):
    far = began(idle_s=0.3)
    path, made = scratch(tmp_path, "ansible-tmp-1.1-1-1")
    far.link.ask({"op": "shell", "command": made})

    assert not gone([far.pid], 1.0)
    assert path.exists()
    far.link.ask({"op": "shell", "command": f"rm -f -r {path}/ > /dev/null 2>&1 && sleep 0"})
    assert gone([far.pid])


@pytest.mark.parametrize("how", ["leave", "stale"])
def test_a_server_that_leaves_while_the_run_goes_on_lets_be_what_a_task_uses(far, tmp_path, how):
    path, made = scratch(tmp_path, "ansible-tmp-1.1-1-1")
    far.link.ask({"op": "shell", "command": made})
    if how == "leave":
        leave(far.link.end)
    else:
        (tmp_path / "site/new.py").write_text("")
        with pytest.raises(Absent, match="changed"):
            far.link.ask({"op": "shell", "command": "true"})

    assert gone([far.pid])
    assert path.exists()


def test_what_a_module_says_after_a_takeover_is_no_result(began, tmp_path):
    far = began(fence=fence(tmp_path, 100))
    digest = far.keep(payload())
    raised = tmp_path / ".mcpops/fence/x/101"

    with pytest.raises(Broken):
        far.ask(f"open({str(raised)!r}, 'w'); print('done')", digest)


def memory(pid: int) -> bytes:
    """Everything that a process has in memory of its own."""
    found = bytearray()
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as file:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights, *_ = line.split()
            if "r" in rights and "w" in rights:
                low, high = (int(end, 16) for end in span.split("-"))
                file.seek(low)
                found += file.read(high - low)
    return bytes(found)


def test_nothing_secret_stays_in_the_servers_memory(far, tmp_path):
    digest = far.keep(payload())
    secret = lambda name: f"{name}-" + hashlib.sha256(name.encode()).hexdigest()  # noqa: E731
    names = ("parameter", "variable", "printed", "file", "refused")
    far.ask(
        "print('printed-' + given['p']); sys.stderr.write('printed-' + given['p'])", digest, p=secret("printed")[8:]
    )
    far.ask("pass", digest, p=secret("parameter"), environment={"A": secret("variable")})
    far.link.ask({"op": "put", "path": str(tmp_path / "f"), "mode": 0o600}, secret("file").encode())
    assert far.ask("pass", "0" * 64, p=secret("refused")) == "wanted"

    held = memory(far.pid)

    assert digest.encode() in held, "that looked into the wrong memory"
    assert [name for name in names if secret(name).encode() in held] == []


def test_nothing_lies_on_the_disk_while_a_server_is_there(far, tmp_path):
    far.ask("pass")
    handles = [entry for entry in Path(f"/proc/{far.pid}/fd").iterdir() if entry.name != "2"]  # that is ssh's log here
    kept = [str(entry.readlink()) for entry in handles]

    assert any(path.startswith("/memfd:ansible") for path in kept)
    assert [path for path in kept if path.startswith("/") and not path.startswith(("/memfd:", "/dev/", "/proc/"))] == []


def test_junk_ends_the_session(far):
    far.link.end.sendall(b"\xff" * 64)

    assert gone([far.pid])
    with pytest.raises(Broken):
        far.link.ask({"op": "shell", "command": "true"})


def test_the_bootstrap_takes_no_byte_too_many():
    """It shares standard input with the requests: what follows the program is not its own."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = subprocess.Popen(["sh", "-c", Interpreter(sys.executable, {}).start()], stdin=theirs, stdout=theirs)
        text = b"import os; os.write(1, os.read(0, 100)); os._exit(0)"
        ours.sendall(b"%d\n%sthe rest" % (len(text), text))
        assert process.wait(20) == 0
        assert ours.recv(100) == b"MCPOPS-WARM\nthe rest"

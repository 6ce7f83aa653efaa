#!/usr/bin/python
"""Ansible module of the corpus: end in one of the ways in which a module can end."""

# As Ansible's own modules do it, which also meet paths that are no text:
# ruff: noqa: PTH116, PTH118, PTH123

from __future__ import annotations

import atexit
import logging
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import warnings

from ansible.module_utils.basic import AnsibleModule


def changed(module):
    module.exit_json(changed=True, value=1)


def failed(module):
    module.fail_json(msg="it failed", rc=7, value=[1, {"two": None}])


def raised(module):
    raise ValueError("boom ü")


def chained(module):
    try:
        {}["key"]
    except KeyError as error:
        raise RuntimeError("while looking") from error


def recursion(module):
    recursion(module)


def returned(module):
    """The module says nothing and ends as if it had worked."""


def exit_text(module):
    sys.exit("a text as the exit code")


def exit_code(module):
    print('{"changed": false, "rc": 0}')
    sys.exit(4)


def os_exit(module):
    os._exit(3)


def as_ssh(module):
    """255 is ssh's own code: Ansible takes the host for one that cannot be reached."""
    sys.stderr.write("no error of ssh\n")
    sys.exit(255)


def os_exit_after_json(module):
    print('{"changed": true, "note": "said before the end"}', flush=True)
    os._exit(0)


def os_exit_unflushed(module):
    sys.stdout.write('{"changed": true}')
    os._exit(0)


def killed(module):
    os.kill(os.getpid(), signal.SIGKILL)


def terminated(module):
    os.kill(os.getpid(), signal.SIGTERM)


def interrupted(module):
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(5)


def aborted(module):
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.abort()


def alarm(module):
    signal.alarm(1)
    time.sleep(20)


def broken_pipe(module):
    reading, writing = os.pipe()
    os.close(reading)
    os.write(writing, b"x")


def cpu_limit(module):
    resource.setrlimit(resource.RLIMIT_CPU, (1, 2))
    while True:
        pass


def file_limit(module):
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
    try:
        with open(os.path.join(module.tmpdir, "large"), "wb") as handle:
            handle.write(b"x" * 100)
    except OSError as error:
        module.fail_json(msg=str(error), errno=error.errno)


def junk_before(module):
    print("text before")
    sys.stdout.flush()
    os.write(1, b"\xff\xfe no text \x00\n")
    print('{"not": "finished"')
    module.exit_json(changed=False)


def junk_after(module):
    atexit.register(print, "text of atexit")
    module.exit_json(changed=False)


def junk_around(module):
    print("before")
    atexit.register(os.write, 1, b"after, no text: \xc3\x28\n")
    module.exit_json(changed=True)


def no_json(module):
    print("only text")
    sys.exit(0)


def nothing_but_stderr(module):
    os.write(2, b"only stderr, no text: \xff\n")
    sys.exit(1)


def two_documents(module):
    print('{"changed": true, "first": 1}')
    module.exit_json(changed=False, second=2)


def list_not_dict(module):
    print("[1, 2]")
    sys.exit(0)


def huge(module):
    module.exit_json(changed=False, text="0123456789" * 300_000)


def huge_stderr(module):
    sys.stderr.write("e" * 3_000_000)
    module.exit_json(changed=False)


def huge_both(module):
    """Two pipes filled by turns: who reads only one of them waits for ever."""
    for _ in range(64):
        os.write(2, b"e" * 65_536)
        os.write(1, b"o" * 65_535 + b"\n")
    module.exit_json(changed=False)


def odd_text(module):
    module.exit_json(changed=False, text="ü \u2028 \U0001f600 \udcff \x00 \x1b[31m", keys={"ä": 1, "": 2})


def odd_bytes(module):
    module.exit_json(changed=False, text=b"a\xffb\x00c", numbers=[1e300, -0.0, 2**70])


def stdout_closed(module):
    os.close(1)
    module.exit_json(changed=True)


def stdout_elsewhere(module):
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    print("nobody reads this")
    module.exit_json(changed=True)


def stderr_lines(module):
    sys.stderr.write("one line\n")
    logging.getLogger("corpus").error("by logging's last resort")
    module.exit_json(changed=True)


def python_warning(module):
    warnings.warn("a warning of Python's", UserWarning, stacklevel=1)
    module.exit_json(changed=False)


def warned(module):
    module.warn("a warning")
    module.warn("a warning")
    module.deprecate("old", version="9.9", collection_name="corpus.corpus")
    module.exit_json(changed=False, warnings=["one more"])


def daemon(module):
    """What it leaves behind holds nothing of the session."""
    subprocess.Popen(
        ["sleep", "3"], start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    module.exit_json(changed=True)


def daemon_on_stdout(module):
    """What it leaves behind says something after the module has ended."""
    subprocess.Popen("sleep 1; echo late", shell=True, start_new_session=True)
    module.exit_json(changed=True)


def daemon_forked(module):
    """The child of a double fork ends by os._exit and must not answer a second time."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.dup2(os.open(os.devnull, os.O_RDWR), 1)
            os.dup2(1, 2)
            time.sleep(2)
        os._exit(0)
    os.wait()
    module.exit_json(changed=True)


def setsid(module):
    """Only a process that leads no group may do this."""
    os.setsid()
    module.exit_json(changed=False, leads=os.getsid(0) == os.getpid())


def orphan_waited(module):
    """A process of its own group that lives on: the module ends first."""
    process = subprocess.Popen(["sleep", "0.1"])
    module.exit_json(changed=False, code=process.wait())


def thread_on(module):
    """A thread that lives on keeps the process, and so its answer, until it is done."""

    def later():
        time.sleep(0.5)
        sys.stderr.write("from the thread\n")

    threading.Thread(target=later).start()
    module.exit_json(changed=True)


def thread_raised(module):
    thread = threading.Thread(target=lambda: 1 / 0, name="divider")
    thread.start()
    thread.join()
    module.exit_json(changed=False, alive=threading.active_count())


def _square(number):
    return number * number


def process_pool(module):
    with multiprocessing.get_context("fork").Pool(2) as pool:
        module.exit_json(changed=False, squares=pool.map(_square, [1, 2, 3]))


def process_spawn(module):
    """A new interpreter that gets its function by name: it must find this module again, or fail the same way."""
    process = multiprocessing.get_context("spawn").Process(target=_square, args=(2,))
    process.start()
    process.join(20)
    module.exit_json(changed=False, code=process.exitcode)


def resource_tracker(module):
    """Shared memory starts a helper process that outlives the module by a moment."""
    from multiprocessing import shared_memory  # noqa: PLC0415

    memory = shared_memory.SharedMemory(create=True, size=16)
    memory.close()
    memory.unlink()
    module.exit_json(changed=False)


def sleeping(module):
    time.sleep(6)
    module.exit_json(changed=False)


def temporary(module):
    """The module's own directory is there, private, and gone when it has ended."""
    made = os.path.join(module.tmpdir, "x")
    with open(made, "w") as handle:
        handle.write("y")
    seen = os.stat(module.tmpdir)
    module.exit_json(changed=False, mode=oct(seen.st_mode), mine=seen.st_uid == os.getuid())


def secret(module):
    module.exit_json(changed=False, said=f"the secret is {module.params['secret']}", url="http://u:pw@h/")


ENDINGS = {
    ending.__name__: ending
    for ending in (
        changed, failed, raised, chained, recursion, returned, exit_text, exit_code, as_ssh, os_exit,
        os_exit_after_json, os_exit_unflushed, killed, terminated, interrupted, aborted, alarm, broken_pipe,
        cpu_limit, file_limit, junk_before, junk_after, junk_around, no_json, nothing_but_stderr, two_documents,
        list_not_dict, huge, huge_stderr, huge_both, odd_text, odd_bytes, stdout_closed, stdout_elsewhere,
        stderr_lines, python_warning, warned, daemon, daemon_on_stdout, daemon_forked, setsid, orphan_waited,
        thread_on, thread_raised, process_pool, process_spawn, resource_tracker, sleeping, temporary, secret,
    )
}  # fmt: skip


def main():
    module = AnsibleModule(
        argument_spec={"how": {"type": "str", "required": True}, "secret": {"type": "str", "no_log": True}},
        supports_check_mode=True,
    )
    ENDINGS[module.params["how"]](module)


if __name__ == "__main__":
    main()

"""The payload cache in real ansible-playbook: used when nothing changed, and never in the way when anything did."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ansible
import pytest

ROOT = Path(__file__).parents[2]
DEADLINE_S = 120
MODULE = """\
from ansible.module_utils.basic import AnsibleModule
{imports}

def main():
    module = AnsibleModule(argument_spec={{}}, supports_check_mode=True)
    module.exit_json(said={said})


if __name__ == "__main__":
    main()
"""
OPTIONAL = """\
try:
    from ansible_collections.demo.more.plugins.module_utils.extra import EXTRA
except ImportError:
    EXTRA = "nothing"
"""
# Each says what it was made of, so an old payload is heard.
PLAY = """\
- hosts: localhost
  gather_facts: false
  tasks:
    - greet:
      register: greet
    - demo.words.say:
      register: say
    - optional:
      register: optional
    - ansible.builtin.ping:
      register: ping
    - ansible.builtin.debug:
        msg: heard={{ greet.said }},{{ say.said }},{{ optional.said }},{{ ping.ping }}
"""
SHORT = """\
- hosts: localhost
  gather_facts: false
  tasks:
    - greet:
      register: greet
    - ansible.builtin.debug:
        msg: heard={{ greet.said }}
"""
FIRST = "heard=word-1,loud-1,nothing,pong"
NAMES = ("greet", "say", "optional", "ping")


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


class Stage:
    """A project, and the cache's directory beside it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.kept = root / "kept"
        self.environment: dict[str, str] = {"ANSIBLE_LIBRARY": str(root / "library")}

    def fill(self) -> None:
        greet = MODULE.format(imports="from ansible.module_utils.words import WORD", said="WORD")
        write(self.root / "library" / "greet.py", greet)
        write(self.root / "library" / "optional.py", MODULE.format(imports=OPTIONAL, said="EXTRA"))
        write(self.root / "module_utils" / "words.py", 'WORD = "word-1"\n')
        self.write_collection(self.root / "collections", "loud-1")
        write(self.root / "ansible.cfg", "")
        self.write_play(PLAY)

    def write_play(self, text: str) -> None:
        write(self.root / "play.yml", text)

    def write_collection(self, path: Path, loud: str) -> None:
        words = path / "ansible_collections" / "demo" / "words"
        say = MODULE.format(imports="from ..module_utils.voice import LOUD", said="LOUD")
        write(words / "plugins" / "modules" / "say.py", say)
        write(words / "plugins" / "module_utils" / "voice.py", f'LOUD = "{loud}"\n')

    def command(self, *more: str) -> tuple[list[str], dict[str, str]]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
        environment |= {
            "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "plugins" / "callback"),
            "ANSIBLE_CALLBACKS_ENABLED": "payload_cache",
            "ANSIBLE_COLLECTIONS_PATH": str(self.root / "collections"),
            "ANSIBLE_CONFIG": "ansible.cfg",
            "ANSIBLE_HOME": str(self.root / "home"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_PAYLOAD_CACHE": str(self.kept),
            "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
        } | self.environment
        program = str(Path(sys.executable).with_name("ansible-playbook"))
        return [program, "-vv", "-i", "localhost,", "-c", "local", "play.yml", *more], environment

    def run(self, *more: str) -> Said:
        return self.do(*self.command(*more))

    def run_without(self) -> Said:
        """Run without the cache: what must come out."""
        command, environment = self.command()
        del environment["ANSIBLE_CALLBACKS_ENABLED"]
        return self.do(command, environment)

    def do(self, command: list[str], environment: dict[str, str]) -> Said:
        done = subprocess.run(
            command, cwd=self.root, env=environment, capture_output=True, text=True, timeout=DEADLINE_S, check=False
        )
        return Said(done.stdout, done.stderr, done.returncode)


class Said:
    """What a run said."""

    def __init__(self, out: str, errors: str, code: int) -> None:
        self.text = out + errors
        assert code == 0, self.text
        match = re.search(r"payload cache: (\d+) given, (\d+) taken back, (\d+) kept", out)
        self.given, self.taken_back, self.kept = map(int, match.groups()) if match else (0, 0, 0)
        heard = re.findall(r"heard=[^\"\n]+", out)
        self.heard = heard[-1] if heard else ""
        told = (" ".join(text.split()) for text in errors.split("[WARNING]: "))
        self.warnings = [text for text in told if text.startswith("payload cache")]


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project after one run, to be copied: no path is part of what is compared."""
    stage = Stage(tmp_path_factory.mktemp("warm"))
    stage.fill()
    said = stage.run()
    assert (said.heard, said.given, said.kept, said.warnings) == (FIRST, 0, len(NAMES), [])
    return stage.root


@pytest.fixture
def stage(warm: Path, tmp_path: Path) -> Stage:
    shutil.copytree(warm, tmp_path / "stage", ignore=shutil.ignore_patterns("home"))
    return Stage(tmp_path / "stage")


def ansible_of_its_own(stage: Stage) -> Path:
    """Let the run use a copy of ansible-core, with the times of its files: an upgrade in place can be tried on it."""
    site = stage.root / "site"
    own = Path(ansible.__file__).parent
    shutil.copytree(own, site / "ansible", symlinks=True)
    stage.environment["PYTHONPATH"] = os.pathsep.join([str(site), str(ROOT)])
    return site / "ansible"


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


# --- the controls: it is used -----------------------------------------------------------------------------------------


def test_payloads_are_used_while_nothing_changes(stage):
    said = stage.run()
    assert (said.heard, said.given, said.taken_back, said.kept) == (FIRST, len(NAMES), 0, 0)
    assert said.warnings == []


@pytest.mark.slow
def test_check_mode_uses_and_keeps_them_too(stage):
    stage.write_play(SHORT)
    assert stage.run("--check").given == 1
    shutil.rmtree(stage.kept)
    assert stage.run("--check").kept == 1
    said = stage.run("--check")
    assert (said.heard, said.given) == ("heard=word-1", 1)


def test_a_snapshot_of_the_plugins_at_another_path_is_the_same(stage):
    """As mcpops runs its own modules: from a copy that each run has for itself."""
    (stage.root / "library").rename(stage.root / "snapshot")
    stage.environment["ANSIBLE_LIBRARY"] = str(stage.root / "snapshot")
    said = stage.run()
    assert (said.heard, said.given) == (FIRST, len(NAMES))


@pytest.mark.slow
def test_another_copy_of_the_same_ansible_is_the_same(stage):
    ansible_of_its_own(stage)
    said = stage.run()
    assert (said.heard, said.given) == (FIRST, len(NAMES))


@pytest.mark.slow
def test_without_the_option_payloads_are_where_caches_are(stage):
    stage.write_play(SHORT)
    stage.environment |= {"ANSIBLE_PAYLOAD_CACHE": "", "XDG_CACHE_HOME": str(stage.root / "caches")}
    assert stage.run().kept == 1
    assert (stage.root / "caches" / "mcpops" / "payloads").stat().st_mode & 0o777 == 0o700
    (stage.root / "ansible.cfg").write_text("[payload_cache]\ndir = from_ini\n")
    shutil.copytree(stage.kept, stage.root / "from_ini")
    command, environment = stage.command()
    del environment["ANSIBLE_PAYLOAD_CACHE"]
    assert stage.do(command, environment).given == 1


# --- a change between runs, one of each kind --------------------------------------------------------------------------


def edited_module(stage: Stage) -> None:
    write(stage.root / "library" / "greet.py", MODULE.format(imports="", said="'word-2'"))


def edited_utils(stage: Stage) -> None:
    write(stage.root / "module_utils" / "words.py", 'WORD = "word-2"\n')


def utils_of_a_role(stage: Stage) -> None:
    """The playbook's own directory comes first, so the role's can only win for a name that is not there."""
    (stage.root / "module_utils" / "words.py").rename(stage.root / "words.py")
    write(stage.root / "roles" / "r" / "module_utils" / "words.py", 'WORD = "word-2"\n')
    stage.write_play(PLAY.replace("  tasks:\n", "  roles: [r]\n  tasks:\n"))


def configured_utils(stage: Stage) -> None:
    (stage.root / "module_utils" / "words.py").unlink()
    write(stage.root / "elsewhere" / "words.py", 'WORD = "word-2"\n')
    stage.environment["ANSIBLE_MODULE_UTILS"] = str(stage.root / "elsewhere")


SHADOWED = """

def exit_json(self, _before=AnsibleModule.exit_json, **values):
    _before(self, **{**values, "said": "basic-2"})


AnsibleModule.exit_json = exit_json
"""


def shadowed_core_utils(stage: Stage) -> None:
    basic = Path(ansible.__file__).parent / "module_utils" / "basic.py"
    write(stage.root / "module_utils" / "basic.py", basic.read_text() + SHADOWED)


def module_of_a_role(stage: Stage) -> None:
    """Both are ansible.legacy.greet; which one comes first is for Ansible to say."""
    write(stage.root / "roles" / "r" / "library" / "greet.py", MODULE.format(imports="", said="'word-2'"))
    stage.write_play(PLAY.replace("  tasks:\n", "  roles: [r]\n  tasks:\n"))


def module_beside_the_playbook(stage: Stage) -> None:
    (stage.root / "library").rename(stage.root / "configured")
    stage.environment["ANSIBLE_LIBRARY"] = str(stage.root / "configured")
    write(stage.root / "library" / "greet.py", MODULE.format(imports="", said="'word-2'"))


def library_before_core(stage: Stage) -> None:
    write(stage.root / "library" / "ping.py", MODULE.format(imports="", said="''").replace("said=''", "ping='pang'"))
    stage.write_play(PLAY.replace("ansible.builtin.ping", "ping"))


def edited_collection(stage: Stage) -> None:
    stage.write_collection(stage.root / "collections", "loud-2")


def newer_collection(stage: Stage) -> None:
    (stage.root / "collections").rename(stage.root / "configured")  # beside the playbook it would come first
    stage.write_collection(stage.root / "newer", "loud-2")
    stage.environment["ANSIBLE_COLLECTIONS_PATH"] = f"{stage.root / 'newer'}:{stage.root / 'configured'}"


def collection_beside_the_playbook(stage: Stage) -> None:
    (stage.root / "collections").rename(stage.root / "configured")
    stage.environment["ANSIBLE_COLLECTIONS_PATH"] = str(stage.root / "configured")
    stage.write_collection(stage.root / "collections", "loud-2")


def collection_for_an_optional_import(stage: Stage) -> None:
    more = stage.root / "collections" / "ansible_collections" / "demo" / "more"
    write(more / "plugins" / "module_utils" / "extra.py", 'EXTRA = "extra-2"\n')


def edited_core_module(stage: Stage) -> None:
    ping = ansible_of_its_own(stage) / "modules" / "ping.py"
    ping.write_text(ping.read_text().replace("default='pong'", "default='pang'"))


def edited_core_utils(stage: Stage) -> None:
    append(ansible_of_its_own(stage) / "module_utils" / "basic.py", SHADOWED)


def upgraded_core(stage: Stage) -> None:
    core = ansible_of_its_own(stage)
    release = core / "release.py"
    release.write_text(release.read_text().replace("2.19.14", "2.19.99"))
    edited = core / "modules" / "ping.py"
    edited.write_text(edited.read_text().replace("default='pong'", "default='pang'"))


CHANGES: dict[str, tuple[Callable[[Stage], None], str, int]] = {
    # what changes: how, what is heard then, how many payloads still hold
    "a module": (edited_module, "word-2,loud-1,nothing,pong", 3),
    "a module_utils": (edited_utils, "word-2,loud-1,nothing,pong", 0),
    "a module_utils of a role": (utils_of_a_role, "word-2,loud-1,nothing,pong", 0),
    "a configured module_utils directory": (configured_utils, "word-2,loud-1,nothing,pong", 0),
    "a module_utils that shadows ansible-core's": (shadowed_core_utils, "basic-2,basic-2,basic-2,pong", 0),
    "a module beside the playbook": (module_beside_the_playbook, "word-2,loud-1,nothing,pong", 3),
    # The payload of ansible-core's own still holds, and is not what `ping` is then.
    "a library module before ansible-core's": (library_before_core, "word-1,loud-1,nothing,pang", 4),
    "a module_utils of a collection": (edited_collection, "word-1,loud-2,nothing,pong", 3),
    "a newer collection earlier in the path": (newer_collection, "word-1,loud-2,nothing,pong", 3),
    "a collection beside the playbook": (collection_beside_the_playbook, "word-1,loud-2,nothing,pong", 3),
    "a collection that an optional import finds": (
        collection_for_an_optional_import,
        "word-1,loud-1,extra-2,pong",
        3,
    ),
    "a module of ansible-core": (edited_core_module, "word-1,loud-1,nothing,pang", 3),
    "a module_utils of ansible-core": (edited_core_utils, "basic-2,basic-2,basic-2,pong", 0),
    "ansible-core, upgraded in place": (upgraded_core, "word-1,loud-1,nothing,pang", 0),
}


def short(table: dict[str, Any], *names: str) -> list[Any]:
    """These in each run of the tests, the others in the long form: the unit tests have every kind of change, too."""
    return [name if name in names else pytest.param(name, marks=pytest.mark.slow) for name in table]


@pytest.mark.parametrize(
    "change", short(CHANGES, "a module", "a module_utils of a role", "ansible-core, upgraded in place")
)
def test_a_payload_with_other_inputs_is_not_used(stage, change):
    act, heard, given = CHANGES[change]
    act(stage)
    said = stage.run()
    assert (said.heard, said.given, said.warnings) == (f"heard={heard}", given, [])


@pytest.mark.slow
def test_two_modules_of_one_name_are_not_taken_for_each_other(stage):
    module_of_a_role(stage)
    said = stage.run()
    assert said.given == 3
    assert said.heard == stage.run_without().heard


# --- a change during a run --------------------------------------------------------------------------------------------

INCLUDE = """\
    - ansible.builtin.include_role:
        name: r
"""


def test_a_role_that_is_included_brings_module_utils(stage):
    (stage.root / "module_utils" / "words.py").unlink()
    write(stage.root / "module_utils" / "other.py", "")
    write(stage.root / "roles" / "before" / "module_utils" / "words.py", 'WORD = "word-1"\n')
    write(stage.root / "roles" / "r" / "module_utils" / "more.py", "")
    write(stage.root / "roles" / "r" / "tasks" / "main.yml", "- ansible.builtin.debug: {msg: here}\n")
    with_role = PLAY.replace("  tasks:\n", "  roles: [before]\n  tasks:\n")
    stage.write_play(with_role)
    assert stage.run().kept == len(NAMES)
    assert stage.run().given == len(NAMES)
    write(stage.root / "roles" / "r" / "module_utils" / "ansible_release.py", "")
    stage.write_play(with_role.replace("    - demo.words.say:\n", f"{INCLUDE}    - demo.words.say:\n"))
    said = stage.run()
    assert (said.heard, said.given, said.taken_back) == (FIRST, 1, 1)


@pytest.mark.slow
def test_a_role_that_is_included_brings_a_module(stage):
    write(stage.root / "roles" / "r" / "library" / "optional.py", MODULE.format(imports="", said="'role-2'"))
    write(stage.root / "roles" / "r" / "tasks" / "main.yml", "- ansible.builtin.debug: {msg: here}\n")
    stage.write_play(PLAY.replace("    - optional:\n", f"{INCLUDE}    - optional:\n"))
    said = stage.run()
    assert said.given == 3, "all but the one that is now there twice"
    assert said.heard == stage.run_without().heard


EDIT = """\
    - ansible.builtin.raw: echo 'LOUD = "loud-2"' > {path}
"""


@pytest.mark.slow
def test_a_task_that_edits_what_the_next_one_packs(stage):
    voice = stage.root / "collections/ansible_collections/demo/words/plugins/module_utils/voice.py"
    stage.write_play(PLAY.replace("    - demo.words.say:\n", f"{EDIT.format(path=voice)}    - demo.words.say:\n"))
    said = stage.run()
    assert (said.heard, said.given, said.kept) == ("heard=word-1,loud-2,nothing,pong", 3, 0)


@pytest.mark.slow
def test_with_a_strategy_that_has_workers_about_nothing_is_given_or_kept(stage):
    stage.write_play(PLAY.replace("  gather_facts", "  strategy: free\n  gather_facts"))
    said = stage.run()
    assert (said.heard, said.given, said.kept) == (FIRST, 0, 0)


# --- two runs at once, and one that is killed -------------------------------------------------------------------------


def test_two_runs_at_once_on_an_empty_directory(stage):
    shutil.rmtree(stage.kept)
    command, environment = stage.command()
    both = [
        subprocess.Popen(
            command, cwd=stage.root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    told = [(*process.communicate(timeout=DEADLINE_S), process.returncode) for process in both]
    assert [Said(*one).heard for one in told] == [FIRST, FIRST]
    assert list(stage.kept.glob("*.tmp")) == []
    assert len(list(stage.kept.glob("*.json"))) == len(NAMES)
    assert stage.run().given == len(NAMES)


@pytest.mark.slow
def test_two_runs_at_once_on_a_full_directory_and_one_prunes(stage):
    command, environment = stage.command()
    with subprocess.Popen(
        command, cwd=stage.root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as other:
        said = stage.run()
        out, errors = other.communicate(timeout=DEADLINE_S)
    assert (said.heard, Said(out, errors, other.returncode).heard) == (FIRST, FIRST)
    assert said.given == Said(out, errors, other.returncode).given == len(NAMES)


@pytest.mark.slow
def test_a_run_that_is_killed_leaves_what_its_plays_built(stage):
    shutil.rmtree(stage.kept)
    waits = "- hosts: localhost\n  gather_facts: false\n  tasks:\n    - ansible.builtin.raw: touch began; sleep 60\n"
    stage.write_play(PLAY + waits)
    command, environment = stage.command()
    with subprocess.Popen(
        command, cwd=stage.root, env=environment, stdout=subprocess.DEVNULL, start_new_session=True
    ) as process:
        deadline = time.monotonic() + DEADLINE_S
        while not (stage.root / "began").exists():
            assert time.monotonic() < deadline, f"the second play did not begin in {DEADLINE_S} s"
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    stage.write_play(PLAY)
    said = stage.run()
    assert (said.heard, said.given) == (FIRST, len(NAMES))


# --- what others could have written, and what is damaged --------------------------------------------------------------


def corrupt(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def all_of(suffix: str, act: Callable[[Path], object]) -> Callable[[Stage], None]:
    def harm(stage: Stage) -> None:
        for path in stage.kept.glob(f"*{suffix}"):
            act(path)

    return harm


def linked(stage: Stage) -> None:
    stage.kept.rename(stage.root / "real")
    stage.kept.symlink_to("real")


def parent_open(stage: Stage) -> None:
    (stage.root / "open").mkdir()
    (stage.root / "open").chmod(0o777)
    stage.kept.rename(stage.root / "open" / "kept")
    stage.kept = stage.root / "open" / "kept"
    stage.environment["ANSIBLE_PAYLOAD_CACHE"] = str(stage.kept)


def given_away(path: Path) -> None:
    os.chown(path, 65534, 65534)


HARMS: dict[str, tuple[Callable[[Stage], object], str]] = {
    "payloads are corrupted": (all_of(".payload", corrupt), "not what was written"),
    "manifests are cut off": (all_of(".json", lambda path: os.truncate(path, 100)), "no manifest"),
    "payloads can be read by others": (all_of(".payload", lambda path: path.chmod(0o644)), "open to others"),
    "payloads belong to another user": (all_of(".payload", given_away), "belongs to user 65534"),
    "the directory is open to others": (lambda stage: stage.kept.chmod(0o755), "open to others"),
    "the directory belongs to another user": (lambda stage: given_away(stage.kept), "belongs to user 65534"),
    "the directory is a link": (linked, "symbolic link"),
    "the directory above is open to others": (parent_open, "can be written by others"),
    "the directory cannot be made": (
        lambda stage: stage.environment.update(ANSIBLE_PAYLOAD_CACHE="/proc/none/payloads"),
        "/proc/none",
    ),
}


@pytest.mark.parametrize("harm", short(HARMS, "payloads are corrupted", "the directory is open to others"))
def test_what_is_not_certainly_ours_and_whole_is_not_used(stage, harm):
    act, why = HARMS[harm]
    if "another user" in harm and os.geteuid() != 0:
        pytest.skip("not on this machine: root, who can give files away")
    stage.write_play(SHORT)
    act(stage)
    said = stage.run()
    assert (said.heard, said.given) == ("heard=word-1", 0)
    assert len(said.warnings) == 1
    assert why in said.warnings[0]


@pytest.mark.slow
def test_what_was_damaged_is_made_anew(stage):
    stage.write_play(SHORT)
    all_of(".payload", corrupt)(stage)
    assert stage.run().kept == 1
    said = stage.run()
    assert (said.given, said.warnings) == (1, [])


def test_without_mcpops_in_its_environment_it_says_so_and_stands_aside(stage):
    """As where the plugin was copied to an Ansible of another environment."""
    write(stage.root / "hidden" / "mcpops" / "__init__.py", "")
    stage.environment["PYTHONPATH"] = str(stage.root / "hidden")
    stage.write_play(SHORT)
    said = stage.run()
    assert (said.heard, said.given) == ("heard=word-1", 0)
    assert len(said.warnings) == 1
    assert "mcpops" in said.warnings[0]

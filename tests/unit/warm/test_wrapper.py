"""A wrapper as this version of ansible-core writes it is known; one byte of its program away, it is not."""

import hashlib

import pytest
from ansible import release
from ansible.executor import module_common

from mcpops.warm import wrapper
from mcpops.warm.errors import Unknown

ARGUMENTS = {
    "ansible_module": "command",
    "module_fqn": "ansible.modules.command",
    "profile": "legacy",
    "date_time": "datetime.datetime(2026, 1, 1)",
    "rlimit_nofile": 0,
    "params": '{"ANSIBLE_MODULE_ARGS": {"_raw_params": "a\\u00e9 \'b\' \\"c\\"", "_ansible_no_log": false}}',
    "extensions": {},
    "zip_data": "UEsFBgAAAAAAAAAAAAAAAAAAAAAAAA==",
}


def written(**changes: object) -> bytes:
    """What `_find_module_utils` of ansible-core puts together."""
    code = module_common._get_ansiballz_code("#!/usr/bin/python3")
    arguments = "\n".join(f"{key}={value!r}," for key, value in (ARGUMENTS | changes).items())
    return f'{code}\n\n\nif __name__ == "__main__":\n    _ansiballz_main(\n{arguments}\n)\n'.encode()


def test_the_wrapper_of_the_installed_version_is_known():
    assert release.__version__ == "2.19.14", "add the digest of the new version, and try it"

    module = wrapper.parse(written())

    assert (module.fqn, module.profile, module.nofile) == ("ansible.modules.command", "legacy", 0)
    assert module.parameters.decode() == ARGUMENTS["params"]
    assert module.payload()[:2] == b"PK"
    assert module.digest == hashlib.sha256(module.archive).hexdigest()


@pytest.mark.parametrize("params", ['it\'s "both"', "line\nline", "\\", "\u00e9\u2028\U0001f600", "\x00"])
def test_parameters_come_out_as_they_went_in(params):
    assert wrapper.parse(written(params=params)).parameters.decode() == params


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"#!/usr/bin/python3\nimport sys\n",
        b"\x7fELF",
        written()[3:],
    ],
)
def test_what_is_no_wrapper_is_said_to_be_none(data):
    with pytest.raises(Unknown, match="not a Python module") as unknown:
        wrapper.parse(data)
    assert not unknown.value.once


@pytest.mark.parametrize(
    "data",
    [
        written().replace(b"tempfile.mkdtemp", b"tempfile.mkdtemq"),
        written().replace(b"_ANSIBALLZ_WRAPPER = True", b"_ANSIBALLZ_WRAPPER = True\nimport x"),
        written().replace(b"_ansiballz_main(\nansible_module", b"_ansiballz_main( \nansible_module"),
        written() + b"import os\n",
        written().replace(b"zip_data=", b"zip_date="),
        written().replace(b"profile='legacy',", b"profile='legacy', more=1,"),
        written().replace(b"params='", b"params=f'"),
        written().replace(b"params='", b"params=x or '"),
    ],
)
def test_another_program_or_other_arguments_are_another_version_and_the_user_hears_of_it(data):
    with pytest.raises(Unknown, match=r"of another version|other arguments") as unknown:
        wrapper.parse(data)
    assert unknown.value.once


@pytest.mark.parametrize("changes", [{"extensions": {"coverage": {}}}, {"module_fqn": "a b"}])
def test_what_only_ansibles_own_tests_do_is_left_to_them(changes):
    with pytest.raises(Unknown):
        wrapper.parse(written(**changes))

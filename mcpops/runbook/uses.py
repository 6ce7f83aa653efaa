"""Which roles a play uses, with all that it says for each use: an undo or a probe must not say less."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import yaml

from mcpops.runbook.nodes import items, mapping, scalar

_PREFIXES = ("", "ansible.builtin.", "ansible.legacy.")
# What a task may be called with to bring a role in.
ROLE_TASKS = frozenset(prefix + name for prefix in _PREFIXES for name in ("import_role", "include_role"))
_ACTIONS = ("action", "local_action")
_BLOCKS = ("block", "rescue", "always")
# Ansible's words for an entry of `roles:` (a test compares them); every other key is a variable of the role.
ROLE_KEYWORDS = frozenset(
    {"any_errors_fatal", "become", "become_exe", "become_flags", "become_method", "become_user", "check_mode"}
    | {"collections", "connection", "debugger", "delegate_facts", "delegate_to", "diff", "environment"}
    | {"ignore_errors", "ignore_unreachable", "module_defaults", "name", "no_log", "port", "remote_user", "role"}
    | {"run_once", "tags", "throttle", "timeout", "vars", "when"}
)
# What a task or block says of itself and not of what it holds; `notify` would name handlers that are left out.
_OWN = frozenset({"name", "register", "notify", "args", "async", "poll", "until", "retries", "delay"})
_OWN_TOO = frozenset({"changed_when", "failed_when"})
# Options of import_role and include_role that also count for other tasks of the role.
_OPTIONS = ("defaults_from", "vars_from", "handlers_from", "rolespec_validate")

Nodes = Mapping[str, yaml.Node]


@dataclass(frozen=True)
class Obstacle:
    """Why a use cannot be taken back or probed: place, what, and the way out."""

    node: yaml.Node
    what: str
    hint: str


@dataclass(frozen=True)
class RoleUse:
    """One use of a role. `role` is empty when it is not known.

    `options` go into the call of another of its task files, `settings` onto the task that does so, and `around` are
    what the blocks say that it stands in, the outermost first. `whole`: the play runs the role's tasks/main.yml.
    """

    role: str
    node: yaml.Node
    options: Nodes = field(default_factory=dict)
    settings: Nodes = field(default_factory=dict)
    around: tuple[Nodes, ...] = ()
    obstacles: tuple[Obstacle, ...] = ()
    whole: bool = True


def role_uses(play: yaml.Node) -> list[RoleUse]:
    """Return the uses of roles in a play, in the order in which they run.

    Both ways count: entries of `roles:`, and tasks that import or include a role, in blocks too. Files of tasks that
    a play includes are not looked into.
    """
    entries = items(play)
    roles = entries.get("roles")
    return [
        *_in_tasks(entries.get("pre_tasks")),
        *(_role_entry(node) for node in (roles.value if isinstance(roles, yaml.SequenceNode) else ())),
        *_in_tasks(entries.get("tasks")),
        *_in_tasks(entries.get("post_tasks")),
    ]


def only_whole_roles(play: yaml.Node) -> bool:
    """Whether a play does nothing but run roles, all of each: then it is done when all of them are."""
    entries = items(play)
    tasks = [task for key in ("pre_tasks", "tasks", "post_tasks") for task, _ in _leaves(entries.get(key), ())]
    return all(use.whole for use in role_uses(play)) and all(_role_action(task) for task in tasks)


def _leaves(node: yaml.Node | None, around: tuple[Nodes, ...]) -> Iterator[tuple[yaml.Node, tuple[Nodes, ...]]]:
    """Yield each task of a list with what the blocks around it say."""
    for task in node.value if isinstance(node, yaml.SequenceNode) else ():
        entries = items(task)
        if "block" not in entries:
            yield task, around
        for key in _BLOCKS:
            yield from _leaves(entries.get(key), (*around, _carried(entries, _BLOCKS)))


def _in_tasks(node: yaml.Node | None) -> Iterator[RoleUse]:
    for task, around in _leaves(node, ()):
        key = _role_action(task)
        if key:
            yield _task_use(task, key, around)


def _role_action(task: yaml.Node) -> str:
    """Return the key by which a task brings a role in, or nothing."""
    for key, value in items(task).items():
        called = items(value).get("module", value)
        word = called.value.partition(" ")[0] if isinstance(called, yaml.ScalarNode) else ""
        if key in ROLE_TASKS or (key in _ACTIONS and word in ROLE_TASKS):
            return key
    return ""


def _task_use(task: yaml.Node, key: str, around: tuple[Nodes, ...]) -> RoleUse:
    entries = items(task)
    options = {**items(entries.get("args")), **_options(entries[key])}
    name = options.get("name", options.get("role"))
    role = name.value if isinstance(name, yaml.ScalarNode) else ""
    settings = _carried(entries, (key,))
    obstacles = _obstacles(task, role, entries)
    if key in _ACTIONS:
        obstacles += (Obstacle(task, f"a role by {key}:", "write ansible.builtin.import_role: {name: …}"),)
    if "apply" in options:  # nearer to the role's tasks than the task itself
        around, settings = (*around, settings), items(options["apply"])
    return RoleUse(
        role=role,
        node=task,
        options={word: options[word] for word in _OPTIONS if word in options},
        settings=settings,
        around=around,
        obstacles=obstacles,
        whole=getattr(options.get("tasks_from"), "value", "main") in ("main", "main.yml", "main.yaml"),
    )


def _options(call: yaml.Node) -> Nodes:
    """Return the options of a call: a mapping, or `name=front tasks_from=verify`."""
    if not isinstance(call, yaml.ScalarNode):
        return items(call)
    try:
        words = shlex.split(str(call.value))
    except ValueError:
        return {}
    return {word: scalar(value) for word, equals, value in (part.partition("=") for part in words) if equals}


def _role_entry(node: yaml.Node) -> RoleUse:
    if isinstance(node, yaml.ScalarNode):
        return RoleUse(str(node.value), node, obstacles=_obstacles(node, str(node.value), {}))
    entries = items(node)
    name = entries.get("role", entries.get("name"))
    role = name.value if isinstance(name, yaml.ScalarNode) else ""
    settings = {key: value for key, value in entries.items() if key in ROLE_KEYWORDS - {"role", "name"}}
    parameters = {key: value for key, value in entries.items() if key not in ROLE_KEYWORDS}
    around: tuple[Nodes, ...] = ()
    if parameters:  # they outrank its `vars`, so they stand nearer
        around = ({"vars": settings["vars"]},) if "vars" in settings else ()
        settings["vars"] = mapping(*parameters.items())
    return RoleUse(role, node, settings=settings, around=around, obstacles=_obstacles(node, role, {}))


def _carried(entries: Nodes, own: tuple[str, ...]) -> Nodes:
    return {key: value for key, value in entries.items() if key not in _OWN | _OWN_TOO and key not in own}


def _obstacles(node: yaml.Node, role: str, entries: Nodes) -> tuple[Obstacle, ...]:
    found = []
    loops = [key for key in entries if key in ("loop", "loop_control") or key.startswith("with_")]
    if loops:
        hint = "use the role once for each item, or write the loop into its tasks"
        found.append(Obstacle(entries[loops[0]], f"role {role!r} in a {loops[0]}", hint))
    if "{{" in role:
        found.append(Obstacle(node, f"role {role!r} is known only when it runs", "name each role, with a when:"))
    if not role:
        found.append(Obstacle(node, "a use of a role without its name", "say name: ROLE"))
    return tuple(found)

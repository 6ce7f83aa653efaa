"""Reading `mcpops.yml`: each mistake with its line, and a way out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml

from mcpops.cli.common import seconds
from mcpops.cli.project import SETTINGS_FILE, read_settings
from mcpops.core.clock import SystemClock
from mcpops.core.errors import UsageError
from mcpops.model.schedule import Misfire, Schedule
from mcpops.model.settings import Hearer, Settings
from mcpops.runbook.nodes import items, line, plain

# What a channel can hear of: how a run ended, that it waits or was left, and that a schedule has no success.
EVENTS = ("done", "failed", "rolled_back", "waiting", "broken", "abandoned", "interrupted", "overdue", "rollback")
LOUD = tuple(event for event in EVENTS if event not in ("done", "abandoned"))  # what a channel hears without `events`


def _of(kind: str, meaning: str, **more: object) -> dict[str, object]:
    return {"type": kind, "description": meaning, **more}


def _text(meaning: str, **more: object) -> dict[str, object]:
    return _of("string", meaning, minLength=1, **more)


def _url(meaning: str) -> dict[str, object]:
    return _of("string", meaning, pattern="^https?://")


def _name(meaning: str) -> dict[str, object]:
    return _of("string", meaning, pattern="^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")


def _list(meaning: str, items: object = None) -> dict[str, object]:
    return _of("array", meaning, items=items or {"type": "string", "minLength": 1}, minItems=1)


def _object(meaning: str, required: tuple[str, ...] = (), /, **properties: object) -> dict[str, object]:
    return _of("object", meaning, properties=properties, required=list(required), additionalProperties=False)


_EMAIL = _object(
    "A message by SMTP.",
    ("to", "from", "host"),
    **{"to": _list("Who gets it."), "from": _text("Who it is from.")},
    host=_text("The mail server."),
    port=_of("integer", "Its port; 587."),
    starttls=_of("boolean", "Whether to ask for TLS and insist on it; true."),
    user=_text("Who logs in there; nobody."),
    password_file=_text("The file with the password; relative to the project."),
)
_HEARER = _object(
    "One channel: a name, and one of webhook, email, command.",
    ("name",),
    name=_name("Its name; notices that wait are kept under it."),
    events=_list(f"What it hears of; without it: {', '.join(LOUD)}.", {"enum": list(EVENTS)}),
    environments=_list("Where; everywhere without it."),
    webhook=_object(
        "POST of JSON, with the headers of standardwebhooks.com.",
        ("url",),
        url=_url("Where to."),
        secret_file=_text("The file with the secret that signs it; relative to the project."),
    ),
    email=_EMAIL,
    command=_list("A program and its arguments; the notice comes as JSON on its standard input."),
) | {"oneOf": [{"required": [way]} for way in ("webhook", "email", "command")]}
_SCHEDULE = _object(
    "One schedule.",
    ("name", "environment", "runbook", "cron"),
    name=_name("Its name, one an environment."),
    environment=_text("Where it runs."),
    runbook=_text("What it runs: the name of a playbook in playbooks/."),
    cron=_text("When: minute, hour, day, month, weekday, as Debian's cron reads them."),
    timezone=_text("Whose clock that is; UTC."),
    misfire={
        "description": "What becomes of a time that was missed: `skip` (it is gone), `once` (one run makes up for "
        "all), `{within: 2h}` (one run, if the last is no longer ago).",
        "oneOf": [
            {"enum": ["skip", "once"]},
            _object("", ("within",), within=_text("How late a run may begin.")),
        ],
    },
    jitter=_text("Each time is put off by a part of this that is its own; 0."),
    max_age=_text("Without a success for so long it is overdue; never without it."),
    ping=_url("A URL that hears of each success, and misses it."),
    parameters=_of("object", "Variables of the runbook."),
)
_S3 = _object(
    "A bucket; credentials are those of the AWS SDK.",
    ("bucket",),
    bucket=_text("Its name; with versions and Object Lock nobody can take an anchor away."),
    prefix=_text("What names begin with."),
    endpoint_url=_url("Where it is, when not at AWS."),
    region=_text("Its region."),
    profile=_text("The profile of the credentials."),
)
SCHEMA = _object(
    "What `mcpops.yml` may hold.",
    default_environment=_text("What commands mean without `-e`."),
    name=_name("The project's name on hosts, where fences are kept under it; that of its directory without it."),
    journal=_of(
        "string",
        "A journal on PostgreSQL for several control nodes, `postgresql://USER@HOST/DATABASE`; a file in `.mcpops/` "
        "without it. The password is in ~/.pgpass.",
        pattern="^postgres(ql)?://",
    ),
    journal_keys=_of(
        "array", "Public keys of other control nodes that seal the same journal.", items={"type": "string"}
    ),
    anchor=_object("Where sealed heads go.", directory=_text("A directory, as of a mounted share."), s3=_S3)
    | {"minProperties": 1, "maxProperties": 1},
    metrics_file=_text("A file of metrics for the textfile collector of a node exporter, written by `schedule tick`."),
    notify=_of("array", "Who hears what.", items=_HEARER),
    schedules=_of("array", "What runs by itself.", items=_SCHEDULE),
)


def load_settings(project: Path) -> Settings:
    """Return the settings of a project; one without the file has none. Raises UsageError with file and line."""
    path = project / SETTINGS_FILE
    text = read_settings(path)
    root = yaml.compose(text, yaml.SafeLoader) if text else None
    return _Reader(path, root).settings(project)


class _Reader:
    """Turns the nodes of the file into settings."""

    def __init__(self, path: Path, root: yaml.Node | None) -> None:
        self._path, self._root = path, root

    def settings(self, project: Path) -> Settings:
        said: dict[str, Any] = plain(self._root) if self._root is not None else {}
        if not isinstance(said, dict) or set(said) - {"default_environment"}:
            self._validate(said)
        schedules = said.get("schedules", [])
        return Settings(
            name=said.get("name") or project.resolve().name,
            journal=said.get("journal"),
            journal_keys=tuple(said.get("journal_keys", ())),
            anchor=said.get("anchor"),
            metrics_file=said.get("metrics_file"),
            notify=self._unique("notify", [_hearer(one) for one in said.get("notify", [])], lambda one: one.name),
            schedules=self._unique(
                "schedules", [self._schedule(n, one) for n, one in enumerate(schedules)], lambda one: one.key
            ),
        )

    def _validate(self, said: object) -> None:
        from jsonschema import Draft202012Validator  # noqa: PLC0415 - 0.1 s, that most projects need not wait for

        for error in sorted(Draft202012Validator(SCHEMA).iter_errors(said), key=lambda error: list(error.path)):
            raise self._bad(error.absolute_path, error.message)

    def _schedule(self, n: int, said: Mapping[str, Any]) -> Schedule:
        from cronsim import CronSim, CronSimError  # noqa: PLC0415

        at = ("schedules", n)
        misfire = said.get("misfire", "skip")
        within = misfire["within"] if isinstance(misfire, dict) else None
        try:
            CronSim(said["cron"], SystemClock().now())
        except CronSimError as error:
            hint = "five fields: minute hour day month weekday"
            raise self._bad((*at, "cron"), f"{said['cron']!r}: {error}", hint) from error
        zone = said.get("timezone", "UTC")
        try:
            ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise self._bad((*at, "timezone"), f"there is no time zone {zone!r}", "as Europe/Berlin") from error
        return Schedule(
            name=said["name"],
            environment=said["environment"],
            runbook=said["runbook"],
            cron=said["cron"],
            timezone=zone,
            misfire=Misfire.WITHIN if within else Misfire(misfire),
            within_s=self._seconds((*at, "misfire"), within or "0"),
            jitter_s=self._seconds((*at, "jitter"), said.get("jitter", "0")),
            max_age_s=self._seconds((*at, "max_age"), said["max_age"]) if "max_age" in said else None,
            ping=said.get("ping"),
            parameters=said.get("parameters", {}),
        )

    def _seconds(self, at: tuple[str | int, ...], text: str) -> float:
        try:
            return float(seconds(text))
        except UsageError as error:
            raise self._bad(at, error.message, error.hint) from error

    def _unique(self, key: str, found: list[Any], name: Callable[[Any], str]) -> tuple[Any, ...]:
        names = [name(one) for one in found]
        for n, one in enumerate(names):
            if one in names[:n]:
                raise self._bad((key, n), f"{one!r} stands here twice", "give each its own name")
        return tuple(found)

    def _bad(self, at: Any, message: str, hint: str = "docs/reference/settings.md says what it may hold") -> UsageError:  # noqa: ANN401
        node, names = self._root, []
        for part in at:
            names.append(str(part) if isinstance(part, str) else f"[{part}]")
            below = items(node).get(part) if isinstance(part, str) else None
            if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
                below = node.value[part]
            node = below or node
        where = f"{self._path}:{line(node)}" if node is not None else str(self._path)
        said = f"{'.'.join(names).replace('.[', '[')}: {message}" if names else message
        return UsageError(said, hint=hint, where=where)


def _hearer(said: Mapping[str, Any]) -> Hearer:
    way = next(way for way in ("webhook", "email", "command") if way in said)
    how = {"argv": said[way]} if way == "command" else said[way]
    events, environments = tuple(said.get("events", LOUD)), tuple(said.get("environments", ()))
    return Hearer(name=said["name"], way=way, how=how, events=events, environments=environments)

"""Reading `mcpops.yml`: each mistake with its line, and a way out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from cronsim import CronSim, CronSimError
from jsonschema import Draft202012Validator

from mcpops.cli.common import seconds
from mcpops.cli.project import SETTINGS_FILE, read_settings
from mcpops.core.clock import SystemClock
from mcpops.core.errors import UsageError
from mcpops.model.schedule import Misfire, Schedule
from mcpops.model.settings import Hearer, Settings
from mcpops.runbook.nodes import items, line, plain

# What a channel can hear of: how a run ended, that it waits or was left, and that a schedule has no success.
EVENTS = ("done", "failed", "rolled_back", "waiting", "broken", "abandoned", "interrupted", "overdue")
LOUD = tuple(event for event in EVENTS if event not in ("done", "abandoned"))  # what a channel hears without `events`

_TEXT = {"type": "string", "minLength": 1}
_URL = {"type": "string", "pattern": "^https?://"}
_NAME = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"}


def _object(required: tuple[str, ...] = (), **properties: object) -> dict[str, object]:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


_EMAIL = _object(
    ("to", "from", "host"),
    **{"to": {"type": "array", "items": _TEXT, "minItems": 1}, "from": _TEXT, "host": _TEXT},
    port={"type": "integer"},
    starttls={"type": "boolean"},
    user=_TEXT,
    password_file=_TEXT,
)
_HEARER = _object(
    ("name",),
    name=_NAME,
    events={"type": "array", "items": {"enum": list(EVENTS)}, "minItems": 1},
    environments={"type": "array", "items": _TEXT, "minItems": 1},
    webhook=_object(("url",), url=_URL, secret_file=_TEXT),
    email=_EMAIL,
    command={"type": "array", "items": _TEXT, "minItems": 1},
) | {"oneOf": [{"required": [way]} for way in ("webhook", "email", "command")]}
_SCHEDULE = _object(
    ("name", "environment", "runbook", "cron"),
    name=_NAME,
    environment=_TEXT,
    runbook=_TEXT,
    cron=_TEXT,
    timezone=_TEXT,
    misfire={"oneOf": [{"enum": ["skip", "once"]}, _object(("within",), within=_TEXT)]},
    jitter=_TEXT,
    max_age=_TEXT,
    ping=_URL,
    parameters={"type": "object"},
)
_S3 = _object(("bucket",), bucket=_TEXT, prefix=_TEXT, endpoint_url=_URL, region=_TEXT, profile=_TEXT)
SCHEMA = _object(
    default_environment=_TEXT,
    name=_NAME,
    journal={"type": "string", "pattern": "^postgres(ql)?://"},
    journal_keys={"type": "array", "items": _TEXT},
    anchor=_object(directory=_TEXT, s3=_S3) | {"minProperties": 1, "maxProperties": 1},
    metrics_file=_TEXT,
    notify={"type": "array", "items": _HEARER},
    schedules={"type": "array", "items": _SCHEDULE},
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
        for error in sorted(Draft202012Validator(SCHEMA).iter_errors(said), key=lambda error: list(error.path)):
            raise self._bad(error.absolute_path, error.message)
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

    def _schedule(self, n: int, said: Mapping[str, Any]) -> Schedule:
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

"""Which project, which environment, and where their state lives."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from mcpops.cli.common import Session
from mcpops.core.errors import UsageError
from mcpops.core.tree import files, tree_digest

STATE = ".mcpops"
SETTINGS_FILE = "mcpops.yml"
# What its top level may hold; `settings.py` says more, and a test holds the two equal.
SETTINGS_KEYS = (
    "default_environment",
    "name",
    "journal",
    "journal_keys",
    "anchor",
    "metrics_file",
    "notify",
    "schedules",
)


@dataclass(frozen=True)
class Environment:
    """One inventory of a project. `state` is private: runs, targets, rollbacks of this environment."""

    name: str
    project: Path
    inventory: Path
    state: Path

    def inventory_digest(self) -> str:
        """Return the digest of the inventory's files: saved targets are good as long as it is the same.

        Raises UsageError that names the file when one cannot be read, such as a link that leads nowhere.
        """
        try:
            for path in files(self.inventory):
                _text(path)
            return tree_digest(self.inventory)
        except OSError as error:
            raise UsageError(
                "a file of the inventory cannot be read",
                detail=error.strerror or str(error),
                hint="mend or remove it; a link must lead somewhere",
                where=str(error.filename or self.inventory),
            ) from error

    def release_file(self, release: str) -> Path:
        """Return the file of a release: a path, or a name in the environment's or the project's releases/."""
        places = (self.state / "releases", self.inventory / "releases", self.project / "releases")
        found = [Path(release)] if release.endswith((".yml", ".yaml")) else []
        found += [place / f"{release}.yml" for place in places]
        try:
            there = next((path.absolute() for path in found if path.is_file()), None)
            known = sorted({path.stem for place in places for path in place.glob("*.yml")})
        except OSError as error:  # a name that is too long, a directory that may not be read
            raise UsageError(
                f"cannot look for release {release!r}", detail=str(error), hint="name one of releases/, without .yml"
            ) from error
        if there:
            return there
        raise UsageError(
            f"no release {release!r} for environment {self.name}",
            detail=f"looked at {', '.join(str(path) for path in found)}",
            hint=f"known releases: {', '.join(known) or 'none'}",
        )


def find_project(session: Session) -> Path:
    """Return the project: -C, or the nearest directory upwards that has inventories/. Raises UsageError."""
    try:
        return _text(_find_project(session.project))
    except OSError as error:
        hint = "change into a project, or name it with -C DIR"
        raise UsageError("cannot look for the project", detail=str(error), hint=hint) from error


def _find_project(named: Path | None) -> Path:
    if named:
        if not (named / "inventories").is_dir():
            raise UsageError(f"{named} is no project", hint="a project has a directory inventories/")
        project = named.resolve()
        if _here() is None:
            os.chdir(project)  # what is started from here, such as Ansible, needs one that is there
        return project
    here = _here()
    if here is None:
        hint = "change into a project, or name it with -C DIR"
        raise UsageError("the current directory is not there any more", hint=hint)
    for place in (here, *here.parents):
        if (place / "inventories").is_dir():
            return place
    raise UsageError(f"no project at {here} or above it", hint="change into a project, or name it with -C DIR")


def _here() -> Path | None:
    """Return the current directory, None when it was deleted."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return None


def _text(path: Path) -> Path:
    """Return a path whose name can stand in the record. Raises UsageError."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise UsageError("the name is not UTF-8", hint="give it another name", where=ascii(str(path))) from error
    return path


def journal_path(project: Path) -> Path:
    """Return where the journal of a project lives."""
    return project / STATE / "journal.sqlite"


def find_environment(session: Session) -> Environment:
    """Return the environment: -e, the project's `default_environment`, or the only inventory. Raises UsageError."""
    project = find_project(session)
    home = project / "inventories"
    try:
        known = sorted(_text(path).name for path in home.iterdir() if path.is_dir())
    except OSError as error:
        raise UsageError("cannot be read", detail=str(error), hint="see who may read it", where=str(home)) from error
    if not known:
        raise UsageError(
            f"there is no environment in {home}",
            detail="expected one directory an environment, found none",
            hint="write inventories/NAME/hosts.yml, with the hosts that serve in the group `fronts`",
        )
    name = session.environment or _default(project) or (known[0] if len(known) == 1 else None)
    if name is None:
        raise UsageError("which environment?", detail=f"there are {', '.join(known)}", hint="name one with -e ENV")
    if name not in known:
        raise UsageError(f"no environment {name!r}", hint=f"known: {', '.join(known)}; they are inventories/*")
    return Environment(name, project, home / name, project / STATE / name)


def _default(project: Path) -> str | None:
    path = project / SETTINGS_FILE
    text = read_settings(path)
    if not text:
        return None
    import yaml  # noqa: PLC0415 - 12 ms that a rollback need not wait for

    settings = yaml.safe_load(text)
    if settings is not None and not isinstance(settings, dict):
        raise _bad_settings(path, "expected keys and values", f"found {settings!r}")
    unknown = [key for key in settings or {} if key not in SETTINGS_KEYS]
    if unknown:
        raise _bad_settings(path, f"unknown key {unknown[0]!r}", f"known are {', '.join(SETTINGS_KEYS)}")
    name = (settings or {}).get("default_environment")
    if name is not None and not isinstance(name, str):
        raise _bad_settings(path, "default_environment: expected the name of an environment", f"found {name!r}")
    return name


def read_settings(path: Path) -> str:
    """Return the text of the settings, which is YAML; nothing where there are none. Raises UsageError.

    What else is wrong with them is for `settings.load_settings` to say: a rollback must not fail over a schedule.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise _bad_settings(path, "is not UTF-8", str(error), line) from error
    except OSError as error:
        raise _bad_settings(path, "cannot be read", error.strerror or str(error)) from error
    import yaml  # noqa: PLC0415

    try:
        yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, TypeError) as error:  # what looks like a date and is none; an unhashable key
        mark = getattr(error, "problem_mark", None)
        raise _bad_settings(path, "cannot be read as YAML", str(error), mark.line + 1 if mark else 0) from error
    return text


def _bad_settings(path: Path, message: str, detail: str = "", line: int = 0) -> UsageError:
    hint = "keys and values, such as `default_environment: NAME`"
    return UsageError(message, detail=detail, hint=hint, where=f"{path}:{line}" if line else str(path))

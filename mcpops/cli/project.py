"""Which project, which environment, and where their state lives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mcpops.cli.common import Session
from mcpops.core.errors import UsageError

STATE = ".mcpops"


@dataclass(frozen=True)
class Environment:
    """One inventory of a project. `state` is private: runs, targets, rollbacks of this environment."""

    name: str
    project: Path
    inventory: Path
    state: Path

    def release_file(self, release: str) -> Path:
        """Return the file of a release: a path, or a name in the environment's or the project's releases/."""
        places = (self.state / "releases", self.inventory / "releases", self.project / "releases")
        found = [Path(release)] if release.endswith((".yml", ".yaml")) else []
        found += [place / f"{release}.yml" for place in places]
        for path in found:
            if path.is_file():
                return path.absolute()
        known = sorted({path.stem for place in places for path in place.glob("*.yml")})
        raise UsageError(
            f"no release {release!r} for environment {self.name}",
            detail=f"looked at {', '.join(str(path) for path in found)}",
            hint=f"known releases: {', '.join(known) or 'none'}",
        )


def find_project(session: Session) -> Path:
    """Return the project: -C, or the nearest directory upwards that has inventories/. Raises UsageError."""
    if session.project:
        if not (session.project / "inventories").is_dir():
            raise UsageError(f"{session.project} is no project", hint="a project has a directory inventories/")
        return session.project.resolve()
    here = Path.cwd()
    for place in (here, *here.parents):
        if (place / "inventories").is_dir():
            return place
    raise UsageError(f"no project at {here} or above it", hint="change into a project, or name it with -C DIR")


def journal_path(project: Path) -> Path:
    """Return where the journal of a project lives."""
    return project / STATE / "journal.sqlite"


def find_environment(session: Session) -> Environment:
    """Return the environment: -e, the project's `default_environment`, or the only inventory. Raises UsageError."""
    project = find_project(session)
    known = sorted(path.name for path in (project / "inventories").iterdir() if path.is_dir())
    name = session.environment or _default(project) or (known[0] if len(known) == 1 else None)
    if name is None:
        raise UsageError("which environment?", detail=f"there are {', '.join(known)}", hint="name one with -e ENV")
    if name not in known:
        raise UsageError(
            f"no environment {name!r}", hint=f"known: {', '.join(known) or 'none'}; they are inventories/*"
        )
    return Environment(name, project, project / "inventories" / name, project / STATE / name)


def _default(project: Path) -> str | None:
    path = project / "mcpops.yml"
    if not path.exists():
        return None
    import yaml  # noqa: PLC0415 - 12 ms that a rollback need not wait for

    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise UsageError("cannot be read as YAML", detail=str(error), hint="mend the file", where=where) from error
    unknown = sorted(set(settings or {}) - {"default_environment"})
    if unknown:
        raise UsageError(f"unknown key {unknown[0]!r}", hint="known: default_environment", where=str(path))
    return (settings or {}).get("default_environment")

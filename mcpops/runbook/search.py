"""Where runbooks, roles and plugins are looked for: the user's project first, then what mcpops brings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import mcpops
from mcpops.core.errors import UsageError

RUNBOOK_ENDINGS = (".yml", ".yaml")


def share_root() -> Path:
    """Return the directory of our own playbooks, roles and plugins: the checkout, or `share` of the wheel."""
    package = Path(mcpops.__file__).resolve().parent
    shared = package / "share"
    return shared if shared.is_dir() else package.parent


@dataclass(frozen=True)
class SearchPath:
    """Directories with playbooks/, roles/ and plugins/; what is found in an earlier one hides a later one's."""

    roots: tuple[Path, ...]

    @classmethod
    def of(cls, project: Path) -> SearchPath:
        """Return the search path of a project: itself, then what mcpops brings."""
        return cls(tuple(dict.fromkeys((project.resolve(), share_root()))))

    def directories(self, name: str) -> tuple[Path, ...]:
        """Return the existing directories of that name, first match first (`roles`, `plugins/modules`, …)."""
        return tuple(root / name for root in self.roots if (root / name).is_dir())

    @property
    def roles_path(self) -> tuple[Path, ...]:
        """Where roles are looked for."""
        return self.directories("roles")

    def runbooks(self) -> dict[str, Path]:
        """Return all runbooks by name, each from the first directory that has it."""
        found: dict[str, Path] = {}
        for directory in self.directories("playbooks"):
            for path in sorted(directory.iterdir()):
                if path.suffix in RUNBOOK_ENDINGS and path.is_file():
                    found.setdefault(path.stem, path)
        return found

    def find_runbook(self, name: str) -> Path:
        """Return the playbook of a runbook; raise UsageError with the names that there are."""
        runbooks = self.runbooks()
        stem = name.removesuffix(".yml").removesuffix(".yaml")
        if stem in runbooks:
            return runbooks[stem]
        looked = ", ".join(str(root / "playbooks") for root in self.roots)
        known = ", ".join(sorted(runbooks)) or "none"
        raise UsageError(f"there is no runbook {name!r}", detail=f"looked in {looked}", hint=f"known are: {known}")

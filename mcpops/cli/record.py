"""Opening the journal of a project: where it is, who seals it, and who hears of what it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcpops.cli.common import Session, tell
from mcpops.cli.project import STATE, find_project, journal_path
from mcpops.cli.settings import load_settings
from mcpops.core.clock import Clock, SystemClock
from mcpops.core.errors import McpopsError, UsageError
from mcpops.journal.absorb import absorb
from mcpops.journal.queries import Journal
from mcpops.journal.seal import KeyFile
from mcpops.journal.store import Store
from mcpops.model.settings import Hearer, Settings

if TYPE_CHECKING:
    from mcpops.notify.channels import Channel
    from mcpops.objects.store import ObjectStore

KEY = "journal.key"


@dataclass(frozen=True)
class Record:
    """The journal of a project, opened."""

    project: Path
    settings: Settings
    store: Store
    journal: Journal
    clock: Clock

    @property
    def trusted(self) -> frozenset[str]:
        """The keys that may have sealed the journal: this control node's own, and those of the settings."""
        own = (self.store.sealer.key,) if self.store.sealer else ()
        return frozenset((*own, *self.settings.journal_keys))

    def channels(self) -> dict[str, Channel]:
        """Return the channels of the settings by name, and the pings of the schedules."""
        from mcpops.notify.channels import Ping  # noqa: PLC0415 - smtplib and urllib, for those who tell

        hearers = {hearer.name: self._channel(hearer) for hearer in self.settings.notify}
        pings = {f"ping:{one.key}": Ping(one.ping) for one in self.settings.schedules if one.ping}
        return {**hearers, **pings}

    def anchors(self) -> ObjectStore | None:
        """Return where the settings want anchors, None when they say nothing."""
        if self.settings.anchor is None:
            return None
        from mcpops.objects.store import open_store  # noqa: PLC0415

        return open_store(self.settings.anchor, self.project)

    def anchor(self) -> None:
        """Anchor the last seal; what does not work is said, and tried again with the next."""
        from mcpops.journal import anchor  # noqa: PLC0415

        place = self.anchors()
        try:
            if place:
                anchor.put(self.store, place)
        except Exception as error:  # noqa: BLE001 - what was done is done, and on record
            tell(f"mcpops: warning: the record is not anchored: {error}; `mcpops journal anchor` tries again")

    def path(self, name: str) -> Path:
        """Return a path of the settings: relative to the project, or to a home."""
        return self.project / Path(name).expanduser()

    def wake_workers(self, run_id: str) -> None:
        """Tell workers on PostgreSQL of a queued run; without it they find it some seconds later."""
        if self.settings.journal is None:
            return
        from mcpops.cli.wake import wake  # noqa: PLC0415 - procrastinate takes 0.3 s to import

        wake(self.settings.journal, run_id)

    def tell_outside(self) -> None:
        """Deliver what is to be told; what does not arrive is said, and tried again by whoever comes next."""
        from mcpops.notify.deliver import deliver  # noqa: PLC0415

        try:
            for line in deliver(self.store, self.clock, self.channels()):
                tell(f"mcpops: warning: not told yet: {line}")
        except McpopsError as error:
            tell(f"mcpops: warning: notifications wait: {error.message}")

    def _channel(self, hearer: Hearer) -> Channel:
        from mcpops.notify.channels import Command, Email, Webhook  # noqa: PLC0415

        how: Mapping[str, Any] = hearer.how
        secret = next((self.path(how[name]) for name in ("secret_file", "password_file") if name in how), None)
        if hearer.way == "webhook":
            return Webhook(how["url"], secret)
        if hearer.way == "command":
            return Command(tuple(how["argv"]))
        return Email(
            sender=how["from"],
            to=tuple(how["to"]),
            host=how["host"],
            port=how.get("port", 587),
            starttls=how.get("starttls", True),
            user=how.get("user"),
            password_file=secret,
        )


def open_record(session: Session) -> Record:
    """Open the journal of the session's project. Raises UsageError."""
    return open_journal(find_project(session))


def open_journal(project: Path) -> Record:
    """Open the journal of a project, and take in the rollbacks that were done without it.

    Raises UsageError when there is no place for one, or when what is there is none.
    """
    clock, settings = SystemClock(), load_settings(project)
    try:
        sealer = KeyFile(project / STATE / KEY)
        store = Store(settings.journal or journal_path(project), sealer)
        store.wanted = lambda environment, event, schedule: _wanted(settings, environment, event, schedule)
        absorb(store, clock, (project / STATE).glob("*/rollbacks/*.json"))
    except OSError as error:
        raise UsageError(
            "the journal cannot be opened",
            detail=str(error),
            hint=f"{STATE} is a directory that mcpops makes and must own; `mcpops rollback` works without it",
            where=str(project / STATE),
        ) from error
    return Record(project, settings, store, Journal(store), clock)


def _wanted(settings: Settings, environment: str, event: str, schedule: str | None) -> list[str]:
    names = [hearer.name for hearer in settings.notify if hearer.wants(environment, event)]
    asked = f"{environment}/{schedule}"
    pings = [f"ping:{one.key}" for one in settings.schedules if one.ping and one.key == asked and event == "done"]
    return names + pings

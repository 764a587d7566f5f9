"""What stands of a log: the last decision on each polygon, who disagrees, and who is asked for a second opinion."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from pipeline.review.decisions import Entry, Key

__all__ = ["Standing", "Stood", "standing_of"]


@dataclass(slots=True)
class Stood:
    """What stands of one polygon."""

    decided: Entry | None = None
    """The last decision, which counts."""
    number: int = -1
    """Its place in the log: later ones are burnt over earlier ones."""
    by_reviewer: dict[str, Entry] = field(default_factory=dict)
    """The last decision of each."""
    asked_by: str | None = None
    """Who waits for the opinion of another."""
    comments: list[Entry] = field(default_factory=list)

    @property
    def conflict(self) -> bool:
        """Whether reviewers have decided differently."""
        return len({entry.outcome for entry in self.by_reviewer.values()}) > 1

    @property
    def done(self) -> bool:
        """Whether it is decided, and no second opinion is waited for."""
        return self.decided is not None and self.asked_by is None


@dataclass(slots=True)
class Standing:
    """What stands of all polygons that the log speaks of."""

    polygons: dict[Key, Stood] = field(default_factory=dict)
    added: list[tuple[int, Entry]] = field(default_factory=list)
    """Polygons that were added, by their place in the log."""
    count: int = 0
    """Entries that were taken."""

    def take(self, entries: Iterable[Entry]) -> None:
        """Take more entries of the log."""
        for entry in entries:
            self._take(entry, self.count)
            self.count += 1

    def _take(self, entry: Entry, number: int) -> None:
        key = entry.key
        if key is None:
            self.added.append((number, entry))
            return
        stood = self.polygons.setdefault(key, Stood())
        if entry.comment:
            stood.comments.append(entry)
        if entry.action == "second":
            stood.asked_by = entry.by
        elif entry.decides:
            stood.decided, stood.number = entry, number
            stood.by_reviewer[entry.by] = entry
            if entry.by != stood.asked_by:
                stood.asked_by = None

    @property
    def decided(self) -> dict[Key, Stood]:
        """The polygons that somebody has decided on."""
        return {key: stood for key, stood in self.polygons.items() if stood.decided is not None}


def standing_of(entries: Iterable[Entry]) -> Standing:
    """What stands of a log."""
    found = Standing()
    found.take(entries)
    return found

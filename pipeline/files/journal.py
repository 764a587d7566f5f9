"""A swap of the files of a folder that is all or nothing, whenever it is cut off.

What is to be done is written down first. Then what is not ours is moved aside, our old files wait in ``old``, the new ones
take their names, the record last; only then are the old ones removed. A swap that was cut off is gone on with where all new
files are whole, and taken back where not. Each step looks at what is there, so that it may be done any number of times.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypedDict

from geoseg.errors import OutputError
from pipeline.files.atomic import remove_empty, remove_tree, sync_folder, write_json
from pipeline.files.owned import FileFacts, Record, keep_aside, kept_names, not_ours

__all__ = ["JOURNAL", "OLD", "Swap", "plan_swap", "recover"]

JOURNAL, OLD = "publish.json", "old"


class FileDocument(TypedDict):
    """Size and hash of a file, in the journal."""

    bytes: int
    sha256: str


class SwapDocument(TypedDict):
    """``publish.json``; one that is read is tried field by field."""

    stage: str
    new: dict[str, FileDocument]
    old: list[str]
    kept: dict[str, str]
    record: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Swap:
    """Planned moves of the files of a folder; names have / between folders."""

    stage: str
    """Where the new files are, below the work folder."""
    new: Mapping[str, FileFacts]
    """By name, the record among them."""
    old: tuple[str, ...]
    """Files of ours that give way."""
    kept: Mapping[str, str]
    """What is not ours and is in the way: its name, and the one under which it is kept."""
    record: str
    """The name of the record, which goes first and comes last."""

    def run(self, folder: Path, work: Path) -> None:
        """Swap, whatever of it is done already; ``work`` is on the same file system."""
        stage = work / self.stage
        if os.path.lexists(stage / self.record):
            self._clear_the_way(folder, work)
            for name in sorted(self.new, key=lambda name: (name == self.record, name)):
                if name == self.record:
                    self._sync(folder)
                if os.path.lexists(stage / name):
                    (folder / name).parent.mkdir(parents=True, exist_ok=True)
                    # Somebody may have put a file there since.
                    keep_aside(folder / name)
                    os.rename(stage / name, folder / name)
            sync_folder((folder / self.record).parent)
        remove_tree(work / OLD)
        for name in self.old:
            remove_empty(*_parents(folder, name)[:-1])
        remove_tree(stage)
        (work / JOURNAL).unlink(missing_ok=True)
        sync_folder(work)

    def _clear_the_way(self, folder: Path, work: Path) -> None:
        for name in sorted(self.old, key=lambda name: (name != self.record, name)):
            waiting = work / OLD / name
            placed = name in self.new and not os.path.lexists(work / self.stage / name)
            if os.path.lexists(folder / name) and not os.path.lexists(waiting) and not placed:
                waiting.parent.mkdir(parents=True, exist_ok=True)
                os.rename(folder / name, waiting)
                if name == self.record:
                    for place in (waiting.parent, work, (folder / name).parent):
                        sync_folder(place)
        for name, kept in self.kept.items():
            if os.path.lexists(folder / name) and not os.path.lexists(folder / kept):
                os.rename(folder / name, folder / kept)

    def take_back(self, folder: Path, work: Path) -> None:
        """Have the folder as it was before."""
        stage = work / self.stage
        for name in sorted(self.new, key=lambda name: (name != self.record, name)):
            if not os.path.lexists(stage / name) and os.path.lexists(folder / name):
                (stage / name).parent.mkdir(parents=True, exist_ok=True)
                os.rename(folder / name, stage / name)
        for name in sorted(self.old, key=lambda name: (name == self.record, name)):
            if os.path.lexists(work / OLD / name):
                keep_aside(folder / name)
                os.rename(work / OLD / name, folder / name)
        for name, kept in self.kept.items():
            if os.path.lexists(folder / kept) and not os.path.lexists(folder / name):
                os.rename(folder / kept, folder / name)
        self._sync(folder)
        remove_tree(work / OLD)
        (work / JOURNAL).unlink(missing_ok=True)
        sync_folder(work)

    def _sync(self, folder: Path) -> None:
        """Have all names on the disk, in each folder that the swap touches."""
        places = {place for name in (*self.new, *self.old, *self.kept) for place in _parents(folder, name)}
        for place in sorted(places):
            if place.is_dir():
                sync_folder(place)

    def is_over(self, folder: Path, work: Path) -> bool:
        """Whether the record has its name, so that only what is left over is to be removed."""
        return not os.path.lexists(work / self.stage / self.record) and os.path.lexists(folder / self.record)

    def is_whole(self, folder: Path, work: Path) -> bool:
        """Whether all new files are there, waiting or in their place."""
        stage = work / self.stage
        return all(
            facts.hold(stage / name) if os.path.lexists(stage / name) else os.path.lexists(folder / name)
            for name, facts in self.new.items()
        )

    def note(self, work: Path) -> None:
        """Write down what is to be done; from here on it will be."""
        write_json(
            work / JOURNAL,
            {
                "stage": self.stage,
                "record": self.record,
                "old": list(self.old),
                "kept": dict(self.kept),
                "new": {name: facts.to_json() for name, facts in self.new.items()},
            },
        )


def plan_swap(folder: Path, stage: str, new: Sequence[str], old: Sequence[str], earlier: Record | None, record: str) -> Swap:
    """Plan what gives way to new files, of which only the names are known, and under which names foreign files are kept.

    Args:
        folder: The folder.
        stage: Where the new files are, below the work folder.
        new: Names of the new files, the record among them.
        old: Names of the earlier run that new files take, or that go.
        earlier: The record of the earlier run.
        record: The name of the record.
    """
    blocked = {part for name in (*new, *old) for part in _above(name) if _is_no_folder(folder / part)}
    reached = [name for name in dict.fromkeys((*old, *new)) if blocked.isdisjoint(_above(name)) and name != record]
    foreign = set(not_ours(folder, reached, earlier))
    if os.path.lexists(folder / record) and (earlier is None or not earlier.intact):
        foreign.add(record)
    gone = [name for name in (*old, record) if name in {*reached, record} and name not in foreign]
    # What lies in the place of a folder is in the way only where a new file goes into it.
    foreign |= {part for part in blocked if any(part in _above(name) for name in new)}
    kept = {name: to for entry in sorted(foreign) for name, to in kept_names(folder, entry).items()}
    return Swap(stage=stage, new={}, old=tuple(gone), kept=kept, record=record)


def recover(folder: Path, work: Path) -> bool:
    """End a swap that was cut off, if there is one; returns whether the new files have their names now.

    Raises:
        OutputError: What was written down can't be read.
    """
    path = work / JOURNAL
    if not path.is_file() or path.is_symlink():
        return False
    try:
        swap = _swap_of(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise OutputError(
            f"{path}: is damaged ({error}), so that a publish which was cut off can't be ended; what was there is in "
            f"{work / OLD}, what comes in its place beside it: move one of them back by hand, then remove this file"
        ) from error
    if swap.is_over(folder, work) or swap.is_whole(folder, work):
        swap.run(folder, work)
        return True
    swap.take_back(folder, work)
    return False


def _swap_of(document: SwapDocument) -> Swap:
    new = {name: FileFacts(int(facts["bytes"]), str(facts["sha256"])) for name, facts in document["new"].items()}
    kept = {str(name): str(to) for name, to in document["kept"].items()}
    swap = Swap(stage=document["stage"], new=new, old=tuple(document["old"]), kept=kept, record=document["record"])
    for name in (swap.stage, swap.record, *new, *swap.old, *kept, *kept.values()):
        if not name or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise ValueError(f"{name!r} is no name in the folder")
    return swap


def _above(name: str) -> list[str]:
    """The folders of a name, as names, the inner ones first."""
    return [part.as_posix() for part in PurePosixPath(name).parents][:-1]


def _is_no_folder(path: Path) -> bool:
    return os.path.lexists(path) and (path.is_symlink() or not path.is_dir())


def _parents(folder: Path, name: str) -> list[Path]:
    """The folders of a name, the inner ones first; the last is ``folder``."""
    return [*(folder / part for part in _above(name)), folder]

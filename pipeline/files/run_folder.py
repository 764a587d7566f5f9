"""The folder of a run: its names, its lock, what it has published, and how that is replaced.

::

    OUT/scene/            what is published; ``run.json``, the record of it, comes last
    OUT/scene/.run/       what is under way: ``lock``, ``manifest.jsonl``, chunk results, ``final`` (whole, and not yet named)
    OUT/scene/.run/publish.json, old/   while a publish is under way

Maps, graded buildings, trainings, deliveries and whatever else fills a folder publish through it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from geoseg.dialect import listed
from geoseg.errors import OutputError
from pipeline.config.sections import Config
from pipeline.files.atomic import TEMPORARY, refuse_link, remove_empty, remove_tree, sync_tree
from pipeline.files.journal import JOURNAL, OLD, plan_swap, recover
from pipeline.files.lock import exclusive, is_lock
from pipeline.files.owned import CHECKSUMS, KEPT, FileFacts, Finished, Record, write_record

__all__ = ["CHUNKS", "CHUNKS_BEGIN", "MADE", "REPORT", "WORK", "Published", "RunFolder"]

log = logging.getLogger(__name__)

REPORT = "run.json"
"""The record of a run over a scene. Published last: where it is, everything else is."""
CHUNKS, CHUNKS_BEGIN = "chunks.json", '{"format": "geoseg-chunks/'
"""The hashes of chunk results; a folder that holds them is that of a run which has lost its record."""
MADE = ".geoseg.json"
"""The record of a folder that is made at once: a model, a delivery, chips, an evaluation."""
WORK, LOCK, MANIFEST, STAGE = ".run", "lock", "manifest.jsonl", "final"
PARTS = (MANIFEST, JOURNAL, STAGE, OLD, "chunks", "coverage", "mosaic", "objects", "polygons", "rules", "training")
"""What the stages of a run keep below ``.run``."""
NAMED = 5
"""Names in a message."""


@dataclass(frozen=True, slots=True)
class Published:
    """Outcome of a publish."""

    names: tuple[str, ...]
    """Of all files of the folder that are ours, the record last."""
    notes: tuple[str, ...]
    """A sentence for each file that is kept under another name."""
    document: Mapping[str, Any]
    """The record."""


class RunFolder:
    """The folder of one run."""

    def __init__(self, folder: Path, record: str = REPORT) -> None:
        self.folder, self.record_name = folder, record
        self.work = folder / WORK
        """What is under way."""
        self.manifest, self.stage = self.work / MANIFEST, self.work / STAGE
        self.record_path = folder / record

    def __truediv__(self, name: str) -> Path:
        """A place of what is under way."""
        return self.work / name

    def record(self) -> Record | None:
        """Record of what an earlier run has published; None without one."""
        return Record.read(self.record_path)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder: no other run works in it, and a publish that was cut off is ended first.

        Raises:
            OutputBusyError: Another run holds it.
            OutputError: It can't be written, or holds files of somebody and no run.
        """
        self.refuse_foreign()
        with exclusive(self.work / LOCK):
            for path in self.work.iterdir():
                refuse_link(path)
            recover(self.folder, self.work)
            try:
                yield
            finally:
                # What nothing vouches for would look like somebody's the next time.
                if not self.manifest.is_file() and not self.is_cut_off():
                    self.prune()

    def is_cut_off(self) -> bool:
        """Whether a publish was begun and not ended; the next run over the folder ends it."""
        return (self.work / JOURNAL).is_file()

    def settle(self) -> None:
        """End a publish that was cut off, before the folder is read.

        Raises:
            OutputBusyError: It is under way.
            OutputError: The folder can't be written.
        """
        if self.is_cut_off():
            with self.held():
                pass
            self.leave()

    def ended(self) -> Mapping[str, object] | None:
        """The record of a publish that failed midway and can be ended now; the folder is held."""
        record = self.record() if recover(self.folder, self.work) else None
        return None if record is None else record.document

    def refuse_foreign(self) -> None:
        """Refuse a folder that holds something and is no run's.

        Raises:
            OutputError: It is, or the place of what is under way is a link.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise OutputError(
                f"{self.folder}: is a file, and a folder has to be made there; move it away, or choose another --out"
            )
        refuse_link(self.work)
        names = [] if self.is_run() else _foreign(self.folder)
        if self.work.is_dir() and any(self.work.iterdir()) and not _is_work(self.work) and WORK not in names:
            names = [WORK]
        if names:
            raise OutputError(
                f"{self.folder}: holds {listed(names, NAMED)}, which no run has listed as its own; geoseg does not "
                "touch them, with --overwrite neither: move them away, or choose another --out"
            )

    def is_run(self) -> bool:
        """Whether a run has published into the folder, or has begun to.

        Where it has lost its record nothing is known to be ours: the next run goes on, and keeps all that it meets.
        """
        return self.record() is not None or _is_work(self.work) or _begins(self.folder / CHUNKS, CHUNKS_BEGIN)

    def finished(self, identity: Mapping[str, object]) -> Finished | None:
        """The record of a run with this identity whose files are all there unchanged; None where there is none.

        The version of the code does not count: what another one has finished is finished.
        """
        record = self.record()
        if record is None or not record.intact or record.document.get("status") != "done" or record.differing(identity):
            return None
        by_hand = set(record.document.get("companions", ()))
        if not all(facts.hold(self.folder / name) for name, facts in record.files.items() if name not in by_hand):
            return None
        code = record.document["identity"].get("code")
        return Finished(record.document, None if code == identity.get("code") else str(code))

    def refuse_other(self, identity: Mapping[str, object], config: Config | None = None) -> None:
        """Refuse to replace what was made of other inputs or with other settings.

        Raises:
            OutputError: The folder holds such; the message names the settings that differ, with both values.
        """
        record = self.record()
        differs = [] if record is None else record.differing(identity)
        if record is None or not differs:
            return
        changes = [] if config is None or "config" not in differs else config.changes_since(record.document.get("config"))
        others = [name for name in differs if name != "config" or not changes]
        facts = [*([f"other {', '.join(others)}"] if others else []), *changes]
        raise OutputError(f"{self.folder}: holds results of another run ({'; '.join(facts)}); use --overwrite or another --out")

    def clear_stage(self, keep: Iterable[str] = ()) -> Path:
        """The folder of what will be published, with nothing in it but some names; made if missing."""
        kept = set(keep)
        self.stage.mkdir(parents=True, exist_ok=True)
        for path in self.stage.iterdir():
            if path.name not in kept:
                remove_tree(path)
        return self.stage

    def publish(
        self,
        document: Mapping[str, Any],
        *,
        known: Mapping[str, str] | None = None,
        carry: Iterable[str] = (),
        stage: Path | None = None,
    ) -> Published:
        """Have the files that wait in ``stage`` replace those of the earlier run, all or none; the folder is held.

        A file that somebody has changed, or put where a new one goes, is moved to ``NAME.kept-DATE`` and told of.

        Args:
            document: The record but for ``files``, ``outputs``, ``digest``; ``warnings`` are added to.
            known: sha256 of files that were just verified.
            carry: Files of the earlier run that stay as they are.
            stage: Where the files wait, if not in the folder of this run; it is moved there.
        """
        if stage is not None:
            remove_tree(self.stage)
            stage.rename(self.stage)
        (self.stage / self.record_name).unlink(missing_ok=True)
        earlier = self.record()
        files = {} if earlier is None else {name: earlier.files[name] for name in carry if name in earlier.files}
        files |= self._staged(known or {})
        new = {name: facts for name, facts in files.items() if os.path.lexists(self.stage / name)}
        own = [self.record_name, *([document[CHECKSUMS]] if CHECKSUMS in document else [])]
        old = () if earlier is None else [name for name in earlier.files if name in {*new, *own} or name not in files]
        swap = plan_swap(self.folder, STAGE, [*new, *own], old, earlier, self.record_name)
        notes = tuple(
            _note(self.folder, name, kept, earlier) for name, kept in swap.kept.items() if kept.startswith(f"{name}.kept-")
        )
        outputs = (*sorted(files), self.record_name)
        facts = {**document, "warnings": [*document.get("warnings", ()), *notes], "outputs": outputs}
        record = write_record(self.stage / self.record_name, facts, files, sync=False)
        sync_tree(self.stage)
        swap = replace(swap, new=new | {name: FileFacts.of(self.stage / name) for name in own})
        swap.note(self.work)
        swap.run(self.folder, self.work)
        for note in notes:
            log.warning("%s", note)
        return Published(outputs, notes, record)

    def amend(self, replaced: Iterable[str] = ()) -> Published:
        """Have the files that wait in ``stage`` take the place of some that stand beside a map; the folder is held.

        Args:
            replaced: Names of files of the earlier run that go, or are replaced.
        """
        earlier = self.record()
        assert earlier is not None, "there is a record"
        gone, staged = set(replaced), self._staged({})
        new = list(staged)
        if gone <= set(new) and all(
            earlier.files.get(name) == facts and facts.hold(self.folder / name) for name, facts in staged.items()
        ):
            self.clear_stage()
            return Published((*earlier.files, self.record_name), (), earlier.document)
        by_hand = set(earlier.document.get("companions", ()))
        # What replaces a file of the run itself is one, too.
        companions = sorted({*by_hand, *(name for name in new if name not in earlier.files or name in gone)} - (gone - set(new)))
        facts = {key: value for key, value in earlier.document.items() if key not in ("files", "outputs", "digest")}
        return self.publish(
            {**facts, "companions": companions}, carry=[name for name in earlier.files if name not in gone and name not in new]
        )

    def _staged(self, known: Mapping[str, str]) -> dict[str, FileFacts]:
        found = {}
        for path in sorted(self.stage.rglob("*")):
            if path.is_file() and not path.is_symlink():
                name = path.relative_to(self.stage).as_posix()
                found[name] = FileFacts(path.stat().st_size, known[name]) if name in known else FileFacts.of(path)
        return found

    def prune(self) -> None:
        """Remove what is under way but for its lock."""
        for path in self.work.iterdir():
            if path.name in PARTS or TEMPORARY.fullmatch(path.name):
                remove_tree(path)

    def leave(self) -> None:
        """Remove the folders that are empty: nor does a run that was refused leave any."""
        remove_empty(self.work, self.folder)


def _is_work(work: Path) -> bool:
    """Whether a folder is that of what is under way: another may have its name."""
    if work.is_symlink() or not work.is_dir():
        return False
    return any((work / name).is_file() for name in (MANIFEST, JOURNAL)) or ((work / LOCK).is_file() and is_lock(work / LOCK))


def _begins(path: Path, text: str) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(text)) == text.encode()


def _foreign(folder: Path) -> list[str]:
    """Names in a folder but for what was moved aside, and folders of runs: those of subfolders may lie in that of a scene."""
    if not folder.is_dir():
        return []
    return [
        path.name
        for path in sorted(folder.iterdir())
        if (path.is_symlink() or not path.is_dir() or not (RunFolder(path).is_run() or not _foreign(path)))
        and not KEPT.fullmatch(path.name)
    ]


def _note(folder: Path, name: str, kept: str, earlier: Record | None) -> str:
    listed = earlier is not None and name in (*earlier.files, REPORT, MADE)
    why = "was changed, or opened, since it was published" if listed else "was there, and geoseg had not written it"
    return f"{folder / name}: {why}; it is kept as {Path(kept).name}"

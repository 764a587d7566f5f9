"""Apply: the decisions of the log become a version of the map or the buildings, in a folder that is there whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from geoseg.errors import ConfigError
from geoseg.formats.styles import ClassStyle
from geoseg.models.card import Card
from geoseg.scenes.scene import OpenOptions
from geoseg.vectors.polygon_file import PolygonFile
from pipeline.files.atomic import TEMPORARY, remove_tree, sync_folder, sync_tree, temporary_beside
from pipeline.files.class_rasters import open_class_raster
from pipeline.files.lock import exclusive
from pipeline.files.owned import FileFacts, Record, write_record
from pipeline.files.run_folder import REPORT
from pipeline.review.buildings.building_version import make_building_version
from pipeline.review.burned import BurnStore, burnt
from pipeline.review.objects.object_version import make_object_version
from pipeline.review.replay import replay
from pipeline.review.review_log import NOT_WRITABLE, ReviewLog
from pipeline.review.reviewed_units import BUILDING_UNITS, CLASS_UNITS, OBJECT_UNITS
from pipeline.review.standing import standing_of
from pipeline.review.subject import Subject
from pipeline.review.traces import Tracing
from pipeline.review.version_files import COVERAGE, MODEL, copy_companions
from pipeline.review.version_page import write_version_page
from pipeline.review.version_rasters import CLASSES, CONFIDENCE, TracedRaster, open_version, write_rasters
from pipeline.review.version_record import version_document

__all__ = ["Applied", "apply_reviews"]


@dataclass(frozen=True, slots=True)
class Applied:
    """A version."""

    folder: Path
    document: Mapping[str, object]
    """Its record."""
    is_new: bool
    """Whether it was made now; else one of the same log was there."""


def apply_reviews(folder: Path) -> Applied:
    """Make a version of a map with all that the log says of it.

    Args:
        folder: The folder of the scene, or of one of its versions.

    Raises:
        ConfigError: There is no such map, or the log does not fit it.
        OutputBusyError: Another call is at it.
        OutputError: It can't be written.
    """
    subject = Subject.open(folder)
    # An empty log makes a version, too: the same map.
    subject.begin()
    with exclusive(subject.reviews / ".apply.lock", NOT_WRITABLE):
        for path in subject.reviews.iterdir():
            if TEMPORARY.fullmatch(path.name):
                remove_tree(path)
        entries = ReviewLog.read(subject.log, subject.run_id)
        versions = subject.versions()
        identity = _identity(subject, entries)
        for version in reversed(versions):
            record = Record.read(subject.folder_of(version) / REPORT)
            if record is not None and not record.differing(identity):
                return Applied(subject.folder_of(version), record.document, is_new=False)
        parent = max(versions, default=0)
        target = subject.folder_of(parent + 1)
        temporary = temporary_beside(target)
        temporary.mkdir()
        try:
            make = MAKERS[subject.units.name]
            document = _record(temporary, make(subject, entries, parent, identity, temporary))
            temporary.rename(target)
            sync_folder(subject.reviews)
        finally:
            remove_tree(temporary)
    return Applied(target, document, is_new=True)


def _identity(subject: Subject, entries: ReviewLog) -> dict[str, object]:
    run = Record.read(subject.scene / REPORT)
    if run is None:
        raise ConfigError(f"{subject.scene / REPORT}: can't be read as a record of geoseg; map the scene again")
    made_of = {name: facts.sha256 for name, facts in run.files.items() if name in subject.units.made_of}
    for name in made_of:
        if not run.files[name].hold(subject.scene / name):
            raise ConfigError(
                f"{subject.scene / name}: was changed since it was published; reviews are of the map as it was: put it back"
            )
    return {"run": made_of, "log": entries.digest}


def _make(
    subject: Subject, entries: ReviewLog, parent: int, identity: Mapping[str, object], folder: Path
) -> Mapping[str, object]:
    """Make all files of a version in a folder; returns its record but for the files."""
    raster = open_version(subject.scene)
    styles, tags = subject.legend()
    work = folder / ".work"
    work.mkdir()
    with (work / "burns.wkb").open("w+b") as file, (work / "labels.wkb").open("w+b") as other:
        store, labels = BurnStore(raster.georeference, file), BurnStore(raster.georeference, other)
        reviewed = replay(subject, standing_of(entries.entries), store, labels)
        differences = write_rasters(raster, partial(burnt, store=store), partial(burnt, store=labels), folder, styles, tags)
        count = _trace(subject, folder, styles, work, store)
    remove_tree(work)
    copy_companions(subject.scene, folder, styles)
    write_version_page(folder, subject, parent + 1, differences, reviewed, styles)
    return version_document(subject, entries, parent, identity, differences, reviewed, count)


def _record(folder: Path, document: Mapping[str, object]) -> Mapping[str, object]:
    files = {p.name: FileFacts.of(p) for p in sorted(folder.iterdir()) if p.is_file()}
    record = write_record(folder / REPORT, {**document, "outputs": [*files, REPORT]}, files)
    sync_tree(folder)
    return record


def _trace(subject: Subject, folder: Path, styles: tuple[ClassStyle, ...], work: Path, store: BurnStore) -> int:
    sure = folder / CONFIDENCE
    opened, _ = open_class_raster(str(folder / CLASSES), OpenOptions(), confidence=str(sure) if sure.is_file() else None)
    tracing = Tracing(subject.record, TracedRaster.of(opened), styles, Card.read(subject.scene / MODEL), work)
    covered = next((path for name in COVERAGE if (path := subject.scene / name).is_file()), None)
    if covered is not None:
        tracing.write_coverage(folder, PolygonFile.open(covered))
    return tracing.write_polygons(folder, store)


MAKERS: Mapping[str, Callable[[Subject, ReviewLog, int, Mapping[str, object], Path], Mapping[str, object]]] = {
    CLASS_UNITS.name: _make,
    BUILDING_UNITS.name: make_building_version,
    OBJECT_UNITS.name: make_object_version,
}
"""Make the files of a version, by what was decided on."""

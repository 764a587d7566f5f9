"""Label buildings in the browser: the view of their images, with a panel in which people say what each has become."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from geoseg.damage.scale import CLASSES
from geoseg.errors import ConfigError
from pipeline.damage.settings import SUGGESTIONS
from pipeline.review.desk import Task
from pipeline.review.labelling.event_file import EventFile
from pipeline.review.labelling.label_desk import LabelDesk, LabelFile
from pipeline.review.labelling.sample_file import SampleFile
from pipeline.review.review_log import reviewing_as
from pipeline.review.reviewed_units import BUILDING_UNITS, LABEL_UNITS
from pipeline.review.subject import Subject
from pipeline.sample.file import LAYER
from pipeline.view.ending import ended_by_signals
from pipeline.view.gallery import Gallery
from pipeline.view.viewed_inputs import find_all

__all__ = ["label"]

LOG = "labels.jsonl"
SCRIPT = "label.js"


def label(
    folder: Path,
    name: str,
    say: Callable[[str], None],
    *,
    sample: Path | None = None,
    basemap: str | None = None,
    port: int = 0,
    browser: bool = True,
) -> None:
    """Serve buildings for labelling until Ctrl-C or SIGTERM.

    Args:
        folder: The result of ``damage``; of its event, labels go into ``reviews/labels.gpkg`` there.
        name: Who labels.
        say: Is told the address.
        sample: A sample of these buildings, into which labels go instead.
        basemap: Tiles of a map beneath.
        port: Where; 0 for any that is free.
        browser: Whether to open it in the user's browser.

    Raises:
        ConfigError: There are no buildings to label, or it is no sample of them.
        OutputBusyError: Somebody labels under this name.
        OutputError: The labels can't be written.
    """
    from pipeline.review.routes import POSTS, review_routes
    from pipeline.view.serving import serve

    with ended_by_signals():
        subject = Subject.open(folder)
        if subject.units is not BUILDING_UNITS:
            raise ConfigError(f"{folder}: holds no graded buildings; label those of geoseg damage")
        (found,) = find_all([subject.folder])
        file: LabelFile
        if sample is None:
            file, task = _event(subject)
        else:
            file, task = _sample(subject, sample)
            found = replace(found, polygons=sample, layer=LAYER, name=sample.stem)
        gallery = Gallery([found], basemap)
        opened = gallery.map(0)
        if not any(layer.kind == "image" for layer in opened.rasters.values()):
            raise ConfigError(
                f"{subject.folder}: none of its images can be shown, and labels are given by looking at them; put them back "
                f"where they lay{''.join(f'; {note}' for note in opened.notes)}"
            )
        with reviewing_as(task.log.parent, name):
            desk = LabelDesk(task, opened, name, file, SUGGESTIONS)
            desk.bring_up()
            serve(gallery, port, say, browser=browser, more=review_routes(desk, SCRIPT), posts=POSTS)


def _event(subject: Subject) -> tuple[EventFile, Task]:
    if subject.version:
        raise ConfigError(
            f"{subject.folder}: is a version with what people decided; label the buildings of the run: {subject.scene}"
        )
    subject.begin()
    # Labels are of footprints: they live on when these are graded anew.
    identity = subject.document().get("identity")
    footprints = identity.get("footprints") if isinstance(identity, dict) else None
    task = Task(subject.folder, subject.reviews / LOG, str(footprints or ""), 0, LABEL_UNITS, range(len(CLASSES)))
    return EventFile.of(subject), task


def _sample(subject: Subject, path: Path) -> tuple[SampleFile, Task]:
    file = SampleFile.of(subject, path)
    return file, Task(path, file.log, file.digest, 0, LABEL_UNITS, range(len(CLASSES)), ids="unit")

"""Changes between mosaics: the scenes of each date become one map, all on one lattice, and their classes are compared.

Of several areas of interest each has mosaics and changes of its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

from geoseg.dialect import setting
from geoseg.errors import ConfigError, GeosegError
from geoseg.models.ensemble import AnyModel
from geoseg.scenes.names import folder_name
from geoseg.scenes.remote import shown
from geoseg.scenes.sources import Refused, SceneRef
from pipeline.changes.comparison import MEANT
from pipeline.changes.from_classes import ClassChanges, changes_from_classes
from pipeline.config.comparing import DatesConfig
from pipeline.config.map_sections import VectorConfig
from pipeline.config.sections import Config
from pipeline.files.index import Index, write_collection
from pipeline.files.lock import exclusive
from pipeline.infer.workers import LocalWorkers, OpenWorkers
from pipeline.mosaic.lattice import Lattice
from pipeline.mosaic.run import mosaic_or_report
from pipeline.mosaic.scene_index import KnownScenes
from pipeline.mosaic.scenes import Given, survey
from pipeline.mosaic.utm_zones import job_of
from pipeline.plan.dates import by_date, check_order, check_twice, dates_of
from pipeline.plan.within import Feature, features_of
from pipeline.publish.report import SceneReport
from pipeline.segment.folder import LOCK, check_out, clear_above, unmade
from pipeline.segment.planned import SceneJob
from pipeline.segment.progress import Progress, Quiet

__all__ = ["DateScenes", "MosaicChanges", "changes_of_mosaics", "jobs_of"]

Look = Callable[[], Sequence[Given]]
"""Opens the scenes of a date, the first time that it is called."""

CLASSES = "classes.tif"
OF_IMAGES = ("coregister", "max_shift", "radiometry")
"""Settings of dates whose images lie over each other, scene by scene."""


@dataclass(frozen=True, slots=True)
class DateScenes:
    """The scenes of one date."""

    scenes: Sequence[SceneRef]
    refused: Sequence[Refused]


@dataclass(frozen=True, slots=True)
class MosaicChanges:
    """Mosaics of dates, and their changes: of all that there is, or of one feature of the file of areas."""

    name: str
    """Of the changes, or where there are none of the mosaic that could not be made."""
    reports: tuple[SceneReport, ...]
    """By date, as far as they were made."""
    changes: ClassChanges | None
    """None where a mosaic could not be made."""


def jobs_of(
    dates: Sequence[DateScenes], model: AnyModel, config: Config, out: Path, feature: Feature | None = None
) -> list[SceneJob]:
    """The mosaics of dates: ``out / "mosaic-2019-07-01"``, by the dates that were given, else ``out / "mosaic-1"``.

    Args:
        dates: Their scenes, the oldest first.
        model: A model of single dates.
        config: The settings.
        out: The output folder.
        feature: Of several areas of interest, the one that is mapped, into a folder of its name.

    Raises:
        ConfigError: A setting has no meaning here, or the model compares dates itself or lacks the class, or a scene
            can't be used.
    """
    _check(dates, model, config)
    told = by_date(config.dates.acquired, len(dates), "acquired")
    check_order([(f"date {number}", acquired) for number, acquired in enumerate(told, 1)])
    # What is said of changes is not said of the map of a date.
    own = config.model_copy(update={"vector": VectorConfig(formats=()), "dates": DatesConfig()})
    jobs = []
    for number, (date, acquired) in enumerate(zip(dates, told, strict=True), 1):
        job = job_of(date.scenes, date.refused, model, own, out, feature)
        # Of a feature it begins with its folder.
        name = str(Path(job.ref.name).with_name(folder_name(f"mosaic-{acquired or number}")))
        jobs.append(SceneJob.of(replace(job.ref, name=name), model, own, out))
    if len({job.ref.name for job in jobs}) < len(jobs):
        raise ConfigError(f"dates.acquired: two of the dates are the same ({', '.join(t or '-' for t in told)})")
    return jobs


def _check(dates: Sequence[DateScenes], model: AnyModel, config: Config) -> None:
    """Refuse what can't be compared."""
    if len(dates) < 2:
        raise ConfigError(f"inputs: the scenes of {len(dates)} date; give those of at least two, the oldest first")
    if dates_of(model.card) > 1:
        raise ConfigError(f"model: {model.card.name} compares {dates_of(model.card)} dates; mosaics want one of single dates")
    files = [[path for ref in date.scenes for path in ref.paths] for date in dates]
    check_twice([f"{shown(paths[0])} and what is with it" if paths else "" for paths in files], files)
    for key in OF_IMAGES:
        if key in config.dates.model_fields_set:
            raise ConfigError(f"dates.{key}: has no meaning for mosaics, whose classes are compared; leave it out")
    of = config.dates.of
    known = {c.name.casefold() for c in model.card.classes} | {str(c.value) for c in model.card.classes}
    if of.strip().casefold() not in known:
        names = ", ".join(c.name for c in model.card.classes)
        raise ConfigError(
            f"dates.of: {model.card.name} has no class {config.dates.of!r}, but {names}; name one by {setting('of')}"
        )


def changes_of_mosaics(
    dates: Sequence[DateScenes],
    model: AnyModel,
    config: Config,
    out: Path,
    *,
    zones: str | None = None,
    open_workers: OpenWorkers = LocalWorkers,
    progress: Progress | None = None,
) -> list[MosaicChanges]:
    """Map the scenes of each date as one, and the changes between these maps, into folders below ``out``.

    The lattice is that of the first date, and so is the extent of the map of changes. What is compared are classes, see
    ``changes_from_classes``; a map of changes of fewer scenes of the same dates is replaced. With a column of areas of interest
    there are mosaics and changes of each feature, in a folder of its name; one that the scenes do not touch has none.

    Args:
        dates: Their scenes, the oldest first.
        model: A model of single dates.
        config: The settings.
        out: The output folder.
        zones: A file of polygons by which areas are summed up.
        open_workers: Where chunks are done.
        progress: Shows how it goes.

    Returns:
        The mosaics and changes, of features in their order.

    Raises:
        ConfigError: The settings don't fit.
        OutputError: A folder can't be written, or holds other results.
        Interrupted: The run was stopped.
    """
    progress = progress or Quiet()
    features = features_of(config) or (None,)
    jobs = [jobs_of(dates, model, config, out, feature) for feature in features]
    made = not out.exists()
    check_out(out)
    with unmade(out, made=made), exclusive(out / LOCK):
        index, looks = Index(out), _looks(jobs, model, config)

        def each(report: SceneReport) -> None:
            progress.scene(report)
            index.put(report.entry())
            index.write()

        found = []
        for feature, some in zip(features, jobs, strict=True):
            reports = _mosaics(some, looks, open_workers, progress, each)
            if len(reports) < len(some) or reports[-1].status == "failed" or reports[-1].left_out:
                clear_above(out, reports[-1].scene)
                found.append(MosaicChanges(reports[-1].scene, reports, None))
                continue
            paths = [str(job.folder / CLASSES) for job in some]
            changes = changes_from_classes(paths, _of_classes(config), out, zones=zones, renew=True, feature=feature)
            found.append(MosaicChanges(changes.name, reports, changes))
        write_collection(out, index.entries)
    return found


def _looks(jobs: Sequence[Sequence[SceneJob]], model: AnyModel, config: Config) -> list[Look]:
    """What opens the scenes of each date, once for all features.

    Raises:
        ConfigError: The dates are out of order, by what their scenes say.
    """
    known = KnownScenes({job.folder.parent for some in jobs for job in some}, config, model)
    looks: list[Look] = [cache(partial(survey, job.ref.later, config, model.card, known=known.given)) for job in jobs[0]]
    if config.dates.acquired is None:
        _check_order_of(looks)
    return looks


def _check_order_of(looks: Sequence[Look]) -> None:
    """Refuse dates whose scenes are all older than those of the date before, before anything is mapped.

    Raises:
        ConfigError: One is.
    """
    spans: list[list[Given]] = []
    for look in looks:
        try:
            given = look()
        except (GeosegError, OSError):
            # Its mosaic tells what is wrong.
            return
        spans.append(sorted((one for one in given if one.scene.acquired), key=lambda one: one.scene.acquired or ""))
    for before, after in itertools.pairwise(span for span in spans if span):
        check_order([(one.scene.path, one.scene.acquired) for one in (before[0], after[-1])])


def _mosaics(
    jobs: Sequence[SceneJob],
    looks: Sequence[Look],
    open_workers: OpenWorkers,
    progress: Progress,
    each: Callable[[SceneReport], None],
) -> tuple[SceneReport, ...]:
    """Make the mosaics of dates on the lattice of the first; the reports as far as the first that could not be made."""
    lattice, reports = None, list[SceneReport]()
    for job, look in zip(jobs, looks, strict=True):
        report = mosaic_or_report(job, progress, open_workers, look, lattice)
        reports.append(report)
        each(report)
        if report.status == "failed" or report.left_out:
            break
        lattice = lattice or _lattice_of(job)
    return tuple(reports)


def _lattice_of(job: SceneJob) -> Lattice | None:
    """The lattice of a mosaic that was made."""
    record = job.place.record()
    return None if record is None else Lattice.of(record.document["mosaic"]["lattice"])


def _of_classes(config: Config) -> Config:
    """The settings that mean something for ready class maps."""
    given = config.model_dump(mode="json")
    parts = {
        name: {key: given[name][key] for key in getattr(config, name).model_fields_set & meant} for name, meant in MEANT.items()
    }
    vector = {key: given["vector"][key] for key in config.vector.model_fields_set}
    return Config.parse({**parts, "vector": vector})

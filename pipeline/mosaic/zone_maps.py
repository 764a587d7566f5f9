"""The maps of a mosaic in an output folder: one of all scenes, or one a UTM zone and what joins them."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from geoseg.dialect import setting
from geoseg.errors import OutputError
from geoseg.formats.page.elements import Link
from geoseg.formats.vector import EXTENSIONS
from pipeline.files.atomic import TEMPORARY, remove_tree
from pipeline.files.outputs import take_away
from pipeline.files.run_folder import MADE, RunFolder
from pipeline.mosaic.joined_zones import JOINED, join_zones
from pipeline.mosaic.planning import NAME
from pipeline.publish.report import SceneReport
from pipeline.segment.planned import SceneJob

__all__ = [
    "beside",
    "clear_others",
    "is_map",
    "is_map_of",
    "join_maps",
    "joined_links",
    "maps_in",
    "refuse_others",
    "report_of_all",
]

log = logging.getLogger(__name__)

OF_ZONE = re.compile(rf"{NAME}-[A-Z][A-Za-z0-9]*")
"""Names of maps of zones; mosaics of dates are called by these, or by numbers."""
MAPPED = ("done", "skipped", "partial")
WORST_FIRST = ("failed", "partial", "done", "skipped")


def is_map(name: str) -> bool:
    """Whether a folder of this name is that of a mosaic, or of one of its zones."""
    return name == NAME or OF_ZONE.fullmatch(name) is not None


def is_map_of(whole: str, name: str) -> bool:
    """Whether a name is that of a mosaic, ``mosaic`` or ``FEATURE/mosaic``, or of one of its zones."""
    return name.startswith(whole) and is_map(NAME + name[len(whole) :])


def beside(name: str, other: str) -> str:
    """The name of a map in the folder of another, whatever folder is told of it: reports may show odd names otherwise."""
    folder, slash, _ = name.rpartition("/")
    return folder + slash + other.rpartition("/")[2]


def maps_in(out: Path) -> list[str]:
    """Names of the folders of mosaics that are there: ``mosaic``, or one a zone."""
    names = sorted(path.name for path in out.glob(f"{NAME}*") if is_map(path.name)) if out.is_dir() else []
    records = {name: RunFolder(out / name).record() for name in names}
    return [name for name, record in records.items() if record is not None and isinstance(record.document.get("mosaic"), Mapping)]


def refuse_others(job: SceneJob, jobs: Sequence[SceneJob]) -> None:
    """Refuse maps beside others that map the same ground, unless they are to be replaced.

    Args:
        job: The job of all scenes.
        jobs: The maps that are made of them, see ``by_zones``.

    Raises:
        OutputError: There are such.
    """
    others = _others(job, jobs)
    if not others or job.config.run.overwrite:
        return
    if NAME in others:
        raise OutputError(
            f"{job.folder}: holds a mosaic of one CRS, and these scenes are of {len(jobs)} UTM zones, with a map for each; move "
            f"it away, replace it with {setting('overwrite')}, choose another --out, or give {setting('target_crs')} for one map "
            "of all"
        )
    now = f"of {len(jobs)} UTM zones" if len(jobs) > 1 else "mapped as one"
    raise OutputError(
        f"{job.folder.parent}: holds {', '.join(others)}, of scenes of several UTM zones, and these scenes are {now}; give all "
        f"scenes, replace them with {setting('overwrite')}, or choose another --out"
    )


def clear_others(job: SceneJob, jobs: Sequence[SceneJob]) -> list[str]:
    """Take away maps that others have replaced; gives their names. What somebody has changed there stays, under other names."""
    others = _others(job, jobs)
    for name in others:
        folder = job.folder.with_name(name)
        take_away(RunFolder(folder))
        log.info("%s: replaced by %s", folder, ", ".join(one.ref.name for one in jobs))
    return [beside(job.ref.name, name) for name in others]


def _others(job: SceneJob, jobs: Sequence[SceneJob]) -> list[str]:
    own = {one.folder.name for one in jobs}
    return [name for name in maps_in(job.folder.parent) if name not in own]


def join_maps(jobs: Sequence[SceneJob], reports: Sequence[SceneReport]) -> bool:
    """Join the polygons of the maps of zones once all are done; without two maps to join there are none.

    Args:
        jobs: The maps, at least one.
        reports: What became of each.

    Returns:
        Whether all are done.

    Raises:
        OutputError: The folder holds something else.
        ConfigError: Polygons of a map can't be read.
    """
    if not all(report.status in MAPPED for report in reports):
        return False
    for path in jobs[0].folder.parent.glob(f".{JOINED}.*"):
        # A run that was killed while it joined has left it; no other works here now.
        if TEMPORARY.fullmatch(path.name):
            remove_tree(path)
    # A zone without a pixel in the area of interest has no map.
    maps = [job for job, report in zip(jobs, reports, strict=True) if not report.left_out]
    if len(maps) < 2 or not join_zones(maps):
        take_away(RunFolder(jobs[0].folder.with_name(JOINED), MADE))
    return True


def report_of_all(job: SceneJob, reports: Sequence[SceneReport]) -> SceneReport:
    """The report of the maps of zones together: the worst status, and all reasons for it."""
    status = next(status for status in WORST_FIRST if any(report.status == status for report in reports))
    told = [report for report in reports if report.status == status and report.reason]
    bad, joined = status in ("failed", "partial"), job.folder.with_name(JOINED)
    return SceneReport(
        scene=job.ref.name,
        status=status,
        reason="; ".join(f"{report.scene}: {report.reason}" for report in told) if bad else None,
        outputs=tuple(f"{beside(job.ref.name, JOINED)}/{path.name}" for path in sorted(joined.glob("polygons.*"))),
        seconds=sum(report.seconds for report in reports),
        transient=bad and all(report.transient for report in told),
        left_out=all(report.left_out for report in reports),
    )


def joined_links(out: Path) -> list[Link]:
    """The files of joined polygons, for the page of an output folder: of its mosaic, or of that of each area of interest."""
    about = "polygons of all zones, joined where the maps meet, in longitude and latitude"
    names = {f"polygons{ending}" for ending in EXTENSIONS.values()}
    found = sorted([*out.glob(f"{JOINED}/*"), *out.glob(f"*/{JOINED}/*")])
    return [Link(path.relative_to(out).as_posix(), about) for path in found if path.name in names]

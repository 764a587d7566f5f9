"""The verb that corrects a map by what people say of its polygons."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.api.given import text

if TYPE_CHECKING:
    from pipeline.review.apply import Applied
    from pipeline.review.qgis.importing import Imported
    from pipeline.review.qgis.work_file import Exported

    type_of_path = str | PathLike[str]

__all__ = ["Review", "review"]


def review(folder: type_of_path, *, name: str | None = None) -> Review:
    """Take up the review of a map; what was decided before stands.

    Args:
        folder: The folder of a scene, or of one of its versions.
        name: Who reviews, as the log has it; by default the user of this machine.

    Raises:
        ConfigError: There is no map to review, or the name can't be one.
    """
    from pipeline.review.decisions import reviewer_or_user
    from pipeline.review.subject import Subject

    where = Path(text(folder))
    Subject.open(where)
    return Review(where, reviewer_or_user(name))


class Review:
    """The review of a map by one person; each method is a command of ``geoseg review``."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name

    def __repr__(self) -> str:
        """Folder and name, as one writes them."""
        return f"Review(folder={str(self.folder)!r}, name={self.name!r})"

    def decide(self, *decisions: Mapping[str, object]) -> int:
        """Record decisions, all or none, as the page does.

        Args:
            decisions: Such as ``{"action": "accept", "polygon": 3}``, ``{"action": "class", "polygon": 4, "class": 1}``,
                ``{"action": "reject", "polygon": 5, "reason": "shadow"}``: what a line of the log holds (docs/review.md). Without
                ``version``, of the version that the folder is.

        Returns:
            How many lines the log has now.

        Raises:
            ConfigError: One is no decision, or is of no polygon of the map.
            OutputError: The log can't be written.
        """
        from pipeline.review.recording import record

        return record(self.folder, decisions, self.name)

    def open(self, *, port: int = 0, basemap: str | None = None, browser: bool = True) -> None:
        """Serve the page on loopback until Ctrl-C; the address goes to standard output.

        Args:
            port: On loopback; 0 for any that is free.
            basemap: Tiles of a map beneath: ``https://server/{z}/{x}/{y}.png``.
            browser: Whether to open the address in the browser.

        Raises:
            ConfigError: There are no polygons to review, or the port is taken.
            OutputBusyError: Somebody reviews it under this name.
        """
        from pipeline.review.run import review as serve

        serve(self.folder, self.name, print, basemap=basemap, port=port, browser=browser)

    def label(
        self, *, sample: type_of_path | None = None, port: int = 0, basemap: str | None = None, browser: bool = True
    ) -> None:
        """Serve the page on which buildings are labelled, on loopback until Ctrl-C; the address goes to standard output.

        Args:
            sample: A sample of the buildings that ``sample`` has drawn; without, labels are for a model of the event.
            port: On loopback; 0 for any that is free.
            basemap: Tiles of a map beneath: ``https://server/{z}/{x}/{y}.png``.
            browser: Whether to open the address in the browser.

        Raises:
            ConfigError: There are no buildings to label, or it is no sample of them.
            OutputBusyError: Somebody labels under this name.
        """
        from pipeline.review.labelling.run import label as serve

        drawn = None if sample is None else Path(text(sample))
        serve(self.folder, self.name, print, sample=drawn, basemap=basemap, port=port, browser=browser)

    def export(self, out: type_of_path, *, overwrite: bool = False) -> Exported:
        """Write the polygons as a work file for QGIS, with a project beside it.

        Args:
            out: The file to write: .gpkg.
            overwrite: Replace a file that is there.

        Raises:
            ConfigError: The name does not end in .gpkg, or there are no polygons.
            OutputError: A file is there.
        """
        from pipeline.review.qgis.work_file import export_work

        return export_work(self.folder, Path(text(out)), overwrite=overwrite)

    def import_work(self, work: type_of_path) -> Imported:
        """Record the decisions of a work file that are new.

        Raises:
            ConfigError: It is no work file of this map, or a row says what can't be; nothing is recorded then.
            OutputError: The log can't be written.
        """
        from pipeline.review.qgis.importing import import_work

        return import_work(Path(text(work)), self.folder, self.name)

    def apply(self) -> Applied:
        """Make a version of the map with all decisions; the map itself stays as it is.

        Returns:
            Its folder and record, and whether it was made now.

        Raises:
            ConfigError: The log does not fit the map.
            OutputBusyError: Another call is at it.
            OutputError: It can't be written.
        """
        from pipeline.review.apply import apply_reviews

        return apply_reviews(self.folder)

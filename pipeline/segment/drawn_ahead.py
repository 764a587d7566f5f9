"""The picture of a map, drawn while the files of its polygons are written: then one core would wait for the other."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

from geoseg.formats.page.elements import Picture
from pipeline.files.manifest import StageRecord
from pipeline.files.spool import FeatureSpool
from pipeline.publish.run import draw_preview
from pipeline.segment.planned import PlannedScene

__all__ = ["DrawnAhead"]


class DrawnAhead:
    """Draws the picture of a scene's map in a thread of its own, into the folder of what will be published.

    What it has drawn is of this process: a run that goes on draws anew.
    """

    def __init__(self, planned: PlannedScene) -> None:
        self._planned = planned
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="geoseg-preview")
        self._drawn: Future[Sequence[Picture]] | None = None

    def __enter__(self) -> Self:
        """Draw until the block ends."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Wait for what is being drawn: nothing is written once the folder is free."""
        self._pool.shutdown(cancel_futures=True)

    def begin(self, stitched: Future[StageRecord], spool: FeatureSpool) -> None:
        """Draw the polygons, and the rasters as soon as these are whole."""
        self._drawn = self._pool.submit(self._draw, stitched, spool)

    def pictures(self) -> Sequence[Picture] | None:
        """The pictures for the page, as of ``draw_preview``; None where they are still to be drawn.

        Raises:
            OSError: The picture can't be written.
        """
        return None if self._drawn is None else self._drawn.result()

    def _draw(self, stitched: Future[StageRecord], spool: FeatureSpool) -> Sequence[Picture]:
        stitched.result()
        planned = self._planned
        return draw_preview(planned.plan, planned.store(), spool, planned.job.place.stage)

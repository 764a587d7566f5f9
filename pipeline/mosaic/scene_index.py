"""The index of a mosaic's scenes: where each lies, of when it is and where its files are, for a GIS and for later runs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from geoseg.addresses import is_remote, unsigned
from geoseg.documents import Json
from geoseg.formats.page.elements import Section
from geoseg.formats.stac_table import IndexedScene, write_scene_table
from pipeline.mosaic.scenes import PlacedScene
from pipeline.mosaic.store import PlannedMosaic

__all__ = ["SCENES", "write_scenes"]

SCENES = "scenes.parquet"


def write_scenes(planned: PlannedMosaic, folder: Path, document: Mapping[str, Json]) -> Sequence[Section]:
    """Write the index of a mosaic's scenes into the folder that will be published; nothing is opened."""
    del document
    write_scene_table(folder / SCENES, [_indexed(scene, planned.job.folder) for scene in planned.scenes])
    return ()


def _indexed(scene: PlacedScene, folder: Path) -> IndexedScene:
    told = scene.ref.told
    return IndexedScene(
        name=scene.name,
        georeference=scene.place,
        shape=scene.shape,
        hrefs=tuple(_href(path, folder) for path in scene.ref.paths),
        fingerprint=scene.fingerprint,
        bands=scene.ref.band_names,
        acquired=scene.acquired,
        cloud_cover=None if told is None else told.cloud_cover,
        platform=None if told is None else told.platform,
    )


def _href(path: str, folder: Path) -> str:
    """The address of a file without what is secret in it, or its path relative to the folder of the index."""
    return unsigned(path) if is_remote(path) else Path(os.path.relpath(path, folder)).as_posix()

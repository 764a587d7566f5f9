"""The index of a mosaic's scenes: where each lies, of when it is and where its files are, for a GIS and for later runs.

A later run takes from it what a look at a scene has found, as long as its files are as they were, by their sizes and times.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from geoseg.addresses import is_remote, unsigned
from geoseg.documents import Json
from geoseg.errors import SceneError
from geoseg.formats.page.elements import Section
from geoseg.formats.stac_table import IndexedScene, read_looks, write_scene_table
from geoseg.models.ensemble import AnyModel
from geoseg.scenes.files.one_file import modified_of
from geoseg.scenes.fingerprint import FileState, fingerprint, states_of, with_ends
from geoseg.scenes.products.recognizing import files_of, is_product
from geoseg.scenes.scene import Scene, SceneFile
from geoseg.scenes.sources import SceneRef
from pipeline.config.sections import Config
from pipeline.files.run_folder import RunFolder
from pipeline.files.version import code_version
from pipeline.mosaic.scenes import Given, PlacedScene
from pipeline.mosaic.store import PlannedMosaic
from pipeline.mosaic.zone_maps import maps_in

__all__ = ["SCENES", "KnownScenes", "write_scenes"]

SCENES = "scenes.parquet"


class KnownScenes:
    """Looks at scenes that earlier runs have left in the indexes of their mosaics."""

    def __init__(self, folders: Iterable[Path], config: Config, model: AnyModel) -> None:
        """Read the indexes of mosaics that nobody has changed since.

        Args:
            folders: The folders that hold those of the mosaics.
            config: The settings.
            model: The model.
        """
        self._looks: dict[str, IndexedScene] = {}
        self._listed: dict[str, list[str]] = {}
        key = _opened_with(config, model)
        if key is None:
            return
        for mosaic in [out / name for out in folders for name in maps_in(out)]:
            record = RunFolder(mosaic).record()
            facts = None if record is None or not record.intact else record.files.get(SCENES)
            if facts is not None and facts.hold(mosaic / SCENES):
                self._looks |= {one.name: _at(one, mosaic) for one in read_looks(mosaic / SCENES, key)}

    def given(self, ref: SceneRef) -> Given | None:
        """A scene as it was looked at, without its bands; None where it is not known, or its files are not as they were."""
        found = self._looks.get(ref.name)
        if found is None or not _is_plain(ref):
            return None
        with suppress(OSError, SceneError):
            now = states_of(ref.paths, self._listed)
            if [state.mark for state in now] != [state.mark for state in found.files]:
                return None
            if fingerprint(ref.paths, states=found.files) == found.fingerprint:
                return Given(ref, _scene(ref, found), found.files)
        return None


def _opened_with(config: Config, model: AnyModel) -> str | None:
    """Key of all that a look at a scene depends on beside its files; None where that is more than them."""
    if config.scene.clouds is not None or config.scene.gcps or config.scene.resample:
        return None
    # It is opened as it is, wherever it is brought.
    scene = config.scene.model_dump(mode="json", exclude={"target_crs", "resample", "sign"})
    facts: list[Json] = [code_version(), model.sha256, config.run.date, scene]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _is_plain(ref: SceneRef) -> bool:
    """Whether a scene is what its files on a disk say."""
    return ref.told is None and not any(map(is_remote, ref.paths))


def _at(look: IndexedScene, folder: Path) -> IndexedScene:
    """A look with the paths of its files, of which the index has those from its own folder on."""
    base = os.path.abspath(folder)
    files = (replace(state, path=os.path.normpath(os.path.join(base, state.path))) for state in look.files)
    return replace(look, files=tuple(sorted(files, key=lambda state: state.path)))


def _scene(ref: SceneRef, look: IndexedScene) -> Scene:
    """What a mosaic has to know of a scene before it is opened."""
    return Scene(
        name=ref.name,
        files=tuple(SceneFile(path=path, driver="", block_shape=(1, 1), interleaved=False, validity="all") for path in ref.paths),
        bands=(),
        height=look.shape[0],
        width=look.shape[1],
        georeference=look.georeference,
        acquired=look.acquired,
        fingerprint=look.fingerprint,
        modified=modified_of([file for path in ref.paths for file in files_of(path)]),
        sources=ref.paths if any(map(is_product, ref.paths)) else (),
    )


def write_scenes(planned: PlannedMosaic, folder: Path, document: Mapping[str, Json]) -> Sequence[Section]:
    """Write the index of a mosaic's scenes into the folder that will be published; no raster is opened."""
    del document
    job, listed = planned.job, dict[str, list[str]]()
    key = _opened_with(job.config, job.model)
    scenes = [
        replace(_indexed(scene, job.folder), files=() if key is None else _files(scene, job.folder, listed), opened_with=key)
        for scene in planned.scenes
    ]
    write_scene_table(folder / SCENES, scenes)
    return ()


def _files(scene: PlacedScene, folder: Path, listed: dict[str, list[str]]) -> tuple[FileState, ...]:
    """The files of a scene as they were looked at, with paths from a folder on; none where they are not all of what it is."""
    if not _is_plain(scene.ref):
        return ()
    try:
        states = scene.states or with_ends(states_of(scene.ref.paths, listed), scene.ref.paths)
        if fingerprint(scene.ref.paths, states=states) != scene.fingerprint:
            return ()
    except (OSError, SceneError):
        return ()
    return tuple(replace(state, path=_href(state.path, folder)) for state in states)


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

"""The scenes of a mosaic as one scene, of which no pixel is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from geoseg.documents import Json
from geoseg.scenes.clouds import Clouds
from geoseg.scenes.scene import Scene
from geoseg.windows import Window
from pipeline.mosaic.lattice import Lattice
from pipeline.mosaic.scenes import Given, named

__all__ = ["as_one", "models_of_clouds"]


def as_one(first: Scene, given: Sequence[Given], lattice: Lattice, window: Window, name: str) -> Scene:
    """All scenes as one, of which no pixel is read."""
    dates = {one.scene.acquired for one in given}
    modified = [one.scene.modified for one in given if one.scene.modified is not None]
    files = tuple(file for one in given for file in one.scene.files)
    own = tuple(path for one in given for path in one.scene.own_paths)
    scene = replace(
        first,
        name=name,
        files=files,
        sources=own if any(one.scene.sources for one in given) else (),
        product=None,
        quality=(),
        clouds=_all_clouds(given),
        height=window.height,
        width=window.width,
        georeference=lattice.georeference(window.row_off, window.col_off),
        acquired=dates.pop() if len(dates) == 1 else None,
        modified=max(modified, default=None),
        view=None,
        margin=(0, 0),
        warnings=(),
    )
    return replace(scene, fingerprint=scene.fingerprint_now(state for one in given for state in one.states))


def _all_clouds(given: Sequence[Given]) -> Clouds | None:
    """What hides the ground of the first scene that something hides, under the names of all that do."""
    every = [one.scene.clouds for one in given if one.scene.clouds is not None]
    return replace(every[0], name=named(list(dict.fromkeys(clouds.name for clouds in every)))) if every else None


def models_of_clouds(given: Sequence[Given]) -> dict[str, Json]:
    """Identities of the models that map clouds, where there are any."""
    found = sorted({one.scene.clouds.identity or "" for one in given if one.scene.clouds is not None} - {""})
    return {"clouds": [*found]} if found else {}

"""A scene with what its catalogue tells of it. The files come first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import rasterio.crs
import rasterio.errors

from geoseg.scenes.products.quality import QualityLayer
from geoseg.scenes.scene import Band, Scene
from geoseg.scenes.stac.told import Told, ToldBand, ToldFile

__all__ = ["with_told"]

TOLERANCE = 1e-6
"""Difference of transforms, in parts of a pixel's side, that is one of notation."""


def with_told(scene: Scene, told: Told | None) -> Scene:
    """A scene with what its catalogue tells where its files say nothing; warned of where the two differ.

    The date of a catalogue is that of the image; tags of files can hold the time of processing, so that it comes first.
    """
    if told is None:
        return scene
    notes: list[str] = []
    bands = list(scene.bands)
    for number, facts in enumerate(told.files):
        own = [i for i, band in enumerate(bands) if band.file == number]
        if len(facts.bands) == len(own):
            for i, said in zip(own, facts.bands, strict=True):
                bands[i] = _band(bands[i], said, notes)
        elif facts.bands:
            notes.append(f"its STAC item tells of {len(facts.bands)} bands, the file has {len(own)}; the file's are taken")
    if scene.view is None:
        notes += [note for facts in told.files for note in _other_grid(scene, facts)]
    return replace(
        scene,
        bands=tuple(bands),
        acquired=told.acquired or scene.acquired,
        quality=tuple(
            QualityLayer(kind=layer.kind, path=layer.path, driver="GTiff", signer=scene.files[0].signer) for layer in told.quality
        ),
        warnings=tuple(dict.fromkeys((*scene.warnings, *notes))),
    )


def _band(band: Band, said: ToldBand, notes: list[str]) -> Band:
    scale, offset = band.scale, band.offset
    if said.scale is not None or said.offset is not None:
        wanted = (1.0 if said.scale is None else said.scale, said.offset or 0.0)
        if (scale, offset) == (1.0, 0.0):
            scale, offset = wanted
        elif wanted != (scale, offset):
            notes.append(
                f"band {band.label}: its STAC item says scale {wanted[0]:g}, offset {wanted[1]:g}, the file {scale:g}, "
                f"{offset:g}; the file's are taken"
            )
    name = band.name if band.name is not None or said.name is None else said.name.lower()
    return replace(band, name=name, role=band.role or said.role, scale=scale, offset=offset)


def _other_grid(scene: Scene, facts: ToldFile) -> Sequence[str]:
    """Where a file lies elsewhere than its catalogue says."""
    notes = []
    if facts.shape is not None and facts.shape != (scene.height, scene.width):
        told, found = "{} x {}".format(*facts.shape), f"{scene.height} x {scene.width}"
        notes.append(f"its STAC item says {told} px (proj:shape), the file has {found}; the file's are taken")
    if facts.transform is not None:
        own = scene.georeference.transform
        side = max(abs(own[0]), abs(own[1]))
        if any(abs(a - b) > TOLERANCE * max(side, abs(b)) for a, b in zip(facts.transform, own, strict=True)):
            notes.append("its STAC item places it elsewhere (proj:transform) than the file, whose place is taken")
    if facts.crs is not None and scene.georeference.crs is not None:
        found_crs = _epsg_of(scene.georeference.crs)
        if found_crs is not None and found_crs != facts.crs:
            notes.append(f"its STAC item says {facts.crs} (proj:code), the file {found_crs}, which is taken")
    return notes


def _epsg_of(wkt: str) -> str | None:
    """``EPSG:n`` of a CRS; None where it has no such code."""
    try:
        code = rasterio.crs.CRS.from_wkt(wkt).to_epsg()
    except rasterio.errors.CRSError:
        return None
    return None if code is None else f"EPSG:{code}"

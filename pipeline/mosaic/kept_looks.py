"""What was measured in a scene of a mosaic, kept beside its chunk results: a run with more scenes need not look again."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geoseg.domain.facts import ImageFacts
from geoseg.domain.moments import WindowStats
from geoseg.scenes.scene import Scene
from pipeline.files.atomic import atomic_path
from pipeline.plan.domain import look_at

__all__ = ["KeptLooks"]

UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)
"""What reading a file that is not whole raises."""


@dataclass(frozen=True, slots=True)
class KeptLooks:
    """Measurements of one scene in a file; those under another key are replaced."""

    path: Path
    """An ``.npz`` file; its folder is there."""
    key: str
    """sha256 of all that they depend on beside the bands."""

    def look(self, scene: Scene, bands: Sequence[int], size: int, *, mask_bad_blocks: bool = False) -> tuple[ImageFacts, ...]:
        """Measure a scene as ``look_at``, or take up what was measured before."""
        hiding = [clouds.identity for clouds in scene.every_clouds]
        name = f"{self.key} {scene.fingerprint} {[*bands]} {size} {mask_bad_blocks} {hiding}"
        if (found := self._read(name)) is not None:
            return (found,)
        looks = look_at(scene, bands, size, mask_bad_blocks=mask_bad_blocks)
        if len(looks) == 1:
            self._write(name, looks[0])
        return looks

    def _read(self, name: str) -> ImageFacts | None:
        with (
            suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile),
            np.load(self.path, allow_pickle=False) as kept,
        ):
            if str(kept["name"]) != name:
                return None
            ends = np.cumsum(kept["counts"])[:-1]
            parts = zip(np.split(kept["mean"], ends), np.split(kept["moments"], ends), strict=True)
            return ImageFacts(tuple(WindowStats(*part) for part in parts), kept["values"], float(kept["constant"]))
        return None

    def _write(self, name: str, found: ImageFacts) -> None:
        if not found.cells:
            return
        with atomic_path(self.path) as part:
            np.savez(
                part,
                allow_pickle=False,
                name=np.array(name),
                counts=np.array([len(cell) for cell in found.cells]),
                mean=np.concatenate([cell.mean for cell in found.cells]),
                moments=np.concatenate([cell.moments for cell in found.cells]),
                values=found.values,
                constant=np.array(found.constant),
            )

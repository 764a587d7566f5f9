"""The record of a map, ``run.json``, as values: its readers name fields, and unpack nothing by position."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from geoseg.documents import LARGE, read_json
from geoseg.scenes.stac.told import Told
from pipeline.files.run_folder import REPORT

__all__ = ["ChunkCounts", "ClassArea", "FileSize", "GivenScene", "MemberFacts", "ModelFacts", "ReviewFacts", "SceneRecord"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class ClassArea(_Part):
    """Pixels and area of a class, of *not analysed*, or of no data."""

    code: int
    name: str
    pixels: int
    area_m2: float | None = None
    """Geodesic; None without a CRS, and for no data."""


class MemberFacts(_Part):
    """A model of an ensemble, or the only one."""

    path: str
    sha256: str


class ModelFacts(_Part):
    """The model that made a map."""

    name: str = ""
    version: str = ""
    sha256: str = ""
    members: tuple[MemberFacts, ...] = ()


class ChunkCounts(_Part):
    """Numbers of chunks."""

    total: int = 0
    empty: int = 0
    """Without data."""
    failed: int = 0
    """Not analysed."""
    tiles: int = 0
    """Tiles that went through the network."""


class FileSize(_Part):
    """A published file."""

    bytes: int
    sha256: str = ""


class GivenScene(_Part):
    """A scene as it was given to the run."""

    name: str
    paths: tuple[str, ...]
    band_names: tuple[str, ...] = ()
    later: tuple[GivenScene, ...] = ()
    """Later dates of the same place."""
    area: str | None = None
    """Of several areas of interest, the name of the one that is mapped."""
    told: Told | None = None
    """What its catalogue says of it."""


class ReviewFacts(_Part):
    """What people have reviewed of a map, in the record of a version with their decisions."""

    polygons: int
    """Polygons or buildings that somebody has decided on."""
    share: float
    """Their part of the mapped area, or of all buildings, 0 to 1."""
    unit: str = "polygons"
    """``polygons`` or ``buildings``."""


class SceneRecord(_Part):
    """Record of a scene, as ``run.json`` holds it."""

    scene: str = ""
    status: str = ""
    """``done``, or ``partial`` where some chunks are not analysed."""
    reason: str | None = None
    outputs: tuple[str, ...] = ()
    """Files, relative to the record."""
    warnings: tuple[str, ...] = ()
    classes: tuple[ClassArea, ...] = ()
    features: int = 0
    """Polygons."""
    model: ModelFacts = ModelFacts()
    chunks: ChunkCounts = ChunkCounts()
    given: GivenScene | None = None
    config: Mapping[str, Mapping[str, object]] = {}
    """Settings by section and key, without secrets."""
    seconds: Mapping[str, float] = {}
    """Time by stage."""
    overlap_s: Mapping[str, float] = {}
    """How much of it was worked while the network ran, by stage."""
    files: Mapping[str, FileSize] | None = None
    review: ReviewFacts | None = None
    """Of a version that people have corrected."""

    @classmethod
    def of(cls, document: Mapping[str, object]) -> SceneRecord:
        """Check a document.

        Raises:
            ValueError: It is not that of a run over a scene.
        """
        return cls.model_validate(dict(document))

    @property
    def whole_s(self) -> float:
        """Time of all stages, what they did beside each other counted once."""
        return sum(self.seconds.values()) - sum(self.overlap_s.values())

    @classmethod
    def read(cls, folder: Path) -> SceneRecord | None:
        """Read the record of a scene's folder; None where there is none that can be read."""
        try:
            return cls.model_validate(read_json(folder / REPORT, limit=LARGE))
        except (OSError, ValidationError, ValueError):
            return None

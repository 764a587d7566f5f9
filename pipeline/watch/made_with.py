"""What the maps of a watch are made with: the model, the settings, and areas of interest as they are now."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from geoseg.errors import ConfigError, ReadError
from geoseg.models.model_folder import Model
from geoseg.scenes.sources import SceneRef
from geoseg.transient import passing
from geoseg.vectors.given_area import read_area
from pipeline.config.sections import Config
from pipeline.mosaic.planning import NAME
from pipeline.plan.within import Feature, features_of
from pipeline.watch.ledger import Ledger
from pipeline.watch.looking import Look
from pipeline.watch.source import Found

__all__ = ["COLUMN", "MadeWith", "made_with"]

AREA, COLUMN = "area", "area_column"
"""Facts of the ledger: an area of interest that could be read before; the column of one that has maps of each feature."""


@dataclass(frozen=True, slots=True)
class MadeWith:
    """What maps are made with."""

    key: str
    """That of the model and the settings, as rows of the ledger hold it; of several areas of interest each adds its own."""
    features: tuple[Feature, ...] = ()
    """Areas of interest that have maps of their own; none where there is one area, or no area."""

    @classmethod
    def of(cls, model: Model, config: Config) -> MadeWith:
        """Read the areas of interest as they are.

        Raises:
            ConfigError: They can't be read.
        """
        area, parts = config.area, [model.sha256, config.result_hash()]
        if area.aoi is not None and area.aoi_column is None:
            parts.append(read_area(area.aoi, config.scene.assume_crs).digest)
        if config.watch.mosaic:
            parts += [config.mosaic.order, config.mosaic.combine, config.mosaic.within or ""]
        return cls(":".join(parts), features_of(config))

    @property
    def wholes(self) -> tuple[str, ...]:
        """Names of the mosaics that are made of all scenes."""
        return tuple(f"{feature.folder}/{NAME}" for feature in self.features) or (NAME,)

    def each(self, found: Found) -> list[Found]:
        """A scene, or all of them as one, once for each area of interest."""
        own = [replace(found, ref=feature.of(found.ref), area=feature.digest) for feature in self.features]
        return own or [found]

    def scenes(self, seen: Look) -> Look:
        """What was seen, each scene once for each area of interest."""
        return replace(seen, found=tuple(one for item in seen.found for one in self.each(item)))

    def as_one(self, parts: Sequence[Found], version: str) -> list[Found]:
        """All scenes as one, once for each area of interest."""
        return self.each(Found(SceneRef(NAME, (), later=tuple(item.ref for item in parts)), version))

    def has_changed(self, model: Model, config: Config) -> bool:
        """Whether the areas of interest are others by now, or can't be read."""
        try:
            return MadeWith.of(model, config) != self
        except ConfigError:
            return True


def made_with(model: Model, config: Config, ledger: Ledger) -> MadeWith:
    """What maps are made with, and note which areas of interest could be read.

    Raises:
        ConfigError: The areas of interest can't be read, and never could.
        ReadError: They can't be read now: a program may be writing them.
    """
    area = config.area
    mark = hashlib.sha256(f"{area.aoi} {area.aoi_column}".encode("utf-8", "surrogateescape")).hexdigest()[:16]
    try:
        found = MadeWith.of(model, config)
    except ConfigError as error:
        if ledger.fact(AREA) != mark:
            raise
        raise passing(ReadError(f"{error}; it could be read before, and maps stay as they are until it can be")) from error
    ledger.note(AREA, mark if area.aoi is not None else None)
    ledger.note(COLUMN, area.aoi_column)
    return found

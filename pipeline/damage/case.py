"""A pair of images, the buildings on them, and what they are graded by."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import shapely

from geoseg.damage.scale import CLASSES
from geoseg.dialect import setting
from geoseg.errors import ConfigError, OutsideAreaError
from geoseg.models.card import Card
from geoseg.models.model_folder import Model, load_model
from geoseg.scenes.bands.value_map import ValueMap
from geoseg.scenes.sources import SceneRef
from geoseg.vectors.polygon_file import PolygonFile
from pipeline.config.sections import Config
from pipeline.damage.buildings import Building, buildings_in, collect_buildings, open_pair
from pipeline.damage.document import AreaEntry
from pipeline.damage.grading import Grade, classes_of_damage, grade_by_crops, grade_by_pixels
from pipeline.damage.settings import FINDER, EventOptions
from pipeline.files.manifest import Manifest
from pipeline.files.version import code_version
from pipeline.plan.dates import OpenedDates
from pipeline.plan.domain import look_at
from pipeline.plan.rescale import rescale_of, values_of
from pipeline.plan.value_settings import refuse_values
from pipeline.plan.within import area_of
from pipeline.segment.progress import Progress

__all__ = ["Case", "Counter", "check_grades", "model_for"]


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """The buildings of a pair of images, and what they are graded by."""

    ref: SceneRef
    footprints: str
    file: PolygonFile
    opened: OpenedDates
    buildings: list[Building]
    """In the order in which the images are read."""
    model: Model
    config: Config
    area: AreaEntry | None = None
    """The area of interest, outside of which no buildings are graded."""

    def graded_by(self) -> dict[str, object]:
        """All that the grades depend on."""
        return {
            "scene": self.opened.scene.fingerprint,
            "dates": [date.acquired for date in self.opened.scene.dates],
            "model": self.model.sha256,
            "config": self.config.chunk_hash(),
            "code": code_version(),
            "footprints": _digest(self.buildings),
            **({} if self.area is None else {"area": self.area}),
        }

    @classmethod
    def of(cls, ref: SceneRef, footprints: str, file: PolygonFile, model: Model, config: Config) -> Case:
        """Open the images and lay the footprints over them."""
        opened = open_pair(ref, model.card, config)
        area = area_of(opened.scene, config, ref.area)
        every = collect_buildings(file, opened, file.fields)
        if area is None:
            return cls(ref, footprints, file, opened, every, model, config)
        kept = buildings_in(every, area)
        if not kept:
            raise OutsideAreaError(f"{file.path}: none of its {len(every):,} footprints lies in the area of interest")
        entry: AreaEntry = {"sha256": area.digest, "left_out": len(every) - len(kept)}
        return cls(ref, footprints, file, opened, kept, model, config, entry)

    def maker(self) -> dict[str, str]:
        """The model, as the maker of grades."""
        return {"name": self.model.card.name, "version": self.model.card.version, "sha256": self.model.sha256}

    def by_pixels(self, out: Path, tolerance_m: float) -> Iterator[tuple[Building, Grade]]:
        """Grades of the buildings from a map of the classes of damage."""
        return grade_by_pixels(self.buildings, self.file.crs, self.ref, self.model, self.config, out, tolerance_m)

    def by_crops(self, values: ValueMap, manifest: Manifest, progress: Progress) -> Iterator[tuple[Building, Grade]]:
        """Grades of the buildings, one by one."""
        counter, threads = Counter(progress, len(self.buildings)), self.config.infer.threads
        return grade_by_crops(self.buildings, self.opened, self.model, values, manifest, threads=threads, tell=counter.add)

    def values(self) -> ValueMap | None:
        """Conversion of pixels to values of a model that grades crops; None for one that maps pixels."""
        return None if self.model.card.damage is None else self.conversion()

    def conversion(self) -> ValueMap:
        """Conversion of pixels to the values that the model takes."""
        opened, card, asked = self.opened, self.model.card, self.config.scene.rescale
        looks = look_at(opened.scene, opened.bands, len(card.bands)) if asked == "auto" else ()
        rescale = rescale_of(opened.scene, opened.bands, asked, card, looks)
        return values_of(opened.scene, opened.bands, card, rescale.ranges, opened.lines)


def model_for(name: str | None, event: EventOptions) -> Model:
    """The model that is named, or that whose encoder serves labels where none is.

    Raises:
        ConfigError: There are neither a model nor labels, or the model grades no damage.
    """
    if name is None and not event.wanted:
        raise ConfigError(
            f"{setting('model')}: none is given; give one of geoseg train-damage, or {setting('labels')} of some buildings, or "
            f"{setting('label_next', '20')} for a file of buildings to label"
        )
    model = load_model(FINDER if name is None else name)
    if not event.wanted:
        check_grades(model.card)
    return model


def check_grades(card: Card) -> None:
    """Refuse a model that grades no damage, before buildings are looked for.

    Raises:
        ConfigError: It maps other classes, or values.
    """
    refuse_values(card, "damage", "give one that grades buildings, of geoseg train-damage")
    if card.damage is None and classes_of_damage(card) is None:
        raise ConfigError(
            f"model: {card.name} maps pixels of {', '.join(c.name for c in card.classes)}; give one that grades buildings "
            f"(geoseg train-damage), or one that maps {', '.join(CLASSES)}"
        )


class Counter:
    """Tells a progress how many buildings are done."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def add(self, count: int) -> None:
        """So many more are."""
        self._done += count
        self._progress.part("buildings", self._done, self._total)


def _digest(buildings: Sequence[Building]) -> str:
    """sha256 of what is graded: names and shapes, in their order."""
    digest = hashlib.sha256()
    for building in buildings:
        digest.update(f"{building.number} {building.name}\n".encode())
        digest.update(b"" if building.geometry is None else shapely.to_wkb(building.geometry))
    return digest.hexdigest()

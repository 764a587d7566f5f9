"""What is compared where ready class maps are given, and by which settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from geoseg.clouds.hidden import Hidden, MaskRule
from geoseg.clouds.opening import open_mask
from geoseg.codes import NOT_ANALYSED
from geoseg.dates.series import ABSENT, series_classes
from geoseg.dialect import setting
from geoseg.documents import Json
from geoseg.errors import ConfigError
from geoseg.formats.styles import ClassStyle, class_styles
from geoseg.parallel import cores
from geoseg.polygons.class_raster import ClassRaster
from geoseg.polygons.features import Change
from geoseg.scenes.fingerprint import fingerprint
from geoseg.scenes.names import folder_name
from geoseg.scenes.remote import is_remote, shown
from geoseg.scenes.scene import OpenOptions
from geoseg.vectors.area_of_interest import AreaOfInterest
from pipeline.changes.class_dates import ClassDate, FirstChanges, open_class_dates
from pipeline.config.sections import Config
from pipeline.files.version import code_version
from pipeline.join.rules import Rules
from pipeline.plan.dates import by_date, check_order, check_twice, names_of, same_bytes
from pipeline.plan.memory import memory_limit
from pipeline.plan.within import Feature, RasterWithin, area_of

__all__ = ["MEANT", "Comparison", "compare"]

MEANT = {
    "scene": {"assume_crs", "allow_vrt", "pixel_coords", "sign", "max_pixels"},
    "area": {"aoi", "aoi_column", "aoi_cut"},
    "dates": {"acquired", "masks", "mask_values", "mask_band", "of", "change_rate", "least_area", "least_width"},
    "infer": {"threads", "memory"},
    "run": {"overwrite", "confidence"},
    "grid": set[str](),
    "stac": set[str](),
    "mosaic": set[str](),
}
"""By section, the settings that mean something here; of those that are not listed all do."""


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """What is compared, and how."""

    name: str
    dates: Sequence[ClassDate]
    masks: Sequence[str | None]
    hidden: Sequence[Hidden | None]
    names: tuple[str, ...]
    """Of the dates."""
    styles: tuple[ClassStyle, ...]
    changes: Mapping[int, Change]
    area: AreaOfInterest | None
    copies: tuple[str, ...]
    """What is to be said of maps that are copies of each other."""
    config: Config
    counted: Mapping[str, int] | None = None
    """Pixels of the map by code, once they are known."""

    @property
    def threads(self) -> int:
        """Blocks that are worked on at once."""
        return self.config.infer.threads or cores()

    @property
    def sure(self) -> bool:
        """Whether all maps say how sure they are."""
        return all(date.raster.has_confidence for date in self.dates)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be minded: maps are copies, only some of them say how sure they are, there was nothing to compare."""
        by_sure = {date.raster.has_confidence: shown(date.path) for date in reversed(self.dates)}
        if len(by_sure) < 2:
            return (*self.copies, *self.empty)
        told = f"{by_sure[False]} has no confidence of its own beside it, as {by_sure[True]} has: the changes have none"
        return (*self.copies, told, *self.empty)

    @property
    def empty(self) -> tuple[str, ...]:
        """Why the map shows no class at all, or nowhere that which is compared: losses of zero would read as peace."""
        if self.counted is None:
            return ()
        known = {int(code) for code, count in self.counted.items() if count and int(code) < NOT_ANALYSED}
        if not known:
            return (f"no pixel is known at two dates, so that nothing was compared: look at {', '.join(self._shown)}",)
        if known <= {ABSENT} and self.rules is None:
            of, name = setting("of"), self.dates[0].class_name
            return (f"no pixel of any date is {name}, so that nothing can be lost: {of} says which class is meant",)
        return ()

    @property
    def _shown(self) -> list[str]:
        return [shown(date.path) for date in self.dates]

    @property
    def raster(self) -> ClassRaster:
        """The first changes, before any rule."""
        found = FirstChanges(self.dates, self.hidden, self.config.dates.change_rate)
        return found if self.area is None else RasterWithin(found, self.area)

    @property
    def rules(self) -> Rules | None:
        """Rules that were asked for."""
        dates, least, count = self.config.dates, self.config.vector.min_area_m2, len(self.dates)
        if not (dates.least_area_m2 or dates.least_width or least):
            return None
        lost, gained = tuple(range(2, 1 + count)), tuple(range(1 + count, 2 * count))
        return Rules(dates.least_area_m2, dates.least_width, least, lost, gained)

    def identity(self) -> str:
        """sha256 of all that the map depends on."""
        facts: list[Json] = [
            code_version(),
            self.config.result_hash(),
            [*self.names],
            [date.raster.scene.fingerprint for date in self.dates],
            None if self.area is None else self.area.digest,
        ]
        if self.sure:
            facts.append([date.raster.confidence_scene.fingerprint for date in self.dates if date.raster.confidence_scene])
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def compare(paths: Sequence[str], config: Config, feature: Feature | None = None) -> Comparison:
    """Open what is compared.

    Args:
        paths: A class raster a date, the oldest first.
        config: The settings.
        feature: Of several areas of interest, the one within which they are compared; the changes have its folder in their name.

    Raises:
        OutsideAreaError: The first class raster lies outside of the area of interest.
        ConfigError: The settings don't fit.
        SceneError: A class raster can't be read, or laid over the first.
    """
    for section, meant in MEANT.items():
        given = sorted(getattr(config, section).model_fields_set - meant)
        if given:
            raise ConfigError(
                f"{section}.{given[0]}: has no meaning for ready class maps ({setting('from_classes')}); leave it out"
            )
    if len(paths) < 2:
        raise ConfigError(f"inputs: {len(paths)} class map; give at least two, the oldest first")
    options = OpenOptions(
        allow_vrt=config.scene.allow_vrt,
        assume_crs=config.scene.assume_crs,
        pixel_coords=config.scene.pixel_coords,
        sign=config.scene.sign,
        max_pixels=config.scene.max_pixels,
        memory=memory_limit(config),
    )
    dates = open_class_dates(paths, config.dates.of, options)
    told = by_date(config.dates.acquired, len(paths), "acquired")
    dates = [replace(date, acquired=text or date.acquired) for date, text in zip(dates, told, strict=True)]
    files = [date.path for date in dates]
    check_twice(paths, [[path] for path in files])
    check_order([(date.path, date.acquired) for date in dates])
    names = names_of([date.acquired for date in dates])
    if len(set(names)) < len(names):
        raise ConfigError(f"dates.acquired: two of the dates are the same ({', '.join(names)}); name them with --acquired")
    first = dates[0].raster
    if config.dates.least_width and first.georeference.crs is None:
        raise ConfigError(
            f"dates.least_width: {first.scene.path} has no CRS, so that nothing has a width in metres; leave it out"
        )
    rule = MaskRule(tuple(config.dates.mask_values or ()), config.dates.mask_band)
    masks = by_date(config.dates.masks, len(paths), "masks")
    hidden = [None if mask is None else open_mask(mask, first.georeference, first.shape, rule) for mask in masks]
    classes, changes = series_classes(dates[0].class_name, names)
    name = folder_name(f"{Path(dates[0].scene).name}_to_{Path(dates[-1].scene).name}")
    return Comparison(
        name=name if feature is None else f"{feature.folder}/{name}",
        dates=dates,
        masks=masks,
        hidden=hidden,
        names=names,
        styles=class_styles((c.value, c.name, c.color) for c in classes),
        changes=changes,
        area=area_of(first.scene, config, None if feature is None else feature.value),
        copies=tuple(same_bytes([(path, fingerprint([path], times=False)) for path in files if not is_remote(path)])),
        config=config,
    )

"""Options for opening scenes, from the settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from geoseg.errors import ConfigError
from geoseg.models.card import Card
from geoseg.scenes.scene import OpenOptions
from geoseg.scenes.stac.search import Box, StacSearch
from geoseg.vectors.given_area import read_area
from pipeline.config.sections import Config
from pipeline.plan.memory import (
    forward_bytes,
    memory_limit,
)

__all__ = ["open_options", "scene_options", "stac_search"]


def open_options(config: Config, card: Card | None) -> OpenOptions:
    """Options for opening scenes under a configuration, for a model or for none."""
    if card is None:
        return scene_options(config)
    if config.scene.resample and card.gsd_m is None:
        raise ConfigError("scene.resample: the model's card gives no pixel size (gsd_m) to resample to")
    options = scene_options(config, card.gsd_m if config.scene.resample else None)
    return replace(options, memory=memory_limit(config, forward_bytes(card, config)), pixel_size=card.gsd_m)


def scene_options(config: Config, resample: float | None = None) -> OpenOptions:
    """Options for opening scenes under a configuration, whatever the model; perhaps warped to a pixel size in metres."""
    scene = config.scene
    return OpenOptions(
        allow_vrt=scene.allow_vrt,
        assume_crs=scene.assume_crs,
        pixel_coords=scene.pixel_coords,
        gcps=scene.gcps,
        target_crs=scene.target_crs,
        resample=resample,
        ignore_nodata=scene.ignore_nodata,
        nodata=scene.nodata_values,
        sign=scene.sign,
        max_pixels=scene.max_pixels,
        memory=memory_limit(config),
    )


def stac_search(config: Config, bands: Sequence[str] = ()) -> StacSearch:
    """What is searched of STAC APIs and taken of items.

    Args:
        config: The settings.
        bands: Those of the model; where the settings name others, these.
    """
    stac, named = config.stac, config.scene.bands
    if named is not None:
        bands = () if any(name.isdecimal() for name in named) else named
    return StacSearch(
        collections=stac.collections,
        bbox=stac.bbox,
        near=None if config.area.aoi is None else partial(_around, config.area.aoi, config.scene.assume_crs),
        datetime=stac.datetime,
        max_cloud_cover=stac.max_cloud_cover,
        max_items=stac.max_items,
        assets=stac.assets,
        # Models of two dates name the bands of each: red@1, red@2.
        bands=tuple(dict.fromkeys(name.partition("@")[0] for name in bands)),
    )


def _around(text: str, assume_crs: str | None) -> list[Box]:
    """Boxes around an area of interest, in degrees.

    Raises:
        ConfigError: It can't be read.
    """
    return read_area(text, assume_crs).boxes()

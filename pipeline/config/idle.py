"""Settings that were given and would do nothing: whoever gives them expects something else than what would come, and is told.

Only what a command line or a call gives is looked at. A file of settings may serve several commands, so that what it says of
others stands there for a reason.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from geoseg.dialect import setting
from geoseg.errors import ConfigError
from geoseg.scenes.sources import LISTS, STAC
from geoseg.scenes.stac.hrefs import is_document
from pipeline.config.compositing import Method
from pipeline.config.map_sections import VectorConfig
from pipeline.config.sections import Config

__all__ = ["Purpose", "refuse_idle"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Purpose:
    """What a command does with its scenes."""

    inputs: Sequence[str]
    """What it was given as such."""
    mosaic: bool = False
    """Whether they become one map."""
    composite: Method | None = None
    """How they become one image, where they do."""
    mapped: bool = True
    """Whether a network maps them, or that image."""


def refuse_idle(given: Collection[str], config: Config, purpose: Purpose) -> None:
    """Refuse settings that would do nothing.

    Args:
        given: Names of the settings that were given, without their section; others may be among them.
        config: All settings.
        purpose: What they are for.

    Raises:
        ConfigError: There are such.
    """
    for keys, why in _idle(config, purpose):
        for key in keys:
            if key in given:
                raise ConfigError(f"{setting(key)}: {why}, or leave it out")


def _idle(config: Config, purpose: Purpose) -> Iterator[tuple[Sequence[str], str]]:
    """Settings that do nothing, what they are for, and how that is asked for."""
    if purpose.composite is None:
        yield ("best", "period", "least"), f"is of composites; ask for one by {setting('composite')}"
    elif purpose.composite != "best":
        asked = setting("composite" if purpose.mapped else "method", "best")
        yield ("best",), f"says which observation is the best, and pixels get the {purpose.composite} of all; give {asked}"
    if not purpose.mosaic:
        yield ("order", "combine", "within"), f"is of mosaics; ask for one by {setting('mosaic')}"
    if purpose.mosaic or purpose.composite is not None:
        yield ("pixel_coords",), "is for images without a place on Earth, which can't be laid over each other; map each by itself"
    if config.area.aoi is None and not purpose.mosaic:
        yield ("aoi_cut",), f"says how polygons end at an area of interest; name one by {setting('aoi')}"
    if not any(map(_may_be_of_stac, purpose.inputs)):
        keys = ("collections", "bbox", "datetime", "max_cloud_cover", "assets", "max_items")
        yield keys, "is of STAC, and no input is an item, a table of items or a search (stac+https://…); give one"
    yield from _of_networks(config, purpose)
    yield from _of_files(config.vector)
    yield from _of_dates(config)


def _of_networks(config: Config, purpose: Purpose) -> Iterator[tuple[Sequence[str], str]]:
    if not purpose.mapped and config.scene.cloud_model is None:
        yield ("engine", "device", "provider"), f"is of networks, and none runs here; give {setting('clouds', 'model:NAME')}"
    elif config.infer.engine == "onnx":
        if config.infer.device.startswith("cuda"):
            yield ("device",), f"is of torch, and ONNX Runtime runs the network; give {setting('provider', 'cuda')}"
        if config.infer.compile == "always":
            yield ("compile",), f"is of torch, and ONNX Runtime runs the network; give {setting('engine', 'torch')}"


def _of_files(vector: VectorConfig) -> Iterator[tuple[Sequence[str], str]]:
    if "gpkg" not in vector.formats:
        yield ("style_table",), f"is of GeoPackages, and none is written; give {setting('formats', 'gpkg')}"
    if "geojson" not in vector.formats:
        yield ("simplestyle",), f"is of GeoJSON, and none is written; give {setting('formats', 'geojson')}"


def _of_dates(config: Config) -> Iterator[tuple[Sequence[str], str]]:
    if config.dates.masks is None:
        yield ("mask_values", "mask_band"), f"says how masks of dates are read; give them by {setting('masks')}"
    if config.dates.coregister == "off":
        yield ("max_shift",), f"is of dates that are measured against each other; leave {setting('coregister', 'off')} out"


def _may_be_of_stac(text: str) -> bool:
    """Whether an input is an item, a table of items, a search, or a list that may name some."""
    return text.startswith(STAC) or is_document(text) or text.lower().endswith(LISTS)

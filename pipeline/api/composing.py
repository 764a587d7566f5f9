"""The verb that makes images of many."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.api.given import call, check_use, config_of, paths, text
from pipeline.api.keywords import CompositeSettings

if TYPE_CHECKING:
    from typing import Unpack

    from pipeline.composite.run import Composite

    type_of_path = str | PathLike[str]

__all__ = ["composite"]


def composite(
    scenes: type_of_path | Sequence[type_of_path], *, out: type_of_path, **settings: Unpack[CompositeSettings]
) -> Composite:
    """Make one image without clouds of many scenes of an area, or one a year, a season or a month.

    Called again after an interruption, it goes on where it was; what is finished is not done again.

    Args:
        scenes: Files, folders, globs, list files (.txt), addresses, STAC items and searches, in any order.
        out: A folder to make, with an image a period; or a GeoTIFF (.tif), where there is one image.
        settings: Those of ``geoseg composite --help``, by the same names, units and defaults.

    Returns:
        The images, and the record of what they were made of.

    Raises:
        SceneError: A scene can't be read or placed.
        ConfigError: A setting is unknown or can't work.
        OutputError: The output is there, or can't be written.
    """
    from pipeline.composite.run import composite as make
    from pipeline.config.compositing import SECTIONS

    config = config_of(CompositeSettings, settings, SECTIONS)
    check_use(settings, config, paths(scenes), composite=config.composite.method, mapped=False)
    return call(make, paths(scenes), Path(text(out)), config, overwrite=settings.get("overwrite"))

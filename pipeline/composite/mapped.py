"""Composites as what is mapped: made first, beside the maps, then mapped like any other scenes."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from geoseg.dialect import setting
from geoseg.errors import ConfigError
from pipeline.composite.composite_plan import PlannedComposite, plan_composite
from pipeline.composite.run import composite
from pipeline.config.compositing import LEFT_OUT, SECTIONS, Method
from pipeline.config.section import Section
from pipeline.config.sections import Config
from pipeline.files.index import Index
from pipeline.files.run_folder import RunFolder
from pipeline.segment.folder import check_out, clear_maps

__all__ = ["IMAGES", "clear_earlier", "composites_of", "planned_composites"]

log = logging.getLogger(__name__)

IMAGES = "composites"
"""Below the output folder of the maps, the folder of the images."""
APPLIED = (
    "bands",
    "target_crs",
    "assume_crs",
    "gcps",
    "ignore_nodata",
    "nodata",
    "clouds",
    "cloud_classes",
    "cloud_band",
    "clouds_buffer",
)
"""Settings of scenes that a composite has followed, so that they mean nothing for its image."""


def planned_composites(inputs: Sequence[str], config: Config, method: Method, out: Path) -> PlannedComposite:
    """The plan of the images alone; see ``composites_of``."""
    return plan_composite(inputs, _of_images(config, method), out)


def composites_of(
    inputs: Sequence[str], config: Config, method: Method, out: Path, *, mosaic: bool = False, renew: bool = False
) -> tuple[list[str], Config]:
    """Make images without clouds of many scenes in ``out / "composites"``.

    The bytes are those of ``geoseg composite`` with the same settings, and those of the maps are those of ``geoseg segment`` of
    its images.

    Args:
        inputs: Files, folders, globs, list files, addresses, STAC items and searches.
        config: The settings of both.
        method: What a pixel gets.
        out: The output folder of the maps.
        mosaic: Whether a mosaic is asked for, too.
        renew: Replace images of other scenes, or of other settings.

    Returns:
        The images, one a period, and the settings with which they are mapped.

    Raises:
        SceneError: A scene can't be read or placed.
        ConfigError: The settings don't fit.
        OutputError: Other images are there, or they can't be written.
    """
    if mosaic:
        raise ConfigError(f"{setting('composite')}: is one image of all scenes; leave {setting('mosaic')} out")
    check_out(out)
    made = composite(inputs, out / IMAGES, _of_images(config, method), maps=out, overwrite=config.run.overwrite, renew=renew)
    return [str(path) for path in made.images], config.model_copy(update={"scene": _plain(config.scene, APPLIED)})


def clear_earlier(images: Sequence[str], out: Path) -> list[str]:
    """Take away the maps of earlier images of ``out / "composites"`` that others have replaced, such as those of other periods.

    Args:
        images: Those that are there now, and are mapped.
        out: The output folder of the maps.

    Returns:
        The names of the maps.

    Raises:
        OutputError: Another run is active there.
    """
    place, own = (out / IMAGES).resolve(), {Path(image).name for image in images}
    earlier = []
    for name in (entry["scene"] for entry in Index(out).entries):
        record = RunFolder(out / name).record()
        source = [] if record is None else [Path(str(path)) for path in record.document.get("source", ())]
        if source and all(path.parent.resolve() == place and path.name not in own for path in source):
            earlier.append(name)
    if earlier:
        clear_maps(out, earlier)
        log.warning("%s: %s: of images that others have replaced, taken away", out, ", ".join(earlier))
    return earlier


def _of_images(config: Config, method: Method) -> Config:
    """The settings of a map that are of its images, as ``geoseg composite`` has them."""
    own = {name: _plain(getattr(config, name), LEFT_OUT) for name in SECTIONS}
    own["composite"] = config.composite.model_copy(update={"method": method})
    return Config.model_validate({name: section.model_dump(exclude_unset=True) for name, section in own.items()})


def _plain(section: Section, keys: Collection[str]) -> Section:
    """A section with some of its settings as they are by default."""
    given: Mapping[str, object] = section.model_dump(exclude_unset=True)
    return type(section).model_validate({key: value for key, value in given.items() if key not in keys})

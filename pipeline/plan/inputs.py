"""Scenes to map of what a command was given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from geoseg.scenes.sources import Refused, SceneRef, list_scenes
from pipeline.config.sections import Config
from pipeline.plan.options import stac_search
from pipeline.plan.within import refs_in

__all__ = ["scenes_to_map"]


def scenes_to_map(
    inputs: Sequence[str], config: Config, bands: Sequence[str], out: Path | None = None, *, together: bool = False
) -> tuple[list[SceneRef], list[Refused]]:
    """The scenes that inputs name under a configuration, once for each area of interest, and what was refused.

    Args:
        inputs: Files, folders, globs, list files, addresses, STAC items and searches.
        config: The settings.
        bands: Those of the model, by which assets of items are chosen.
        out: Where the maps go: what earlier runs have written there is no scene.
        together: Whether they are mapped as one: each area of interest then has a map of them all.

    Raises:
        ConfigError: An input matches nothing, or names of areas are missing or the same.
        ReadError: A STAC API does not answer as one.
    """
    found, refused = list_scenes(inputs, allow_vrt=config.scene.allow_vrt, search=stac_search(config, bands), out=out)
    return found if together else refs_in(found, config), refused

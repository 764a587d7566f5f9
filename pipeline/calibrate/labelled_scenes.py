"""What models are calibrated and quantized on: scenes as they are given, and labels in the codes of a model's classes."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from geoseg.labels.labels import Labels, open_labels
from geoseg.models.card import Card
from geoseg.scenes.sources import SceneRef, list_scenes
from pipeline.config.sections import Config
from pipeline.plan.plan import Plan

__all__ = ["given_scenes", "labels_of"]

log = logging.getLogger(__name__)


def given_scenes(images: Sequence[str], config: Config) -> list[SceneRef]:
    """The scenes of files, folders and globs; what can't be one is told.

    Raises:
        ConfigError: What is given matches nothing.
    """
    found, refused = list_scenes(list(images), allow_vrt=config.scene.allow_vrt, option="images")
    for item in refused:
        log.warning("%s: %s: %s", item.name, item.status, item.reason)
    return found


def labels_of(path: str, plan: Plan, card: Card, column: str | None) -> Labels:
    """Labels on a scene's grid; their values are names of the card's classes, or their codes.

    Raises:
        SceneError: They can't be read.
    """
    codes = {str(c.value): c.value for c in card.classes} | {c.name: c.value for c in card.classes}
    scene = plan.scene
    return open_labels(path, scene.georeference, scene.height, scene.width, codes, column=column)

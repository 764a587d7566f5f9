"""Training a network that grades buildings, from labelled footprints and the images of both dates."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geoseg.damage.crops import Crop
from geoseg.damage.damage_settings import DamageSettings
from geoseg.damage.scale import CLASSES, STYLES
from geoseg.errors import ConfigError
from geoseg.models.card import Card
from geoseg.models.card_values import DamageFacts
from geoseg.models.model_folder import Model, load_model
from geoseg.scenes.sources import SceneRef
from geoseg.vectors.polygon_file import PolygonFile
from pipeline.config.sections import Config
from pipeline.damage.buildings import Building, collect_buildings, crops_of, labels_of, open_pair
from pipeline.damage.labels_and_name import LabelledFootprints, ModelName
from pipeline.files.outputs import atomic_folder, check_new_folder
from pipeline.plan.rescale import values_of

if TYPE_CHECKING:
    from geoseg.damage.samples import DamageSet
    from geoseg.damage.training import DamageReport

__all__ = ["train_on_buildings"]

log = logging.getLogger(__name__)
RGB = ("red", "green", "blue")


def train_on_buildings(
    ref: SceneRef,
    footprints: LabelledFootprints,
    out: Path,
    settings: DamageSettings,
    config: Config,
    name: ModelName,
    *,
    overwrite: bool = False,
) -> tuple[Model, DamageReport]:
    """Train on the footprints of a file and write a model folder.

    Args:
        ref: The image before, and after it that after the event.
        footprints: A file of footprints, and its column of classes.
        out: The model folder.
        settings: Of the training.
        config: Sections scene and dates: opening of the images, and their comparison.
        name: Name and licence of the model.
        overwrite: Replace a model that is there.

    Raises:
        ConfigError: There are too few labels, or the settings don't fit.
        SceneError: An image can't be read.
    """
    from geoseg.damage.saving import About, save_damage_model
    from geoseg.damage.training import train_damage

    check_new_folder(out, overwrite=overwrite)
    given = DamageFacts(used=settings.used)
    card = _first_card(name)
    opened = open_pair(ref, card, config)
    card = card.model_copy(update={"data_type": opened.scene.dtype})
    values = values_of(opened.scene, opened.bands, card, None, opened.lines)
    file = PolygonFile.open(Path(footprints.labels), config.scene.assume_crs)
    buildings = collect_buildings(file, opened, file.fields)
    data = _learnable(crops_of(buildings, opened, given, values), buildings, footprints)
    left = len(buildings) - len(data)
    log.info("%d buildings, %d without a class or not seen", len(data), left)
    network, figures = train_damage(data, len(RGB), settings, log.info)
    figures["left_out"] = left
    told = About(name.name, name.license_name, RGB, settings.encoder, figures, card.data_type)
    with atomic_folder(out, replace=overwrite) as folder:
        save_damage_model(network, folder, given, told)
    return load_model(str(out)), figures


def _first_card(name: ModelName) -> Card:
    """Demands on the images, before anything is trained."""
    return Card.model_validate(
        {
            "name": name.name,
            "description": "in training",
            "license": name.license_name,
            "architecture": "damage",
            "bands": RGB,
            "stride": 1,
            "global_context": True,
            "scaling": [{"mean": 0.0, "stddev": 1.0}] * 3,
            "classes": [{"value": s.code, "name": s.name, "color": s.color} for s in STYLES if s.code < len(CLASSES)],
        }
    )


def _learnable(crops: Iterable[tuple[Building, Crop]], buildings: Sequence[Building], given: LabelledFootprints) -> DamageSet:
    """The buildings that have a class and are seen at both dates.

    Raises:
        ConfigError: There are none.
    """
    from geoseg.damage.samples import DamageSet

    classes = dict(zip([b.number for b in buildings], labels_of(buildings, given.column).tolist(), strict=True))
    images, masks, kinds, places = [], [], [], []
    for building, crop in crops:
        if crop.reason is None and classes[building.number] >= 0:
            images.append(crop.image)
            masks.append(crop.mask)
            kinds.append(classes[building.number])
            places.append([building.shape.centroid.y, building.shape.centroid.x])
    if not images:
        raise ConfigError(
            f"{given.labels}: none of its {len(buildings)} buildings has a class of the scale and is seen at both dates"
        )
    return DamageSet(np.stack(images), np.stack(masks), np.array(kinds, np.int64), np.array(places))

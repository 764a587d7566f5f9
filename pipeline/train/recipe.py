"""The recipe of a training: a ``train.toml`` read, checked as a whole, and made one value."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from geoseg.models.card_values import LEAST_STDDEV, DataSource, check_value_range
from geoseg.models.networks.config import DETECTOR_NAMES
from geoseg.models.weights.known_weights import is_known
from pipeline.config.commented import commented_table
from pipeline.config.document import parse_document, read_toml
from pipeline.train.quantity import QuantityRecipe, check_quantity, with_quantity
from pipeline.train.recipe_data import ClassRecipe, DataRecipe, SplitRecipe, Table
from pipeline.train.recipe_tables import (
    AdaptRecipe,
    AugmentRecipe,
    CalibrateRecipe,
    InitRecipe,
    InstanceRecipe,
    KeepRecipe,
    LoopRecipe,
    LossRecipe,
    NetworkRecipe,
    SampleRecipe,
    TaskRecipe,
)

__all__ = ["Recipe", "recipe_to_begin_from"]


class Recipe(Table):
    """A whole ``train.toml``; the output folder is given beside it."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", description="Name of the model.")
    description: str = Field(min_length=1, description="What it maps, in which images.")
    license: str = Field("proprietary", description="SPDX identifier of the licence of the weights.")
    sources: tuple[DataSource, ...] = Field((), description="Name, license and attribution of the data.")
    bands: tuple[str, ...] = Field(
        min_length=1, description="Bands that the network takes, in its order: red, green, blue, nir, ..."
    )
    classes: tuple[ClassRecipe, ...] = Field(
        min_length=1, description="Its classes, by code from 0, at least two; none with a quantity."
    )
    data_type: Literal["uint8", "int8", "uint16", "int16", "float32"] = Field("uint8", description="Type of the pixel values.")
    value_range: tuple[float, float] | None = Field(None, description="Smallest and largest pixel value.")
    physical: bool = Field(
        default=False, description="Apply the scale and offset of the files: the network takes physical values."
    )
    gsd_m: float | None = Field(
        None, ge=1e-4, le=1e6, description="Side of a pixel in metres. [default: measured, where all scenes agree]"
    )
    normalize: Literal["data", "imagenet", "weights"] | tuple[tuple[float, float], ...] = Field(
        "data",
        description="Mean and standard deviation a band: measured on valid pixels, those of ImageNet, those that the weights of "
        "[init] were trained with, or given. [default: data; weights with weights of satellites by name]",
    )
    data: tuple[DataRecipe, ...] = Field(min_length=1, description="Scenes with their labels.")
    split: SplitRecipe = SplitRecipe()
    network: NetworkRecipe = NetworkRecipe()
    init: InitRecipe = InitRecipe()
    sample: SampleRecipe = SampleRecipe()
    augment: AugmentRecipe = AugmentRecipe()
    loss: LossRecipe = LossRecipe()
    loop: LoopRecipe = LoopRecipe()
    adapt: AdaptRecipe = AdaptRecipe()
    keep: KeepRecipe = KeepRecipe()
    tasks: TaskRecipe = TaskRecipe()
    instances: InstanceRecipe = InstanceRecipe()
    calibrate: CalibrateRecipe = CalibrateRecipe()
    quantity: QuantityRecipe = QuantityRecipe()

    @model_validator(mode="before")
    @classmethod
    def _for_a_quantity(cls, given: object) -> object:
        return given if not isinstance(given, dict) else with_quantity(given)

    @model_validator(mode="before")
    @classmethod
    def _as_the_weights_were_trained(cls, given: object) -> object:
        init = given.get("init") if isinstance(given, dict) else None
        weights = init.get("weights") if isinstance(init, dict) else None
        if isinstance(given, dict) and isinstance(weights, str) and is_known(weights):
            return {"normalize": "weights", **given}
        return given

    @model_validator(mode="after")
    def _fits_a_card(self) -> Self:
        """Refuse what the card would, when the training is over."""
        check_value_range(self.value_range)
        if (doubled := next((band for k, band in enumerate(self.bands) if band in self.bands[:k]), None)) is not None:
            raise ValueError(f"bands: {doubled} is there twice; the network takes each band once")
        if isinstance(self.normalize, tuple):
            if len(self.normalize) != len(self.bands):
                raise ValueError(f"normalize: {len(self.normalize)} pairs for {len(self.bands)} bands")
            if (least := min(stddev for _, stddev in self.normalize)) < LEAST_STDDEV:
                raise ValueError(f"normalize: a standard deviation of {least:g}; give mean and standard deviation of each band")
        return self

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.normalize == "weights" and self.init.weights is None:
            raise ValueError("normalize: weights, but there are none; name them in init.weights, or take data")
        if self.init.weights is not None and not self.init.weights.strip():
            raise ValueError("init.weights: is empty; leave it out to begin with random weights")
        if self.keep.distill and self.init.weights is None:
            raise ValueError("keep.distill: there is no old model; name it in init.weights")
        if (self.keep.ewc or self.keep.rehearse) and not self.keep.old:
            raise ValueError("keep: ewc and rehearse need the data of the old region in keep.old")
        if self.gsd_m is None and any(data.resample for data in (*self.data, *self.keep.old)):
            raise ValueError("data.resample: there is no pixel size to warp to; give gsd_m")
        wants_target = self.adapt.statistics or self.adapt.style != "none" or self.adapt.pseudo > 0
        if not any(data.role == "target" for data in self.data):
            if wants_target:
                raise ValueError('adapt: there is nothing to adapt to; add [[data]] with role = "target"')
            if self.loop.choose == "consistency":
                raise ValueError('loop.choose: consistency is that of scenes without labels; add [[data]] with role = "target"')
        if self.loop.choose == "consistency" and (self.regresses or self.instances.kind == "regions"):
            raise ValueError("loop.choose: consistency is that of maps of classes; take loss or last")
        if self.regresses:
            check_quantity(self)
        elif len(self.classes) < 2:
            raise ValueError("classes: one is no map; name two at least, or a number to regress in quantity")
        names = [c.name for c in self.classes]
        if len({name.casefold() for name in names}) < len(names):
            raise ValueError(f"classes: two have the same name: {', '.join(names)}")
        unknown = [name for name in self.loss.factors if name not in names]
        if unknown:
            raise ValueError(f"loss.factors: {unknown[0]!r} is not a class: {', '.join(names)}")
        return self

    @model_validator(mode="after")
    def _objects_fit(self) -> Self:
        # A rectangle of another scene has edges of its own, and distances across them mean nothing.
        told = self.instances.kind != "none"
        if self.augment.cutmix and (self.tasks.boundary or self.tasks.distance or told):
            raise ValueError(
                "augment.cutmix: it would make boundaries that are none; leave it out with tasks.boundary, distance, or instances"
            )
        detector = self.network.architecture.lower() in DETECTOR_NAMES
        if detector != (self.instances.kind == "regions"):
            raise ValueError(
                f"instances.kind: regions goes with a detector, and a detector with it; not {self.instances.kind} with "
                f"{self.network.architecture}"
            )
        if detector and [c.background for c in self.classes] != [True] + [False] * (len(self.classes) - 1):
            raise ValueError("classes: a detector takes one background class, the first, and classes of objects")
        if detector and (self.adapt.pseudo or self.keep.distill or self.keep.ewc):
            raise ValueError("adapt.pseudo, keep.distill and keep.ewc are for maps of classes; leave them out with a detector")
        if told and all(c.background for c in self.classes):
            raise ValueError("instances: all classes are background; objects are those of the others")
        if told and not any(c.background for c in self.classes):
            raise ValueError("instances: no class is background; mark what is no object with background = true")
        if told and any(self.tasks.model_dump(exclude={"weighting"}).values()):
            raise ValueError("tasks: instances bring their own heads; leave other tasks out")
        if told and any(data.border for data in self.data):
            raise ValueError("data.border: instances need the labels that it hides; set it to 0")
        if self.tasks.boundary and any(data.border for data in self.data):
            raise ValueError("data.border: the task tasks.boundary needs the labels that it hides; set one of them to 0")
        return self

    @property
    def regresses(self) -> bool:
        """Whether a quantity is learned, not classes."""
        return bool(self.quantity.name)

    def document(self) -> dict[str, dict[str, object]]:
        """The recipe as JSON; that of classes says nothing of a quantity."""
        return self.model_dump(mode="json", exclude=set() if self.regresses else {"quantity"})

    @property
    def object_codes(self) -> tuple[int, ...]:
        """Codes of the classes whose objects are distinguished."""
        return tuple(k for k, c in enumerate(self.classes) if not c.background) if self.instances.kind != "none" else ()

    @classmethod
    def parse(cls, document: dict[str, object]) -> Recipe:
        """Check a nested document.

        Raises:
            ConfigError: A key is unknown or a value can't work; the message names the key.
        """
        return parse_document(cls, document)

    @classmethod
    def read(cls, path: Path) -> Recipe:
        """Read a TOML file; its relative paths are relative to it.

        Raises:
            ConfigError: The file can't be read or holds something that can't work.
        """
        return cls.parse(read_toml(path)).beside(path.parent)

    def beside(self, folder: Path) -> Recipe:
        """The recipe with relative paths taken from a folder."""
        data = tuple(_beside(entry, folder) for entry in self.data)
        old = tuple(_beside(entry, folder) for entry in self.keep.old)
        weights = self.init.weights
        if weights is not None and (folder / weights).exists():
            weights = str(folder / weights)
        return self.model_copy(
            update={
                "data": data,
                "keep": self.keep.model_copy(update={"old": old}),
                "init": self.init.model_copy(update={"weights": weights}),
            }
        )

    def result_hash(self) -> str:
        """sha256 of all that can change the weights."""
        facts = self.document()
        facts["sample"].pop("workers")
        for key in ("description", "license", "sources", "calibrate"):
            facts.pop(key)
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def recipe_to_begin_from() -> str:
    """The text of a recipe with all that is required, and everything else as a comment with its default."""
    given = {
        "name": "my-model",
        "description": "What it maps, in which images",
        "bands": ["red", "green", "blue"],
        "classes": [{"name": "other", "color": "#e8d8a0", "background": True}, {"name": "forest", "color": "#1a7837"}],
        "data": [{"images": ["scenes"], "labels": "labels.gpkg", "column": "class", "outside": "unlabelled"}],
    }
    return "# Recipe of a training; paths are relative to this file.\n\n" + commented_table(Recipe, given)


def _beside(data: DataRecipe, folder: Path) -> DataRecipe:
    def path(text: str) -> str:
        return text if "://" in text else str(folder / text)

    return data.model_copy(
        update={
            "images": tuple(path(image) for image in data.images),
            "later": tuple(path(folder) for folder in data.later),
            "labels": path(data.labels) if data.labels is not None else None,
            "ignore": path(data.ignore) if data.ignore is not None else None,
            "rasters": tuple(path(raster) for raster in data.rasters),
            "corrections": tuple(path(raster) for raster in data.corrections),
        }
    )

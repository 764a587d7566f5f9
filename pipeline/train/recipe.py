"""What a training can be told: one closed class per table of ``train.toml``; names, units and defaults stand here only."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from geoseg.formats.text import steers
from pipeline.config.document import parse_document, read_toml

__all__ = [
    "AdaptRecipe",
    "AugmentRecipe",
    "CalibrateRecipe",
    "ClassRecipe",
    "DataRecipe",
    "InitRecipe",
    "InstanceRecipe",
    "KeepRecipe",
    "LoopRecipe",
    "LossRecipe",
    "NetworkRecipe",
    "Recipe",
    "SampleRecipe",
    "SplitRecipe",
    "TaskRecipe",
]

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ClassRecipe(_Table):
    """One class; their order gives the codes."""

    name: str = Field(min_length=1)
    color: str = Field(pattern="^#[0-9a-fA-F]{6}$")
    description: str = ""
    background: bool = Field(default=False, description="Left out of polygons unless asked for.")
    labels: tuple[str | int, ...] | None = Field(
        None,
        description="Values of label rasters, or of the class column of label vectors, that mean it. [default: its code, its "
        "name]",
    )

    @field_validator("name")
    @classmethod
    def _check_name(cls, text: str) -> str:
        # The card would refuse it, when all is trained.
        if steers(text):
            raise ValueError(f"{text!r} holds control characters or marks of direction, which no name needs")
        return text


class DataRecipe(_Table):
    """Scenes with their labels; several tables are joined."""

    images: tuple[str, ...] = Field(min_length=1, description="GeoTIFFs, folders, globs; or plain images with plain = true.")
    later: tuple[str, ...] = Field(
        (), description="Folders with later dates of the images, by the same names; bands are then named red@1, red@2."
    )
    labels: str | None = Field(
        None,
        description="A class raster or a vector file for all images, a folder with a raster for each image of the same name, "
        "or COCO JSON.",
    )
    role: Literal["split", "train", "val", "target"] = Field(
        "split", description="Whether [split] divides them, or all are for training, validation, or adaptation without labels."
    )
    plain: bool = Field(default=False, description="Images without a place on Earth: PNG, JPEG, TIFF.")
    only: tuple[str, ...] | None = Field(None, description="Names or patterns of the images to take. [default: all]")
    suffix: tuple[str, str] | None = Field(
        None, description="For a folder of labels: the text in an image's name, and what replaces it."
    )
    bands: tuple[str, ...] | None = Field(None, description="Bands by number or name. [default: by the names of the recipe]")
    rescale: tuple[float, float] | None = Field(None, description="Pixel values that are mapped to the ends of value_range.")
    resample: bool = Field(default=False, description="Warp the scenes to pixels of gsd_m.")
    column: str | None = Field(
        None, description="Column of a vector file that names the class. [default: all features are class 1]"
    )
    outside: str | int = Field("unlabelled", description="Class of what lies outside all features: a name, or unlabelled.")
    ignore: str | None = Field(None, description="A vector file with areas that nothing is learned from.")
    all_touched: bool = Field(
        default=False, description="Burn all pixels that a feature touches, not those whose centre it covers."
    )
    border: int = Field(0, ge=0, description="Pixels to each side of a border between classes that nothing is learned from.")
    rasters: tuple[str, ...] = Field((), description="Rasters to regress, on any grid: height, depth, cover fraction.")
    assume_crs: str | None = Field(None, description="The CRS of files that have none.")


class SplitRecipe(_Table):
    """What is held out of training, to choose by."""

    by: Literal["scene", "block"] = Field("scene", description="Whole scenes, or blocks within each.")
    val: Share | tuple[str, ...] = Field(0.2, description="Share that is held out, or the names of scenes.")
    block: int = Field(512, gt=0, description="Side of a block in pixels.")
    margin: int = Field(64, ge=0, description="Pixels around a held-out block that training does not see.")
    seed: int = Field(0, ge=0)


class NetworkRecipe(_Table):
    """The network by name."""

    architecture: str = "unet"
    encoder: str = "resnet18"
    parameters: dict[str, Any] = Field({}, description="Further arguments of the architecture.")


class InitRecipe(_Table):
    """What the weights begin as, and which of them learn how fast."""

    weights: str | None = Field(
        None,
        description="imagenet or another tag of the encoder on the hub, a model folder, a checkpoint file. [default: random]",
    )
    encoder_rate: Share = Field(1.0, description="Learning rate of the encoder relative to the rest; 0 keeps it frozen.")
    layer_decay: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="Factor of the learning rate from each layer of the encoder to the one before."
    )
    unfreeze: Share = Field(
        0.0, description="Share of the steps over which the encoder is unfrozen layer by layer, from the last one."
    )


class SampleRecipe(_Table):
    """Which chips are drawn."""

    chip: int = Field(256, ge=16, description="Side of a chip in pixels.")
    by: Literal["area", "grid", "class", "hard"] = Field(
        "area", description="By labelled area, in a grid, by rare classes, by loss."
    )
    batch: int = Field(8, ge=1, description="Chips a batch and device.")
    workers: int = Field(0, ge=0, description="Processes that read chips.")


class AugmentRecipe(_Table):
    """How chips are changed at random; labels move with their images."""

    turn: bool = Field(default=True, description="Quarter turns and mirror images.")
    scale: float = Field(0.0, ge=0, le=2, description="Scale by exp(u), u even between -scale and scale.")
    rotate: float = Field(0.0, ge=0, le=180, description="Rotation in degrees to both sides.")
    shift: float = Field(0.0, ge=0, description="Shift in pixels in all directions.")
    elastic: float = Field(
        0.0, ge=0, description="Elastic deformation: standard deviation in pixels of displacements on a grid of 3 x 3."
    )
    gain: float = Field(0.0, ge=0, description="Standard deviation of the logarithm of the gain of all bands.")
    band_gain: float = Field(0.0, ge=0, description="The same by band.")
    offset: float = Field(
        0.0, ge=0, description="Standard deviation of the offset of all bands, in standard deviations of the band."
    )
    band_offset: float = Field(0.0, ge=0, description="The same by band.")
    haze: Share = Field(0.0, description="Largest share of haze.")
    noise: float = Field(0.0, ge=0, description="Largest standard deviation of noise, in standard deviations of the band.")
    probability: Share = Field(0.8, description="Share of the chips whose values are changed.")
    cutmix: Share = Field(0.0, description="Share of the batches in which rectangles change places.")


class LossRecipe(_Table):
    """What is made small."""

    terms: dict[str, float] = Field(
        {"cross-entropy": 1.0}, description="Weights of cross-entropy, dice, jaccard, focal, lovasz, tversky, mcc."
    )
    smoothing: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="Label smoothing of the cross-entropy.")
    balance: Literal["none", "inverse", "median", "effective"] = Field(
        "none", description="Weights of classes by how rare they are."
    )
    factors: dict[str, Positive] = Field({}, description="Further factors of the weight of a class, by name. [default: 1]")
    border: float = Field(
        0.0, ge=0, description="Weight w0 of the narrow background between two objects, after the U-Net paper; it took 10."
    )
    border_sigma: Positive = Field(5.0, description="How far that weight reaches, in pixels.")
    objects: str | None = Field(None, description="Class whose connected regions are these objects. [default: class 1]")


class LoopRecipe(_Table):
    """How long, how fast, on what."""

    steps: int = Field(2000, ge=1, description="Steps of the optimizer.")
    check: int = Field(100, ge=1, description="Steps between two checks on validation data; each writes a checkpoint.")
    rate: Positive = Field(1e-3, description="Largest learning rate.")
    schedule: Literal["one-cycle", "cosine", "constant"] = "one-cycle"
    warmup: Share = Field(0.15, description="Share of the steps over which the rate rises.")
    weight_decay: float = Field(0.02, ge=0)
    clip: float = Field(5.0, ge=0, description="Largest norm of the gradients; 0 clips nothing.")
    accumulate: int = Field(1, ge=1, description="Batches whose gradients are added up for a step.")
    average: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.99, description="Decay of the moving average of the weights; 0 for none."
    )
    choose: Literal["miou", "loss", "last"] = Field(
        "miou", description="The checkpoint to keep: the best by this figure on held-out data, or the last."
    )
    patience: int = Field(0, ge=0, description="Checks without an improvement after which it ends; 0 never does.")
    precision: Literal["32", "bf16", "16"] = "32"
    device: Literal["auto", "cpu", "gpu", "mps"] = "auto"
    devices: int = Field(1, ge=1, description="GPUs that train together.")
    seed: int = Field(0, ge=0)


class AdaptRecipe(_Table):
    """Adaptation to the unlabelled scenes of the role target."""

    statistics: bool = Field(default=False, description="Recompute the statistics of batch normalization on them at the end.")
    style: Literal["none", "histogram", "fourier"] = Field("none", description="Give labelled chips the look of unlabelled ones.")
    style_share: Share = Field(0.5, description="Share of the chips that get it.")
    fourier_beta: Annotated[float, Field(gt=0, le=0.5)] = Field(0.01, description="Share of the spectrum that is exchanged.")
    pseudo: float = Field(
        0.0, ge=0, description="Weight of the loss on labels that the averaged network gives to unlabelled chips."
    )
    confidence: Share = Field(0.9, description="Least probability of such a label.")
    share: Share = Field(
        0.0, description="Above 0: labels are the surest pixels of each class, this share of them, and no others."
    )
    light: float = Field(0.0, ge=0, description="How far the light of the chips is changed that learn from such labels.")
    start: Share = Field(0.3, description="Share of the steps after which they count.")


class KeepRecipe(_Table):
    """Not to forget what the model of [init] knew."""

    distill: float = Field(0.0, ge=0, description="Weight of the distance to the old model's probabilities (LwF).")
    temperature: Positive = 2.0
    ewc: float = Field(
        0.0, ge=0, description="Weight of the distance to the old weights by their importance (EWC); needs old data."
    )
    rehearse: Share = Field(0.0, description="Share of the chips that come from old data.")
    old: tuple[DataRecipe, ...] = Field((), description="Data of the old region, for ewc and rehearse.")


class TaskRecipe(_Table):
    """Further tasks beside segmentation, on the same encoder and decoder."""

    boundary: float = Field(0.0, ge=0, description="Weight of the task; for weighting = manual. Above 0 it is trained.")
    distance: float = Field(0.0, ge=0)
    scene_class: float = Field(0.0, ge=0)
    scene_classes: float = Field(0.0, ge=0, description="Which classes a chip holds, several at a time.")
    regression: float = Field(0.0, ge=0, description="The rasters of the data.")
    weighting: Literal["manual", "uniform", "dynamic", "uncertainty"] = "uncertainty"


class InstanceRecipe(_Table):
    """How objects of the classes that are not background are told apart."""

    kind: Literal["none", "watershed", "regions"] = Field(
        "none",
        description="watershed: two further heads, for boundaries and distances, and flooding from seeds; regions: the network "
        "is "
        "a detector: faster-rcnn, mask-rcnn, mask-rcnn-v2.",
    )
    boundary: Positive = Field(3.0, description="Width in pixels of the boundaries that are learned.")
    distance: Positive = Field(16.0, description="Largest distance to a border in pixels that is learned.")
    least: int = Field(16, ge=1, description="Pixels of the smallest object.")


class CalibrateRecipe(_Table):
    """Probabilities that hold."""

    method: Literal["none", "auto", "temperature", "vector", "isotonic", "cubic"] = "auto"


class Recipe(_Table):
    """All that a training can be told beside its output folder."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    description: str = Field(min_length=1)
    license: str = Field("proprietary", description="SPDX identifier of the licence of the weights.")
    sources: tuple[dict[str, str], ...] = Field((), description="Name, license and attribution of the data.")
    bands: tuple[str, ...] = Field(min_length=1)
    classes: tuple[ClassRecipe, ...] = Field(min_length=2)
    data_type: Literal["uint8", "int8", "uint16", "int16", "float32"] = "uint8"
    value_range: tuple[float, float] | None = None
    physical: bool = False
    gsd_m: float | None = Field(None, gt=0, description="Side of a pixel in metres. [default: measured, where all scenes agree]")
    normalize: Literal["data", "imagenet"] | tuple[tuple[float, float], ...] = Field(
        "data", description="Mean and standard deviation a band: measured on valid pixels, those of ImageNet, or given."
    )
    data: tuple[DataRecipe, ...] = Field(min_length=1)
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

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if isinstance(self.normalize, tuple) and len(self.normalize) != len(self.bands):
            raise ValueError(f"normalize: {len(self.normalize)} pairs for {len(self.bands)} bands")
        if self.keep.distill and self.init.weights is None:
            raise ValueError("keep.distill: there is no old model; name it in init.weights")
        if (self.keep.ewc or self.keep.rehearse) and not self.keep.old:
            raise ValueError("keep: ewc and rehearse need the data of the old region in keep.old")
        if self.gsd_m is None and any(data.resample for data in (*self.data, *self.keep.old)):
            raise ValueError("data.resample: there is no pixel size to warp to; give gsd_m")
        wants_target = self.adapt.statistics or self.adapt.style != "none" or self.adapt.pseudo > 0
        if wants_target and not any(data.role == "target" for data in self.data):
            raise ValueError('adapt: there is nothing to adapt to; add [[data]] with role = "target"')
        names = [c.name for c in self.classes]
        if len({*names}) < len(names):
            raise ValueError(f"classes: two have the same name: {', '.join(names)}")
        unknown = [name for name in self.loss.factors if name not in names]
        if unknown:
            raise ValueError(f"loss.factors: {unknown[0]!r} is not a class: {', '.join(names)}")
        # A rectangle of another scene has edges of its own, and distances across them mean nothing.
        told = self.instances.kind != "none"
        if self.augment.cutmix and (self.tasks.boundary or self.tasks.distance or told):
            raise ValueError(
                "augment.cutmix: it would make boundaries that are none; leave it out with tasks.boundary, distance, or instances"
            )
        detector = self.network.architecture.lower() in ("faster-rcnn", "mask-rcnn", "mask-rcnn-v2")
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
    def object_codes(self) -> tuple[int, ...]:
        """Codes of the classes whose objects are told apart."""
        return tuple(k for k, c in enumerate(self.classes) if not c.background) if self.instances.kind != "none" else ()

    @classmethod
    def parse(cls, document: dict[str, Any]) -> Recipe:
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
        facts = self.model_dump(mode="json")
        facts["sample"].pop("workers")
        for key in ("description", "license", "sources", "calibrate"):
            facts.pop(key)
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


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
        }
    )

"""Tables of a recipe that say how to learn: closed, with limits and descriptions; defaults are those of the library's values."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from geoseg.training.augment.geometry import Geometry
from geoseg.training.augment.intensity import Radiometry
from geoseg.training.training_plan import (
    Device,
    Keeping,
    LearningRates,
    LoopSettings,
    ObjectHeads,
    Precision,
    SamplerName,
    Sampling,
    Schedule,
    Start,
    Style,
    StyleName,
    Tasks,
    Teaching,
    WeightingName,
)
from pipeline.train.recipe_data import DataRecipe, Positive, Share, Table

__all__ = [
    "AdaptRecipe",
    "AugmentRecipe",
    "CalibrateRecipe",
    "InitRecipe",
    "InstanceRecipe",
    "KeepRecipe",
    "LoopRecipe",
    "LossRecipe",
    "NetworkRecipe",
    "SampleRecipe",
    "TaskRecipe",
]

GEOMETRY, RADIOMETRY = Geometry(), Radiometry(stddev=())
START, SAMPLING, LOOP, RATES = Start(), Sampling(), LoopSettings(), LearningRates()
STYLE, TEACHING, KEEPING, TASKS, HEADS = Style(), Teaching(), Keeping(), Tasks(), ObjectHeads()


class NetworkRecipe(Table):
    """The network by name."""

    architecture: str = Field("unet", description="unet, unet-fine, deeplabv3plus, segformer, fcn-8s, mask-rcnn-v2, ...")
    encoder: str = Field("resnet18", description="An encoder of segmentation-models-pytorch, or one of timm as tu-NAME.")
    parameters: dict[str, object] = Field({}, description="Further arguments of the architecture.")


class InitRecipe(Table):
    """Weights to begin from, and the layers that learn at a rate of their own."""

    weights: str | None = Field(
        START.weights,
        description="imagenet or another tag of the encoder on the hub, a name of weights of satellites such as "
        "SENTINEL2_ALL_MOCO, a model folder, a checkpoint file. [default: random]",
    )
    encoder_rate: Share = Field(
        START.encoder_rate, description="Learning rate of the encoder relative to the rest; 0 keeps it frozen."
    )
    layer_decay: Annotated[float, Field(gt=0, le=1)] = Field(
        START.layer_decay, description="Factor of the learning rate from each layer of the encoder to the one before."
    )
    unfreeze: Share = Field(
        START.unfreeze, description="Share of the steps over which the encoder is unfrozen layer by layer, from the last one."
    )


class SampleRecipe(Table):
    """Draws of chips, and their batches."""

    chip: int = Field(SAMPLING.chip, ge=16, le=16_384, description="Side of a chip in pixels.")
    by: SamplerName = Field(SAMPLING.by, description="By labelled area, in a grid, by rare classes, by loss.")
    batch: int = Field(SAMPLING.batch, ge=1, description="Chips a batch and device.")
    workers: int = Field(SAMPLING.workers, ge=0, le=1024, description="Processes that read chips.")


class AugmentRecipe(Table):
    """Random changes of chips; labels move with their images."""

    turn: bool = Field(default=GEOMETRY.turn, description="Quarter turns and mirror images.")
    scale: float = Field(GEOMETRY.scale, ge=0, le=2, description="Scale by exp(u), u even between -scale and scale.")
    rotate: float = Field(GEOMETRY.rotate, ge=0, le=180, description="Rotation in degrees to both sides.")
    shift: float = Field(GEOMETRY.shift, ge=0, description="Shift in pixels in all directions.")
    elastic: float = Field(
        GEOMETRY.elastic,
        ge=0,
        description="Elastic deformation: standard deviation in pixels of displacements on a grid of 3 x 3.",
    )
    gain: float = Field(RADIOMETRY.gain, ge=0, description="Standard deviation of the logarithm of the gain of all bands.")
    band_gain: float = Field(RADIOMETRY.band_gain, ge=0, description="The same by band.")
    offset: float = Field(
        RADIOMETRY.offset, ge=0, description="Standard deviation of the offset of all bands, in standard deviations of the band."
    )
    band_offset: float = Field(RADIOMETRY.band_offset, ge=0, description="The same by band.")
    gamma: Share = Field(RADIOMETRY.gamma, description="Standard deviation of the logarithm of gamma, within value_range.")
    haze: Share = Field(RADIOMETRY.haze, description="Largest share of haze.")
    noise: float = Field(
        RADIOMETRY.noise, ge=0, description="Largest standard deviation of noise, in standard deviations of the band."
    )
    probability: Share = Field(RADIOMETRY.probability, description="Share of the chips whose values are changed.")
    cutmix: Share = Field(0.0, description="Share of the batches in which rectangles change places.")


class LossRecipe(Table):
    """The loss: its terms, and the weights of classes and pixels."""

    terms: dict[str, float] = Field(
        {"cross-entropy": 1.0},
        description="Weights of cross-entropy, dice, jaccard, focal, lovasz, tversky, mcc; of huber, l1, l2 with a quantity.",
    )
    smoothing: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="Label smoothing of the cross-entropy.")
    balance: Literal["none", "inverse", "median", "effective"] = Field("none", description="Weights of classes by their rarity.")
    factors: dict[str, Positive] = Field({}, description="Further factors of the weight of a class, by name. [default: 1]")
    border: float = Field(
        0.0, ge=0, description="Weight w0 of the narrow background between two objects, after the U-Net paper; it took 10."
    )
    border_sigma: Positive = Field(5.0, description="Reach of that weight in pixels.")
    objects: str | None = Field(None, description="Class whose connected regions are these objects. [default: class 1]")


class LoopRecipe(Table):
    """Length of the training, its learning rates, and its device."""

    steps: int = Field(LOOP.steps, ge=1, description="Steps of the optimizer.")
    check: int = Field(LOOP.epoch, ge=1, description="Steps between two checks on validation data; each writes a checkpoint.")
    rate: Positive = Field(RATES.rate, description="Largest learning rate.")
    schedule: Schedule = Field(RATES.schedule, description="Course of the rate over the steps.")
    warmup: Share = Field(RATES.warmup, description="Share of the steps over which the rate rises.")
    weight_decay: float = Field(0.02, ge=0, description="Weight decay of AdamW.")
    clip: float = Field(LOOP.clip, ge=0, description="Largest norm of the gradients; 0 clips nothing.")
    accumulate: int = Field(LOOP.accumulate, ge=1, description="Batches whose gradients are added up for a step.")
    average: Annotated[float, Field(ge=0, lt=1)] = Field(
        LOOP.average, description="Decay of the moving average of the weights; 0 for none."
    )
    choose: Literal["miou", "loss", "consistency", "last"] = Field(
        LOOP.figure,
        description="The checkpoint to keep: the best by this figure on held-out data, the one whose classes of the target's "
        "unlabelled scenes are steadiest in another light, or the last.",
    )
    patience: int = Field(LOOP.patience, ge=0, description="Checks without an improvement after which it ends; 0 never does.")
    precision: Precision = Field(LOOP.precision, description="bf16 and 16 are automatic mixed precision.")
    device: Device = Field(LOOP.device, description="Processor that trains; auto takes a GPU where there is one.")
    devices: int = Field(LOOP.devices, ge=1, description="GPUs that train together.")
    seed: int = Field(LOOP.seed, ge=0, description="Seed of what is drawn while it trains.")


class AdaptRecipe(Table):
    """Adaptation to the unlabelled scenes of the role target."""

    statistics: bool = Field(default=False, description="Recompute the statistics of batch normalization on them at the end.")
    style: StyleName = Field(STYLE.kind, description="Style transfer from unlabelled chips to labelled ones.")
    style_share: Share = Field(STYLE.share, description="Share of the chips that get it.")
    fourier_beta: Annotated[float, Field(gt=0, le=0.5)] = Field(
        STYLE.beta, description="Share of the spectrum that is exchanged."
    )
    pseudo: float = Field(
        TEACHING.weight, ge=0, description="Weight of the loss on labels that the averaged network gives to unlabelled chips."
    )
    confidence: Share = Field(TEACHING.sureness.confidence, description="Least probability of such a label.")
    share: Share = Field(
        0.0, description="Above 0: labels are the surest pixels of each class, this share of them, and no others."
    )
    light: float = Field(TEACHING.light, ge=0, description="Change of light of the chips that learn from such labels.")
    start: Share = Field(TEACHING.start, description="Share of the steps after which they count.")


class KeepRecipe(Table):
    """Terms and chips against forgetting what the model of [init] knew."""

    distill: float = Field(KEEPING.distill, ge=0, description="Weight of the distance to the old model's probabilities (LwF).")
    temperature: Positive = Field(KEEPING.temperature, description="Temperature at which probabilities are compared.")
    ewc: float = Field(
        KEEPING.ewc, ge=0, description="Weight of the distance to the old weights by their importance (EWC); needs old data."
    )
    rehearse: Share = Field(KEEPING.rehearse, description="Share of the chips that come from old data.")
    old: tuple[DataRecipe, ...] = Field((), description="Data of the old region, for ewc and rehearse.")


class TaskRecipe(Table):
    """Tasks beside segmentation, on the same encoder and decoder."""

    boundary: float = Field(0.0, ge=0, description="Weight of the task; for weighting = manual. Above 0 it is trained.")
    distance: float = Field(0.0, ge=0, description="The distance of each pixel to the border of its class.")
    scene_class: float = Field(0.0, ge=0, description="The class that most of a chip is.")
    scene_classes: float = Field(0.0, ge=0, description="The classes that a chip holds, several at a time.")
    regression: float = Field(0.0, ge=0, description="The rasters of the data.")
    weighting: WeightingName = Field(TASKS.weighting, description="How the losses of several tasks are weighed.")


class InstanceRecipe(Table):
    """Objects of the classes that are not background, each distinguished from the others."""

    kind: Literal["none", "watershed", "regions"] = Field(
        "none",
        description="watershed: two further heads, for boundaries and distances, and flooding from seeds; regions: the network "
        "is a detector: faster-rcnn, mask-rcnn, mask-rcnn-v2.",
    )
    boundary: Positive = Field(HEADS.boundary, description="Width in pixels of the boundaries that are learned.")
    distance: Positive = Field(HEADS.distance, description="Largest distance to a border in pixels that is learned.")
    least: int = Field(16, ge=1, description="Pixels of the smallest object.")


class CalibrateRecipe(Table):
    """Probabilities that hold."""

    method: Literal["none", "auto", "temperature", "vector", "isotonic", "cubic"] = Field(
        "auto", description="How probabilities become frequencies; auto takes what makes held-out labels likeliest."
    )

"""The card of a model: what it takes, what it gives, and how it is to be run.

``card.json`` carries the fields of the STAC Machine Learning Model extension (MLM 1.4, https://stac-extensions.github.io/mlm/)
for every program to read, and under ``geoseg`` what running it exactly needs beyond them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from geoseg.documents import read_json
from geoseg.errors import ModelError
from geoseg.grid import round_up
from geoseg.models.card_values import (
    Calibration,
    Closed,
    DamageFacts,
    DataSource,
    InstanceFacts,
    ModelClass,
    Quantity,
    Quantization,
    ReceptiveField,
    Scaling,
    check_value_range,
)
from geoseg.models.domain_facts import DomainFacts

__all__ = ["Card"]


CARD_BYTES = 16 << 20
FURTHER_CHANNELS = {"watershed": 2, "regions": 3}


class Card(Closed):
    """All that is known of a model beside its weights."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    """Short name, in lower case."""
    version: str = "1.0.0"
    description: str
    license: str
    """SPDX identifier of the weights' licence."""
    data: tuple[DataSource, ...] = ()
    """What it was trained on."""
    architecture: str
    """Name of the architecture and encoder."""
    framework_version: str = ""
    total_parameters: int = Field(0, ge=0)
    bands: tuple[str, ...] = Field(min_length=1)
    """Names of the input bands, in order."""
    scaling: tuple[Scaling, ...]
    """Normalization by band."""
    classes: tuple[ModelClass, ...] = Field(min_length=1)
    """Classes that it distinguishes, by code."""
    data_type: Literal["uint8", "int8", "uint16", "int16", "float32"] = "uint8"
    """Data type of the images that it was trained on."""
    value_range: tuple[float, float] | None = None
    """Smallest and largest input value."""
    physical: bool = False
    """Whether it takes physical values: scale and offset of the file are applied."""
    gsd_m: float | None = Field(None, ge=1e-4, le=1e6)
    """Side in metres of the pixels that it was trained on."""
    stride: int = Field(ge=1, le=4096)
    """Total downsampling: inputs are multiples of it."""
    tile: int | None = Field(None, ge=1, le=65_536)
    """Rows and columns of the one size of images that it takes; None for all multiples of the stride."""
    receptive_field: ReceptiveField | None = None
    """None for networks with global context."""
    global_context: bool = False
    """Whether every output pixel depends on the whole input, so that tiles are blended rather than cropped."""
    activation: Literal["softmax", "sigmoid", "identity"] = "softmax"
    """How scores become probabilities; sigmoid with one score distinguishes class 1 from class 0; identity is for values."""
    thresholds: tuple[Annotated[float, Field(gt=0, lt=1)], ...] | None = None
    """By score, the least probability for its class; None takes the most probable class."""
    calibration: Calibration | None = None
    instances: InstanceFacts | None = None
    """Facts on how objects are found; None for models that only know classes."""
    damage: DamageFacts | None = None
    """How buildings are shown to a network that grades them one by one; None for models that map pixels."""
    domain: DomainFacts | None = None
    """What the images were like that it was trained on; None where that was not measured."""
    quantity: Quantity | None = None
    """What it regresses; None for models that know classes."""
    quantization: Quantization | None = None
    """What computing in integers costs; None for networks in floating-point numbers."""
    half_precision: bool = True
    """Whether a GPU may compute it in 16 bits; in 32 otherwise."""
    bytes_per_pixel: float = Field(700.0, ge=1, le=1e7)
    """Memory of one forward pass per input pixel, for planning."""
    files: dict[str, str] = Field(default_factory=dict)
    """sha256 of each file of the folder that it was saved with."""

    @model_validator(mode="after")
    def _consistent(self) -> Card:
        if len(self.scaling) != len(self.bands):
            raise ValueError(f"scaling: {len(self.scaling)} entries for {len(self.bands)} bands")
        values = [c.value for c in self.classes]
        if values != list(range(len(values))):
            raise ValueError(f"classes: the codes are {values}; they are to run from 0 without a gap")
        check_value_range(self.value_range)
        if self.activation == "softmax" and len(self.classes) < 2:
            raise ValueError("classes: softmax needs at least two")
        if not self.global_context and self.receptive_field is None:
            raise ValueError("receptive_field: missing, and the network is not marked as one with global context")
        if self.tile is not None and (self.tile % self.stride or self.exact_halo is None):
            raise ValueError(f"tile: {self.tile}: is to be a multiple of the stride, and goes with a receptive field")
        if self.domain is not None and len(self.domain.mean) != len(self.bands):
            raise ValueError(f"domain: is of {len(self.domain.mean)} bands, and the model takes {len(self.bands)}")
        if (self.activation == "identity") != (self.quantity is not None):
            raise ValueError("quantity: goes with the activation identity, and that with a quantity")
        if self.quantity is not None:
            self._regresses()
        for key, given in (("thresholds", self.thresholds), ("calibration", self.calibration.gain if self.calibration else None)):
            if given is not None and len(given) != self.scores:
                raise ValueError(f"{key}: {len(given)} entries for {self.scores} scores")
        return self

    def _regresses(self) -> None:
        """Check what a model of values can't have."""
        if len(self.classes) != 1:
            raise ValueError(f"classes: {len(self.classes)}, but a quantity is regressed, which one class stands for")
        for key, given in {
            "thresholds": self.thresholds,
            "calibration": self.calibration,
            "instances": self.instances,
            "damage": self.damage,
            "quantization": self.quantization,
        }.items():
            if given is not None:
                raise ValueError(f"{key}: is for classes, but a quantity is regressed")

    @property
    def scores(self) -> int:
        """Number of scores of classes that the network gives; 1 for a quantity."""
        return 1 if self.activation == "sigmoid" and len(self.classes) == 2 else len(self.classes)

    @property
    def channels(self) -> int:
        """Number of channels that the network gives: scores, then what distinguishes objects."""
        return self.scores + (FURTHER_CHANNELS[self.instances.kind] if self.instances is not None else 0)

    @property
    def object_classes(self) -> tuple[int, ...]:
        """Codes of the classes whose objects are distinguished: all but the background, none for models that don't."""
        return tuple(c.value for c in self.classes if not c.background) if self.instances is not None else ()

    @property
    def exact_halo(self) -> int | None:
        """The halo with which a tile equals the whole image; None for networks with global context."""
        if self.receptive_field is None or self.global_context:
            return None
        return round_up(self.receptive_field.reach, self.stride)

    def to_json(self) -> dict[str, Any]:
        """The card as a JSON object with MLM fields."""
        own = self.model_dump(mode="json", exclude_defaults=False)
        if self.quantization is None:
            # Cards of other networks stay what they were, to their hash and to earlier versions.
            del own["quantization"]
        if self.quantity is None:
            del own["quantity"]
        if self.tile is None:
            del own["tile"]
        shape_in = [-1, len(self.bands), -1, -1] if self.tile is None else [1, len(self.bands), self.tile, self.tile]
        return {
            "mlm:name": self.name,
            "mlm:architecture": self.architecture,
            "mlm:tasks": self._tasks,
            "mlm:framework": "PyTorch",
            "mlm:framework_version": self.framework_version,
            "mlm:total_parameters": self.total_parameters,
            "mlm:pretrained": False,
            "mlm:input": [
                {
                    "name": "image",
                    "bands": list(self.bands),
                    "input": {"shape": shape_in, "dim_order": ["batch", "bands", "height", "width"], "data_type": "float32"},
                    "value_scaling": [{"type": "z-score", "mean": s.mean, "stddev": s.stddev} for s in self.scaling],
                    "resize_type": None,
                    "pre_processing_function": None,
                }
            ],
            "mlm:output": [self._output()],
            "geoseg": own,
        }

    @property
    def _tasks(self) -> list[str]:
        """Its tasks by the names of MLM."""
        if self.quantity is not None:
            return ["regression"]
        return ["semantic-segmentation", *(["instance-segmentation"] if self.instances is not None else [])]

    def _output(self) -> dict[str, Any]:
        """What it gives, in the words of MLM."""
        result = {
            "shape": [-1, self.channels, -1, -1],
            "dim_order": ["batch", "class" if self.quantity is None else "bands", "height", "width"],
            "data_type": "float32",
        }
        classes = [
            {"value": c.value, "name": c.name, "description": c.description, "color_hint": c.color[1:].upper()}
            for c in self.classes
        ]
        return {
            "name": "scores" if self.quantity is None else self.quantity.name,
            "tasks": self._tasks,
            "result": result,
            **({"classification:classes": classes} if self.quantity is None else {"unit": self.quantity.unit}),
            "post_processing_function": None,
        }

    @classmethod
    def read(cls, path: Path) -> Card:
        """Read ``card.json``.

        Raises:
            ModelError: It is missing, damaged, or inconsistent; the message names the key.
        """
        try:
            own = read_json(path, ModelError, limit=CARD_BYTES)["geoseg"]
        except FileNotFoundError as error:
            raise ModelError(
                f"{path}: no card; a model folder holds card.json, config.json and model.onnx or model.safetensors"
            ) from error
        except ModelError:
            raise
        except OSError as error:
            raise ModelError(f"{path}: can't be read: {error.strerror or error}") from error
        except (KeyError, TypeError, IndexError) as error:
            raise ModelError(f"{path}: not a model card: it has no object geoseg") from error
        try:
            return cls.model_validate(own)
        except ValidationError as error:
            first = error.errors()[0]
            where = "".join(f"{part}." for part in first["loc"]).removesuffix(".")
            raise ModelError(f"{path}: {where}{': ' if where else ''}{first['msg'].removeprefix('Value error, ')}") from error

    def write(self, path: Path) -> None:
        """Write ``card.json``."""
        path.write_text(json.dumps(self.to_json(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

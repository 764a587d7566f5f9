"""A network by name, as ``config.json`` holds it; nothing in it can lead to a file or an address."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from geoseg.errors import ModelError

__all__ = ["DETECTOR_NAMES", "FINEST", "LIBRARIES", "SIAMESE", "TORCHVISION", "WITHOUT_ENCODER", "NetworkConfig"]

SMP, OWN, TORCHVISION = "segmentation_models_pytorch", "geoseg", "torchvision"


LIBRARIES = (SMP, OWN, TORCHVISION)


DETECTOR_NAMES = ("faster-rcnn", "mask-rcnn", "mask-rcnn-v2")


FINEST = {"fcn-32s": 32, "fcn-16s": 16, "fcn-8s": 8}


WITHOUT_ENCODER = ("ciresan", "unet-2015")


OWN_NAMES = ("unet-2015", "unet-fine", *FINEST, "ciresan", *DETECTOR_NAMES)


SIAMESE = "siamese-"
"""Before the name of an architecture of segmentation-models-pytorch: one encoder for several dates."""


ENCODER, WORD = re.compile(r"^[\w.-]*$"), re.compile(r"^[\w+-]*$")
"""Names of encoders, and texts of parameters: nothing that could be the place of a file."""


PLACE = re.compile(r"checkpoint|pretrain|weights|path|file|url|hub", re.IGNORECASE)
"""Parameters by which timm reads files."""


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """A network by name; what ``config.json`` holds."""

    architecture: str
    """Name of the architecture, for example ``unet`` or ``unet-2015``; see ``architectures``."""
    encoder: str
    """Name of the encoder, for example ``resnet18``; ``unet-2015`` and ``ciresan`` have none, whatever stands here."""
    in_channels: int
    """Number of input bands."""
    classes: int
    """Number of scores; detectors have one class of objects less, the first being the background."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of the architecture."""
    objects: bool = False
    """Whether heads for boundaries and distances distinguish objects; see ``geoseg.models.networks.heads.OBJECT_HEADS``."""

    @property
    def library(self) -> str:
        """The library that builds it: segmentation_models_pytorch, torchvision or geoseg."""
        if self.architecture.lower() in DETECTOR_NAMES:
            return TORCHVISION
        name = self.architecture.lower()
        return OWN if name in OWN_NAMES or name.startswith(SIAMESE) else SMP

    @property
    def title(self) -> str:
        """Architecture and encoder, for cards."""
        return self.architecture if self.architecture.lower() in WITHOUT_ENCODER else f"{self.architecture}/{self.encoder}"

    def to_json(self) -> dict[str, Any]:
        """The config as a JSON object."""
        document = {"library": self.library, **asdict(self)}
        if not self.objects:
            del document["objects"]
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> NetworkConfig:
        """From the JSON object of ``config.json``.

        Raises:
            ModelError: A key is missing, unknown, or names another library.
        """
        fields = dict(document)
        library = fields.pop("library", SMP)
        if library not in LIBRARIES:
            raise ModelError(f"config.json: library: {library!r} is not known; geoseg builds networks of {', '.join(LIBRARIES)}")
        try:
            config = cls(**fields)
        except TypeError as error:
            raise ModelError(f"config.json: {error}") from error
        for key, kind in (("architecture", str), ("encoder", str), ("in_channels", int), ("classes", int), ("parameters", dict)):
            if type(getattr(config, key)) is not kind:
                raise ModelError(f"config.json: {key}: {getattr(config, key)!r:.80} is not of the type {kind.__name__}")
        if not ENCODER.match(config.encoder):
            raise ModelError(f"config.json: encoder: {config.encoder!r} is not a name; those of hubs and folders are not opened")
        _refuse_places(config.parameters, "parameters")
        if config.library != library:
            raise ModelError(
                f"config.json: architecture: {config.architecture!r} is not one of {library}, but of {config.library}"
            )
        return config


def _refuse_places(value: Any, where: str) -> None:
    """Refuse parameters by which an encoder would read a file or ask a server.

    Raises:
        ModelError: There is one.
    """
    if isinstance(value, str) and not WORD.match(value):
        raise ModelError(f"config.json: {where}: {value!r} is neither a number nor a word; files and addresses are not opened")
    if isinstance(value, list | tuple):
        for number, part in enumerate(value):
            _refuse_places(part, f"{where}[{number}]")
    if isinstance(value, Mapping):
        for key, part in value.items():
            if PLACE.search(str(key)):
                raise ModelError(f"config.json: {where}: {key!r} names a file or an address, which is not opened; take it out")
            _refuse_places(part, f"{where}.{key}")

"""Networks by name, for torch. The only home of segmentation-models-pytorch."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from geoseg.errors import ModelError

if TYPE_CHECKING:
    import torch

__all__ = [
    "DETECTOR_NAMES",
    "LIBRARIES",
    "SIAMESE",
    "TORCHVISION",
    "NetworkConfig",
    "architectures",
    "build_network",
    "stride_of",
]

SMP, OWN, TORCHVISION = "segmentation_models_pytorch", "geoseg", "torchvision"
LIBRARIES = (SMP, OWN, TORCHVISION)
DETECTOR_NAMES = ("faster-rcnn", "mask-rcnn", "mask-rcnn-v2")
FINEST = {"fcn-32s": 32, "fcn-16s": 16, "fcn-8s": 8}
WITHOUT_ENCODER = ("ciresan", "unet-2015")
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
    """Whether heads for boundaries and distances tell objects apart; see ``geoseg.models.heads.OBJECT_HEADS``."""

    @property
    def library(self) -> str:
        """Which library builds it: segmentation_models_pytorch, torchvision or geoseg."""
        if self.architecture.lower() in DETECTOR_NAMES:
            return TORCHVISION
        name = self.architecture.lower()
        return OWN if name in BUILDERS or name.startswith(SIAMESE) else SMP

    @property
    def title(self) -> str:
        """Architecture and encoder, for cards."""
        return self.architecture if self.architecture.lower() in WITHOUT_ENCODER else f"{self.architecture}/{self.encoder}"

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
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


def architectures() -> tuple[str, ...]:
    """Names of the architectures that can be built."""
    import segmentation_models_pytorch as smp

    # The decoder of DPT reads tokens, not levels that could be compared.
    of_dates = (SIAMESE + name for name in smp.MODEL_ARCHITECTURES_MAPPING if name != "dpt")
    return tuple(sorted((*smp.MODEL_ARCHITECTURES_MAPPING, *of_dates, *BUILDERS)))


def build_network(config: NetworkConfig, *, encoder_weights: str | None = None) -> torch.nn.Module:
    """Build a network with random weights, or with an encoder pretrained as ``encoder_weights`` names it.

    It maps (N, in_channels, H, W) float32 to scores (N, classes, H, W) float32; some give scores of the middle only while
    they are trained, those with heads for objects a mapping (``geoseg.models.forms``).

    Raises:
        ModelError: The architecture or the encoder is not known, or a parameter does not fit.
    """
    name = config.architecture.lower()
    if name not in BUILDERS and name not in architectures():
        raise ModelError(f"architecture: {config.architecture!r} is not known; choose one of {', '.join(architectures())}")
    if name in WITHOUT_ENCODER:
        if encoder_weights is not None:
            raise ModelError(
                f"{name}: it has no encoder that weights named {encoder_weights!r} could be loaded into; leave them out"
            )
    else:
        _check_encoder(config.encoder)
    try:
        network = BUILDERS.get(name, _siamese if name.startswith(SIAMESE) else _smp)(config, encoder_weights)
        return _with_object_heads(network) if config.objects else network
    except (TypeError, ValueError, KeyError, RuntimeError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"{config.architecture} with {config.encoder}: {error}") from error


def _with_object_heads(network: torch.nn.Module) -> torch.nn.Module:
    from geoseg.models.networks.heads import OBJECT_HEADS, MultiTaskNetwork

    return MultiTaskNetwork(network, OBJECT_HEADS, [head.name for head in OBJECT_HEADS])


def _check_encoder(encoder: str) -> None:
    import segmentation_models_pytorch as smp

    if not encoder.startswith("tu-") and encoder not in smp.encoders.get_encoder_names():
        near = ", ".join(name for name in smp.encoders.get_encoder_names() if name[:4] == encoder[:4])
        raise ModelError(
            f"encoder: {encoder!r} is not known; {f'near: {near}; ' if near else ''}see the list in segmentation-models-pytorch, "
            "or use tu-NAME for an encoder of timm"
        )


def _smp(config: NetworkConfig, encoder_weights: str | None) -> torch.nn.Module:
    import segmentation_models_pytorch as smp

    from geoseg.models.networks.pooling import make_exportable

    name, parameters = config.architecture.lower(), dict(config.parameters)
    if name == "dpt":
        # Vision transformers of timm take one size only unless told otherwise.
        parameters.setdefault("dynamic_img_size", True)
    network: torch.nn.Module = smp.create_model(
        name, config.encoder, encoder_weights, config.in_channels, config.classes, **parameters
    )
    make_exportable(network)
    return network


def _siamese(config: NetworkConfig, encoder_weights: str | None) -> torch.nn.Module:
    from geoseg.models.networks.siamese import Siamese

    parameters = dict(config.parameters)
    dates, fusion = int(parameters.pop("dates", 2)), parameters.pop("fusion", "both")
    if dates < 2 or config.in_channels % dates:
        raise ModelError(
            f"{config.architecture}: {config.in_channels} bands can't be those of {dates} dates; name them red@1, red@2"
        )
    base = _smp(
        replace(
            config,
            architecture=config.architecture[len(SIAMESE) :],
            in_channels=config.in_channels // dates,
            parameters=parameters,
        ),
        encoder_weights,
    )
    return Siamese(base, dates, fusion, stride_of(base))


def _fcn(config: NetworkConfig, encoder_weights: str | None) -> torch.nn.Module:
    import segmentation_models_pytorch as smp

    from geoseg.models.networks.fcn import Fcn

    encoder = smp.encoders.get_encoder(config.encoder, in_channels=config.in_channels, depth=5, weights=encoder_weights)
    parameters = {"hidden": 4096 if config.encoder.startswith("vgg") else 0, **config.parameters}
    return Fcn(encoder, list(encoder.out_channels), config.classes, finest=FINEST[config.architecture.lower()], **parameters)


def _fine_unet(config: NetworkConfig, encoder_weights: str | None) -> torch.nn.Module:
    import segmentation_models_pytorch as smp

    from geoseg.models.networks.fine import FineUnet

    parameters = dict(config.parameters)
    width = int(parameters.pop("width", 24))
    channels = parameters.setdefault("decoder_channels", (256, 128, 64, 32, 16))
    base = smp.Unet(config.encoder, encoder_weights=encoder_weights, in_channels=config.in_channels, classes=1, **parameters)
    return FineUnet(base, config.in_channels, channels[-1], config.classes, width)


def _detector(config: NetworkConfig, encoder_weights: str | None) -> torch.nn.Module:
    import segmentation_models_pytorch as smp

    from geoseg.models.networks.detectors import build_detector

    encoder = smp.encoders.get_encoder(config.encoder, in_channels=config.in_channels, depth=5, weights=encoder_weights)
    return build_detector(config.architecture.lower(), encoder, encoder.out_channels[-4:], config.classes - 1, config.parameters)


def _unet2015(config: NetworkConfig, encoder_weights: str | None) -> torch.nn.Module:
    from geoseg.models.networks.unet2015 import Unet2015

    del encoder_weights
    return Unet2015(config.in_channels, config.classes, **config.parameters)


def _ciresan(config: NetworkConfig, encoder_weights: str | None) -> torch.nn.Module:
    from geoseg.models.networks.ciresan import PatchClassifier

    del encoder_weights
    return PatchClassifier(config.in_channels, config.classes, **config.parameters)


BUILDERS: Mapping[str, Callable[[NetworkConfig, str | None], torch.nn.Module]] = {
    "unet-2015": _unet2015, "unet-fine": _fine_unet, **dict.fromkeys(FINEST, _fcn), "ciresan": _ciresan,
    **dict.fromkeys(DETECTOR_NAMES, _detector),
}  # fmt: skip
"""The architectures of geoseg itself and of torchvision; all others are those of segmentation-models-pytorch."""


def stride_of(network: torch.nn.Module) -> int:
    """The network's total downsampling: inputs are to be multiples of it."""
    own = getattr(network, "stride", None)
    if isinstance(own, int):
        return own
    stride = getattr(getattr(network, "encoder", None), "output_stride", None)
    stride = int(stride) if isinstance(stride, int) else 32
    # Decoders that go further down than their encoder.
    kind = type(network).__name__
    if kind == "PAN":
        return 8 * stride
    return math.lcm(stride, 32) if kind == "DPT" else stride

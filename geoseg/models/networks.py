"""Networks by name, for torch. The only home of segmentation-models-pytorch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from geoseg.errors import ModelError

if TYPE_CHECKING:
    import torch

__all__ = ["NetworkConfig", "architectures", "build_network", "stride_of"]

LIBRARY = "segmentation_models_pytorch"


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """A network by name; what ``config.json`` holds."""

    architecture: str
    """Name of the architecture in segmentation-models-pytorch, for example ``unet``."""
    encoder: str
    """Name of the encoder, for example ``resnet18``."""
    in_channels: int
    """Number of input bands."""
    classes: int
    """Number of scores."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of the architecture."""

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {"library": LIBRARY, **asdict(self)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> NetworkConfig:
        """From the JSON object of ``config.json``.

        Raises:
            ModelError: A key is missing, unknown, or names another library.
        """
        fields = dict(document)
        library = fields.pop("library", LIBRARY)
        if library != LIBRARY:
            raise ModelError(f"config.json: library: {library!r} is not known; geoseg builds networks of {LIBRARY}")
        try:
            return cls(**fields)
        except TypeError as error:
            raise ModelError(f"config.json: {error}") from error


def architectures() -> tuple[str, ...]:
    """Names of the architectures that can be built."""
    import segmentation_models_pytorch as smp

    return tuple(sorted(smp.MODEL_ARCHITECTURES_MAPPING))


def build_network(config: NetworkConfig, *, encoder_weights: str | None = None) -> torch.nn.Module:
    """Build a network with random weights, or with an encoder pretrained as ``encoder_weights`` names it.

    It maps (N, in_channels, H, W) float32 to scores (N, classes, H, W) float32.

    Raises:
        ModelError: The architecture or the encoder is not known, or a parameter does not fit.
    """
    import segmentation_models_pytorch as smp

    if config.architecture.lower() not in architectures():
        raise ModelError(f"architecture: {config.architecture!r} is not known; choose one of {', '.join(architectures())}")
    if not config.encoder.startswith("tu-") and config.encoder not in smp.encoders.get_encoder_names():
        near = ", ".join(name for name in smp.encoders.get_encoder_names() if name[:4] == config.encoder[:4])
        raise ModelError(
            f"encoder: {config.encoder!r} is not known; {f'near: {near}; ' if near else ''}see the list in segmentation-models-pytorch, "
            "or use tu-NAME for an encoder of timm"
        )
    try:
        network: torch.nn.Module = smp.create_model(
            config.architecture, config.encoder, encoder_weights, config.in_channels, config.classes, **config.parameters
        )
    except (TypeError, ValueError, KeyError) as error:
        raise ModelError(f"{config.architecture} with {config.encoder}: {error}") from error
    return network


def stride_of(network: torch.nn.Module) -> int:
    """The network's total downsampling: inputs are to be multiples of it."""
    encoder = getattr(network, "encoder", None)
    stride = getattr(encoder, "output_stride", None)
    return int(stride) if isinstance(stride, int) else 32

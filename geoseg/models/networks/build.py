"""Networks by name, for torch. The only home of segmentation-models-pytorch."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from geoseg.errors import ModelError
from geoseg.models.networks.config import DETECTOR_NAMES, FINEST, SIAMESE, WITHOUT_ENCODER, NetworkConfig
from geoseg.models.networks.stride import stride_of

if TYPE_CHECKING:
    import torch

__all__ = ["architectures", "build_network"]

WINDOWED = re.compile(r"tu-swin(v2)?_(?!cr_)")
"""Encoders of timm with shifted windows."""


def architectures() -> tuple[str, ...]:
    """Names of the architectures that can be built."""
    import segmentation_models_pytorch as smp

    # The decoder of DPT reads tokens, not levels that could be compared.
    of_dates = (SIAMESE + name for name in smp.MODEL_ARCHITECTURES_MAPPING if name != "dpt")
    return tuple(sorted((*smp.MODEL_ARCHITECTURES_MAPPING, *of_dates, *BUILDERS)))


def build_network(config: NetworkConfig, *, encoder_weights: str | None = None) -> torch.nn.Module:
    """Build a network with random weights, or with an encoder pretrained as ``encoder_weights`` names it.

    It maps (N, in_channels, H, W) float32 to scores (N, classes, H, W) float32; some give scores of the middle only while
    they are trained, those with heads for objects a mapping (``geoseg.models.networks.deploy``).

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
        if "downsampling pattern" in str(error):
            raise ModelError(
                f"{config.architecture} with {config.encoder}: its features are of one scale, as those of vision transformers, "
                'and give no levels to join; take the architecture "dpt"'
            ) from error
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


def _of_encoder(config: NetworkConfig) -> dict[str, bool]:
    """Parameters with which an encoder takes images of every size, and its windows lie alike in all of them."""
    return {"strict_img_size": False, "always_partition": True} if WINDOWED.match(config.encoder) else {}


def _smp(config: NetworkConfig, encoder_weights: str | None) -> torch.nn.Module:
    import segmentation_models_pytorch as smp

    from geoseg.models.networks.grid_pooling import make_exportable

    name, parameters = config.architecture.lower(), {**_of_encoder(config), **config.parameters}
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


def _encoder(config: NetworkConfig, encoder_weights: str | None) -> Any:
    """The encoder alone, with five levels below the image."""
    import segmentation_models_pytorch as smp

    return smp.encoders.get_encoder(
        config.encoder, in_channels=config.in_channels, depth=5, weights=encoder_weights, **_of_encoder(config)
    )


def _fcn(config: NetworkConfig, encoder_weights: str | None) -> torch.nn.Module:
    from geoseg.models.networks.fcn import Fcn

    encoder = _encoder(config, encoder_weights)
    parameters = {"hidden": 4096 if config.encoder.startswith("vgg") else 0, **config.parameters}
    return Fcn(encoder, list(encoder.out_channels), config.classes, finest=FINEST[config.architecture.lower()], **parameters)


def _fine_unet(config: NetworkConfig, encoder_weights: str | None) -> torch.nn.Module:
    import segmentation_models_pytorch as smp

    from geoseg.models.networks.fine import FineUnet

    parameters = {**_of_encoder(config), **config.parameters}
    width = int(parameters.pop("width", 24))
    channels = parameters.setdefault("decoder_channels", (256, 128, 64, 32, 16))
    base = smp.Unet(config.encoder, encoder_weights=encoder_weights, in_channels=config.in_channels, classes=1, **parameters)
    return FineUnet(base, config.in_channels, channels[-1], config.classes, width)


def _detector(config: NetworkConfig, encoder_weights: str | None) -> torch.nn.Module:
    from geoseg.models.networks.detectors import build_detector

    encoder = _encoder(config, encoder_weights)
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
    "unet-2015": _unet2015,
    "unet-fine": _fine_unet,
    **dict.fromkeys(FINEST, _fcn),
    "ciresan": _ciresan,
    **dict.fromkeys(DETECTOR_NAMES, _detector),
}
"""The architectures of geoseg itself and of torchvision; all others are those of segmentation-models-pytorch."""

"""Weights without a network: safetensors of torchgeo, of Fields of The World, and of torchvision's detectors.

What they are weights of is found by their names and shapes: networks are built without memory, until one fits whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from geoseg.adoption.network_facts import Told
from geoseg.dialect import setting
from geoseg.errors import ConfigError, ModelError
from geoseg.models.networks.build import build_network
from geoseg.models.networks.config import NetworkConfig

if TYPE_CHECKING:
    import torch

__all__ = ["fitting_config", "ftw_facts", "read_state"]

WRAPPERS = ("model.", "module.", "net.", "network.")
"""What trainers put before all names: torchgeo's tasks ``model.``, parallel training ``module.``."""
BESIDE = ("criterion.", "loss.", "train_metrics.", "val_metrics.", "test_metrics.")
"""What checkpoints of trainers hold beside the network."""
ARCHITECTURES = ("unet", "fpn", "deeplabv3plus", "unetplusplus", "linknet", "manet", "pan", "deeplabv3", "upernet", "segformer")
ENCODERS = {
    "encoder.layer1.0.conv1.weight": ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d"),
    "encoder._conv_stem.weight": tuple(f"efficientnet-b{k}" for k in range(8)),
    "encoder.features.0.0.weight": ("mobilenet_v2",),
    "encoder.patch_embed1.proj.weight": tuple(f"mit_b{k}" for k in range(6)),
}
"""Encoders by a name that their weights have."""
HEAD = "segmentation_head.0.weight"
FTW_BANDS = tuple(f"{band}@{date}" for date in (1, 2) for band in ("red", "green", "blue", "nir"))
FTW_CLASSES = {2: ("background", "field"), 3: ("background", "field", "boundary")}


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """The weights of a safetensors file, without what their trainer has put before their names.

    Raises:
        ModelError: It is damaged, or packages are missing.
    """
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise ModelError(f"{path}: weights need torch and safetensors ({error}); pip install 'geoseg[train]'") from error
    try:
        state: dict[str, torch.Tensor] = load_file(path)
    except Exception as error:  # safetensors raises kinds of its own
        raise ModelError(f"{path}: is no sound safetensors file: {(str(error).splitlines() or ['?'])[0]}") from error
    state = {key: value for key, value in state.items() if not key.startswith(BESIDE)}
    for wrapper in WRAPPERS:
        if state and all(key.startswith(wrapper) for key in state):
            state = {key.removeprefix(wrapper): value for key, value in state.items()}
    if not state:
        raise ModelError(f"{path}: holds no weights")
    return state


def ftw_facts(classes: int) -> Told:
    """Fields of The World (Kerner et al. 2024, arXiv:2409.16252): two Sentinel-2 dates of four bands, divided by 3000.

    Raises:
        ConfigError: Its networks have two or three classes.
    """
    if classes not in FTW_CLASSES:
        raise ConfigError(f"{setting('preset', 'ftw')}: the network has {classes} classes; Fields of The World has 2 or 3")
    return Told(
        bands=FTW_BANDS,
        classes=FTW_CLASSES[classes],
        gsd=10.0,
        scale=3000.0,
        data_type="uint16",
        value_range=(0, 10000),
        activation="softmax",
    )


def fitting_config(
    path: Path, state: Mapping[str, torch.Tensor], architecture: str | None = None, encoder: str | None = None
) -> NetworkConfig:
    """The network that weights are those of.

    Args:
        path: Of the weights, for messages.
        state: Them.
        architecture: The one that the user names.
        encoder: The one that the user names.

    Raises:
        ModelError: None fits.
        ConfigError: The one that is named does not fit.
    """
    if HEAD not in state:
        raise ModelError(
            f"{path}: has no {HEAD}, so these are no weights of a network of segmentation-models-pytorch, as torchgeo's are; "
            f"there are {', '.join(sorted(state)[:3])}, …"
        )
    named = architecture is not None and encoder is not None
    encoders = (encoder,) if encoder is not None else tuple(_encoders(state))
    nearest: list[tuple[int, str]] = []
    for name in (architecture,) if architecture is not None else ARCHITECTURES:
        for one in encoders:
            config = NetworkConfig(name, one, _bands(path, state), int(state[HEAD].shape[0]))
            off = _differences(config, state)
            if not off:
                return config
            nearest.append((off, config.title))
    if named:
        raise ConfigError(
            f"{path}: {nearest[0][0]} of its weights are not those of {nearest[0][1]}; name another one with "
            f"{setting('architecture')} and {setting('encoder')}"
        )
    off, title = min(nearest, default=(len(state), "nothing that is known"))
    raise ModelError(
        f"{path}: no network is known that these are the weights of; nearest is {title}, from which {off} differ; name it with "
        f"{setting('architecture')} and {setting('encoder')}"
    )


def _encoders(state: Mapping[str, torch.Tensor]) -> Iterator[str]:
    for key, names in ENCODERS.items():
        if key in state:
            yield from names


def _bands(path: Path, state: Mapping[str, torch.Tensor]) -> int:
    """The bands that the first convolution of the encoder takes."""
    first = [value for key, value in state.items() if key.startswith("encoder.") and value.ndim == 4]
    stems = [state[key] for key in ("encoder.conv1.weight", *ENCODERS) if key in state]
    found = [*stems, *first]
    if not found:
        raise ModelError(f"{path}: its encoder has no convolution")
    return int(found[0].shape[1])


def _differences(config: NetworkConfig, state: Mapping[str, torch.Tensor]) -> int:
    """How many weights are missing, too many, or of another shape."""
    import torch

    try:
        with torch.device("meta"):
            wanted = build_network(config).state_dict()
    except ModelError:
        return max(1, len(state))
    return sum(1 for _ in _unequal(wanted, state))


def _unequal(wanted: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor]) -> Iterable[str]:
    for key in {*wanted, *state}:
        if key not in wanted or key not in state or wanted[key].shape != state[key].shape:
            yield key

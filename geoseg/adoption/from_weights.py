"""Weights in safetensors, with a config of segmentation-models-pytorch or without, as model folders."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geoseg.adoption.detector_states import detector_facts, detector_network, torchvision_difference
from geoseg.adoption.hub_config import config_of, facts_of, license_of
from geoseg.adoption.made import Made
from geoseg.adoption.network_facts import Told, card_name
from geoseg.adoption.originals import SIDE, probabilities
from geoseg.adoption.states import fitting_config, ftw_facts, read_state
from geoseg.arrays import F32
from geoseg.dialect import setting
from geoseg.errors import ConfigError, ModelError
from geoseg.models.model_folder import CONFIG, README
from geoseg.models.networks.build import build_network
from geoseg.models.networks.config import NetworkConfig
from geoseg.models.networks.deploy import inference_form
from geoseg.models.saving import save_model

if TYPE_CHECKING:
    import torch

__all__ = ["adopt_detector", "adopt_hub_folder", "adopt_weights"]

WHOLE = "every output pixel depends on the whole tile: tiles are blended, and the map depends on where they lie"
KEPT = (
    "torchvision enlarges images to 800 px before its detectors see them; here they see pixels as they are, so that the size of "
    "a pixel is that after the enlargement"
)


def adopt_hub_folder(weights: Path, told: Told, folder: Path, name: str) -> Made:
    """Make a model folder of one of segmentation-models-pytorch.

    Args:
        weights: ``model.safetensors``, beside its ``config.json``.
        told: What the user says of it, which outranks the config.
        folder: The model folder, there and empty.
        name: Of the model, unless another is told.

    Raises:
        ModelError: Config or weights are damaged, or do not fit each other.
        ConfigError: Something is not known, or does not fit the network.
    """
    config, document = config_of(weights.parent / CONFIG)
    said = facts_of(config, document)
    facts = told.over(said).over(Told(name=card_name(name), license=license_of(weights.parent / README)))
    notes = []
    if said.mean is not None and told.mean is None and told.scale is None:
        others = ", ".join(setting(key) for key in ("scale", "mean", "std"))
        notes.append(f"images are normalized as on ImageNet, which its encoder began with; {others} tell another way")
    return _made(config, read_state(weights), facts, folder, weights, kind="segmentation-models-pytorch", notes=tuple(notes))


def adopt_weights(
    weights: Path, told: Told, folder: Path, name: str, *, named: tuple[str | None, str | None], preset: str | None
) -> Made:
    """Make a model folder of weights alone.

    Args:
        weights: A safetensors file.
        told: What the user says of it.
        folder: The model folder, there and empty.
        name: Of the model, unless another is told.
        named: Architecture and encoder, where the user names them.
        preset: Facts of a family of networks: ``ftw``.

    Raises:
        ModelError: The weights are damaged, or those of no known network.
        ConfigError: Something is not known, or does not fit the network.
    """
    state = read_state(weights)
    config = fitting_config(weights, state, *named)
    family = ftw_facts(config.classes) if preset == "ftw" else Told()
    only = Told(name=card_name(name), activation="sigmoid" if config.classes == 1 else None)
    return _made(config, state, told.over(family).over(only), folder, weights, kind=f"weights of {config.title}")


def adopt_detector(weights: Path, told: Told, folder: Path, name: str, *, largest_px: int | None, eps: float | None) -> Made:
    """Make a model folder of the weights of a detector of torchvision.

    Args:
        weights: A safetensors file.
        told: What the user says of it; the first class is the background.
        folder: The model folder, there and empty.
        name: Of the model, unless another is told.
        largest_px: Rows or columns of the largest object.
        eps: What frozen normalization adds to variances.

    Raises:
        ModelError: The weights are damaged, or those of no known detector.
        ConfigError: Something is not known, or does not fit the network.
    """
    state = read_state(weights)
    config, network = detector_network(weights, state, eps)
    facts = told.over(detector_facts(config.in_channels)).over(Told(name=card_name(name)))
    facts.check(str(weights), config.in_channels, config.classes)
    assert facts.classes is not None
    if largest_px is None:
        wanted = setting("largest_object", "200")
        raise ConfigError(
            f"{weights}: a detector, and how large its objects are is not told; give {wanted} (rows or columns, px)"
        )
    facts = replace(facts, background=facts.classes[0])
    instances = {"instances": {"kind": "regions", "largest_px": largest_px}}
    model = save_model(network, config, folder, facts.card_facts() | instances, half=False)

    def difference(images: Iterable[F32]) -> float:
        return torchvision_difference(config, state, network, eps, images)

    def unseen(image: F32) -> F32:
        raise ModelError(f"{weights}: a detector gives no probabilities of {image.shape[2:]} pixels")

    kind = f"weights of torchvision's {config.title}"
    return Made(model, unseen, (SIDE, SIDE), "softmax", kind, (KEPT,), difference)


def _made(
    config: NetworkConfig,
    state: Mapping[str, torch.Tensor],
    facts: Told,
    folder: Path,
    weights: Path,
    *,
    kind: str,
    notes: tuple[str, ...] = (),
) -> Made:
    where = str(weights)
    facts.check(where, config.in_channels, config.classes)
    if facts.activation is None or facts.activation == "none" or (facts.activation == "sigmoid" and config.classes == 2):
        raise ConfigError(
            f"{where}: activation: {facts.activation} is none that a network of {config.classes} scores is run with here; give "
            f"{'sigmoid' if config.classes == 1 else 'softmax'}"
        )
    if facts.activation == "softmax" and config.classes == 1:
        raise ConfigError(f"{where}: activation: softmax of one score is always 1; give sigmoid")
    network = build_network(config)
    try:
        network.load_state_dict(dict(state), strict=True)
    except RuntimeError as error:
        raise ModelError(f"{where}: are not the weights of {config.title}: {' '.join(str(error).split())[:200]}") from error
    model = save_model(network, config, folder, facts.card_facts(), half=False)
    if model.card.receptive_field is None:
        notes = (*notes, WHOLE)
    original = _original(config, state)
    activation = facts.activation
    return Made(model, lambda image: probabilities(original(image), activation), (SIDE, SIDE), activation, kind, notes)


def _original(config: NetworkConfig, state: Mapping[str, torch.Tensor]) -> Callable[[F32], F32]:
    """The scores of the network in torch, built anew."""
    import torch

    network = build_network(config)
    network.load_state_dict(dict(state))
    form = inference_form(network).eval()

    def scores(image: F32) -> F32:
        with torch.inference_mode():
            return np.asarray(form(torch.from_numpy(image)).numpy(), np.float32)

    return scores

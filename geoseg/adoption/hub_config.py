"""``config.json`` of segmentation-models-pytorch: the folder that its ``save_pretrained`` writes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from geoseg.adoption.network_facts import EIGHT_BITS, Activation, Told
from geoseg.documents import read_json, read_text
from geoseg.errors import GeosegError, ModelError
from geoseg.models.networks.config import NetworkConfig

__all__ = ["config_of", "facts_of", "license_of"]

CLASS, ENCODER_WEIGHTS = "_model_class", "encoder_weights"
OWN = ("encoder_name", "in_channels", "classes", "activation", CLASS, ENCODER_WEIGHTS)
"""Keys that have a place of their own in a config of geoseg, or none."""
ACTIVATIONS: dict[str, Activation] = {"softmax": "softmax", "softmax2d": "softmax", "sigmoid": "sigmoid", "logsoftmax": "softmax"}
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of images as fractions of 255, by which encoders were trained on ImageNet (torchvision, "Models and pre-trained weights")."""
OF_IMAGENET = re.compile(r"^(resnet|resnext|efficientnet-b|densenet|vgg|mobilenet_v2|se_res|senet|mit_b)")
LICENSE = re.compile(r"^license:\s*([\w.+-]+)\s*$", re.MULTILINE)
SPDX = {"mit": "MIT", "apache-2.0": "Apache-2.0", "cc-by-4.0": "CC-BY-4.0", "cc-by-sa-4.0": "CC-BY-SA-4.0", "cc0-1.0": "CC0-1.0"}
COLOURS = ("red", "green", "blue")


def config_of(path: Path) -> tuple[NetworkConfig, Mapping[str, Any]]:
    """The network of a ``config.json``, and the document.

    Raises:
        ModelError: It is no config of segmentation-models-pytorch.
    """
    document = read_json(path, ModelError)
    if not isinstance(document, dict) or CLASS not in document:
        raise ModelError(
            f"{path}: no {CLASS}, so it is no config of segmentation-models-pytorch (save_pretrained writes it); give the file "
            "of the weights alone"
        )
    missing = [key for key in ("encoder_name", "in_channels", "classes") if key not in document]
    if missing:
        raise ModelError(f"{path}: {missing[0]}: missing")
    return NetworkConfig.from_json(
        {
            "library": "segmentation_models_pytorch",
            "architecture": str(document[CLASS]).lower(),
            "encoder": document["encoder_name"],
            "in_channels": document["in_channels"],
            "classes": document["classes"],
            "parameters": {key: value for key, value in document.items() if key not in OWN and value is not None},
        }
    ), document


def facts_of(config: NetworkConfig, document: Mapping[str, Any]) -> Told:
    """What it tells beside the network: the activation, and how its encoder was prepared to see images."""
    prepared = (
        document.get(ENCODER_WEIGHTS) == "imagenet" and config.in_channels == len(COLOURS) and OF_IMAGENET.match(config.encoder)
    )
    activation = ACTIVATIONS.get(str(document.get("activation")).lower())
    if activation is None and config.classes == 1:
        activation = "sigmoid"
    return Told(
        activation=activation,
        scale=EIGHT_BITS if prepared else None,
        mean=IMAGENET_MEAN if prepared else None,
        std=IMAGENET_STD if prepared else None,
    )


def license_of(readme: Path) -> str | None:
    """The licence in the head of a README of the hub; None where there is none."""
    try:
        text = read_text(readme)
    except (OSError, ValueError, GeosegError):
        return None
    head = text.split("---")[1] if text.startswith("---") and text.count("---") > 1 else ""
    found = LICENSE.search(head)
    return None if found is None else SPDX.get(found[1].lower(), found[1])

"""Depths of parameters in a network, for learning rates that differ by layer.

Layer-wise rates let early layers, whose features are general, change less than late ones (Howard and Ruder 2018,
"Universal language model fine-tuning for text classification", arXiv:1801.06146; Yosinski et al. 2014, arXiv:1411.1792).
"""

from __future__ import annotations

import re

import torch
from torch import nn

from geoseg.models.networks.deploy import example_image, inference_form

__all__ = ["encoder_of", "parameter_depths"]

CONTAINERS = ("encoder", "model")
NUMBERED = re.compile(r"\d+$")


def encoder_of(network: nn.Module) -> nn.Module | None:
    """The part that turns an image into features, which pretraining fills and fine-tuning freezes; None where there is none."""
    encoder = getattr(network, "encoder", None)
    return encoder if isinstance(encoder, nn.Module) else None


def parameter_depths(network: nn.Module) -> dict[str, int]:
    """Depth of every parameter by name: 0 for the encoder's first stage, one more for each further one.

    What is neither encoder nor head (the decoder) comes after the last stage, ``segmentation_head`` and other heads after
    that. A stage is what the encoder's own names call one (``layer1``, ``blocks.0``), normalization counts with what it
    follows, and stages are in the order in which a small image passes through them.
    """
    parameters = dict(network.named_parameters())
    order = _order(network, list(parameters))
    members: dict[str, list[str]] = {}
    for name in sorted((name for name in parameters if name.startswith("encoder.")), key=order.__getitem__):
        members.setdefault(_stage(name), []).append(name)
    depths = dict.fromkeys(members.pop("", []), 0)
    stages = 0
    for group in members.values():
        if stages == 0 or any(parameters[name].ndim > 1 for name in group):
            stages += 1
        depths |= dict.fromkeys(group, stages - 1)
    for name in parameters:
        if name not in depths:
            depths[name] = stages + (1 if name.split(".", 1)[0].endswith("_head") else 0)
    return {name: depths[name] for name in parameters}


def _stage(name: str) -> str:
    """The encoder's stage that a parameter belongs to: its name up to the first part that ends in a number.

    Empty for values of the encoder itself, such as class tokens and position embeddings.
    """
    parts = name.split(".")[:-1]
    while parts and parts[0] in CONTAINERS:
        parts.pop(0)
    for i, part in enumerate(parts):
        if NUMBERED.search(part):
            return ".".join(parts[: i + 1])
    return ".".join(parts[:1])


def _order(network: nn.Module, names: list[str]) -> dict[str, int]:
    """Rank of parameters by when a small image meets them; of those it does not meet, by their place in the network."""
    met: dict[str, int] = {}
    owners = {module: prefix for prefix, module in network.named_modules() if any(True for _ in module.parameters(recurse=False))}

    def meet(module: nn.Module, _: object) -> None:
        met.setdefault(owners[module], len(met))

    hooks = [module.register_forward_pre_hook(meet) for module in owners]
    form = inference_form(network)
    modes = {module: module.training for module in form.modules()}
    try:
        with torch.inference_mode():
            form.eval()(example_image(form))
    finally:
        for module, mode in modes.items():
            module.training = mode
        for hook in hooks:
            hook.remove()
    ranks = {}
    last = -1
    for i, name in enumerate(names):
        last = met.get(name.rpartition(".")[0], last)
        ranks[name] = (last + 1) * len(names) + i
    return ranks

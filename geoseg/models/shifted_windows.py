"""Transformers with shifted windows (Swin; Liu et al. 2021, arXiv:2103.14030): where their windows lie, and how far they see.

Windows are counted from the upper left corner of the image, so that a part of it has the windows of the whole where it begins
at a multiple of the window of the coarsest level. Half of the blocks shift theirs around the edge and mask pairs that are no
neighbours: -100 is added to their logits, and exp(-100) of 1 is nothing in 32 bits. A NaN knows no masks, though; to measure
what these networks see, an attention that passes it on between unmasked pairs alone stands in for theirs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["masked_spreading", "window_phase"]

BLOCKS = ("SwinTransformerBlock", "SwinTransformerV2Block")
"""Classes of timm that attend to windows."""
ATTENTION, OF_TOKENS = "WindowAttention", "Mlp"
"""What attends to a window; what computes each token by itself, which costs most and passes a NaN on to that token alone."""
PATCH = 4
"""Side of the patches that become tokens, px."""


def window_phase(network: torch.nn.Module) -> int | None:
    """Pixels from one place of the windows of all levels to the next that has them alike; None for networks without windows."""
    sides = []
    for name, module in network.named_modules():
        if type(module).__name__ in BLOCKS:
            # layers_2.blocks.1: each level but the first halves the tokens.
            level = next(
                int(part.rpartition("_")[2]) for part in name.replace("layers.", "layers_").split(".") if "layers_" in part
            )
            sides += [PATCH * 2**level * side for side in module.window_size]
    return math.lcm(*sides) if sides else None


@contextmanager
def masked_spreading(network: torch.nn.Module) -> Iterator[None]:
    """Have attention to windows pass a NaN on between unmasked pairs only, as its weights pass on all other values."""
    if window_phase(network) is None:
        yield
        return
    changed = {module: stand_in for module in network.modules() if (stand_in := STAND_INS.get(type(module).__name__))}
    for module, stand_in in changed.items():
        module.forward = MethodType(stand_in, module)
    try:
        yield
    finally:
        for module in changed:
            del module.forward


def _spread(module: torch.nn.Module, tokens: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """NaN for each token (windows, n, C) that sees one, by a mask (windows of an image, n, n) of 0 and -100; else as it is."""
    import torch

    del module
    bad = torch.isnan(tokens).any(dim=2)
    if mask is None:
        seen = bad.any(dim=1, keepdim=True).expand_as(bad)
    else:
        allowed = (mask == 0).to(tokens.dtype)
        images = bad.view(-1, *mask.shape[:1], bad.shape[1]).to(tokens.dtype)
        seen = torch.einsum("wqk,iwk->iwq", allowed, images).reshape(bad.shape) > 0
    return tokens.masked_fill(seen[:, :, None], float("nan"))


def _as_it_is(module: torch.nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    del module
    return tokens


STAND_INS = {ATTENTION: _spread, OF_TOKENS: _as_it_is}

"""The form in which a network is exported: it computes the same with less."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from geoseg.models.doubling import doubling_block, is_doubling
from geoseg.models.padding import FixedSame, is_same_convolution

__all__ = ["export_form"]

LEAST_SIDE = 64


def export_form(form: nn.Module, bands: int, stride: int) -> nn.Module:
    """The form of a network that gives the same scores for images whose sides are multiples of its stride, but for rounding.

    Parts are rewritten as ``doubling_block`` and ``FixedSame`` do. Where there is none, the network itself is returned.

    Args:
        form: In evaluation mode, the form that gives a score for every pixel; parameters are shared with it.
        bands: Of its input.
        stride: Total downsampling of the network.
    """
    found = _rewritten(form, bands, stride)
    if not found:
        return form
    shared: dict[int, Any] = {id(value): value for value in (*form.parameters(), *form.buffers())}
    # A part belongs to the copy as it was made: its own parts are not copied a second time.
    shared |= {id(old): new for old, new in found.values()}
    return copy.deepcopy(form, shared)


def _rewritten(form: nn.Module, bands: int, stride: int) -> dict[str, tuple[nn.Module, nn.Module]]:
    """Parts by name, and what takes their places."""
    found: dict[str, tuple[nn.Module, nn.Module]] = {}
    unfit: set[str] = set()

    def look(name: str, part: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        new = doubling_block(part, given, named) if is_doubling(part) else _fixed(part, given[0])
        if new is None:
            unfit.add(name)
        elif name not in found:
            found[name] = part, new

    parts = {name: part for name, part in form.named_modules() if is_doubling(part) or is_same_convolution(part)}
    hooks = [
        part.register_forward_pre_hook(lambda part, given, named, name=name: look(name, part, given, named), with_kwargs=True)
        for name, part in parts.items()
    ]
    # An odd number of strides: what is even on it is even for all sizes.
    side = (LEAST_SIDE // (2 * stride) * 2 + 1) * stride
    try:
        if parts:
            values = next(form.parameters())
            with torch.no_grad():
                form(torch.zeros(1, bands, side, side, dtype=values.dtype, device=values.device))
    finally:
        for hook in hooks:
            hook.remove()
    return {name: pair for name, pair in found.items() if name not in unfit}


def _fixed(part: Any, image: Tensor) -> nn.Module | None:
    if image.shape[2] % part.stride[0] or image.shape[3] % part.stride[0]:
        return None
    return FixedSame(part)

"""Weights of torchvision's Swin Transformer V2, such as those of SatlasPretrain, under the names that timm has for them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from torch import Tensor

__all__ = ["as_timm_swin"]

MARK = re.compile(r"^(?P<wrapper>.*?)features\.1\.0\.attn\.cpb_mlp\.0\.weight$")
"""The name of a tensor that all of them have, behind what programs have put before it."""
PLACES = (
    (re.compile(r"^features\.0\.0\."), "patch_embed.proj."),
    (re.compile(r"^features\.0\.2\."), "patch_embed.norm."),
)
BLOCK = re.compile(r"^features\.(?P<stage>[1357])\.(?P<block>\d+)\.(?P<rest>.+)$")
MERGING = re.compile(r"^features\.(?P<stage>[246])\.(?P<rest>(?:reduction|norm)\..+)$")
COMPUTED = ("relative_coords_table", "relative_position_index")
"""What follows from the size of the window, and is not kept by timm."""


def as_timm_swin(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under timm's names; those of other networks as they are.

    Both compute the same: torchvision keeps one bias for queries, keys and values and sets that of keys to zero, timm keeps
    those of queries and of values.
    """
    marks = [match["wrapper"] for name in state if (match := MARK.match(name))]
    if not marks:
        return dict(state)
    wrapper = marks[0]
    return dict(
        renamed
        for name, value in state.items()
        if name.startswith(wrapper)
        for renamed in _renamed(name.removeprefix(wrapper), value)
    )


def _renamed(name: str, value: Tensor) -> Iterator[tuple[str, Tensor]]:
    if name.endswith(COMPUTED):
        return
    for pattern, place in PLACES:
        if pattern.match(name):
            yield pattern.sub(place, name), value
            return
    if (match := MERGING.match(name)) is not None:
        yield f"layers.{int(match['stage']) // 2}.downsample.{match['rest']}", value
        return
    if (match := BLOCK.match(name)) is None:
        yield name, value
        return
    block = f"layers.{int(match['stage']) // 2}.blocks.{match['block']}."
    rest = match["rest"].replace("mlp.0.", "mlp.fc1.") if match["rest"].startswith("mlp.") else match["rest"]
    rest = rest.replace("mlp.3.", "mlp.fc2.") if rest.startswith("mlp.") else rest
    if rest != "attn.qkv.bias":
        yield block + rest, value
        return
    queries, _, values = value.chunk(3)
    yield f"{block}attn.q_bias", queries
    yield f"{block}attn.v_bias", values

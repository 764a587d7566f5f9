"""Networks of strangers that take images of one size: their stride and reach, and whether tiles of that size give one answer.

Nothing of such a network can be seen in a larger image. What a NaN reaches within its one size is its receptive field, where
that leaves a middle which no edge is seen from; and the same pixels have to give the same scores, to the last bit, wherever in
the image they lie. Networks that know places, as those with embeddings of positions, do not pass that test.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geoseg.adoption.spreading import coarsest, spread_network
from geoseg.adoption.stranger import Stranger
from geoseg.dialect import setting
from geoseg.errors import ModelError
from geoseg.grid import round_up
from geoseg.inference.onnx_session import OnnxSession
from geoseg.models.card_values import ReceptiveField
from geoseg.models.receptive_field import measure_receptive_field

__all__ = ["OneSize", "measured_at_one_size"]


@dataclass(frozen=True, slots=True)
class OneSize:
    """A network that takes one size, and runs in tiles of it."""

    side: int
    """Rows and columns of its images."""
    stride: int
    field: ReceptiveField
    note: str
    """What whoever runs it should know."""


def measured_at_one_size(stranger: Stranger, path: Path, bands: int, why: str, halo: int | None) -> OneSize:
    """Measure a network at its one size.

    Args:
        stranger: The network.
        path: The same in geoseg's form, of its one size.
        bands: That it takes.
        why: The sentence that says that it takes no other.
        halo: How far it sees, as whoever adopts it tells, in place of what is measured.

    Raises:
        ModelError: It sees the whole image, or not the same in all places of it.
    """
    rows, cols = stranger.size or (0, 0)
    if rows != cols:
        raise ModelError(f"{why}; at one size it could be run where that is square, and it is {rows} x {cols} px")
    stride = coarsest(path, bands, rows)
    if rows % stride:
        raise ModelError(f"{why}; at its {rows} px no tiles can be laid, which are multiples of its stride of {stride} px")
    if halo is None:
        network, unknown = spread_network(path)
        field = None if network is None else measure_receptive_field(network, bands, stride, side=rows)
        if field is None:
            raise ModelError(
                f"{why}; at its {rows} px it can't be run in tiles either: "
                f"{unknown or 'within them every output pixel sees an edge of the image'}; where you know better, tell how far "
                f"it sees with {setting('halo', '64')}"
            )
    else:
        field = ReceptiveField(left=halo, right=halo, top=halo, bottom=halo)
    margin = round_up(field.reach, stride)
    if 2 * margin + stride > rows:
        raise ModelError(
            f"{why}; at its {rows} px there is no room for a core between two halos of {margin} px; give a file of a larger size"
        )
    _check_places(path, bands, stride, margin, rows, why)
    told = "measured" if halo is None else "told"
    return OneSize(
        rows,
        stride,
        field,
        f"it takes images of {rows} x {rows} px only, so that all tiles are such: {rows - 2 * margin} px and a halo of {margin} "
        f"px, which was {told}; smaller scenes are filled up by repeating their edge",
    )


def _check_places(path: Path, bands: int, stride: int, halo: int, side: int, why: str) -> None:
    """Refuse a network that gives other scores for the same pixels in another place of its image.

    Raises:
        ModelError: It does.
    """
    session = OnnxSession(path)
    name = session.inputs[0].name
    places = ((0, 0), (stride, 0), (0, stride), (2 * stride, stride))
    image = np.random.default_rng(0).standard_normal((1, bands, side + 2 * stride, side + 2 * stride)).astype(np.float32)
    scores = [session.run({name: np.ascontiguousarray(image[:, :, r : r + side, c : c + side])})[0] for r, c in places]
    for (r, c), found in zip(places[1:], scores[1:], strict=True):
        first = scores[0][:, :, r + halo : side - halo, c + halo : side - halo]
        worst = float(np.abs(first - found[:, :, halo : side - halo - r, halo : side - halo - c]).max(initial=0))
        if worst:
            raise ModelError(
                f"{why}; at its {side} px it can't be run in tiles either: the same pixels {r} rows and {c} columns further get "
                f"scores that differ by up to {worst:.2g}, as of networks that know places; with a halo of {halo} px"
            )

"""Receptive fields of networks, measured by what a NaN reaches.

A NaN in the input spreads to every output that reads it, whatever the weights: zero times NaN is NaN, and so are sums,
maxima and activations of it. This gives the structural receptive field. (Theoretical fields add up kernels and strides,
Araujo et al. 2019, doi:10.23915/distill.00021, but need the network's graph; gradients miss what a maximum or a ReLU hides.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from geoseg.grid import round_up
from geoseg.models.card_values import ReceptiveField
from geoseg.models.shifted_windows import masked_spreading
from geoseg.scenes.files.muting import muted

if TYPE_CHECKING:
    import torch

__all__ = ["measure_receptive_field"]

LARGEST = 4096
"""Rows of the largest image that is tried; who sees further is taken to see everything."""
MOST_USUAL, LEAST_WIDTH = 128, 32
"""The largest stride of a network without windows, and the narrowest image, px."""
SAME = 1e-3
"""Largest difference between the same place of two images that counts as none, in standard deviations of the scores."""


class _TooShortError(Exception):
    """The NaN reached the end of the image."""


def measure_receptive_field(
    network: torch.nn.Module, in_channels: int, stride: int, *, side: int | None = None
) -> ReceptiveField | None:
    """Measure the receptive field to each side, in pixels; None for a network with global context.

    ``network`` maps (N, in_channels, H, W) to (N, K, H, W) for H and W multiples of ``stride``. The field depends on a
    pixel's place in the stride; the largest of all places is returned. A network whose scores depend on the size of its
    input although no pixel is seen from afar, as with interpolation that aligns corners, has global context, too: with a
    ``side``, the one that the network takes, that is not seen.
    """
    import torch

    was_training = {module: module.training for module in network.modules()}
    network.eval()
    try:
        with muted(), torch.inference_mode():
            reaches = []
            for transpose in (False, True):
                reach = _along_rows(_Rows(network, in_channels, stride, side, transpose=transpose))
                if reach is None:
                    return None
                reaches.append(reach)
    except (RuntimeError, ValueError, AssertionError):
        # Networks that take one input size only see all of it.
        return None
    finally:
        for module, mode in was_training.items():
            module.training = mode
    (top, bottom), (left, right) = reaches
    return ReceptiveField(left=left, right=right, top=top, bottom=bottom)


class _Rows:
    """A network looked at along the rows of narrow images, or along their columns."""

    def __init__(self, network: torch.nn.Module, bands: int, stride: int, side: int | None, *, transpose: bool) -> None:
        import torch

        self._network, self._bands, self.stride, self._transpose = network, bands, stride, transpose
        self.lengths = (side,) if side else tuple(_lengths(stride))
        """Rows of the images that are tried."""
        self.one_size = side is not None
        device = next((value.device for value in network.parameters()), torch.device("cpu"))
        self._zeros = torch.zeros((), device=device)
        # Of networks with windows, windows that the image does not fill are filled up.
        self._width = side or (max(stride, LEAST_WIDTH) if stride <= MOST_USUAL else LEAST_WIDTH)

    def scores(self, image: torch.Tensor) -> torch.Tensor:
        """Scores (1, K, length, width) of an image (1, C, length, width)."""
        scores: torch.Tensor = self._network(image.transpose(2, 3).contiguous() if self._transpose else image)
        return scores.transpose(2, 3) if self._transpose else scores

    def blank(self, length: int) -> torch.Tensor:
        """An image of zeros."""
        return self._zeros.expand(1, self._bands, length, self._width).clone()

    def reached(self, length: int, nan: slice) -> tuple[int, int] | None:
        """First and last row of the output that a NaN in these rows reaches."""
        import torch

        image = self.blank(length)
        image[:, :, nan] = float("nan")
        # oneDNN may choose Winograd convolutions, which carry a NaN across a whole tile of the transform.
        with torch.backends.mkldnn.flags(enabled=False), masked_spreading(self._network):
            rows = torch.isnan(self.scores(image)).any(dim=1).any(dim=2)[0].nonzero()[:, 0]
        return (int(rows[0]), int(rows[-1])) if rows.numel() else None


def _along_rows(rows: _Rows) -> tuple[int, int] | None:
    """How far an output pixel sees towards smaller and larger indices; None where it sees everything."""
    for length in rows.lengths:
        try:
            after = _largest(partial(_after, rows, length), rows.stride)
            before = _largest(partial(_before, rows, length), rows.stride)
        except _TooShortError:
            continue
        return (before, after) if rows.one_size or _is_local(rows, before, after) else None
    return None


def _lengths(stride: int) -> Iterator[int]:
    length = (16 if stride <= MOST_USUAL else 4) * stride
    while length <= LARGEST:
        yield length
        length *= 2


def _after(rows: _Rows, length: int, phase: int) -> int:
    """How far before the first NaN an output pixel knows of it, when all rows from there on are NaN."""
    source = length - 2 * rows.stride + phase
    reached = rows.reached(length, slice(source, None))
    if reached is None:
        return 0
    if reached[0] == 0:
        raise _TooShortError
    return max(0, source - reached[0])


def _before(rows: _Rows, length: int, phase: int) -> int:
    """How far after the last NaN an output pixel knows of it, when all rows up to there are NaN."""
    source = 2 * rows.stride - 1 - phase
    reached = rows.reached(length, slice(0, source + 1))
    if reached is None:
        return 0
    if reached[1] == length - 1:
        raise _TooShortError
    return max(0, reached[1] - source)


def _largest(distance: Callable[[int], int], stride: int) -> int:
    """The largest distance over all phases of a stride.

    A NaN that moves on by one row moves what it reaches on by none or more, never back, so that from a phase to a later one
    the distance grows by at most the rows between them: most phases need no look.
    """
    best = first = distance(0)
    waiting = [(0, stride, first)]
    while waiting:
        low, high, at_low = waiting.pop()
        if high - low < 2 or at_low + high - 1 - low <= best:
            continue
        middle = (low + high) // 2
        at_middle = distance(middle)
        best = max(best, at_middle)
        waiting += [(low, middle, at_low), (middle, high, at_middle)]
    return best


def _is_local(rows: _Rows, before: int, after: int) -> bool:
    """Whether a place has the same scores in a small and in a large image that agree as far as it sees."""
    import torch

    step = rows.stride
    lead, tail = round_up(before, step), round_up(after, step)
    core, more = max(64, 2 * step), round_up(128, step)
    core = round_up(core, step)
    small = rows.blank(lead + core + tail)
    small = torch.randn(small.shape, generator=torch.Generator().manual_seed(0)).to(small)
    edge = rows.blank(more)
    large = torch.cat([edge, small, edge, edge], dim=2)
    a = rows.scores(small)[:, :, lead : lead + core]
    b = rows.scores(large)[:, :, more + lead : more + lead + core]
    return bool((a - b).abs().max() <= SAME * max(float(b.std()), 1e-30))

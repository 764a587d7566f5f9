"""Weights that were saved under one network's names find their places in another network; RGB kernels take other bands."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from geoseg.errors import ModelError

__all__ = ["RGB", "Placement", "adapted_kernel", "find_places", "input_convolutions"]

RGB = ("red", "green", "blue")
"""Bands of weights that were trained on photographs."""
COUNTER = "num_batches_tracked"
"""Counts of batches; nothing reads them, and not every version of torch saves them."""
SIDES = (64, 224, 256)
"""Sizes of images that are tried to see which convolutions take the image itself."""
DEEPEST = 4
"""Most parts of a name that are taken for a wrapper around the network."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Places of given tensors in a network."""

    places: Mapping[str, str]
    """Name in the network: name among the given tensors."""
    inputs: tuple[str, ...]
    """Those of them, by name in the network, whose second dimension is the bands of the image."""
    missing: tuple[str, ...]
    """Names in the network for which nothing was given."""
    unused: tuple[str, ...]
    """Given names that have no place."""


def adapted_kernel(kernel: Tensor, given: Sequence[str], wanted: Sequence[str]) -> Tensor:
    """Weights of a first convolution for other bands.

    A band takes the kernel of the band of its name, or the mean of all where there is none. All are scaled by
    ``len(given) / len(wanted)``, so that activations keep their size; one band takes the sum, so that a gray image
    gives the activations that it gave when it was repeated in every band.

    Args:
        kernel: (O, m, kh, kw) float: by output channel and given band.
        given: Names of its m bands.
        wanted: Names of the n bands to take.

    Returns:
        (O, n, kh, kw), of the same type.

    Raises:
        ModelError: The kernel has another number of bands than are named.
    """
    if kernel.shape[1] != len(given):
        raise ModelError(f"a first convolution of {kernel.shape[1]} bands can't be that of {', '.join(given)}")
    if len(wanted) == 1:
        return kernel.sum(1, keepdim=True)
    names, mean = list(given), kernel.mean(1)
    columns = [kernel[:, names.index(band)] if band in names else mean for band in wanted]
    return torch.stack(columns, 1) * (len(given) / len(wanted))


def input_convolutions(network: nn.Module, bands: int, dates: int = 1) -> tuple[str, ...]:
    """Names of the weights that are multiplied with the image itself; one small image is sent through to see them.

    Args:
        network: The network.
        bands: Bands of a date.
        dates: Dates that it takes, each of which passes its encoder by itself.
    """
    convolutions = {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d) and module.in_channels == bands and module.groups == 1
    }
    found: list[str] = []
    modes = {module: module.training for module in network.modules()}
    device = next(network.parameters()).device
    network.eval()
    try:
        for side in SIDES:
            image = torch.rand((1, bands * dates, side, side), generator=torch.Generator().manual_seed(side)).to(device)
            hooks = [m.register_forward_pre_hook(_noting(n, image[:, :bands], found)) for n, m in convolutions.items()]
            try:
                with torch.no_grad():
                    network(image)
                break
            except (RuntimeError, ValueError, AssertionError):  # not every network takes every size
                found.clear()
            finally:
                for hook in hooks:
                    hook.remove()
    finally:
        for module, mode in modes.items():
            module.training = mode
    return tuple(f"{name}.weight" for name in found or list(convolutions)[:1])


def _noting(name: str, image: Tensor, found: list[str]) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if inputs[0].shape == image.shape and torch.equal(inputs[0], image):
            found.append(name)

    return hook


def find_places(
    wanted: Mapping[str, Tensor], given: Mapping[str, Tensor], inputs: Sequence[str] = (), *, whole: bool = True
) -> Placement:
    """Match tensors by name and shape, whatever wrappers stand in front of the names.

    Of all ways to leave out a common beginning of the given names (``module.``, ``model.``, ``encoder.`` ...) and to look
    at the network or its encoder alone, the one with the most matches is taken. Lists of layers match whether their names
    are written ``stages.0`` or ``stages_0``.

    Args:
        wanted: The network's tensors by name.
        given: The tensors to place.
        inputs: Names in ``wanted`` whose second dimension is the bands of the image; it may differ.
        whole: Look beyond the encoder, too.
    """
    wanted = {name: value for name, value in wanted.items() if not name.endswith(COUNTER)}
    given = {name: value for name, value in given.items() if not name.endswith(COUNTER)}
    scopes = [s for s in ("encoder.", "encoder.model.") if any(name.startswith(s) for name in wanted)]
    best: dict[str, str] = {}
    for scope in ["", *scopes] if whole or not scopes else scopes:
        inside = {_plain(name.removeprefix(scope)): name for name in wanted if name.startswith(scope)}
        for wrapper in _wrappers(given):
            places = {}
            for name, value in given.items():
                place = inside.get(_plain(name.removeprefix(wrapper))) if name.startswith(wrapper) else None
                if place is not None and _fits(wanted[place], value, bands=place in inputs):
                    places[place] = name
            if len(places) > len(best):
                best = places
    if not whole:
        best = {place: name for place, name in best.items() if not scopes or place.startswith("encoder.")}
    used = {*best.values()}
    return Placement(
        best,
        tuple(p for p in best if p in inputs),
        tuple(name for name in wanted if name not in best),
        tuple(name for name in given if name not in used),
    )


def _wrappers(given: Mapping[str, Tensor]) -> list[str]:
    """Beginnings of names, the shortest first, in the order in which they occur."""
    found = {"": 0}
    for name in given:
        parts = name.split(".")
        for depth in range(1, min(DEEPEST, len(parts) - 1) + 1):
            found.setdefault(".".join(parts[:depth]) + ".", depth)
    return sorted(found, key=found.__getitem__)


def _plain(name: str) -> str:
    return re.sub(r"_(\d+)\.", r".\1.", name)


def _fits(wanted: Tensor, given: Tensor, *, bands: bool) -> bool:
    if bands and wanted.ndim == given.ndim:
        return wanted.shape[0] == given.shape[0] and wanted.shape[2:] == given.shape[2:]
    return wanted.shape == given.shape

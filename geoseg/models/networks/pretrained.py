"""Weights to begin from: of the hub by name, of a model folder, or of a checkpoint file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from geoseg.dialect import listed
from geoseg.errors import ModelError
from geoseg.models.hub import download_file
from geoseg.models.model_folder import CONFIG, WEIGHTS, file_hash, load_model, shipped_models
from geoseg.models.networks.build import build_network
from geoseg.models.networks.config import NetworkConfig
from geoseg.models.networks.placement import RGB, Placement, adapted_kernel, find_places, input_convolutions
from geoseg.models.weights.checkpoints import read_checkpoint
from geoseg.models.weights.known_weights import KNOWN, KnownWeights, known_weights
from geoseg.models.weights.swin_names import as_timm_swin
from geoseg.scenes.files.muting import muted

__all__ = ["Loaded", "load_weights"]

FILES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")
LEAST_LOADED = 0.9
"""Share of the encoder's tensors that have to find their place."""
HEAD = "segmentation_head."
NAMED = 3
"""Names that messages list before they count."""


@dataclass(frozen=True, slots=True)
class BandMap:
    """Bands of a first convolution by those of the weights that it begins from; see ``adapted_kernel``."""

    given: tuple[str, ...]
    wanted: tuple[str, ...]

    @property
    def note(self) -> str:
        """Which bands have kernels of their own, which begin as the mean of all, and which kernels stay without a band."""
        shared = [band for band in self.wanted if band in self.given]
        extra = [band for band in self.wanted if band not in self.given]
        left = [band for band in self.given if band not in self.wanted]
        parts = [f"{', '.join(shared)} read their own kernels" if shared else "no band reads a kernel of its own"]
        if len(self.wanted) == 1:
            return f"{self.wanted[0]} reads the sum of all kernels"
        if extra:
            parts.append(f"{', '.join(extra)} begin as the mean of all")
        if left:
            parts.append(f"kernels of {', '.join(left)} have no band")
        return "; ".join(parts)


@dataclass(frozen=True, slots=True)
class Loaded:
    """The fate of the weights that a network was to begin from."""

    source: str
    """Where they are from."""
    placed: tuple[str, ...]
    """Names of the network's tensors that were set."""
    adapted: tuple[str, ...]
    """Those of them that were made to take other bands."""
    fresh: tuple[str, ...]
    """Names of the network's tensors that keep the values which they had."""
    unused: tuple[str, ...]
    """Names of given tensors without a place."""
    bands: BandMap | None = None
    """Which band begins as which, where they are not the same."""

    @property
    def note(self) -> str:
        """One sentence for the log and the report."""
        parts = [f"{len(self.placed)} tensors are set"]
        if self.adapted:
            parts.append(f"{listed(self.adapted, NAMED)} adapted to the bands")
        parts.append(f"{listed(self.fresh, NAMED)} start anew" if self.fresh else "none starts anew")
        if self.unused:
            parts.append(f"{len(self.unused)} given ones have no place")
        if self.bands is not None:
            parts.append(self.bands.note)
        return f"weights of {self.source}: {', '.join(parts)}"


def load_weights(
    network: nn.Module,
    weights: str,
    *,
    config: NetworkConfig,
    bands: Sequence[str],
    classes: Sequence[str] | None = None,
    given_bands: Sequence[str] | None = None,
    whole: bool = True,
    least: float = LEAST_LOADED,
) -> Loaded:
    """Set a network's weights, as far as they fit, from what ``weights`` names.

    The first convolution is adapted to the bands by name (``adapted_kernel``). What does not fit, such as the head for
    other classes, keeps its values and is listed. Batch normalization takes over its statistics.

    Args:
        network: The network, newly built; changed in place.
        weights: A model folder, the name of a shipped model, ``owner/name[@revision]`` on the Hugging Face hub, a
            checkpoint file (safetensors, or a file of torch that holds nothing but tensors), a name of
            ``geoseg.models.weights.known_weights``, or a tag of the encoder's weights on the hub, such as ``imagenet``.
        config: How the network was built.
        bands: Names of its bands.
        classes: Names of its classes; the head of a model with other ones is not taken over.
        given_bands: Names of the bands of a checkpoint file; by default red, green and blue where it has three, and
            ``bands`` where it has as many. A model folder names its own.
        whole: Take over what is beyond the encoder, too, where it fits.
        least: Share of the encoder's tensors (of all, where there is no encoder) that have to find their place.

    Returns:
        What was set and what was not.

    Raises:
        ModelError: The weights are not there, can't be read without running code, or fit too little of the network.
    """
    path, source = Path(weights), weights
    if path.is_file():
        state = read_checkpoint(path)
    elif path.suffix in FILES:
        raise ModelError(f"{weights}: no such file")
    elif path.is_dir() or weights in shipped_models() or "/" in weights:
        state, given_bands, given_classes = _of_model(weights)
        if classes is not None and tuple(classes) != given_classes:
            state = {name: value for name, value in state.items() if not name.startswith(HEAD)}
    elif (known := known_weights(weights, config.encoder)) is not None:
        state, given_bands, source = _of_known(known), known.bands, known.source
    else:
        state, given_bands, source = _of_hub(network, weights, config), RGB, f"{config.encoder} ({weights})"
    # A band of a date, red@2, begins as that band; a network with one encoder for all dates takes those of one.
    dates = getattr(network, "dates", 1)
    bands = [name.partition("@")[0] for name in bands[: len(bands) // dates]]
    state = as_timm_swin(state)
    placement = find_places(network.state_dict(), state, input_convolutions(network, len(bands), dates), whole=whole)
    _check_enough(network, placement, source, config, least)
    adapted = _set(network, placement, state, given_bands, tuple(bands), source)
    mapped = BandMap(tuple(given_bands), tuple(bands)) if adapted and given_bands is not None else None
    return Loaded(source, tuple(placement.places), adapted, placement.missing, placement.unused, mapped)


def _of_model(name: str) -> tuple[dict[str, Tensor], tuple[str, ...], tuple[str, ...]]:
    """Tensors, names of bands and names of classes of a model folder."""
    model = load_model(name)
    if model.weights is None:
        raise ModelError(f"{model.path}: no {WEIGHTS}, so no training can go on from it; it was saved for ONNX Runtime alone")
    return read_checkpoint(model.weights), model.card.bands, tuple(c.name for c in model.card.classes)


def _of_known(known: KnownWeights) -> dict[str, Tensor]:
    """Tensors of weights that are known by name, from the hub or its cache.

    Their files are of torch: what is read is what the known hash is of, and nothing but tensors.

    Raises:
        ModelError: They can't be had, or are not those.
    """
    path = download_file(known.repo, known.revision, known.file)
    found = file_hash(path)
    if not found.startswith(known.digest):
        raise ModelError(
            f"{known.repo}: {known.file}: its sha256 begins with {found[: len(known.digest)]}, not with {known.digest}: it is "
            "damaged or was changed; delete it from the cache of the hub, and try again"
        )
    return read_checkpoint(path)


def _of_hub(network: nn.Module, tag: str, config: NetworkConfig) -> dict[str, Tensor]:
    """Tensors of the encoder as the hub has them, for three bands; the client's cache and environment variables hold."""
    encoder = getattr(network, "encoder", None)
    if encoder is None:
        raise ModelError(
            f"{tag}: no such file or folder, and {config.architecture} has no encoder whose weights the hub could have"
        )
    # Encoders of timm carry the tag in their name.
    name = getattr(encoder, "name", None)
    if isinstance(name, str):
        config = replace(config, encoder=f"tu-{name}" if tag == "imagenet" else f"tu-{name.partition('.')[0]}.{tag}")
    try:
        with muted():
            built = build_network(replace(config, in_channels=len(RGB)), encoder_weights=tag)
    except (ModelError, OSError, RuntimeError) as error:
        raise ModelError(f"{config.encoder}: weights {tag!r}: {_why(error)}{_satellites(config.encoder)}") from error
    return {f"encoder.{key}": value for key, value in built.get_submodule("encoder").state_dict().items()}


def _satellites(encoder: str) -> str:
    """Names of weights of satellites that an encoder may begin from, to end a sentence with."""
    names = sorted({one.name for one in KNOWN if one.encoder == encoder})
    return f"; weights of satellites for it are {', '.join(names)}" if names else ""


def _why(error: Exception) -> str:
    """Why the hub gave no weights, in one line."""
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, LocalEntryNotFoundError | OfflineModeIsEnabled | ConnectionError):
            return "the hub can't be reached, and they are not in the cache; download them before, or pass a file"
        if isinstance(cause, HfHubHTTPError):
            return f"the hub answers with an error: {_first_line(cause)}"
        cause = cause.__cause__ or cause.__context__
    return f"{_first_line(error)}; or no such file, folder or model"


def _check_enough(network: nn.Module, placement: Placement, source: str, config: NetworkConfig, least: float) -> None:
    part = "encoder." if isinstance(getattr(network, "encoder", None), nn.Module) else ""
    hits = sum(name.startswith(part) for name in placement.places)
    missing = [name for name in placement.missing if name.startswith(part)]
    total = hits + len(missing)
    if total and hits >= least * total:
        return
    state = network.state_dict()
    examples = ", ".join(f"{name} {tuple(state[name].shape)}" for name in missing[:NAMED])
    given = f"; given without a place: {listed(placement.unused, NAMED)}" if placement.unused else ""
    raise ModelError(
        f"{source}: {hits} of {total} tensors of the {'encoder' if part else 'network'} are there by name and shape, "
        f"at least {least:.0%} are needed; missing: {examples}{given}; "
        f"is it of another network than {config.architecture} with {config.encoder}, see {CONFIG}?"
    )


def _set(
    network: nn.Module,
    placement: Placement,
    state: Mapping[str, Tensor],
    given_bands: Sequence[str] | None,
    bands: tuple[str, ...],
    source: str,
) -> tuple[str, ...]:
    """Set the tensors that have a place; gives the names of those that were adapted to the bands."""
    own, adapted = network.state_dict(), []
    with torch.no_grad():
        for place, name in placement.places.items():
            value = state[name]
            if place in placement.inputs:
                names = tuple(given_bands) if given_bands is not None else _bands_of(value, bands, source)
                if names != bands:
                    value = adapted_kernel(value.float(), names, bands)
                    adapted.append(place)
            own[place].copy_(value)
    return tuple(adapted)


def _bands_of(kernel: Tensor, bands: tuple[str, ...], source: str) -> tuple[str, ...]:
    """Names of the bands of a first convolution of which nothing is known but their number."""
    count = kernel.shape[1]
    if count == len(RGB):
        return RGB
    if count == len(bands):
        return bands
    raise ModelError(
        f"{source}: its first convolution takes {count} bands whose names are not known; "
        f"pass weights for 3 (red, green, blue) or for {len(bands)} ({', '.join(bands)})"
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]

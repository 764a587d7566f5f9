"""What weights bring beside their numbers: where they are from, their licence, and the numbers that they were trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from geoseg.models.model_folder import load_model, shipped_models
from geoseg.models.weights.known_weights import known_weights

__all__ = ["IMAGENET", "WeightFacts", "weight_facts"]

IMAGENET = {"red": (123.675, 58.395), "green": (116.28, 57.12), "blue": (103.53, 57.375)}
"""Mean and standard deviation of ImageNet, for values from 0 to 255."""
STEPS = 255.0
TIMM = "tu-"
USUAL = "imagenet"
NO_ASSERTION = "NOASSERTION"


@dataclass(frozen=True, slots=True)
class WeightFacts:
    """What weights say of themselves."""

    source: str | None
    """What they are and where they are from; None where nothing is told, or a model folder tells it."""
    license: str
    """SPDX identifier, NOASSERTION where nothing is told."""
    scaling: Mapping[str, tuple[float, float]]
    """Mean and deviation by band, in the numbers of the images; bands that they do not know are left out."""


def weight_facts(weights: str, encoder: str, data_type: str, *, physical: bool) -> WeightFacts:
    """Facts on weights, as ``load_weights`` takes them.

    Args:
        weights: A file, a model, a name or a tag.
        encoder: Of the network that begins with them.
        data_type: Of the images that it will be trained on.
        physical: Whether these have physical values.

    Raises:
        ModelError: A model can't be read, or weights of this name are of other encoders.
    """
    path = Path(weights)
    if path.is_file():
        return _of_file(path, of_bytes=data_type == "uint8")
    if path.is_dir() or weights in shipped_models() or "/" in weights:
        card = load_model(weights).card
        pairs = {band: (s.mean, s.stddev) for band, s in zip(card.bands, card.scaling, strict=True)}
        return WeightFacts(None, card.license, pairs)
    known = known_weights(weights, encoder)
    if known is not None:
        found = {band: known.scaling(band, data_type, physical=physical) for band in known.bands}
        return WeightFacts(known.source, known.license, {band: pair for band, pair in found.items() if pair is not None})
    if encoder.startswith(TIMM):
        return _of_timm(encoder.removeprefix(TIMM), weights, of_bytes=data_type == "uint8")
    return WeightFacts(None, NO_ASSERTION, IMAGENET if weights == USUAL and data_type == "uint8" else {})


def _of_file(path: Path, *, of_bytes: bool) -> WeightFacts:
    """What the metadata of a safetensors file say."""
    from geoseg.models.weights.checkpoints import metadata_of, scaling_of

    said, pairs = metadata_of(path), scaling_of(str(path), len(IMAGENET))
    scaling = dict(zip(IMAGENET, zip(*pairs, strict=True), strict=True)) if pairs is not None and of_bytes else {}
    return WeightFacts(said.get("source"), said.get("license", NO_ASSERTION), scaling)


def _of_timm(name: str, tag: str, *, of_bytes: bool) -> WeightFacts:
    """What timm says of the weights of a tag."""
    from timm.models import get_pretrained_cfg

    try:
        config = get_pretrained_cfg(name if tag == USUAL else f"{name.partition('.')[0]}.{tag}")
    except RuntimeError:  # no such tag, which who loads it will say
        config = None
    if config is None or not config.has_weights:
        return WeightFacts(None, NO_ASSERTION, {})
    pairs = [(_in_steps(mean), _in_steps(deviation)) for mean, deviation in zip(config.mean, config.std, strict=True)]
    return WeightFacts(
        f"weights {config.hf_hub_id or config.architecture} of timm",
        config.license or NO_ASSERTION,
        dict(zip(IMAGENET, pairs, strict=True)) if of_bytes and len(pairs) == len(IMAGENET) else {},
    )


def _in_steps(share: float) -> float:
    """A share of the range of 8 bits in steps of it, without the digits of the multiplication."""
    return float(f"{STEPS * share:.9g}")

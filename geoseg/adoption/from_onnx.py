"""ONNX files, of the QGIS plugin Deepness or of anybody, as model folders."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from geoseg.adoption.deepness import deepness_facts
from geoseg.adoption.made import Made
from geoseg.adoption.network_facts import Activation, Told, card_name
from geoseg.adoption.one_size import measured_at_one_size
from geoseg.adoption.originals import Original, are_probabilities, noise, probabilities
from geoseg.adoption.spreading import measured_field, measured_stride
from geoseg.adoption.stranger import Stranger, open_stranger, write_plain
from geoseg.arrays import F32
from geoseg.dialect import setting
from geoseg.errors import ConfigError, ModelError
from geoseg.models.card_values import ReceptiveField
from geoseg.models.exporting import DEFAULT_TILE
from geoseg.models.model_folder import CARD, ONNX, README, file_hash, load_model
from geoseg.models.saving import checked_card, measure_memory

__all__ = ["adopt_onnx"]


def adopt_onnx(path: Path, told: Told, folder: Path, output: str | None = None, halo: int | None = None) -> Made:
    """Write the card and the network of an ONNX file into a folder.

    Args:
        path: The file.
        told: What the user says of it, which outranks the file.
        folder: The model folder, there and empty.
        output: Of several outputs, the one that has the scores.
        halo: Of a network that takes one size, how far it sees, px; None measures it. That of others is always measured.

    Raises:
        ModelError: It is damaged, or no network that geoseg can run exactly.
        ConfigError: Something is not known, or does not fit the network.
    """
    stranger = open_stranger(path, output)
    original = Original(stranger)
    bands = stranger.bands or len(told.bands or ())
    if not bands:
        raise ConfigError(f"{path}: does not say how many bands it takes; give {setting('bands', 'red,green,blue')}")
    sample = original.run(noise(bands, original.side))
    scores = _scores(path, sample, original.side)
    of_plugin = deepness_facts(str(path), stranger.metadata, bands, scores)
    facts = told.over(of_plugin or Told()).over(Told(name=card_name(path.stem), activation=stranger.activation))
    facts.check(str(path), bands, scores)
    assert facts.activation is not None
    given = _checked_activation(stranger, facts.activation, sample)
    kept: Activation = ("softmax" if scores > 1 else "sigmoid") if given == "none" else given
    facts = replace(facts, activation=kept)
    target = folder / ONNX
    write_plain(stranger, given, bands, scores, target)
    found = _measured(stranger, given, (bands, scores), target, halo)
    card = checked_card(
        facts.card_facts()
        | {
            "architecture": f"ONNX of {stranger.model.producer_name or 'an unnamed exporter'}",
            "total_parameters": _parameters(stranger),
            "stride": found.stride,
            "receptive_field": found.field,
            "global_context": found.field is None,
            "bytes_per_pixel": measure_memory(target, bands, found.stride, found.tile or DEFAULT_TILE),
            "tile": found.tile,
            "files": {ONNX: file_hash(target)},
        }
    )
    card.write(folder / CARD)
    (folder / README).write_text(f"# {card.name}\n\n{card.description}\n", encoding="utf-8")
    last: Activation = (stranger.activation and "none") or given

    def of_original(image: F32) -> F32:
        return probabilities(original.run(image), last)

    kind = "ONNX" if of_plugin is None else "ONNX of the QGIS plugin Deepness"
    notes = (*_notes(stranger, found, facts, scores), *([found.note] if found.note else []))
    return Made(load_model(str(folder)), of_original, original.side, kept, kind, notes)


@dataclass(frozen=True, slots=True)
class _Measured:
    """What was found on a network that was written."""

    stride: int
    field: ReceptiveField | None
    why: str = ""
    """Why there is no field."""
    tile: int | None = None
    """The one size that it takes."""
    note: str = ""


def _measured(stranger: Stranger, given: Activation, counts: tuple[int, int], target: Path, halo: int | None) -> _Measured:
    """Stride and field of a network that takes all sizes, or, written anew, of one that takes one.

    Args:
        stranger: The network.
        given: What makes its outputs probabilities.
        counts: Its bands and scores.
        target: The file that was written.
        halo: How far it sees, where that is told.

    Raises:
        ModelError: It takes one size, and can't be run in tiles of it.
    """
    bands, scores = counts
    try:
        stride = measured_stride(target, bands)
        return _Measured(stride, *measured_field(target, bands, stride))
    except ModelError as error:
        if stranger.size is None:
            raise
        write_plain(stranger, given, bands, scores, target, one_size=True)
        one = measured_at_one_size(stranger, target, bands, str(error), halo)
        return _Measured(one.stride, one.field, tile=one.side, note=one.note)


def _scores(path: Path, sample: F32, side: tuple[int, int]) -> int:
    """The number of scores of a pixel.

    Raises:
        ModelError: There is no score for every pixel, or one is not finite.
    """
    if sample.shape[2:] != side:
        raise ModelError(
            f"{path}: gives scores of {sample.shape[2]} x {sample.shape[3]} for an image of {side[0]} x {side[1]} px; networks "
            "with one score for every pixel are adopted: export it with the enlargement to the size of the image"
        )
    if not np.isfinite(sample).all():
        raise ModelError(f"{path}: gives values that are not finite for an image of noise; its weights are damaged")
    return int(sample.shape[1])


def _checked_activation(stranger: Stranger, told: Activation, sample: F32) -> Activation:
    """What makes its outputs probabilities, compared with what it gives.

    Raises:
        ConfigError: It is not what the network shows.
        ModelError: It is nothing that a card can say.
    """
    path, key, known = stranger.path, setting("activation"), stranger.activation
    if known is not None and told != known:
        raise ConfigError(f"{path}: {key}: {told}, but the network ends in {known}; leave it out")
    if known is None and (told == "none") != are_probabilities(sample):
        what = "are probabilities already" if told != "none" else "are not between 0 and 1 with a sum of 1"
        raise ConfigError(f"{path}: {key}: {told}, but its outputs for an image of noise {what}; give the other")
    if told == "softmax" and sample.shape[1] == 1:
        cure = f"give {setting('activation', 'sigmoid')}" if known is None else "export the network without it"
        raise ConfigError(f"{path}: {key}: softmax of one score is always 1; {cure}")
    if told == "sigmoid" and sample.shape[1] == 2:
        raise ModelError(
            f"{path}: gives two scores with a sigmoid each; of two classes that exclude each other one score or a softmax tells "
            "which; export it so"
        )
    return told


def _parameters(stranger: Stranger) -> int:
    return sum(int(np.prod(one.dims)) for one in stranger.model.graph.initializer if len(one.dims))


def _notes(stranger: Stranger, found: _Measured, facts: Told, scores: int) -> list[str]:
    notes = []
    if facts.threshold is not None and scores > 1:
        notes.append(
            f"the plugin gives pixels of which no class has {facts.threshold:g} to class 0; here the most probable class is taken"
        )
    if stranger.size is not None and found.tile is None:
        notes.append(
            f"it was exported for tiles of {stranger.size[0]} x {stranger.size[1]} px; its sizes are left open, so that it takes "
            "every tile"
        )
    if found.why:
        notes.append(f"{found.why}: tiles are blended, and the map depends on where they lie")
    return notes

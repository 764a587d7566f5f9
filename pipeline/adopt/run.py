"""Adoption: a network of somebody else in, a model folder with card, figures and README out."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from geoseg.adoption.made import Made
from geoseg.adoption.network_facts import card_name
from geoseg.adoption.originals import largest_difference, noise
from geoseg.arrays import F32
from geoseg.dialect import number_of
from geoseg.errors import ConfigError
from geoseg.models.model_folder import README, Model, file_hash, load_model
from pipeline.adopt.network_source import Source, find_source
from pipeline.adopt.settings import AdoptSettings
from pipeline.calibrate.calibrate_settings import CalibrationSettings
from pipeline.calibrate.drawn_parts import drawn, opened
from pipeline.calibrate.run import calibrate
from pipeline.config.sections import Config
from pipeline.files.atomic import write_json
from pipeline.files.outputs import atomic_folder, check_new_folder

__all__ = ["Adopted", "adopt"]

log = logging.getLogger(__name__)

RECORD = "adoption.json"
CHIPS = 4
"""Parts of images that the adopted network is compared with its original on."""


class AdoptionRecord(TypedDict):
    """Content of ``adoption.json``."""

    source: str
    source_sha256: str
    format: str
    compared_on: str
    largest_difference: float | None
    """Of a probability, between the original and what was adopted; None where the two can't be compared."""
    receptive_field: dict[str, int] | None
    stride: int
    exact_halo: int | None
    bytes_per_pixel: float
    notes: list[str]


@dataclass(frozen=True, slots=True)
class Adopted:
    """A model folder, and what was found."""

    model: Model
    record: AdoptionRecord
    """Content of ``adoption.json``."""


def adopt(
    source: str,
    out: Path | None,
    config: Config,
    settings: AdoptSettings,
    *,
    images: Sequence[str] = (),
    labels: Sequence[str] = (),
    overwrite: bool = False,
) -> Adopted:
    """Make a model folder of a network that others have trained, and compare the two.

    Args:
        source: An ONNX or safetensors file, a folder with one, or ``owner/name[@revision]`` on the Hugging Face hub.
        out: The model folder to make; by default the name of the model, here.
        config: Sections scene, grid and infer: opening of scenes, and runs of the network.
        settings: What its file does not tell.
        images: Scenes on which the two are compared; noise without any.
        labels: Of these scenes, for a calibration.
        overwrite: Replace a folder that is there.

    Raises:
        ConfigError: Something is not known of the network, or does not fit it.
        ModelError: It is no network that geoseg can run exactly.
        SceneError: A scene or its labels can't be read.
        OutputError: The folder is there.
    """
    if labels and not images:
        raise ConfigError("labels: are given without the images that they are of; give both")
    found = find_source(source)
    out = out or Path(card_name(settings.name or found.name))
    check_new_folder(out, overwrite=overwrite)
    halo = config.grid.halo
    with atomic_folder(out, replace=overwrite) as folder:
        made = found.adopt(settings, folder, halo if isinstance(halo, int) else None)
        if made.model.card.tile is not None:
            # The size of its tiles is its own, and so is the halo.
            config = config.model_copy(update={"grid": type(config.grid)()})
        record = _compared(made, found, images, config)
        _write_readme(made.model, record, folder)
        write_json(folder / RECORD, record)
        model = load_model(str(folder))
        if labels:
            _calibrate(model, images, labels, config)
    return Adopted(load_model(str(out)), record)


def _calibrate(model: Model, images: Sequence[str], labels: Sequence[str], config: Config) -> None:
    """Give a model the card, the figures and the README of its calibration."""
    with tempfile.TemporaryDirectory() as beside:
        done = calibrate(model, images, labels, Path(beside) / model.card.name, config, CalibrationSettings())
        for path in done.model.path.iterdir():
            if not path.name.startswith("."):
                shutil.copyfile(path, model.path / path.name)
    load_model(str(model.path))


def _compared(made: Made, source: Source, images: Sequence[str], config: Config) -> AdoptionRecord:
    card = made.model.card
    chips: list[F32] = [noise(len(card.bands), made.side)]
    on = "noise"
    if images:
        scenes = opened(made.model, images, (), config)
        chips = [crop.image() for crop in drawn(scenes, card.stride, CHIPS, 0)]
        if not chips:
            raise ConfigError("images: no part with data was found that the network could be compared on; give other images")
        on = f"{number_of(len(chips), 'part')} of {number_of(len(scenes), 'image')}"
    onnx = made.model.onnx
    worst = None
    if made.difference is not None:
        worst = made.difference(chips)
    elif onnx is not None:
        worst = largest_difference(made.original, onnx, made.activation, chips, made.side)
    return {
        "source": source.given if source.is_remote else source.file.name,
        "source_sha256": file_hash(source.file),
        "format": made.kind,
        "compared_on": on,
        "largest_difference": worst,
        "receptive_field": None if card.receptive_field is None else card.receptive_field.model_dump(),
        "stride": card.stride,
        "exact_halo": card.exact_halo,
        "bytes_per_pixel": card.bytes_per_pixel,
        "notes": list(made.notes),
    }


def _write_readme(model: Model, record: AdoptionRecord, folder: Path) -> None:
    """Write the README: what it is, where it comes from, what was measured."""
    card, field = model.card, record["receptive_field"]
    reach = "the whole tile: tiles are blended" if field is None else f"{max(field.values())} px to each side"
    worst = record["largest_difference"]
    rows = {
        "Network": card.architecture,
        "Adopted from": f"{record['source']} ({record['format']}), sha256 {record['source_sha256'][:12]}",
        "Licence of the weights": card.license,
        "Receptive field": reach,
        "Stride": f"{record['stride']} px",
        "Memory": f"{record['bytes_per_pixel']:g} bytes a pixel of a tile",
        "Largest difference of a probability from the original": (
            "not compared" if worst is None else f"{worst:.1g} on {record['compared_on']}"
        ),
    }
    lines = [f"# {card.name}", "", card.description, "", "| | |", "|---|---|", *(f"| {k} | {v} |" for k, v in rows.items())]
    lines += ["", *(f"- {note[0].upper()}{note[1:]}." for note in record["notes"])]
    (folder / README).write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")

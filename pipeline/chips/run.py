"""Chips: labelled scenes in, small GeoTIFFs of images and labels with an index out, for other tools. Training needs none."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from geoseg.codes import MAX_CLASS, UNLABELLED
from geoseg.dialect import number_of
from geoseg.errors import ConfigError, OutputError
from geoseg.labels.labels import Labels, is_vector, open_labels
from geoseg.scenes.opening import open_scene
from geoseg.scenes.scene import OpenOptions, Scene
from geoseg.scenes.sources import list_scenes
from geoseg.training.data.labelled import LabelledScene, Values
from geoseg.training.data.samplers import make_sampler
from geoseg.windows import Window
from pipeline.chips.chip_files import ChipEntry, dtype_of, write_chip, write_index
from pipeline.chips.settings import ChipOptions, LabelOptions
from pipeline.files.atomic import DISK_ERRORS
from pipeline.files.outputs import atomic_folder, check_new_folder
from pipeline.train.label_files import pair_labels

__all__ = ["write_chips"]

log = logging.getLogger(__name__)
MAX_SIZE = 16384


def write_chips(
    images: Sequence[str],
    labels: Sequence[str],
    out: Path,
    *,
    meaning: LabelOptions | None = None,
    options: ChipOptions | None = None,
    scenes: OpenOptions | None = None,
    overwrite: bool = False,
) -> int:
    """Write chips of labelled scenes to a folder, which appears when it is whole.

    ``images/`` has GeoTIFFs with all bands in the scene's data type (float32 where that can't hold it) and a mask of what is
    data, ``labels/`` one band of class codes with nodata 255, under the same names. ``index.csv`` and ``index.geojson`` list
    them, with footprints in WGS 84. Past the edge of a scene that is smaller than a chip there is no data.

    Returns:
        How many chips were written.

    Raises:
        ConfigError: An option can't work, labels are missing, or no chip is labelled.
        SceneError: A scene or its labels can't be read.
        OutputError: The folder is there, or can't be written.
    """
    meaning, options = meaning or LabelOptions(), options or ChipOptions()
    _check(meaning, options)
    check_new_folder(out, overwrite=overwrite)
    sources = _open(images, labels, meaning, scenes or OpenOptions())
    entries: list[ChipEntry] = []
    try:
        with atomic_folder(out, replace=overwrite) as folder:
            for number, window in _windows(sources, meaning, options):
                source = sources[number]
                chip = source.read(window)
                known = int((chip.labels != UNLABELLED).sum())
                if known == 0 or known < options.labelled * window.pixels:
                    continue
                entries.append(write_chip(folder, source, window, chip))
            if not entries:
                raise ConfigError(
                    f"labels: no chip has labelled pixels, of {number_of(len(sources), 'scene')}; check the classes and the "
                    "labels' place"
                )
            write_index(folder, entries)
    except OSError as error:
        if error.errno in DISK_ERRORS:
            raise OutputError(f"{out}: can't be written: {error.strerror}") from error
        raise
    return len(entries)


def _check(meaning: LabelOptions, options: ChipOptions) -> None:
    if not 1 <= options.size <= MAX_SIZE:
        raise ConfigError(f"--size {options.size}: a chip has 1 to {MAX_SIZE} pixels a side; all of it is in memory")
    if options.step is not None and options.step < 1:
        raise ConfigError(f"--step {options.step}: is at least 1 pixel")
    if options.count < 1:
        raise ConfigError(f"--count {options.count}: is at least 1")
    if options.step is not None and options.sampler != "grid":
        raise ConfigError(f"--step: is for --sampler grid, not {options.sampler}")
    if options.sampler not in ("grid", "area", "class"):
        raise ConfigError(f"--sampler: {options.sampler!r} is not known; choose one of grid, area, class")
    if not 0 <= options.labelled <= 1:
        raise ConfigError(f"--labelled {options.labelled}: is a share from 0 to 1")
    if meaning.border < 0:
        raise ConfigError(f"--border {meaning.border}: is at least 0 pixels")
    if meaning.column is not None and meaning.codes is None:
        raise ConfigError(
            f"--class-column {meaning.column}: say with --classes which code each text stands for: forest=1,water=2"
        )
    for text, code in {**(meaning.codes or {}), "--outside": meaning.outside}.items():
        if not (0 <= code <= MAX_CLASS or code == UNLABELLED):
            raise ConfigError(f"{text}: code {code} is not within 0..{MAX_CLASS}, nor {UNLABELLED} for what is not labelled")


def _open(images: Sequence[str], labels: Sequence[str], meaning: LabelOptions, how: OpenOptions) -> list[LabelledScene]:
    refs, refused = list_scenes(images, allow_vrt=how.allow_vrt, option="images")
    for item in refused:
        if item.status == "failed":
            raise ConfigError(f"images: {item.reason}")
    sources = []
    for ref, path in pair_labels(refs, labels):
        scene = open_scene(ref.paths, ref.name, how, band_names=ref.band_names, told=ref.told)
        place = scene.georeference if scene.georeference.crs is not None else None
        codes = meaning.codes
        if codes is None:
            codes = {"": 1} if is_vector(path) else {str(code): code for code in range(MAX_CLASS + 1)}
        found = open_labels(
            path,
            place,
            scene.height,
            scene.width,
            codes,
            column=meaning.column,
            outside=meaning.outside,
            ignore=meaning.ignore,
            all_touched=meaning.all_touched,
        )
        sources.append(_as_it_is(scene, found, meaning.border))
    return sources


def _as_it_is(scene: Scene, labels: Labels, border: int) -> LabelledScene:
    """A source of all bands with the values that the file has."""
    kind = str(np.result_type(*(band.dtype for band in scene.bands)))
    alike = replace(scene, bands=tuple(replace(band, dtype=kind) for band in scene.bands))
    names = tuple(f"{k} {band.label}" for k, band in enumerate(scene.bands, start=1))
    source = LabelledScene(alike, labels, Values(names, kind), chosen=[str(k + 1) for k in range(len(names))], border=border)
    if dtype_of(source) != kind:
        log.warning("%s: %s pixels are written as float32", scene.path, kind)
    return source


def _windows(sources: Sequence[LabelledScene], meaning: LabelOptions, options: ChipOptions) -> Iterator[tuple[int, Window]]:
    size = options.size
    if options.sampler == "grid":
        step = options.step or size
        for number, source in enumerate(sources):
            for row in _starts(source.height, size, step):
                for col in _starts(source.width, size, step):
                    yield number, Window.at((row, col), (size, size))
        return
    codes = [*(meaning.codes or {}).values(), meaning.outside]
    classes = 1 + max((code for code in codes if code != UNLABELLED), default=MAX_CLASS) if meaning.codes else MAX_CLASS + 1
    refs = make_sampler(options.sampler, sources, size, options.seed, classes).epoch(0, options.count)
    yield from sorted({(ref.source, ref.window) for ref in refs})


def _starts(extent: int, size: int, step: int) -> list[int]:
    """First pixels of the chips of a grid; the last one ends with the scene."""
    last = max(0, extent - size)
    return sorted({*range(0, last, step), last})

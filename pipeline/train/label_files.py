"""Label files of scenes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from geoseg.addresses import split_layer
from geoseg.codes import MAX_CLASS
from geoseg.errors import ConfigError
from geoseg.labels.labels import VECTORS, Labels, open_labels
from geoseg.scenes.scene import OpenOptions, Scene
from geoseg.scenes.sources import SceneRef
from geoseg.vectors.folder_datasets import is_dataset
from pipeline.files.class_rasters import open_class_raster
from pipeline.train.recipe_data import DataRecipe

__all__ = ["codes_by_legend", "correction_labels", "is_label_file", "label_file", "pair_labels"]

log = logging.getLogger(__name__)


def is_label_file(path: Path) -> bool:
    """Whether it is a file, or a folder that is one data set, but no part of one."""
    return is_dataset(path) or (path.is_file() and not is_dataset(path.parent))


def codes_by_legend(
    path: str, by_name: Mapping[str, int], by_code: Mapping[str, int], explain: str, options: OpenOptions | None = None
) -> Mapping[str, int]:
    """Codes by value of a class raster: where it names its values, names count, since the same value may be another class in it.

    Args:
        path: The raster.
        by_name: Codes of the classes.
        by_code: Codes by value, where the raster names none.
        explain: The option that says what values mean.
        options: How it is opened.

    Raises:
        SceneError: It is no class raster.
    """
    how = replace(options or OpenOptions(), pixel_coords=True)
    legend = {code: name for code, name in open_class_raster(path, how)[1].names.items() if code <= MAX_CLASS}
    if not legend:
        return by_code
    known = {name.casefold(): code for name, code in by_name.items()}
    others = [f"{code} ({name})" for code, name in legend.items() if name.casefold() not in known]
    if others:
        log.info(
            "%s: of the values that it names, %s are no class; %s says what they mean", path, ", ".join(others[:10]), explain
        )
    return {str(code): known[name.casefold()] for code, name in legend.items() if name.casefold() in known}


def pair_labels(scenes: Sequence[SceneRef], labels: Sequence[str]) -> list[tuple[SceneRef, str]]:
    """The label file of each scene: that of its name, folders included, or of its stem, or the only one.

    Raises:
        ConfigError: There are none, or a scene has none, or several.
    """
    files: dict[Path, str] = {}
    layers: dict[Path, str] = {}
    for text in labels:
        path = split_layer(text)[0]
        if path.is_dir() and not is_dataset(path):
            endings = (".tif", ".tiff", *VECTORS)
            below = sorted(p for p in path.rglob("*") if p.suffix.lower() in endings and is_label_file(p))
            files |= {p: p.relative_to(path).with_suffix("").as_posix() for p in below}
        elif path.exists():
            files[path] = path.stem
            layers[path] = text
        else:
            raise ConfigError(f"labels: {text} is neither a file nor a folder")
    if not scenes:
        raise ConfigError("images: no scene is there that can be read")
    if len(files) == 1:
        return [(ref, layers.get(path, str(path))) for ref in scenes for path in files]
    names = {ref.name for ref in scenes}
    by_name, by_stem = dict[str, list[Path]](), dict[str, list[Path]]()
    for path, name in files.items():
        by_name.setdefault(name, []).append(path)
        # What lies in the folder of one scene is not that of another of the same stem.
        if name not in names:
            by_stem.setdefault(path.stem, []).append(path)
    pairs, missing = [], list[str]()
    for ref in scenes:
        found = by_name.get(ref.name) or by_stem.get(Path(ref.name).name, [])
        if len(found) > 1:
            raise ConfigError(
                f"labels: the scene {ref.name} has {len(found)}: {found[0]}, {found[1]}{', …' if len(found) > 2 else ''}; give "
                "one, or put each into a folder of the name of its scene's folder"
            )
        pairs += [(ref, layers.get(path, str(path))) for path in found]
        missing += [] if found else [ref.name]
    if missing:
        raise ConfigError(
            f"labels: {len(missing)} of {len(scenes)} scenes have none, first {missing[0]}; "
            f"a label file has the stem of its scene, there are {len(files)} files"
        )
    return pairs


def label_file(image: Path, name: str, data: DataRecipe) -> Path:
    """The file with the labels of an image of a recipe: the one for all, or that of its name in a folder.

    Raises:
        ConfigError: There is none.
    """
    assert data.labels is not None
    given = Path(data.labels)
    file = split_layer(given)[0]
    if not file.is_dir() or is_dataset(file):
        if not file.exists():
            raise ConfigError(f"data.labels: {given}: no such file or folder")
        return given
    stem = image.stem if data.suffix is None else image.stem.replace(*data.suffix)
    relative = Path(name).parent / stem
    for folder in (given / relative.parent, given):
        for ending in (image.suffix, ".tif", ".tiff", ".png", *VECTORS):
            candidate = folder / f"{stem}{ending}"
            if is_label_file(candidate):
                return candidate
    raise ConfigError(f"data.labels: {given} has no labels for {image.name}, neither {stem}{image.suffix} nor other endings")


def correction_labels(path: str, scene: Scene, codes: Mapping[str, int]) -> Labels:
    """What people have corrected, on the grid of a scene.

    Raises:
        ConfigError: There is no such file, or the scene has no place on Earth.
    """
    if not Path(path).is_file():
        raise ConfigError(f"data.corrections: {path}: no such file; geoseg review apply writes corrections.tif")
    if scene.georeference.crs is None:
        raise ConfigError(f"data.corrections: {scene.name} has no place on Earth, so that nothing says where a correction lies")
    by_legend = codes_by_legend(path, codes, codes, "classes.labels")
    return open_labels(path, scene.georeference, scene.height, scene.width, by_legend)

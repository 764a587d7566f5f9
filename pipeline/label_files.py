"""Which file has the labels of which scene."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from geoseg.errors import ConfigError
from geoseg.scenes.folder_datasets import is_dataset
from geoseg.scenes.sources import SceneRef
from geoseg.training.labels import VECTORS
from pipeline.recipe import DataRecipe

__all__ = ["is_label_file", "label_file", "pair_labels"]


def is_label_file(path: Path) -> bool:
    """Whether it is a file, or a folder that is one data set, but no part of one."""
    return is_dataset(path) or (path.is_file() and not is_dataset(path.parent))


def pair_labels(scenes: Sequence[SceneRef], labels: Sequence[str]) -> list[tuple[SceneRef, str]]:
    """The label file of each scene: that of the same stem, or the only one.

    Raises:
        ConfigError: There are none, or a scene has none.
    """
    files: list[Path] = []
    for text in labels:
        path = Path(text)
        if path.is_dir() and not is_dataset(path):
            endings = (".tif", ".tiff", *VECTORS)
            files += sorted(p for p in path.rglob("*") if p.suffix.lower() in endings and is_label_file(p))
        elif path.exists():
            files.append(path)
        else:
            raise ConfigError(f"labels: {text} is neither a file nor a folder")
    if not scenes:
        raise ConfigError("images: no scene is there that can be read")
    if len(files) == 1:
        return [(ref, str(files[0])) for ref in scenes]
    by_stem = {path.stem: str(path) for path in files}
    pairs = [(ref, by_stem.get(Path(ref.name).name)) for ref in scenes]
    missing = [ref.name for ref, path in pairs if path is None]
    if missing:
        raise ConfigError(
            f"labels: {len(missing)} of {len(scenes)} scenes have none, first {missing[0]}; "
            f"a label file has the stem of its scene, there are {len(files)} files"
        )
    return [(ref, path) for ref, path in pairs if path is not None]


def label_file(image: Path, name: str, data: DataRecipe) -> Path:
    """The file with the labels of an image of a recipe: the one for all, or that of its name in a folder.

    Raises:
        ConfigError: There is none.
    """
    assert data.labels is not None
    given = Path(data.labels)
    if not given.is_dir() or is_dataset(given):
        if not given.exists():
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

"""What to work on: files, folders, globs and list files become scenes with names."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from geoseg.errors import ConfigError
from geoseg.scenes.bandfiles import group_band_files
from geoseg.scenes.preflight import ACCEPTED
from geoseg.scenes.remote import is_remote

__all__ = ["LISTS", "Refused", "SceneRef", "list_entries", "list_scenes", "scenes_of_addresses"]

EXTENSIONS = (".tif", ".tiff")
NOT_ACCEPTED = (
    ".jp2",
    ".img",
    ".nc",
    ".hdf",
    ".h5",
    ".ecw",
    ".sid",
    ".zip",
    ".tar",
    ".gz",
    ".tgz",
    ".png",
    ".jpg",
    ".jpeg",
    ".safe",
)
LISTS = (".txt", ".lst", ".list")
MAX_NAME_BYTES = 200


@dataclass(frozen=True, slots=True)
class SceneRef:
    """A scene to work on, before it is opened."""

    name: str
    """Path of its output folder under the run's output; unique in the run."""
    paths: tuple[str, ...]
    """Its files."""
    band_names: tuple[str, ...] = ()
    """For band files, the name of each file's band."""
    later: tuple[SceneRef, ...] = ()
    """Later dates of the same place, in their order."""


@dataclass(frozen=True, slots=True)
class Refused:
    """An input that will not be worked on."""

    name: str
    """How it is named in the report."""
    paths: tuple[str, ...]
    """Its files."""
    status: str
    """``failed``, or ``skipped`` for a file in a folder that is of no accepted kind."""
    reason: str
    """One sentence on why."""


def list_scenes(
    inputs: Sequence[str], *, allow_vrt: bool = False, may_be_empty: bool = False
) -> tuple[list[SceneRef], list[Refused]]:
    """The scenes that files, folders, globs, list files and addresses name, in a fixed order.

    A folder gives all GeoTIFFs below it, band files grouped into scenes; names mirror its subfolders. A list file
    (``.txt``) has one input a line, relative to its folder. Scenes whose names are equal, also but for case, are
    refused: one would overwrite the other.

    Raises:
        ConfigError: An input matches nothing; a folder or a glob only without ``may_be_empty``.
    """
    named: list[SceneRef] = []
    refused: list[Refused] = []
    for text in inputs:
        found, rejected = _expand(text, allow_vrt, may_be_empty, depth=0)
        named += found
        refused += rejected
    unique = list({ref.paths: ref for ref in named}.values())
    counts = Counter(ref.name.casefold() for ref in unique)
    scenes = [ref for ref in unique if counts[ref.name.casefold()] == 1]
    for ref in unique:
        if counts[ref.name.casefold()] > 1:
            others = [o.paths[0] for o in unique if o is not ref and o.name.casefold() == ref.name.casefold()]
            reason = f"{ref.paths[0]}: its outputs would have the same name as those of {', '.join(others)}; rename one of them"
            refused.append(Refused(ref.paths[0], ref.paths, "failed", reason))
    return sorted(scenes, key=lambda ref: ref.name), refused


def scenes_of_addresses(addresses: Sequence[str], prefix: str) -> list[SceneRef]:
    """The GeoTIFFs among the objects of a store, band files grouped; names mirror what follows the prefix."""
    rasters = [address for address in addresses if address.lower().endswith(EXTENSIONS)]
    base = prefix.rstrip("/") + "/"
    groups, single = group_band_files(rasters)
    named = [(f"{scene}.", tuple(paths), tuple(names)) for scene, paths, names in groups] + [(a, (a,), ()) for a in single]
    refs = [SceneRef(os.path.splitext(text.removeprefix(base))[0], paths, names) for text, paths, names in named]
    return sorted(refs, key=lambda ref: ref.name)


def _expand(text: str, allow_vrt: bool, may_be_empty: bool, depth: int) -> tuple[list[SceneRef], list[Refused]]:
    if is_remote(text):
        return _named([text], ""), []
    path = Path(text)
    if path.is_dir() and path.suffix.lower() not in EXTENSIONS:
        return _from_folder(path, allow_vrt, may_be_empty)
    if path.suffix.lower() in LISTS and path.is_file():
        return _from_list(path, allow_vrt, may_be_empty, depth)
    if not os.path.lexists(path) and glob.has_magic(text):
        matches = sorted(m for m in glob.glob(text, recursive=True) if not os.path.isdir(m))
        if not matches and not may_be_empty:
            raise ConfigError(f"inputs: {text!r} matches no file")
        return _split(matches, os.path.dirname(_fixed_part(text)), allow_vrt)
    if not os.path.lexists(path):
        raise ConfigError(f"inputs: {text}: no such file or folder")
    return _named([text], str(path.parent)), []


def _fixed_part(pattern: str) -> str:
    """The leading folders of a glob that hold no wildcard, with a trailing separator."""
    parts = pattern.split(os.sep)
    fixed = []
    for part in parts[:-1]:
        if glob.has_magic(part):
            break
        fixed.append(part)
    return os.sep.join([*fixed, ""])


def _from_folder(folder: Path, allow_vrt: bool, may_be_empty: bool) -> tuple[list[SceneRef], list[Refused]]:
    files = []
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(d for d in folders if not d.startswith("."))
        # A folder named like a raster is reported rather than entered.
        odd = [d for d in folders if Path(d).suffix.lower() in EXTENSIONS]
        folders[:] = [d for d in folders if d not in odd]
        files += [os.path.join(root, name) for name in sorted([*names, *odd])]
    scenes, refused = _split(files, str(folder), allow_vrt)
    if not scenes and not refused and not may_be_empty:
        raise ConfigError(f"inputs: {folder}: no GeoTIFF in this folder. Accepted: {ACCEPTED}")
    return scenes, refused


def _from_list(path: Path, allow_vrt: bool, may_be_empty: bool, depth: int) -> tuple[list[SceneRef], list[Refused]]:
    if depth >= 5:
        raise ConfigError(f"inputs: {path}: list files name each other more than 5 deep")
    entries = list_entries(path)
    if not entries and not may_be_empty:
        raise ConfigError(f"inputs: {path}: the list is empty")
    scenes: list[SceneRef] = []
    refused: list[Refused] = []
    for entry in entries:
        found, rejected = _expand(entry, allow_vrt, may_be_empty, depth + 1)
        scenes += found
        refused += rejected
    return scenes, refused


def list_entries(path: Path) -> list[str]:
    """What a list file names: paths, relative ones taken from its folder, and addresses."""
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    entries = [line for line in lines if line and not line.startswith("#")]
    return [entry if is_remote(entry) or os.path.isabs(entry) else str(path.parent / entry) for entry in entries]


def _split(files: Iterable[str], base: str, allow_vrt: bool) -> tuple[list[SceneRef], list[Refused]]:
    """Accepted files as scenes, and files of other raster formats as skipped."""
    accepted, refused = [], []
    for file in files:
        suffix = Path(file).suffix.lower()
        if suffix in EXTENSIONS or (suffix == ".vrt" and allow_vrt):
            accepted.append(file)
        elif suffix in NOT_ACCEPTED or suffix == ".vrt":
            refused.append(Refused(file, (file,), "skipped", f"{file}: {suffix} is not accepted. Accepted: {ACCEPTED}"))
    return _named(accepted, base), refused


def _named(files: Sequence[str], base: str) -> list[SceneRef]:
    groups, single = group_band_files(files)
    refs = [SceneRef(_name(f"{scene}.", base), tuple(paths), tuple(names)) for scene, paths, names in groups]
    return refs + [SceneRef(_name(file, base), (file,)) for file in single]


def _name(path: str, base: str) -> str:
    """The path below the base without its extension; over-long names are shortened with a checksum."""
    if is_remote(path):
        relative = unquote(os.path.basename(urlsplit(path).path)) or "scene"
    else:
        relative = os.path.relpath(path, base or ".")
        if relative.startswith(os.pardir):
            relative = os.path.basename(path)
    stem = os.path.splitext(relative)[0]
    if len(os.path.basename(stem).encode()) > MAX_NAME_BYTES:
        import hashlib

        digest = hashlib.sha256(stem.encode()).hexdigest()[:8]
        head, tail = os.path.split(stem)
        stem = os.path.join(head, tail.encode()[: MAX_NAME_BYTES - 9].decode("utf-8", "ignore") + "-" + digest)
    return stem

"""Sources of work: files, folders, globs, list files, STAC items and searches become scenes with names."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from itertools import takewhile
from pathlib import Path
from urllib.parse import unquote

from geoseg.addresses import is_remote, opens_elsewhere, path_of, shown
from geoseg.dialect import setting
from geoseg.errors import ConfigError, ReadError
from geoseg.scenes.bands.bandfiles import group_band_files
from geoseg.scenes.listing import (
    RASTERS,
    TIFFS,
    Entry,
    OwnOutput,
    files_below,
    is_result,
    kind_of_file,
    lines_of_list,
    why_not,
)
from geoseg.scenes.names import folder_name, scene_name
from geoseg.scenes.preflight import accepted_formats
from geoseg.scenes.products.recognizing import is_product, name_of, product_at
from geoseg.scenes.products.served import product_name
from geoseg.scenes.refs import Refused, SceneRef, without_equal_names
from geoseg.scenes.stac.hrefs import is_document
from geoseg.scenes.stac.items import StacScene, scenes_of_document, search_stac
from geoseg.scenes.stac.search import StacSearch

__all__ = [
    "LISTS",
    "STAC",
    "Refused",
    "SceneRef",
    "list_entries",
    "list_scenes",
    "scenes_of_addresses",
]

NOT_ACCEPTED = (
    *(".j2k", ".img", ".nc", ".hdf", ".h5", ".ecw", ".sid", ".zip", ".tar", ".gz", ".tgz", ".png", ".jpg", ".jpeg"),
    ".safe",
)
LISTS = (".txt", ".lst", ".list")
INPUTS = "inputs"
"""What most commands are given scenes by, and messages begin with."""
STAC = "stac+"
"""Sources that start with this are STAC APIs."""
MAX_ENTRY = 8192
"""Characters of an entry of a list file; paths and addresses are shorter."""


def list_scenes(
    inputs: Sequence[str],
    *,
    allow_vrt: bool = False,
    may_be_empty: bool = False,
    search: StacSearch | None = None,
    option: str = INPUTS,
    out: str | Path | None = None,
) -> tuple[list[SceneRef], list[Refused]]:
    """The scenes that files, folders, globs, list files, addresses, STAC items and searches name, in a fixed order.

    A folder gives all rasters and products below it, band files grouped into scenes; names mirror its subfolders, and links are
    followed once. A list file (``.txt``) has one input a line, relative to its folder; a line that names nothing is refused.
    An item, or a collection of items, is a ``.json`` file or address; a search is ``stac+https://api``.
    Scenes whose names are equal, also but for case, are refused: one would overwrite the other.

    Args:
        inputs: They.
        allow_vrt: Take virtual rasters.
        may_be_empty: Take folders, globs and searches without a scene.
        search: What is searched of STAC APIs, and which assets of items are taken.
        option: The name of the setting that they are given by, with which messages begin.
        out: Where the results go: what earlier runs have written there is no scene of folders and globs.

    Raises:
        ConfigError: An input matches nothing; a folder, a glob or a search only without ``may_be_empty``.
        ReadError: A STAC API does not answer as one.
    """
    lister = _Lister(allow_vrt=allow_vrt, may_be_empty=may_be_empty, search=search or StacSearch(), out=out)
    try:
        for text in inputs:
            lister.add(text)
    except ConfigError as error:
        if option == INPUTS:
            raise
        raise ConfigError(f"{option}: {str(error).removeprefix(f'{INPUTS}: ')}") from error
    if not (lister.scenes or lister.refused or may_be_empty):
        raise ConfigError(f"{option}: {', '.join(map(shown, inputs))}: no scene; a list that names other lists alone has none")
    unique = list({ref.paths: ref for ref in lister.scenes}.values())
    scenes, refused = without_equal_names(unique)
    return scenes, lister.refused + refused


def scenes_of_addresses(addresses: Sequence[str], prefix: str) -> list[SceneRef]:
    """The GeoTIFFs among the objects of a store, band files grouped; names mirror what follows the prefix."""
    rasters = [address for address in addresses if address.lower().endswith(TIFFS)]
    base = prefix.rstrip("/") + "/"
    groups, single = group_band_files(rasters)
    named = [(f"{scene}.", tuple(paths), tuple(names)) for scene, paths, names in groups] + [(a, (a,), ()) for a in single]
    refs = [SceneRef(scene_name(os.path.splitext(text.removeprefix(base))[0]), paths, names) for text, paths, names in named]
    return sorted(refs, key=lambda ref: ref.name)


class _Lister:
    """Gathers scenes, and what is refused, of one input after the other."""

    def __init__(self, *, allow_vrt: bool, may_be_empty: bool, search: StacSearch, out: str | Path | None) -> None:
        self.scenes: list[SceneRef] = []
        self.refused: list[Refused] = []
        self._allow_vrt, self._may_be_empty, self._search = allow_vrt, may_be_empty, search
        self._lists: set[str] = set()
        self._own = None if out is None else OwnOutput.of(out)

    def add(self, text: str) -> None:
        """Take an input.

        Raises:
            ConfigError: It names nothing.
        """
        if "\0" in text:
            raise ConfigError(f"inputs: {text!r}: holds a NUL byte, which no path has")
        suffix = os.path.splitext(text.rstrip("/"))[1].lower()
        if text.startswith(STAC):
            self._add_stac(text, *search_stac(text.removeprefix(STAC), self._search))
        elif not is_remote(text) and (product := product_at(text)) is not None:
            # Metadata of a product may be a JSON document, too.
            self._add_files([Entry(product, is_product=True)], os.path.dirname(os.path.abspath(product)), asked=True)
        elif (name := product_name(text)) is not None:
            self.scenes.append(SceneRef(folder_name(name), (text,)))
        elif is_document(text) and (is_remote(text) or os.path.isfile(text)):
            self._add_document(text)
        elif is_remote(text):
            self.scenes += _named([text], "")
        elif os.path.isdir(text) and suffix not in RASTERS:
            self._add_folder(Path(text))
        elif suffix in LISTS and os.path.isfile(text):
            self._add_list(Path(text))
        elif os.path.lexists(text):
            self._add_files([Entry(text)], str(Path(text).parent), asked=True)
        elif (why := opens_elsewhere(text)) is not None:
            raise ConfigError(f"inputs: {shown(text)}: {why}; give a file, a folder or an address")
        elif glob.has_magic(text):
            self._add_glob(text)
        else:
            raise ConfigError(f"inputs: {text}: no such file or folder")

    def _add_document(self, place: str) -> None:
        """The scenes of an item, or of a collection of items; one on a server that does not answer is refused alone."""
        try:
            found = scenes_of_document(place, self._search)
        except ReadError as error:
            self.refused.append(Refused(shown(place), (place,), "failed", str(error)))
        else:
            self._add_stac(place, *found)

    def _add_stac(self, place: str, scenes: Sequence[StacScene], refused: Sequence[Refused]) -> None:
        if not scenes and not refused and not self._may_be_empty:
            most = self._search.max_cloud_cover
            clear = "" if most is None else f" with at most {most:g} % of clouds ({setting('max_cloud_cover')})"
            raise ConfigError(f"inputs: {shown(place)}: no item{clear}; widen what is searched")
        self.scenes += [scene.ref for scene in scenes]
        self.refused += refused

    def _add_folder(self, folder: Path) -> None:
        before = len(self.scenes), len(self.refused)
        self._add_files(files_below(str(folder), self._own), str(folder))
        if (len(self.scenes), len(self.refused)) == before and not self._may_be_empty:
            if is_result(str(folder)):
                raise ConfigError(f"inputs: {folder}: holds a map of geoseg, and no scene; to map a file of it, name the file")
            raise ConfigError(f"inputs: {folder}: no raster in this folder that is accepted. Accepted: {accepted_formats()}")

    def _add_glob(self, pattern: str) -> None:
        matches = sorted(match for match in glob.glob(pattern, recursive=True) if not os.path.isdir(match))
        if not matches and not self._may_be_empty:
            raise ConfigError(f"inputs: {pattern!r} matches no file")
        base, own = os.path.dirname(_fixed_part(pattern)), self._own
        if own is not None:
            matches = [match for match in matches if not own.has_file(os.path.realpath(match), os.path.realpath(base))]
        self._add_files(map(Entry, matches), base)

    def _add_list(self, path: Path) -> None:
        """The entries of a list file, each on its own; a list that was read already adds nothing."""
        if (real := os.path.realpath(path)) in self._lists:
            return
        self._lists.add(real)
        entries = lines_of_list(path)
        if not entries and not self._may_be_empty:
            raise ConfigError(f"inputs: {path}: the list is empty")
        for entry in entries:
            try:
                self._add_entry(entry, path.parent)
            except ConfigError as error:
                reason = f"{path}: {str(error).removeprefix('inputs: ')}"
                self.refused.append(Refused(shown(entry[:MAX_ENTRY]), (entry,), "failed", reason))

    def _add_entry(self, entry: str, folder: Path) -> None:
        if len(entry) > MAX_ENTRY:
            raise ConfigError(f"{entry[:60]}…: has {len(entry):,} characters; a path or an address has {MAX_ENTRY:,} at most")
        # With its folder before it, nothing that begins like an order to GDAL does so any more.
        inner = _entry_of(entry, folder)
        if not entry.startswith(STAC) and (why := opens_elsewhere(entry)) is not None and not os.path.isfile(inner):
            raise ConfigError(f"{shown(entry)}: {why}; a list file holds paths and addresses")
        self.add(inner)

    def _add_files(self, entries: Iterable[Entry], base: str, *, asked: bool = False) -> None:
        """Accepted files as scenes; files of other raster formats, and what is no file, with the reason.

        Args:
            entries: The files.
            base: Their names are mirrored from here.
            asked: Whether they were named by themselves, so that their ending does not matter.
        """
        accepted, products = [], []
        for entry in entries:
            suffix = os.path.splitext(entry.path)[1].lower()
            wanted = asked or suffix in RASTERS or (suffix == ".vrt" and self._allow_vrt)
            name_says = None if asked else why_not(entry.path)
            if name_says is not None and (wanted or not os.path.basename(entry.path).startswith((".", "~$"))):
                self._refuse(entry.path, name_says, "skipped")
            elif entry.reason is not None and (wanted or entry.is_folder):
                self._refuse(entry.path, entry.reason, entry.status)
            elif entry.is_product or (not asked and is_product(entry.path)):
                products.append(entry.path)
            elif wanted and entry.reason is None:
                if (problem := _problem(entry.path)) is not None:
                    self._refuse(entry.path, problem, "failed")
                else:
                    accepted.append(entry.path)
            elif suffix in NOT_ACCEPTED or suffix == ".vrt":
                self._refuse(entry.path, f"{suffix} is not accepted. Accepted: {accepted_formats()}", "skipped")
        self.scenes += [SceneRef(_name_of_product(path, base), (path,)) for path in products] + _named(accepted, base)

    def _refuse(self, path: str, reason: str, status: str) -> None:
        self.refused.append(Refused(shown(path), (path,), status, f"{shown(path)}: {reason}"))


def _problem(path: str) -> str | None:
    """Why a file can't be opened, as far as its name and its kind say."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8, so that GDAL can't open it; rename it"
    try:
        kind = kind_of_file(path)
    except (OSError, ValueError):
        # Whoever opens it says what is wrong.
        return None
    return None if kind is None else f"{kind}, not a file"


def _fixed_part(pattern: str) -> str:
    """The leading folders of a glob that hold no wildcard, with a trailing separator."""
    fixed = takewhile(lambda part: not glob.has_magic(part), pattern.split(os.sep)[:-1])
    return os.sep.join([*fixed, ""])


def list_entries(path: Path) -> list[str]:
    """Entries of a list file: paths, relative ones taken from its folder, and addresses.

    Raises:
        ConfigError: It can't be read, is too large, or is no text.
    """
    return [_entry_of(line, path.parent) for line in lines_of_list(path)]


def _entry_of(line: str, folder: Path) -> str:
    return line if is_remote(line.removeprefix(STAC)) or os.path.isabs(line) else os.path.join(folder, line)


def _named(files: Sequence[str], base: str) -> list[SceneRef]:
    groups, single = group_band_files(files)
    refs = [SceneRef(_name(f"{scene}.", base), tuple(paths), tuple(names)) for scene, paths, names in groups]
    return refs + [SceneRef(_name(file, base), (file,)) for file in single]


def _name_of_product(path: str, base: str) -> str:
    """The name of a product's scene: that of the product, below the folders that it lies in."""
    return _name(os.path.join(os.path.dirname(os.path.abspath(path)), name_of(path) + "."), os.path.abspath(base or "."))


def _name(path: str, base: str) -> str:
    """The name of a scene: the path below the base without its extension; of an address, the last part of its path."""
    if is_remote(path):
        # A separator that is written as %2F is part of the name.
        relative = unquote(os.path.basename(path_of(path))).replace("/", "\\") or "scene"
    else:
        relative = os.path.relpath(path, base or ".")
        if relative.startswith(os.pardir + os.sep):
            relative = os.path.basename(path)
    return scene_name(os.path.splitext(relative)[0])

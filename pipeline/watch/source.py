"""Sources of scenes: folders and globs, prefixes of object stores, and searches of a STAC API."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from geoseg.addresses import is_remote, shown, unsigned
from geoseg.errors import ConfigError, ReadError, SceneError
from geoseg.redaction import cause_of
from geoseg.scenes.products.recognizing import files_of
from geoseg.scenes.refs import without_equal_names
from geoseg.scenes.sources import STAC, Refused, SceneRef, list_scenes, scenes_of_addresses
from geoseg.scenes.stac.items import search_stac
from geoseg.transient import passing
from pipeline.config.sections import Config
from pipeline.plan.options import stac_search

if TYPE_CHECKING:
    from obstore.store import RetryConfig

__all__ = ["Found", "list_source"]

RETRIES: RetryConfig = {"max_retries": 4, "retry_timeout": timedelta(seconds=60)}
VISUAL = ("visual",)
"""The asset that a watch takes where none is named."""


@dataclass(frozen=True, slots=True)
class Found:
    """A scene at its source."""

    ref: SceneRef
    version: str
    """Changes when one of its files does."""
    modified: float | None = None
    """When the last of its files was changed, in seconds since 1970; None where files appear whole."""
    acquired: str | None = None
    """Acquisition date, where the source knows it."""
    marked: bool = True
    """Whether its marker lies beside it, where one is asked for."""
    area: str | None = None
    """Of several areas of interest, the digest of the one that is mapped."""

    def key(self, made_with: str) -> str:
        """Key of all that it is mapped with: of the model and the settings, and its area of interest where there are several."""
        return made_with if self.area is None else f"{made_with}:{self.area}"


def list_source(sources: Sequence[str], config: Config, out: Path | None = None) -> tuple[list[Found], list[Refused]]:
    """The scenes of folders, globs, files, list files, addresses, ``s3://bucket/prefix/`` and ``stac+https://api``.

    Nothing is opened; an empty folder is no error: something may come. Scenes whose names are equal are refused, whichever
    source they come from. What earlier runs have written to ``out`` is no scene.

    Raises:
        ConfigError: A source can't be listed as it is written.
        ReadError: A server does not answer.
    """
    found: list[Found] = []
    refused: list[Refused] = []
    search = replace(stac_search(config), assets=VISUAL if config.stac.assets is None else config.stac.assets)
    local = []
    for source in sources:
        if source.startswith(STAC):
            scenes, odd = search_stac(source.removeprefix(STAC), search)
            found += [Found(scene.ref, scene.version, acquired=scene.acquired) for scene in scenes]
            refused += odd
        elif is_remote(source) and source.endswith("/"):
            found += _list_prefix(source, config)
        else:
            local.append(source)
    if local:
        listed, odd = list_scenes(local, allow_vrt=config.scene.allow_vrt, may_be_empty=True, search=search, out=out)
        found += [item for ref in listed if (item := _local(ref, config.watch.done_marker)) is not None]
        refused += odd
    # What two sources give alike is one scene.
    once = {(item.ref.name, *map(unsigned, item.ref.paths)): item for item in found}
    own, same = without_equal_names([item.ref for item in once.values()])
    kept = {ref.name for ref in own}
    return [item for item in once.values() if item.ref.name in kept], refused + same


def _local(ref: SceneRef, marker: str | None) -> Found | None:
    """State of local files; None where one has gone since it was listed."""
    acquired = None if ref.told is None else ref.told.acquired
    if is_remote(ref.paths[0]):
        return Found(ref, "address", acquired=acquired)
    facts, modified = [], 0.0
    try:
        files = [file for path in ref.paths for file in files_of(path)]
        stats = [os.stat(file) for file in files]
    except (OSError, SceneError):
        return None
    for stat in stats:
        facts.append(f"{stat.st_size}:{stat.st_mtime_ns}")
        modified = max(modified, stat.st_mtime)
    marked = marker is None or all(os.path.exists(path + marker) for path in ref.paths)
    return Found(ref, " ".join(facts), modified, acquired=acquired, marked=marked)


def _list_prefix(prefix: str, config: Config) -> Iterator[Found]:
    """Objects of a store; credentials and endpoints come from the environment, as for GDAL."""
    try:
        import obstore
        from obstore.exceptions import BaseError
        from obstore.store import from_url
    except ImportError as error:
        raise ConfigError(f"source: {shown(prefix)}: listing a bucket needs obstore; pip install 'geoseg[cloud]'") from error
    parts = urlsplit(prefix)
    if parts.scheme in ("http", "https"):
        raise ConfigError(f"source: {shown(prefix)}: a web server has no list of files; give addresses, or a list file of them")
    base, folder = f"{parts.scheme}://{parts.netloc}", parts.path.strip("/")
    try:
        store = from_url(
            base, client_options={"allow_http": True, "timeout": "60s", "connect_timeout": "10s"}, retry_config=RETRIES
        )
        listed = [meta for page in obstore.list(store, prefix=folder or None) for meta in page]
    except (BaseError, OSError, ValueError) as error:
        raise passing(ReadError(f"{shown(prefix)}: can't be listed: {cause_of(error, prefix)}")) from error
    by_path = {f"{base}/{meta['path']}": meta for meta in listed}
    marker = config.watch.done_marker
    for ref in scenes_of_addresses(sorted(by_path), prefix):
        metas = [by_path[path] for path in ref.paths]
        version = " ".join(str(m.get("e_tag") or f"{m['size']}:{m['last_modified'].isoformat()}") for m in metas)
        # Objects appear whole, so that there is nothing to wait for.
        yield Found(ref, version, marked=marker is None or all(path + marker in by_path for path in ref.paths))

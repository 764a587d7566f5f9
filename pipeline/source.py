"""Where scenes come from: folders and globs, prefixes of object stores, and searches of a STAC API."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from geoseg.errors import ConfigError, ReadError
from geoseg.scenes.remote import is_remote, shown
from geoseg.scenes.sources import Refused, SceneRef, list_scenes, scenes_of_addresses
from geoseg.transient import passing
from pipeline.config import Config, StacConfig
from pipeline.outcome import first_line

if TYPE_CHECKING:
    import pystac

__all__ = ["STAC", "Found", "list_source"]

TIMEOUT_S = 30.0
"""Longest wait for a STAC API to connect, and for its next bytes."""
RETRIES: Any = {"max_retries": 4, "retry_timeout": timedelta(seconds=60)}
STAC = "stac+"
"""Sources that start with this are STAC APIs."""


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


def list_source(sources: Sequence[str], config: Config) -> tuple[list[Found], list[Refused]]:
    """The scenes of folders, globs, files, list files, addresses, ``s3://bucket/prefix/`` and ``stac+https://api``.

    Nothing is opened; an empty folder is no error: something may come.

    Raises:
        ConfigError: A source can't be listed as it is written.
        ReadError: A server does not answer.
    """
    found: list[Found] = []
    refused: list[Refused] = []
    local = []
    for source in sources:
        if source.startswith(STAC):
            found += _search(source.removeprefix(STAC), config.stac)
        elif is_remote(source) and source.endswith("/"):
            found += _list_prefix(source, config)
        else:
            local.append(source)
    if local:
        scenes, refused = list_scenes(local, allow_vrt=config.scene.allow_vrt, may_be_empty=True)
        found += [item for ref in scenes if (item := _local(ref, config.watch.done_marker)) is not None]
    return found, refused


def _local(ref: SceneRef, marker: str | None) -> Found | None:
    """State of local files; None where one has gone since it was listed."""
    if is_remote(ref.paths[0]):
        return Found(ref, "address")
    facts, modified = [], 0.0
    for path in ref.paths:
        try:
            stat = os.stat(path)
        except OSError:
            return None
        facts.append(f"{stat.st_size}:{stat.st_mtime_ns}")
        modified = max(modified, stat.st_mtime)
    marked = marker is None or all(os.path.exists(path + marker) for path in ref.paths)
    return Found(ref, " ".join(facts), modified, marked=marked)


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
        store: Any = from_url(
            base, client_options={"allow_http": True, "timeout": "60s", "connect_timeout": "10s"}, retry_config=RETRIES
        )
        listed = [meta for page in obstore.list(store, prefix=folder or None) for meta in page]
    except (BaseError, OSError, ValueError) as error:
        raise passing(ReadError(f"{shown(prefix)}: can't be listed: {first_line(error)}")) from error
    by_path = {f"{base}/{meta['path']}": meta for meta in listed}
    marker = config.watch.done_marker
    for ref in scenes_of_addresses(sorted(by_path), prefix):
        metas = [by_path[path] for path in ref.paths]
        version = " ".join(str(m.get("e_tag") or f"{m['size']}:{m['last_modified'].isoformat()}") for m in metas)
        # Objects appear whole, so that there is nothing to wait for.
        yield Found(ref, version, marked=marker is None or all(path + marker in by_path for path in ref.paths))


def _search(url: str, stac: StacConfig) -> Iterator[Found]:
    try:
        from pystac_client import Client
        from pystac_client.exceptions import APIError
    except ImportError as error:
        raise ConfigError(f"source: {STAC}{shown(url)}: needs pystac-client; pip install 'geoseg[cloud]'") from error
    try:
        search = Client.open(url, timeout=TIMEOUT_S).search(
            collections=list(stac.collections) or None, bbox=stac.bbox, datetime=stac.datetime, max_items=stac.max_items
        )
        items = sorted(search.items(), key=lambda item: item.id)
    except (APIError, OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise passing(ReadError(f"{shown(url)}: the STAC search failed: {first_line(error)}")) from error
    yield from _scenes_of_items(items, stac)


def _scenes_of_items(items: Iterable[pystac.Item], stac: StacConfig) -> Iterator[Found]:
    for item in items:
        # Not all servers can compare properties, so that this is done here.
        clouds = item.properties.get("eo:cloud_cover")
        if stac.max_cloud_cover is not None and (clouds is None or clouds > stac.max_cloud_cover):
            continue
        missing = [name for name in stac.assets if name not in item.assets]
        if missing:
            raise ConfigError(
                f"stac.assets: item {item.id} has no asset {', '.join(missing)}; it has {', '.join(sorted(item.assets)) or 'none'}"
            )
        paths = tuple(item.assets[name].get_absolute_href() or item.assets[name].href for name in stac.assets)
        names = stac.assets if len(paths) > 1 else ()
        acquired = item.datetime.isoformat() if item.datetime else item.properties.get("start_datetime")
        changed = item.properties.get("updated") or item.properties.get("created") or ""
        name = item.id.replace("/", "_")
        # Addresses are signed anew at each search; what they name is the same.
        yield Found(SceneRef(name, paths, names), f"{changed} {' '.join(map(shown, paths))}", acquired=acquired)

"""Scenes of a STAC API: what its items say is checked one by one, for anybody may have written it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from geoseg.addresses import is_remote, opens_elsewhere, shown, unsigned
from geoseg.errors import ConfigError, GeosegError, ReadError
from geoseg.redaction import cause_of
from geoseg.scenes.names import folder_name
from geoseg.scenes.sources import Refused, SceneRef
from geoseg.transient import passing
from pipeline.config.sections import StacConfig

if TYPE_CHECKING:
    from pystac_client.stac_api_io import StacApiIO

__all__ = ["StacScene", "scenes_of_items", "search_stac"]

TIMEOUT_S = 30.0
"""Longest wait for a STAC API to connect, and for its next bytes."""


@dataclass(frozen=True, slots=True)
class StacScene:
    """A scene that an item describes."""

    ref: SceneRef
    version: str
    """Changes when the item does, not when its addresses are signed anew."""
    acquired: str | None
    """Acquisition, ISO 8601, where the item says it."""


class _Unfit(GeosegError, ValueError):  # noqa: N818 - it is caught where it arises
    """An item can't be a scene."""


class _NoAsset(_Unfit):
    """It lacks an asset that is asked for."""


def search_stac(url: str, stac: StacConfig) -> tuple[list[StacScene], list[Refused]]:
    """The scenes of a search, and the items that can't be one.

    Raises:
        ConfigError: pystac-client is not there, or no item has the assets asked for.
        ReadError: The server does not answer as a STAC API does.
    """
    try:
        from pystac.errors import STACError
        from pystac_client import Client
        from pystac_client.exceptions import APIError
    except ImportError as error:
        raise ConfigError(f"source: stac+{shown(url)}: needs pystac-client; pip install 'geoseg[cloud]'") from error
    if not is_remote(url) and opens_elsewhere(url) is not None:
        raise ConfigError(f"source: stac+{shown(url)}: {opens_elsewhere(url)}; give the https address of an API")
    try:
        search = Client.open(url, stac_io=_io(url)).search(
            collections=list(stac.collections) or None, bbox=stac.bbox, datetime=stac.datetime, max_items=stac.max_items
        )
        items = list(search.items_as_dicts())
    except (APIError, STACError, OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise passing(ReadError(f"{shown(url)}: the STAC search failed: {cause_of(error, url)}")) from error
    return scenes_of_items(items, url, stac)


def _io(url: str) -> StacApiIO:
    """The reader of the search; a catalogue on a server leads to servers only, whatever its links say."""
    from pystac_client.stac_api_io import StacApiIO

    class RemoteOnly(StacApiIO):
        def read_text(self, source: str | os.PathLike[str], *args: object, **kwargs: object) -> str:
            href = str(getattr(source, "href", source))
            if not href.lower().startswith(("http://", "https://")):
                raise ReadError(f"{shown(url)}: one of its links leads to {shown(href)}, which is not on a server")
            text: str = super().read_text(source, *args, **kwargs)
            return text

    return RemoteOnly(timeout=TIMEOUT_S) if is_remote(url) else StacApiIO(timeout=TIMEOUT_S)


def scenes_of_items(items: Iterable[object], url: str, stac: StacConfig) -> tuple[list[StacScene], list[Refused]]:
    """The scenes of STAC items in the order of their names, and the items that can't be one.

    The same item twice is one scene. Addresses are resolved against the item's own, and lead to servers and object stores
    only, unless the catalogue is a local file.

    Args:
        items: The items as JSON.
        url: Address of the catalogue.
        stac: What is searched.

    Raises:
        ConfigError: No item has the assets asked for.
    """
    scenes: dict[tuple[str, ...], StacScene] = {}
    refused, missing, whole = [], "", False
    for number, item in enumerate(items):
        facts: Mapping[str, object] = item if isinstance(item, dict) else {}
        label = facts.get("id")
        try:
            properties = _table(facts, "properties")
            # Not all servers can compare properties, so that this is done here.
            if not _clear_enough(properties.get("eo:cloud_cover"), stac):
                continue
            _check_assets(facts, stac)
            whole = True
            scene = _scene_of(facts, url, stac)
        except _Unfit as error:
            missing = missing or (str(error) if isinstance(error, _NoAsset) else "")
            name = str(label) if label is not None else f"item {number}"
            refused.append(Refused(name, (), "failed", f"{shown(url)}: {error}"))
            continue
        scenes[(scene.ref.name, *map(unsigned, scene.ref.paths))] = scene
    if missing and not whole:
        raise ConfigError(f"stac.assets: {missing}")
    return sorted(scenes.values(), key=lambda scene: scene.ref.name), refused


def _check_assets(item: Mapping[str, object], stac: StacConfig) -> None:
    found = _table(item, "assets")
    lacks = [name for name in stac.assets if name not in found]
    if lacks:
        raise _NoAsset(f"item {item.get('id')} has no asset {', '.join(lacks)}; it has {', '.join(sorted(found)) or 'none'}")


def _scene_of(item: Mapping[str, object], url: str, stac: StacConfig) -> StacScene:
    label, properties, assets = item.get("id"), _table(item, "properties"), _table(item, "assets")
    if not isinstance(label, str) or not label:
        raise _Unfit(f"an item whose id is {label!r}, which is no text")
    base = _own_address(item)
    paths = tuple(_address(assets[name], label, base, url) for name in stac.assets)
    names = stac.assets if len(paths) > 1 else ()
    changed = properties.get("updated") or properties.get("created") or ""
    # Addresses stand in the ledger as a digest: what is secret in them can't be known in all cases.
    version = hashlib.sha256(" ".join(map(unsigned, paths)).encode("utf-8", "surrogatepass")).hexdigest()[:16]
    acquired = _moment(properties.get("datetime")) or _moment(properties.get("start_datetime"))
    return StacScene(SceneRef(folder_name(label), paths, names), f"{str(changed)[:64]} {version}", acquired)


def _table(item: Mapping[str, object], key: str) -> Mapping[str, object]:
    found = item.get(key)
    if not isinstance(found, dict):
        raise _Unfit(f"an item without {key} is no STAC item")
    return found


def _clear_enough(clouds: object, stac: StacConfig) -> bool:
    if stac.max_cloud_cover is None:
        return True
    return isinstance(clouds, int | float) and clouds <= stac.max_cloud_cover


def _own_address(item: Mapping[str, object]) -> str | None:
    """The address of an item, which its relative addresses start from."""
    links = item.get("links")
    own = (
        [link.get("href") for link in links if isinstance(link, dict) and link.get("rel") == "self"]
        if isinstance(links, list)
        else []
    )
    return next((href for href in own if isinstance(href, str)), None)


def _address(asset: object, label: str, base: str | None, url: str) -> str:
    """The address of an asset, on a server unless the catalogue is local."""
    href = asset.get("href") if isinstance(asset, dict) else None
    if not isinstance(href, str) or not href.strip() or "\0" in href:
        raise _Unfit(f"item {label} has an asset without an address")
    href = href.strip()
    if is_remote(href):
        return href
    if (why := opens_elsewhere(href)) is not None and not (href.lower().startswith("file://") and not is_remote(url)):
        raise _Unfit(f"item {label}: {shown(href)}: {why}")
    if not is_remote(url):
        return _local(href, base or url)
    if base is None or not is_remote(base):
        raise _Unfit(f"item {label}: {href}: a path, but the item is on a server and does not say its own address")
    try:
        found = urljoin(base, href)
    except ValueError:
        found = ""
    if not is_remote(found):
        raise _Unfit(f"item {label}: {href}: is no address that can be resolved against the item's own")
    return found


def _local(href: str, base: str) -> str:
    """A path that an item of a local catalogue names."""
    path = urlsplit(href).path if href.lower().startswith("file://") else href
    return os.path.join(os.path.dirname(base), path)


def _moment(text: object) -> str | None:
    """A time as ISO 8601; None where it is none."""
    try:
        return datetime.fromisoformat(text).isoformat() if isinstance(text, str) else None
    except ValueError:
        return None

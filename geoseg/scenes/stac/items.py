"""Scenes of STAC items: what they say is checked one by one, for anybody may have written it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from geoseg.addresses import is_remote, shown, unsigned
from geoseg.dialect import setting
from geoseg.documents import read_json, uncollected
from geoseg.errors import ConfigError, DocumentError, ReadError
from geoseg.scenes.acquired import iso_date
from geoseg.scenes.names import folder_name
from geoseg.scenes.refs import Refused, SceneRef
from geoseg.scenes.stac.assets import NoAssetError
from geoseg.scenes.stac.choices import Choice, Forms
from geoseg.scenes.stac.fetch import fetch
from geoseg.scenes.stac.hrefs import UnfitError, own_address, resolved
from geoseg.scenes.stac.item_table import is_table, items_of_table
from geoseg.scenes.stac.search import StacSearch, found_items
from geoseg.scenes.stac.told import Told, ToldBand, ToldFile, ToldQuality

__all__ = ["StacScene", "scenes_of_document", "scenes_of_items", "search_stac"]

MAX_TEXT = 200
"""Characters of names that an item gives, as of a platform."""
MAX_SIDE = 1 << 31


@dataclass(frozen=True, slots=True)
class StacScene:
    """A scene that an item describes."""

    ref: SceneRef
    version: str
    """Changes when the item does, not when its addresses are signed anew."""
    acquired: str | None
    """Acquisition, ISO 8601, where the item says it."""


def search_stac(url: str, search: StacSearch) -> tuple[list[StacScene], list[Refused]]:
    """The scenes of a search, and the items that can't be one.

    Raises:
        ConfigError: The address is none, or no item has the assets asked for.
        ReadError: The server does not answer as a STAC API does.
    """
    # What a search gives comes from a server, whatever the file is that says where it is.
    return scenes_of_items(found_items(url, search), url, search, local=False)


def scenes_of_document(place: str, search: StacSearch) -> tuple[list[StacScene], list[Refused]]:
    """The scenes of an item, or of a collection of items, in a file or at an address; of a table of items, those searched for.

    Raises:
        ConfigError: It is neither, or none of its items has the assets asked for.
        ReadError: The server does not answer with a document.
    """
    local = not is_remote(place)
    if is_table(place):
        return scenes_of_items(items_of_table(place, search), place, search, local=local)
    try:
        found, place = (read_json(Path(place)), place) if local else (fetch(place).document, place)
    except OSError as error:
        if isinstance(error, ReadError):
            raise
        raise ConfigError(f"inputs: {place}: can't be read: {error.strerror}") from error
    except DocumentError as error:
        raise ConfigError(f"inputs: {error}") from error
    kind = found.get("type") if isinstance(found, dict) else None
    features = found.get("features") if kind == "FeatureCollection" else None
    if kind == "Feature":
        # A copy of an item lies where it was put: its own words on that may be those of the original.
        # It was named, however cloudy it is.
        return scenes_of_items([found], place, replace(search, max_cloud_cover=None), local=local, base=place)
    if isinstance(features, list):
        return scenes_of_items(features, place, search, local=local)
    if kind in ("Catalog", "Collection"):
        options = f"{setting('collections')}, {setting('bbox')} and {setting('datetime')}"
        how = f"give an item of it, or search its API: stac+https://… with {options}"
        raise ConfigError(f"inputs: {shown(place)}: a STAC {str(kind).lower()}, which is no scene; {how}")
    raise ConfigError(f"inputs: {shown(place)}: neither a STAC item nor a collection of items (type {str(kind)[:40]!r})")


def scenes_of_items(
    items: Iterable[object], url: str, search: StacSearch, *, local: bool, base: str | None = None
) -> tuple[list[StacScene], list[Refused]]:
    """The scenes of STAC items in the order of their names, and the items that can't be one.

    The same item twice is one scene. Addresses are resolved against the item's own, and lead to servers and object stores
    only, unless the catalogue is a local file.

    Args:
        items: The items as JSON.
        url: Address of the catalogue.
        search: What is taken of them.
        local: Whether the catalogue is a local file.
        base: The items' own address; by default, what they say it is, else that of the catalogue.

    Raises:
        ConfigError: No item has the assets asked for.
    """
    scenes: dict[tuple[str, str], StacScene] = {}
    forms = Forms(search.assets, search.bands)
    refused, missing = [], ""
    with uncollected:
        for number, item in enumerate(items):
            facts: Mapping[str, object] = item if isinstance(item, dict) else {}
            try:
                scene = _taken(facts, base, url, search, forms, local=local)
            except UnfitError as error:
                missing = missing or (str(error) if isinstance(error, NoAssetError) else "")
                label = facts.get("id")
                name = str(label) if label is not None else f"item {number}"
                refused.append(Refused(name, (), "failed", f"{shown(url)}: {error}"))
                continue
            if scene is not None:
                scenes[scene.ref.name, scene.version.rpartition(" ")[2]] = scene
    if missing and not forms.any_chosen:
        raise ConfigError(f"stac.assets: {missing}")
    return sorted(scenes.values(), key=lambda scene: scene.ref.name), refused


def _taken(
    item: Mapping[str, object], base: str | None, url: str, search: StacSearch, forms: Forms, *, local: bool
) -> StacScene | None:
    """The scene of an item; None where there are too many clouds."""
    properties = _table(item, "properties")
    # Not all servers can compare properties, so that this is done here.
    if not _clear_enough(properties.get("eo:cloud_cover"), search):
        return None
    choice = forms.of(item, _table(item, "assets"))
    own = base or own_address(item) or (url if local else None)
    return _scene_of(item, own, choice, local=local)


def _scene_of(item: Mapping[str, object], base: str | None, choice: Choice, *, local: bool) -> StacScene:
    label, properties, assets = item.get("id"), _table(item, "properties"), _table(item, "assets")
    if not isinstance(label, str) or not label:
        raise UnfitError(f"an item whose id is {label!r}, which is no text")
    chosen = choice.chosen
    paths = tuple(resolved(assets[one.name], label, base, local=local) for one in chosen)
    names = tuple(one.band for one in chosen if one.band is not None) if len(paths) > 1 else ()
    changed = properties.get("updated") or properties.get("created") or ""
    # Addresses stand in the ledger as a digest: what is secret in them can't be known in all cases.
    version = hashlib.sha256(" ".join(map(unsigned, paths)).encode("utf-8", "surrogatepass")).hexdigest()[:16]
    acquired = _moment(properties.get("datetime")) or _moment(properties.get("start_datetime"))
    clouds = properties.get("eo:cloud_cover")
    told = Told(
        files=tuple(_file(properties, _table(assets, one.name), own) for one, own in zip(chosen, choice.bands, strict=True)),
        acquired=None if acquired is None else iso_date(acquired),
        platform=_text(properties.get("platform")),
        cloud_cover=float(clouds) if isinstance(clouds, int | float) and _is_number(clouds) else None,
        collection=_text(item.get("collection")),
        quality=tuple(_quality(choice, assets, label, base, local=local)),
    )
    return StacScene(SceneRef(folder_name(label), paths, names, told=told), f"{str(changed)[:64]} {version}", acquired)


def _quality(choice: Choice, assets: Mapping[str, object], label: str, base: str | None, *, local: bool) -> Iterator[ToldQuality]:
    """The quality layers of an item; those without an address that can be opened are none."""
    for kind, name in choice.quality:
        with suppress(UnfitError):
            yield ToldQuality(kind, resolved(assets[name], label, base, local=local))


def _file(properties: Mapping[str, object], asset: Mapping[str, object], bands: tuple[ToldBand, ...]) -> ToldFile:
    """What is told of a file by the projection extension, at the asset or, for all of them, at the item."""

    def fact(key: str) -> object:
        return asset[key] if key in asset else properties.get(key)

    shape, transform = fact("proj:shape"), fact("proj:transform")
    code, number = fact("proj:code"), fact("proj:epsg")
    sides = tuple(shape) if isinstance(shape, list) else ()
    values = tuple(transform) if isinstance(transform, list) else ()
    return ToldFile(
        bands=bands,
        shape=sides if len(sides) == 2 and all(_is_side(side) for side in sides) else None,
        transform=_transform(values),
        crs=_text(code) or (f"EPSG:{number}" if isinstance(number, int) and not isinstance(number, bool) else None),
    )


def _transform(values: Sequence[object]) -> tuple[float, float, float, float, float, float] | None:
    """The first six of six or nine numbers."""
    numbers = [float(value) for value in values if isinstance(value, int | float) and _is_number(value)]
    if len(values) not in (6, 9) or len(numbers) != len(values):
        return None
    a, b, c, d, e, f = numbers[:6]
    return a, b, c, d, e, f


def _table(item: Mapping[str, object], key: str) -> Mapping[str, object]:
    found = item.get(key)
    if not isinstance(found, dict):
        raise UnfitError(f"an item without {key} is no STAC item")
    return found


def _clear_enough(clouds: object, search: StacSearch) -> bool:
    if search.max_cloud_cover is None:
        return True
    return isinstance(clouds, int | float) and clouds <= search.max_cloud_cover


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_side(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < MAX_SIDE


def _text(value: object) -> str | None:
    return value[:MAX_TEXT] or None if isinstance(value, str) else None


def _moment(text: object) -> str | None:
    """A time as ISO 8601; None where it is none."""
    try:
        return datetime.fromisoformat(text).isoformat() if isinstance(text, str) else None
    except ValueError:
        return None

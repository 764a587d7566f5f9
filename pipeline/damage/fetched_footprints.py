"""Footprints by name or address: what of a GeoParquet file lies on the image is fetched once, and kept with where it is from."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from pathlib import Path

import pyproj
import shapely
from affine import Affine

from geoseg.dialect import setting
from geoseg.documents import LARGE, read_json
from geoseg.errors import ConfigError, ReadError
from geoseg.models.card import Card
from geoseg.scenes.opening import open_scene
from geoseg.scenes.remote import is_remote, shown
from geoseg.scenes.scene import Scene
from geoseg.scenes.sources import SceneRef
from geoseg.vectors.geoparquet import shapes_of
from geoseg.vectors.remote_parquet import Box, FoundFeatures, features_in
from pipeline.config.sections import Config
from pipeline.damage.buildings import ID_FIELDS
from pipeline.damage.document import FootprintsEntry
from pipeline.damage.footprints import find_footprints
from pipeline.files.atomic import atomic_path, write_json
from pipeline.plan.options import open_options
from pipeline.segment.progress import Progress

__all__ = ["addresses_of", "footprints_facts", "footprints_for"]

ENVIRONMENT = "GEOSEG_FOOTPRINTS_"
LICENCES = {"overture": "ODbL-1.0", "microsoft": "ODbL-1.0"}
"""Names of sources whose addresses the environment gives, and their licences."""
DAY = re.compile(r"(?<!\d)20\d\d-[01]\d-[0-3]\d(?!\d)")
GEOMETRY = "geometry"


def addresses_of(given: str) -> tuple[str, ...]:
    """The files that footprints come from: a path or an address, or those that the environment has for a name.

    ``GEOSEG_FOOTPRINTS_OVERTURE`` and ``GEOSEG_FOOTPRINTS_MICROSOFT`` hold addresses of GeoParquet files, separated by commas, or
    the path of a ``.txt`` file with one a line.

    Raises:
        ConfigError: The environment has none for the name, or its list can't be read.
    """
    if given not in LICENCES:
        return (given,)
    name = ENVIRONMENT + given.upper()
    text = os.environ.get(name, "").strip()
    if text.endswith(".txt") and not is_remote(text):
        try:
            lines = Path(text).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{name}: {text}: can't be read: {error}") from error
        found = tuple(line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#"))
    else:
        found = tuple(part.strip() for part in text.split(",") if part.strip())
    if not found:
        raise ConfigError(
            f"{setting('footprints', given)}: its address is not known here; set {name} to those of its GeoParquet files, or "
            "give a file or an address"
        )
    return found


def footprints_for(
    ref: SceneRef, given: str | None, finder: str, card: Card, config: Config, out: Path, progress: Progress | None = None
) -> str:
    """The file of footprints of an image: the one that is given, what a name or an address has of it, or what a model finds.

    Args:
        ref: The image before, and after it that after the event.
        given: A file, an address, ``overture`` or ``microsoft``; None for the model.
        finder: The model that finds buildings.
        card: Of the model that grades them, by whose bands images are opened.
        config: The settings.
        out: The output folder.
        progress: Shows how the model goes.

    Raises:
        ConfigError: Nothing can be fetched, or no footprint lies on the image.
        SceneError: The image can't be read.
    """
    if given is None:
        return str(find_footprints(ref, finder, config, out, progress))
    if given not in LICENCES and not is_remote(given):
        return given
    scene = open_scene(ref.paths, ref.name, open_options(config, card), band_names=ref.band_names, told=ref.told)
    path = out / "footprints" / f"{ref.name.replace('/', '_')}.parquet"
    source, addresses = given if given in LICENCES else shown(given), [shown(one) for one in addresses_of(given)]
    box = _box_of(scene)
    known = footprints_facts(path)
    asked = (source, addresses, [*box])
    kept = known is not None and (known["source"], known["addresses"], known["box"]) == asked
    if kept and path.is_file() and not config.run.overwrite:
        return str(path)
    try:
        found = [features_in(one, box, _crs_of(scene), ID_FIELDS) for one in addresses_of(given)]
    except ReadError as error:
        raise ConfigError(f"{setting('footprints')}: {error}") from error
    count = sum(len(one.table) for one in found)
    if not count:
        raise ConfigError(
            f"{setting('footprints')}: none of {', '.join(addresses[:3])} has a footprint on "
            f"{shown(scene.path)}; leave {setting('footprints')} out, so that they are found on the image"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, found)
    entry: FootprintsEntry = {
        "source": source,
        "addresses": addresses,
        "date": _day_of(addresses_of(given), [one.version for one in found]),
        "licence": next((one.licence for one in found if one.licence), LICENCES.get(given)),
        "features": count,
        "row_groups": [sum(one.row_groups[k] for one in found) for k in (0, 1)],
        "box": [*box],
    }
    write_json(_beside(path), entry)
    return str(path)


def footprints_facts(path: Path) -> FootprintsEntry | None:
    """Where fetched footprints are from; None for a file of somebody."""
    beside = _beside(path)
    if path.suffix != ".parquet" or not beside.is_file():
        return None
    found: FootprintsEntry = read_json(beside, limit=LARGE)
    return found if FootprintsEntry.__annotations__.keys() <= found.keys() else None


def _beside(path: Path) -> Path:
    return path.with_suffix(".source.json")


def _crs_of(scene: Scene) -> pyproj.CRS:
    crs = scene.georeference.crs
    if crs is None:
        raise ConfigError(
            f"{shown(scene.path)}: no CRS, so that no footprints are fetched for it; pass {setting('assume_crs', 'EPSG:xxxx')} "
            "if you know it"
        )
    return pyproj.CRS.from_user_input(crs)


def _box_of(scene: Scene) -> Box:
    """Left, bottom, right and top of an image in its CRS."""
    place = scene.georeference
    corners = [Affine(*place.transform) @ (col, row) for col in (0, scene.width) for row in (0, scene.height)]
    x, y = zip(*corners, strict=True)
    return float(min(x)), float(min(y)), float(max(x)), float(max(y))


def _day_of(addresses: Sequence[str], versions: Sequence[str]) -> str | None:
    """The day of the footprints: one that their address names, else that of the file on its server."""
    for address in addresses:
        if (match := DAY.search(address)) is not None:
            return match.group()
    for version in versions:
        try:
            return parsedate_to_datetime(version).date().isoformat()
        except ValueError:
            continue
    return None


def _write(path: Path, found: Sequence[FoundFeatures]) -> None:
    """Write found features as one GeoParquet file, in the CRS of the sources."""
    import json

    import pyarrow as pa
    import pyarrow.parquet as pq

    some = [one for one in found if len(one.table)]
    crs = some[0].column.crs
    if any(one.column.crs != crs for one in some):
        raise ConfigError(f"{setting('footprints')}: its files have several CRS; give them one by one")
    tables = []
    for one in some:
        shapes = [shape for chunk in one.table.column(one.column.name).chunks for shape in shapes_of(chunk, one.column.encoding)]
        columns = {name: one.table.column(name) for name in one.table.column_names if name != one.column.name}
        tables.append(pa.table({**columns, GEOMETRY: pa.array(shapely.to_wkb(shapes).tolist(), pa.binary())}))
    about = {"encoding": "WKB", "geometry_types": [], "crs": crs}
    geo = {"version": "1.1.0", "primary_column": GEOMETRY, "columns": {GEOMETRY: about}}
    whole = pa.concat_tables(tables, promote_options="default")
    with atomic_path(path) as part:
        pq.write_table(whole.replace_schema_metadata({"geo": json.dumps(geo)}), part)

"""Harmonized Landsat Sentinel-2 products (HLS 2.0, L30 and S30): a granule is a folder of GeoTIFFs, whose tags say what it is.

``reflectance = DN * 0.0001``; thermal bands are hundredths of degrees Celsius; -9999 is no data (HLS Product User Guide 2.0).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from geoseg.errors import SceneError
from geoseg.scenes.acquired import iso_date
from geoseg.scenes.bands.bandfiles import SENTINEL2
from geoseg.scenes.gdal import gdal_env, open_dataset
from geoseg.scenes.products.container import Container
from geoseg.scenes.products.image_checks import check_image
from geoseg.scenes.products.product import Product, ProductBand, azimuth, number
from geoseg.scenes.products.product_facts import ProductFacts, QualityKind

__all__ = ["read_hls"]

FILE = re.compile(
    r"(?P<name>HLS\.(?P<sensor>[LS])30\.T\w{5}\.(?P<year>\d{4})(?P<day>\d{3})T(?P<time>\d{6})\.v(?P<version>\d+\.\d+))"
    r"\.(?P<layer>B\d\d|B8A|Fmask)\.tif",
    re.IGNORECASE,
)
LANDSAT = {
    "B01": ("coastal", 0.443),
    "B02": ("blue", 0.482),
    "B03": ("green", 0.561),
    "B04": ("red", 0.655),
    "B05": ("nir", 0.865),
    "B06": ("swir16", 1.609),
    "B07": ("swir22", 2.201),
    "B09": ("cirrus", 1.373),
    "B10": ("thermal", 10.9),
    "B11": ("thermal2", 12.0),
}
CENTRES = (0.4427, 0.4927, 0.5598, 0.6646, 0.7041, 0.7405, 0.7828, 0.8328, 0.8647, 0.9451, 1.3735, 1.6137, 2.2024)
SENTINEL = {band: (role, centre) for (band, role), centre in zip(SENTINEL2.items(), CENTRES, strict=True)}
"""Roles and centres in micrometres."""
SIZE, SCALE, NODATA = 30.0, 0.0001, -9999.0
KELVIN = 273.15


def read_hls(container: Container) -> Product:
    """A granule of HLS, by the names and the tags of its files.

    Raises:
        SceneError: None of its bands can be read.
    """
    files = {match["layer"].upper(): (name, match) for name in container.sizes if (match := FILE.fullmatch(name)) is not None}
    known = LANDSAT if next(iter(files.values()))[1]["sensor"].upper() == "L" else SENTINEL
    bands = []
    for layer, (role, centre) in known.items():
        if layer not in files:
            continue
        is_thermal = role.startswith("thermal")
        bands.append(
            ProductBand(
                file=files[layer][0],
                name=layer.lower(),
                role=role,
                wavelength=centre,
                pixel_size=SIZE,
                scale=0.01 if is_thermal else SCALE,
                offset=KELVIN if is_thermal else 0.0,
                nodata=NODATA,
                quantity="temperature" if is_thermal else "surface reflectance",
            )
        )
    if not bands:
        raise SceneError(f"{container.path}: holds no band of HLS, only other layers; download the product again")
    mask = files.get("FMASK")
    quality: tuple[tuple[QualityKind, str], ...] = () if mask is None else (("fmask", mask[0]),)
    facts = _facts(next(iter(files.values()))[1], _tags(container, [band.file for band in bands]))
    return Product(container=container, bands=tuple(bands), sizes=(SIZE,), quality=quality, facts=facts)


def _tags(container: Container, files: list[str]) -> dict[str, str]:
    """Tags of the first file that can be read, by their names in upper case."""
    for file in files:
        with suppress(SceneError):
            check_image(container, file)
            with gdal_env(), open_dataset(container.gdal_path(file), "GTiff") as dataset:
                return {key.upper(): value for key, value in dataset.tags().items()}
    return {}


def _facts(match: re.Match[str], tags: Mapping[str, str]) -> ProductFacts:
    day = datetime(int(match["year"]), 1, 1, tzinfo=UTC) + timedelta(days=int(match["day"]) - 1)
    by_name = iso_date(f"{day:%Y-%m-%d}T{match['time']}")
    # S30 of two granules, or L30 of two scenes, holds both times.
    sensed = iso_date(re.split(r"[;+]", tags.get("SENSING_TIME", ""))[0].strip())
    zenith, view = number(tags.get("MEAN_SUN_ZENITH_ANGLE")), number(tags.get("MEAN_VIEW_ZENITH_ANGLE"))
    is_landsat = match["sensor"].upper() == "L"
    return ProductFacts(
        kind="hls",
        name=match["name"],
        platform="Landsat" if is_landsat else "Sentinel-2",
        instruments=("OLI", "TIRS") if is_landsat else ("MSI",),
        level="L30" if is_landsat else "S30",
        baseline=match["version"],
        acquired=sensed or by_name,
        cloud_cover=number(tags.get("CLOUD_COVERAGE")),
        sun_azimuth=azimuth(tags.get("MEAN_SUN_AZIMUTH_ANGLE")),
        sun_elevation=None if zenith is None else round(90 - zenith, 9),
        off_nadir=view,
        view_azimuth=azimuth(tags.get("MEAN_VIEW_AZIMUTH_ANGLE")),
    )

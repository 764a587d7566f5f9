"""Sentinel-2 products, L1C and L2A, as ESA packs them (SAFE; product specification S2-PDGS-TAS-DI-PSD).

``reflectance = (DN + offset) / quantification``, where the offset is there from processing baseline 04.00 on; 0 is no data.
"""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass

from geoseg.dialect import setting
from geoseg.documents import parse_xml
from geoseg.errors import NotARasterError, SceneError
from geoseg.scenes.acquired import iso_date
from geoseg.scenes.bands.bandfiles import SENTINEL2
from geoseg.scenes.products.container import Container
from geoseg.scenes.products.product import Product, ProductBand, azimuth, number
from geoseg.scenes.products.product_facts import ProductFacts, QualityKind
from geoseg.scenes.products.recognizing import name_of

__all__ = ["read_sentinel2"]

METADATA = re.compile(r"MTD_MSI(?P<level>L1C|L2A)\.xml", re.IGNORECASE)
OLDER = re.compile(r"S2[A-D]_\w+_MTD_\w+\.xml", re.IGNORECASE)
IMAGE = re.compile(r".*_(?P<layer>B\d\d|B8A|SCL)(?:_(?P<size>\d\d)m)?", re.IGNORECASE)
BANDS = {
    "B01": (0.4427, 60),
    "B02": (0.4927, 10),
    "B03": (0.5598, 10),
    "B04": (0.6646, 10),
    "B05": (0.7041, 20),
    "B06": (0.7405, 20),
    "B07": (0.7828, 20),
    "B08": (0.8328, 10),
    "B8A": (0.8647, 20),
    "B09": (0.9451, 60),
    "B10": (1.3735, 60),
    "B11": (1.6137, 20),
    "B12": (2.2024, 20),
}
"""Centre of the bands of Sentinel-2A in micrometres, where metadata do not say it, and the finest pixels in metres.

Their order is that of ``bandId`` and ``band_id``, from 0."""
OFFSETS_SINCE, TEST_BASELINE = 4.0, 90.0
"""Baselines from 04.00 on have offsets; 99.99 marks processing out of line, which may have none."""
MAX_DN = 65535


@dataclass(frozen=True, slots=True)
class _Image:
    """A raster that the metadata name."""

    layer: str
    size: float
    file: str


def read_sentinel2(container: Container) -> Product:
    """A Sentinel-2 product of one tile, by its metadata.

    Raises:
        SceneError: It holds several tiles, or its metadata are missing, damaged, or contradict themselves.
    """
    name, level = _metadata_of(container)
    root = parse_xml(container.read(name), container.shown(name), SceneError)
    images = _images(root, container, name)
    granule = next(iter(images)).file.rsplit("/IMG_DATA", 1)[0]
    facts = _facts(root, container, granule, level)
    scale, offsets = _radiometry(root, container.shown(name), level, facts.baseline)
    centres = _centres(root)
    finest: dict[str, _Image] = {}
    for image in images:
        if image.layer not in finest or image.size < finest[image.layer].size:
            finest[image.layer] = image
    bands = tuple(
        ProductBand(
            file=finest[band].file,
            name=band.lower(),
            role=SENTINEL2[band],
            wavelength=centres.get(band, BANDS[band][0]),
            pixel_size=finest[band].size,
            scale=1 / scale,
            offset=offsets[band] / scale,
            nodata=0.0,
            quantity="surface reflectance" if level == "L2A" else "top-of-atmosphere reflectance",
        )
        for band in BANDS
        if band in finest
    )
    quality: tuple[tuple[QualityKind, str], ...] = (("scl", finest["SCL"].file),) if "SCL" in finest else ()
    sizes = tuple(sorted({band.pixel_size for band in bands}))
    return Product(container=container, bands=bands, sizes=sizes, quality=quality, facts=facts)


def _metadata_of(container: Container) -> tuple[str, str]:
    tops = [name for name in container.sizes if "/" not in name]
    for name in tops:
        if (match := METADATA.fullmatch(name)) is not None:
            return name, match["level"].upper()
    if any(OLDER.fullmatch(name) for name in tops):
        raise SceneError(
            f"{container.path}: a Sentinel-2 product in the format before December 2016, which can hold several tiles; give the "
            f"folder of the bands of one: GRANULE/…/IMG_DATA, perhaps with {setting('resample')}"
        )
    raise NotARasterError(
        f"{container.path}: MTD_MSIL1C.xml or MTD_MSIL2A.xml is not there, so it is no whole Sentinel-2 product; download it "
        "again, or give its images by themselves"
    )


def _images(root: ET.Element, container: Container, name: str) -> list[_Image]:
    """The images of bands and of the classification that the metadata name."""
    granules = [element for element in root.iter() if element.tag in ("Granule", "Granules")]
    tiles = {element.get("granuleIdentifier") for element in granules}
    if len(tiles) > 1:
        raise SceneError(
            f"{container.path}: holds {len(tiles)} tiles (granules), and a scene is one of them; give the folder of the bands of "
            f"that one: GRANULE/…/IMG_DATA, perhaps with {setting('resample')}"
        )
    found = []
    for element in (child for granule in granules for child in granule if child.tag.startswith("IMAGE_")):
        text = (element.text or "").strip()
        match = IMAGE.fullmatch(text.rpartition("/")[2])
        if match is None or match["layer"].upper() not in {*BANDS, "SCL"}:
            continue
        layer = match["layer"].upper()
        container.find(f"{text}.jp2")
        found.append(_Image(layer, float(match["size"] or BANDS.get(layer, (0, 20))[1]), f"{text}.jp2"))
    if not any(image.layer in BANDS for image in found):
        raise SceneError(f"{container.shown(name)}: names no image of a band (IMAGE_FILE); download the product again")
    return found


def _radiometry(root: ET.Element, name: str, level: str, baseline: str | None) -> tuple[float, dict[str, float]]:
    """What 1 is in stored values, and what is added to these first, by band."""
    tags = ("BOA_QUANTIFICATION_VALUE", "L2A_BOA_QUANTIFICATION_VALUE") if level == "L2A" else ("QUANTIFICATION_VALUE",)
    text = next((element.text for element in root.iter() if element.tag in tags), None)
    scale = number(text)
    if scale is None or not 0 < scale <= MAX_DN:
        raise SceneError(f"{name}: {tags[0]} is {text!r}, and should be a number such as 10000; download the product again")
    tag = "BOA_ADD_OFFSET" if level == "L2A" else "RADIO_ADD_OFFSET"
    given = {element.get("band_id"): element.text for element in root.iter(tag)}
    version = number(baseline)
    if not given:
        if version is not None and OFFSETS_SINCE <= version < TEST_BASELINE:
            raise SceneError(
                f"{name}: its processing baseline {baseline} comes with offsets ({tag}), and it holds none; without them "
                "reflectances would be 0.1 too high: download the product again"
            )
        return scale, dict.fromkeys(BANDS, 0.0)
    offsets = {}
    for order, band in enumerate(BANDS):
        text = given.get(str(order))
        offset = number(text)
        if offset is None or abs(offset) > MAX_DN:
            raise SceneError(
                f"{name}: {tag} of band_id {order} ({band}) is {text!r}, which is no offset; download the product again"
            )
        offsets[band] = offset
    return scale, offsets


def _centres(root: ET.Element) -> dict[str, float]:
    """Centres of bands in micrometres."""
    found, order = {}, list(BANDS)
    for element in root.iter("Spectral_Information"):
        place, centre = element.get("bandId", ""), number(element.findtext("Wavelength/CENTRAL"))
        if place.isdecimal() and int(place) < len(order) and centre is not None and 0 < centre < 10_000:
            found[order[int(place)]] = centre / 1000
    return found


def _facts(root: ET.Element, container: Container, granule: str, level: str) -> ProductFacts:
    own = container.find(f"{granule}/MTD_TL.xml")
    tile = None if own is None else parse_xml(container.read(own), container.shown(own), SceneError)
    times = [_first(tile, "SENSING_TIME"), _first(root, "PRODUCT_START_TIME"), _first(root, "DATATAKE_SENSING_START")]
    sun = None if tile is None else next(tile.iter("Mean_Sun_Angle"), None)
    zenith = None if sun is None else number(sun.findtext("ZENITH_ANGLE"))
    views = [] if tile is None else list(tile.iter("Mean_Viewing_Incidence_Angle"))
    return ProductFacts(
        kind="sentinel2",
        name=name_of(container.path),
        platform=_first(root, "SPACECRAFT_NAME"),
        instruments=("MSI",),
        level=level,
        baseline=_first(root, "PROCESSING_BASELINE"),
        acquired=next((date for text in times if text is not None and (date := iso_date(text)) is not None), None),
        cloud_cover=number(_first(root, "Cloud_Coverage_Assessment")),
        sun_azimuth=None if sun is None else azimuth(sun.findtext("AZIMUTH_ANGLE")),
        sun_elevation=None if zenith is None else round(90 - zenith, 9),
        off_nadir=_mean(number(view.findtext("ZENITH_ANGLE")) for view in views),
        view_azimuth=_mean_direction(number(view.findtext("AZIMUTH_ANGLE")) for view in views),
    )


def _first(root: ET.Element | None, tag: str) -> str | None:
    element = None if root is None else next(root.iter(tag), None)
    return None if element is None else (element.text or "").strip() or None


def _mean(values: Iterator[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(sum(known) / len(known), 9) if known else None


def _mean_direction(degrees: Iterator[float | None]) -> float | None:
    """The mean of directions: of 350 and 10 degrees it is 0."""
    known = [math.radians(value) for value in degrees if value is not None]
    if not known:
        return None
    return round(math.degrees(math.atan2(sum(map(math.sin, known)), sum(map(math.cos, known)))) % 360, 9)

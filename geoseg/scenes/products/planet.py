"""PlanetScope scenes (PSScene, analytic): an image, its usable data mask and its metadata, known by a common name.

``AnalyticMS_SR``: ``reflectance = DN * 0.0001``; ``AnalyticMS``: radiance, which the metadata's coefficient of each band makes
reflectance at the top of the atmosphere; 0 is no data (Planet Imagery Product Specifications).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from xml.etree.ElementTree import Element

from geoseg.documents import parse_json, parse_xml
from geoseg.errors import SceneError
from geoseg.scenes.acquired import acquisition_date, iso_date
from geoseg.scenes.products.container import Container
from geoseg.scenes.products.product import Product, ProductBand, azimuth, number
from geoseg.scenes.products.product_facts import ProductFacts, QualityKind, Quantity
from geoseg.scenes.products.recognizing import PLANET

__all__ = ["read_planet"]

FOUR = (("blue", "blue", 0.490), ("green", "green", 0.565), ("red", "red", 0.665), ("nir", "nir", 0.865))
EIGHT = (
    ("coastal_blue", "coastal", 0.443),
    ("blue", "blue", 0.490),
    ("green_i", None, 0.531),
    ("green", "green", 0.565),
    ("yellow", "yellow", 0.610),
    ("red", "red", 0.665),
    ("rededge", "rededge", 0.705),
    ("nir", "nir", 0.865),
)
"""Names, roles and centres in micrometres (SuperDove)."""
SIZE, SCALE = 3.0, 0.0001


def read_planet(path: str, container: Container) -> Product:
    """A PlanetScope scene.

    Args:
        path: Its analytic image.
        container: What lies beside it and begins with its name.

    Raises:
        SceneError: The metadata that its values need are missing or damaged.
    """
    image = os.path.basename(path)
    match = PLANET.fullmatch(image)
    assert match is not None
    own = sorted(container.sizes)
    xml = next((name for name in own if name.lower().endswith(".xml") and "metadata" in name.lower()), None)
    root = None if xml is None else parse_xml(container.read(xml), container.shown(xml), SceneError)
    kind = match["kind"].lower()
    names = EIGHT if "8b" in kind else FOUR
    is_surface = "_sr" in kind
    scales = dict.fromkeys(range(1, len(names) + 1), SCALE) if is_surface else _coefficients(root, len(names), path)
    quantity: Quantity = "surface reflectance" if is_surface else "top-of-atmosphere reflectance"
    bands = tuple(
        ProductBand(
            file=image,
            index=index,
            name=name,
            role=role,
            wavelength=centre,
            pixel_size=SIZE,
            scale=scales[index],
            offset=0.0,
            nodata=0.0,
            quantity=quantity,
        )
        for index, (name, role, centre) in enumerate(names, 1)
    )
    mask = next((name for name in own if re.search(r"_udm2(?:_clip)?\.tiff?$", name, re.IGNORECASE)), None)
    quality: tuple[tuple[QualityKind, str], ...] = () if mask is None else (("udm2", mask),)
    facts = _facts(match["name"], root, _document(container, own), is_surface=is_surface)
    return Product(container=container, bands=bands, sizes=(SIZE,), quality=quality, facts=facts)


def _coefficients(root: Element | None, count: int, path: str) -> dict[int, float]:
    """By band, what makes its values reflectances."""
    found: dict[int, float] = {}
    for element in () if root is None else root.iter("bandSpecificMetadata"):
        band, scale = number(element.findtext("bandNumber")), number(element.findtext("reflectanceCoefficient"))
        if band is not None and scale is not None and scale > 0:
            found[int(band)] = scale
    lacking = [str(index) for index in range(1, count + 1) if index not in found]
    if lacking:
        raise SceneError(
            f"{path}: no reflectanceCoefficient of band {', '.join(lacking)} in the _metadata.xml beside it, without which its "
            "values are no reflectances; download the scene with its metadata, or order AnalyticMS_SR"
        )
    return found


def _document(container: Container, own: list[str]) -> Mapping[str, object]:
    """The properties of the item's JSON, where it lies beside."""
    name = next((name for name in own if name.lower().endswith("metadata.json")), None)
    document = None if name is None else parse_json(container.read(name), container.shown(name), SceneError)
    properties = document.get("properties") if isinstance(document, dict) else None
    return properties if isinstance(properties, dict) else {}


def _facts(name: str, root: Element | None, item: Mapping[str, object], *, is_surface: bool) -> ProductFacts:
    def told(tag: str, key: str) -> str | None:
        element = None if root is None else next(root.iter(tag), None)
        text = None if element is None else (element.text or "").strip()
        value = item.get(key)
        return text or (str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else None)

    cover = number(told("cloudCoverPercentage", ""))
    share = number(told("", "cloud_cover"))
    view = number(told("spaceCraftViewAngle", "view_angle"))
    satellite = told("serialIdentifier", "satellite_id")
    return ProductFacts(
        kind="planet",
        name=name,
        platform=None if satellite is None else f"PlanetScope-{satellite}",
        instruments=(told("instrument", "instrument") or "",) if told("instrument", "instrument") else (),
        level="L3B_SR" if is_surface else "L3B",
        baseline=None,
        acquired=iso_date(told("acquisitionDateTime", "acquired") or "") or acquisition_date({}, name),
        cloud_cover=cover if cover is not None else None if share is None else round(100 * share, 9),
        sun_azimuth=azimuth(told("illuminationAzimuthAngle", "sun_azimuth")),
        sun_elevation=number(told("illuminationElevationAngle", "sun_elevation")),
        off_nadir=None if view is None else abs(view),
        view_azimuth=azimuth(told("azimuthAngle", "satellite_azimuth")),
    )

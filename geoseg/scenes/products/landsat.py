"""Landsat Collection 2 products, levels 1 and 2, as USGS packs them (LSDS-1618, LSDS-1619, LSDS-1337: Data Format Control Books).

``value = DN * MULT + ADD`` by the product's own metadata; reflectances of level 1 are divided by the sine of the sun's elevation,
as USGS says; 0 is no data.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping

from geoseg.documents import parse_json, parse_xml
from geoseg.errors import NotARasterError, SceneError
from geoseg.scenes.acquired import iso_date
from geoseg.scenes.bands.bandfiles import LANDSAT_OLI, LANDSAT_TM
from geoseg.scenes.products.container import Container
from geoseg.scenes.products.product import Product, ProductBand, azimuth, number
from geoseg.scenes.products.product_facts import ProductFacts, QualityKind, Quantity

__all__ = ["read_landsat"]

METADATA = re.compile(r"L[COTEM]\d\d_L\w+_MTL\.(?P<form>json|txt|xml)", re.IGNORECASE)
IMAGE = re.compile(r"FILE_NAME_BAND_(?P<band>(?:ST_B)?\d{1,2})(?:_VCID_(?P<gain>\d))?")
OLI = {1: 0.443, 2: 0.482, 3: 0.561, 4: 0.655, 5: 0.865, 6: 1.609, 7: 2.201, 8: 0.590, 9: 1.373, 10: 10.9, 11: 12.0}
TM = {1: 0.485, 2: 0.560, 3: 0.660, 4: 0.830, 5: 1.650, 6: 11.45, 7: 2.215, 8: 0.710}
"""Centres of bands in micrometres."""
SIZE, PAN_SIZE = 30.0, 15.0
MAX_DEPTH, MAX_LINE = 8, 4096
Groups = Mapping[str, Mapping[str, str]]


def read_landsat(container: Container) -> Product:
    """A Landsat product of Collection 2, by its metadata (MTL).

    Raises:
        SceneError: Its metadata are missing, damaged, of another collection, or lack what its bands need.
    """
    names = sorted(
        (name for name in container.sizes if METADATA.fullmatch(name)), key=lambda name: (not name.lower().endswith(".xml"), name)
    )
    if not names:
        raise NotARasterError(f"{container.path}: no _MTL.txt or _MTL.json, so it is no whole Landsat product; download it again")
    # The same facts in several forms.
    name = names[-1]
    where, groups = container.shown(name), _groups(container, name)
    contents, image = groups.get("PRODUCT_CONTENTS", {}), groups.get("IMAGE_ATTRIBUTES", {})
    if contents.get("COLLECTION_NUMBER", "").lstrip("0") != "2":
        raise SceneError(
            f"{where}: COLLECTION_NUMBER is {contents.get('COLLECTION_NUMBER')!r}; products of Landsat Collection 2 are taken: "
            "download it anew, or give the files of its bands by themselves"
        )
    bands = tuple(_bands(groups, container, where))
    if not bands:
        raise SceneError(f"{where}: names no image of a band (FILE_NAME_BAND_…); download the product again")
    mask = contents.get("FILE_NAME_QUALITY_L1_PIXEL")
    quality: tuple[tuple[QualityKind, str], ...] = () if mask is None else (("qa", mask),)
    facts = _facts(contents, image, name)
    # The panchromatic band of 15 m is brought to the others, never the others to it.
    return Product(container=container, bands=bands, sizes=(SIZE,), quality=quality, facts=facts)


def _bands(groups: Groups, container: Container, where: str) -> Iterator[ProductBand]:
    """The bands that the metadata name, thermal ones last."""
    contents, image = groups.get("PRODUCT_CONTENTS", {}), groups.get("IMAGE_ATTRIBUTES", {})
    newer = image.get("SPACECRAFT_ID", "").endswith(("8", "9"))
    roles, centres = (LANDSAT_OLI, OLI) if newer else (LANDSAT_TM, TM)
    thermal = {"thermal", "thermal2"}
    found = []
    for key, file in contents.items():
        if (match := IMAGE.fullmatch(key)) is None:
            continue
        digits = match["band"].removeprefix("ST_B")
        # Band 6 of Landsat 7 is there in two gains.
        suffix = f"_vcid_{match['gain']}" if match["gain"] else ""
        role = roles.get(f"B{digits}")
        if role is None or not digits:
            continue
        container.find(file)
        scale, offset, quantity = _radiometry(groups, key.removeprefix("FILE_NAME_BAND_"), where, is_thermal=role in thermal)
        found.append(
            ProductBand(
                file=file,
                name=f"b{digits}{suffix}",
                role=None if match["gain"] == "2" else role,
                wavelength=centres.get(int(digits)),
                pixel_size=PAN_SIZE if role == "pan" else SIZE,
                scale=scale,
                offset=offset,
                nodata=0.0,
                quantity=quantity,
            )
        )
    yield from sorted(found, key=lambda band: (band.role in thermal or "_" in band.name, _order(band.name)))


def _order(name: str) -> tuple[int, str]:
    digits = re.sub(r"\D.*", "", name[1:])
    return int(digits), name


def _radiometry(groups: Groups, band: str, where: str, *, is_thermal: bool) -> tuple[float, float, Quantity]:
    """Scale and offset of a band, and what they give."""
    if is_thermal:
        choices: list[tuple[str, str, Quantity]] = [
            ("LEVEL2_SURFACE_TEMPERATURE_PARAMETERS", "TEMPERATURE", "temperature"),
            ("LEVEL1_RADIOMETRIC_RESCALING", "RADIANCE", "radiance"),
        ]
    else:
        choices = [
            ("LEVEL2_SURFACE_REFLECTANCE_PARAMETERS", "REFLECTANCE", "surface reflectance"),
            ("LEVEL1_RADIOMETRIC_RESCALING", "REFLECTANCE", "top-of-atmosphere reflectance"),
        ]
    level2 = any(name.startswith("LEVEL2_") for name in groups)
    group, kind, quantity = choices[0] if level2 else choices[1]
    texts = [groups.get(group, {}).get(f"{kind}_{what}_BAND_{band}") for what in ("MULT", "ADD")]
    scale, offset = map(number, texts)
    if scale is None or scale <= 0 or offset is None:
        raise SceneError(
            f"{where}: {kind}_MULT_BAND_{band} and {kind}_ADD_BAND_{band} are {texts[0]!r} and {texts[1]!r} in {group}, no scale "
            "and offset; download the product again"
        )
    if quantity == "top-of-atmosphere reflectance":
        elevation = number(groups.get("IMAGE_ATTRIBUTES", {}).get("SUN_ELEVATION"))
        if elevation is None or not 0 < elevation <= 90:
            raise SceneError(f"{where}: SUN_ELEVATION is {elevation}, by which reflectances are to be divided; the sun is not up")
        sine = math.sin(math.radians(elevation))
        scale, offset = scale / sine, offset / sine
    return scale, offset, quantity


def _facts(contents: Mapping[str, str], image: Mapping[str, str], name: str) -> ProductFacts:
    day, clock = image.get("DATE_ACQUIRED", ""), image.get("SCENE_CENTER_TIME", "")
    acquired = iso_date(f"{day}T{_to_microseconds(clock)}") or iso_date(day)
    platform = image.get("SPACECRAFT_ID")
    cover, roll = number(image.get("CLOUD_COVER")), number(image.get("ROLL_ANGLE"))
    return ProductFacts(
        kind="landsat",
        name=contents.get("LANDSAT_PRODUCT_ID") or re.sub(r"_MTL\.\w+$", "", name),
        platform=None if platform is None else platform.replace("_", "-").capitalize(),
        instruments=tuple(image.get("SENSOR_ID", "").split("_")) if image.get("SENSOR_ID") else (),
        level=contents.get("PROCESSING_LEVEL"),
        baseline=contents.get("COLLECTION_NUMBER"),
        acquired=acquired,
        # -1 where it was not found out.
        cloud_cover=cover if cover is not None and cover >= 0 else None,
        sun_azimuth=azimuth(image.get("SUN_AZIMUTH")),
        sun_elevation=number(image.get("SUN_ELEVATION")),
        off_nadir=None if roll is None else abs(roll),
    )


def _to_microseconds(clock: str) -> str:
    """A time of day without the seventh decimal."""
    return re.sub(r"(\.\d{6})\d*", r"\1", clock)


def _groups(container: Container, name: str) -> dict[str, dict[str, str]]:
    """The metadata by group: of the form of text (ODL), of JSON, or of XML."""
    where, data = container.shown(name), container.read(name)
    if name.lower().endswith(".xml"):
        root = parse_xml(data, where, SceneError)
        return {group.tag: {fact.tag: (fact.text or "").strip() for fact in group} for group in root}
    if name.lower().endswith(".json"):
        document = parse_json(data, where, SceneError)
        top = document.get("LANDSAT_METADATA_FILE") if isinstance(document, dict) else None
        if not isinstance(top, dict):
            raise SceneError(f"{where}: has no LANDSAT_METADATA_FILE, so it is not that of a product of Collection 2")
        return {group: {k: str(v) for k, v in facts.items()} for group, facts in top.items() if isinstance(facts, dict)}
    found: dict[str, dict[str, str]] = {}
    open_: list[str] = []
    for line in data.decode("utf-8", "replace").splitlines():
        key, mark, value = (part.strip() for part in line[:MAX_LINE].partition("="))
        if not mark:
            continue
        if key == "GROUP":
            open_.append(value)
            if len(open_) > MAX_DEPTH:
                raise SceneError(f"{where}: nested too deep; {MAX_DEPTH} levels are the most")
        elif key == "END_GROUP":
            if not open_ or open_.pop() != value:
                raise SceneError(f"{where}: END_GROUP = {value} ends no group; download the product again")
        elif open_:
            found.setdefault(open_[-1], {})[key] = value.strip('"')
    if open_:
        raise SceneError(f"{where}: ends within {open_[-1]}, so it is not whole; download the product again")
    return found

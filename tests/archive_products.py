"""Products of archives as ESA and USGS write them, small: true names, nesting and formats, pixels as they are given."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.transform import from_origin

ORIGIN = (600000.0, 8200020.0)
TILE, SENSED, MADE = "T20LMR", "20230711T141741", "20230711T191359"
SIZES = {"B01": 60, "B02": 10, "B03": 10, "B04": 10, "B05": 20, "B06": 20, "B07": 20, "B08": 10, "B8A": 20, "B09": 60} | {
    "B10": 60,
    "B11": 20,
    "B12": 20,
}
CENTRES = (442.7, 492.4, 559.8, 664.6, 704.1, 740.5, 782.8, 832.8, 864.7, 945.1, 1373.5, 1613.7, 2202.4)


def write_jp2(path: Path, pixels: NDArray[np.generic], size: float, block: int = 64) -> None:
    """Pixels of one band as a lossless JP2 in UTM 20 S."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = pixels.shape
    profile = {"driver": "JP2OpenJPEG", "height": height, "width": width, "count": 1, "dtype": pixels.dtype, "crs": "EPSG:32720"}
    options = {"QUALITY": "100", "REVERSIBLE": "YES", "BLOCKXSIZE": block, "BLOCKYSIZE": block}
    with rasterio.open(path, "w", **profile, transform=from_origin(*ORIGIN, size, size), **options) as file:
        file.write(pixels, 1)


def write_tiff(path: Path, pixels: NDArray[np.generic], size: float, **facts: object) -> None:
    """Pixels of one band, or of several, as a tiled GeoTIFF in UTM 20 S."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bands = pixels if pixels.ndim == 3 else pixels[None]
    profile = {"driver": "GTiff", "count": len(bands), "height": bands.shape[1], "width": bands.shape[2], "dtype": bands.dtype}
    profile |= {"crs": "EPSG:32720", "tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate"}
    with rasterio.open(path, "w", **profile, transform=from_origin(*ORIGIN, size, size), **facts) as file:
        file.write(bands)


def sentinel2_pixels(side: int, seed: int = 0) -> dict[str, NDArray[np.uint16]]:
    """Bands of a scene of so many pixels of 10 m, a multiple of 6; the last rows hold no data."""
    random = np.random.default_rng(seed)
    found = {}
    for band, size in SIZES.items():
        count = side * 10 // size
        values = random.integers(1001, 4500, (count, count)).astype(np.uint16)
        values[count - count // 6 :] = 0
        found[band] = values
    return found


def write_safe(
    folder: Path,
    pixels: Mapping[str, NDArray[np.uint16]],
    *,
    level: str = "L2A",
    baseline: str = "05.09",
    offset: int | None = -1000,
    scl: NDArray[np.uint8] | None = None,
    block: int = 64,
) -> Path:
    """A SAFE folder of one tile. L2A holds each band at 20 m and 60 m, too; those copies are marked by other values."""
    number = baseline.replace(".", "")
    name = f"S2B_MSI{level}_{SENSED}_N{number}_R010_{TILE}_{MADE}"
    safe = folder / f"{name}.SAFE"
    granule = f"GRANULE/{level}_{TILE}_A033147_{SENSED}"
    files = []
    for band, values in pixels.items():
        size = SIZES[band]
        if level == "L2A" and band == "B10":
            continue
        if level == "L1C":
            files.append((f"{granule}/IMG_DATA/{TILE}_{SENSED}_{band}", values, size))
            continue
        for resolution in (10, 20, 60):
            if resolution >= size:
                step = resolution // size
                copy = values if step == 1 else np.full_like(values[::step, ::step], 9999)
                files.append((f"{granule}/IMG_DATA/R{resolution}m/{TILE}_{SENSED}_{band}_{resolution}m", copy, resolution))
    if scl is not None:
        files.append((f"{granule}/IMG_DATA/R20m/{TILE}_{SENSED}_SCL_20m", scl, 20))
    for path, values, size in files:
        write_jp2(safe / f"{path}.jp2", values, size, block)
    images = [path for path, _, _ in files]
    (safe / f"MTD_MSI{level}.xml").write_text(sentinel2_metadata(name, level, baseline, offset, images))
    (safe / granule / "MTD_TL.xml").write_text(TILE_METADATA)
    (safe / "manifest.safe").write_text("<xfdu/>")
    return safe


def sentinel2_metadata(name: str, level: str, baseline: str, offset: int | None, images: list[str]) -> str:
    """MTD_MSIL2A.xml or MTD_MSIL1C.xml, with what is read of it and its neighbours."""
    listed = "\n".join(f"            <IMAGE_FILE>{image}</IMAGE_FILE>" for image in images)
    tag = "BOA_ADD_OFFSET" if level == "L2A" else "RADIO_ADD_OFFSET"
    group = "BOA_ADD_OFFSET_VALUES_LIST" if level == "L2A" else "Radiometric_Offset_List"
    offsets = "\n".join(f'        <{tag} band_id="{i}">{offset}</{tag}>' for i in range(13))
    offsets = "" if offset is None else f"      <{group}>\n{offsets}\n      </{group}>"
    scale = (
        """<QUANTIFICATION_VALUES_LIST>
        <BOA_QUANTIFICATION_VALUE unit="none">10000</BOA_QUANTIFICATION_VALUE>
        <AOT_QUANTIFICATION_VALUE unit="none">1000.0</AOT_QUANTIFICATION_VALUE>
        <WVP_QUANTIFICATION_VALUE unit="cm">1000.0</WVP_QUANTIFICATION_VALUE>
      </QUANTIFICATION_VALUES_LIST>"""
        if level == "L2A"
        else '<QUANTIFICATION_VALUE unit="none">10000</QUANTIFICATION_VALUE>'
    )
    spectra = "\n".join(
        f'        <Spectral_Information bandId="{i}" physicalBand="B{band[1:].lstrip("0")}">'
        f"<RESOLUTION>{SIZES[band]}</RESOLUTION>"
        f'<Wavelength><MIN unit="nm">1</MIN><MAX unit="nm">2</MAX><CENTRAL unit="nm">{CENTRES[i]}</CENTRAL></Wavelength>'
        "</Spectral_Information>"
        for i, band in enumerate(SIZES)
    )
    short = level[1:]
    return f"""<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<n1:Level-{short}_User_Product xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/User_Product_Level-{short}.xsd">
  <n1:General_Info>
    <Product_Info>
      <PRODUCT_START_TIME>2023-07-11T14:17:41.024Z</PRODUCT_START_TIME>
      <PRODUCT_STOP_TIME>2023-07-11T14:17:41.024Z</PRODUCT_STOP_TIME>
      <PRODUCT_URI>{name}.SAFE</PRODUCT_URI>
      <PROCESSING_LEVEL>Level-{short}</PROCESSING_LEVEL>
      <PRODUCT_TYPE>S2MSI{short}</PRODUCT_TYPE>
      <PROCESSING_BASELINE>{baseline}</PROCESSING_BASELINE>
      <GENERATION_TIME>2023-07-11T19:13:59.000000Z</GENERATION_TIME>
      <Datatake datatakeIdentifier="GS2B_{SENSED}_033147_N{baseline}">
        <SPACECRAFT_NAME>Sentinel-2B</SPACECRAFT_NAME>
        <DATATAKE_SENSING_START>2023-07-11T14:17:41.024Z</DATATAKE_SENSING_START>
      </Datatake>
      <Product_Organisation>
        <Granule_List>
          <Granule datastripIdentifier="S2B_DS" granuleIdentifier="S2B_{level}_{TILE}_N{baseline}" imageFormat="JPEG2000">
{listed}
          </Granule>
        </Granule_List>
      </Product_Organisation>
    </Product_Info>
    <Product_Image_Characteristics>
      <Special_Values><SPECIAL_VALUE_TEXT>NODATA</SPECIAL_VALUE_TEXT><SPECIAL_VALUE_INDEX>0</SPECIAL_VALUE_INDEX></Special_Values>
      {scale}
{offsets}
      <Spectral_Information_List>
{spectra}
      </Spectral_Information_List>
    </Product_Image_Characteristics>
  </n1:General_Info>
  <n1:Quality_Indicators_Info>
    <Cloud_Coverage_Assessment>12.345678</Cloud_Coverage_Assessment>
  </n1:Quality_Indicators_Info>
</n1:Level-{short}_User_Product>
"""


TILE_METADATA = """<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<n1:Level-2A_Tile_ID xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/S2_PDI_Level-2A_Tile_Metadata.xsd">
  <n1:General_Info>
    <SENSING_TIME metadataLevel="Standard">2023-07-11T14:20:21.604Z</SENSING_TIME>
  </n1:General_Info>
  <n1:Geometric_Info>
    <Tile_Angles>
      <Mean_Sun_Angle>
        <ZENITH_ANGLE unit="deg">41.25</ZENITH_ANGLE>
        <AZIMUTH_ANGLE unit="deg">38.5</AZIMUTH_ANGLE>
      </Mean_Sun_Angle>
      <Mean_Viewing_Incidence_Angle_List>
        <Mean_Viewing_Incidence_Angle bandId="0">
          <ZENITH_ANGLE unit="deg">4.5</ZENITH_ANGLE>
          <AZIMUTH_ANGLE unit="deg">350.0</AZIMUTH_ANGLE>
        </Mean_Viewing_Incidence_Angle>
        <Mean_Viewing_Incidence_Angle bandId="1">
          <ZENITH_ANGLE unit="deg">5.5</ZENITH_ANGLE>
          <AZIMUTH_ANGLE unit="deg">30.0</AZIMUTH_ANGLE>
        </Mean_Viewing_Incidence_Angle>
      </Mean_Viewing_Incidence_Angle_List>
    </Tile_Angles>
  </n1:Geometric_Info>
</n1:Level-2A_Tile_ID>
"""


LANDSAT_NAME = "LC08_L2SP_002068_20230712_20230720_02_T1"


def write_landsat(folder: Path, pixels: Mapping[int, NDArray[np.uint16]], *, level: str = "L2SP", form: str = "txt") -> Path:
    """A folder of Landsat 8, Collection 2: bands of level 2 (SR, ST) or level 1 by their numbers, QA_PIXEL, and its MTL."""
    name = LANDSAT_NAME.replace("L2SP", level)
    product, is_surface = folder / name, level.startswith("L2")
    names = {f"{band}": f"{name}_{'SR_' if is_surface else ''}B{band}.TIF" for band in pixels if band < 10}
    for band in (band for band in pixels if band >= 10):
        names[f"ST_B{band}" if is_surface else f"{band}"] = f"{name}_{'ST_' if is_surface else ''}B{band}.TIF"
    for band, file in names.items():
        number = int(band.removeprefix("ST_B"))
        write_tiff(product / file, pixels[number], 15 if number == 8 else 30, **({"nodata": 0} if is_surface else {}))
    write_tiff(product / f"{name}_QA_PIXEL.TIF", np.full_like(next(iter(pixels.values())), 21824), 30, nodata=1)
    groups: dict[str, dict[str, object]] = {
        "PRODUCT_CONTENTS": {
            "ORIGIN": "Image courtesy of the U.S. Geological Survey",
            "LANDSAT_PRODUCT_ID": name,
            "PROCESSING_LEVEL": level,
            "COLLECTION_NUMBER": "02",
            "COLLECTION_CATEGORY": "T1",
            "OUTPUT_FORMAT": "GEOTIFF",
            **{f"FILE_NAME_BAND_{band}": file for band, file in names.items()},
            "FILE_NAME_QUALITY_L1_PIXEL": f"{name}_QA_PIXEL.TIF",
        },
        "IMAGE_ATTRIBUTES": {
            "SPACECRAFT_ID": "LANDSAT_8",
            "SENSOR_ID": "OLI_TIRS",
            "DATE_ACQUIRED": "2023-07-12",
            "SCENE_CENTER_TIME": "14:40:21.6049750Z",
            "CLOUD_COVER": "3.25",
            "SUN_AZIMUTH": "-40.5",
            "SUN_ELEVATION": "30.00000000",
            "ROLL_ANGLE": "-0.001",
        },
    }
    if is_surface:
        groups["LEVEL2_SURFACE_REFLECTANCE_PARAMETERS"] = {
            f"REFLECTANCE_{what}_BAND_{band}": value
            for band in range(1, 8)
            for what, value in (("MULT", 2.75e-05), ("ADD", -0.2))
        }
        groups["LEVEL2_SURFACE_TEMPERATURE_PARAMETERS"] = {"TEMPERATURE_MULT_BAND_ST_B10": 0.00341802} | {
            "TEMPERATURE_ADD_BAND_ST_B10": 149.0
        }
        groups["LEVEL1_PROCESSING_RECORD"] = {"FILE_NAME_BAND_1": f"{LANDSAT_NAME.replace('L2SP', 'L1TP')}_B1.TIF"}
    groups["LEVEL1_RADIOMETRIC_RESCALING"] = {
        **{f"REFLECTANCE_{what}_BAND_{b}": v for b in range(1, 10) for what, v in (("MULT", 2.0e-05), ("ADD", -0.1))},
        **{f"RADIANCE_{what}_BAND_{b}": v for b in range(1, 12) for what, v in (("MULT", 3.342e-04), ("ADD", 0.1))},
    }
    if form == "json":
        all_texts = {group: {key: str(value) for key, value in facts.items()} for group, facts in groups.items()}
        (product / f"{name}_MTL.json").write_text(json.dumps({"LANDSAT_METADATA_FILE": all_texts}))
        return product
    lines = ["GROUP = LANDSAT_METADATA_FILE"]
    for group, facts in groups.items():
        texts = (str(value) if isinstance(value, float) else f'"{value}"' for value in facts.values())
        lines += [f"  GROUP = {group}", *(f"    {key} = {text}" for key, text in zip(facts, texts, strict=True))]
        lines.append(f"  END_GROUP = {group}")
    (product / f"{name}_MTL.txt").write_text("\n".join([*lines, "END_GROUP = LANDSAT_METADATA_FILE", "END", ""]))
    return product


def write_hls(folder: Path, pixels: Mapping[str, NDArray[np.int16]], sensor: str = "S30") -> Path:
    """A granule of HLS: a folder of GeoTIFFs, one a band, and its Fmask."""
    name = f"HLS.{sensor}.T20LMR.2023192T141741.v2.0"
    tags = {
        "SENSING_TIME": "2023-07-11T14:20:21.604Z",
        "cloud_coverage": "7",
        "MEAN_SUN_AZIMUTH_ANGLE": "38.5",
        "MEAN_SUN_ZENITH_ANGLE": "41.25",
        "MEAN_VIEW_ZENITH_ANGLE": "5.0",
    }
    for band, values in pixels.items():
        path = folder / name / f"{name}.{band}.tif"
        write_tiff(path, values, 30, nodata=-9999)
        with rasterio.open(path, "r+") as file:
            file.update_tags(**tags)
    shape = next(iter(pixels.values())).shape
    write_tiff(folder / name / f"{name}.Fmask.tif", np.full(shape, 64, np.uint8), 30, nodata=255)
    return folder / name


PLANET_NAME = "20230711_141741_00_2456"


def write_planet(folder: Path, pixels: NDArray[np.uint16], *, kind: str = "AnalyticMS_SR", coefficients: bool = True) -> Path:
    """A PlanetScope scene: the analytic image, its udm2 and its metadata; the path of the image."""
    path = folder / f"{PLANET_NAME}_3B_{kind}.tif"
    write_tiff(path, pixels, 3)
    write_tiff(folder / f"{PLANET_NAME}_3B_udm2.tif", np.ones((8, *pixels.shape[1:]), np.uint8), 3)
    specific = "\n".join(
        f"<ps:bandSpecificMetadata><ps:bandNumber>{i}</ps:bandNumber><ps:radiometricScaleFactor>0.01</ps:radiometricScaleFactor>"
        f"<ps:reflectanceCoefficient>{i * 1e-5}</ps:reflectanceCoefficient></ps:bandSpecificMetadata>"
        for i in range(1, len(pixels) + 1)
        if coefficients
    )
    (folder / f"{PLANET_NAME}_3B_{kind.replace('_SR', '')}_metadata.xml").write_text(f"""<?xml version="1.0" encoding="UTF-8"?>
<ps:EarthObservation xmlns:gml="http://www.opengis.net/gml" xmlns:eop="http://earth.esa.int/eop"
    xmlns:opt="http://earth.esa.int/opt" xmlns:ps="http://schemas.planet.com/ps/v1/planet_product_metadata_geocorrected_level">
  <gml:using><eop:EarthObservationEquipment>
    <eop:platform><eop:Platform><eop:serialIdentifier>2456</eop:serialIdentifier></eop:Platform></eop:platform>
    <eop:acquisitionParameters><ps:Acquisition>
      <opt:illuminationAzimuthAngle uom="deg">38.5</opt:illuminationAzimuthAngle>
      <opt:illuminationElevationAngle uom="deg">48.75</opt:illuminationElevationAngle>
      <ps:spaceCraftViewAngle uom="deg">-5.0</ps:spaceCraftViewAngle>
      <ps:acquisitionDateTime>2023-07-11T14:17:41+00:00</ps:acquisitionDateTime>
    </ps:Acquisition></eop:acquisitionParameters>
  </eop:EarthObservationEquipment></gml:using>
  <gml:resultOf><ps:EarthObservationResult>
    <opt:cloudCoverPercentage uom="percentage">3.0</opt:cloudCoverPercentage>
{specific}
  </ps:EarthObservationResult></gml:resultOf>
</ps:EarthObservation>
""")
    return path

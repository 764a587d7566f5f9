"""GeoPDFs: a reader of the structure finds each object, the page its viewport, and the viewport the map's place on Earth."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pyproj
import pytest

from geoseg.formats.sheet.content import Sheet
from geoseg.formats.sheet.frame import MapFrame
from geoseg.formats.sheet.map import FRAME_MM
from geoseg.formats.sheet.write import write_sheet
from geoseg.georeference import Georeference

SHEET = Sheet(title="Flood", produced="2024-05-31")
BOX = (0.0, 0.0, 600.0, 900.0)
PLACES = {
    "utm": Georeference((10.0, 0.0, 430_000.0, 0.0, -10.0, 8_930_000.0), "EPSG:32720"),
    "utm turned": Georeference((8.0, 6.0, 430_000.0, 6.0, -8.0, 8_930_000.0), "EPSG:32720"),
    "degrees": Georeference((1e-4, 0.0, -94.5, 0.0, -1e-4, 37.0), "EPSG:4326"),
    "another datum": Georeference((10.0, 0.0, 500_000.0, 0.0, -10.0, 5_500_000.0), "EPSG:31467"),
}


def objects(pdf: bytes) -> tuple[dict[int, bytes], bytes]:
    """Objects by number as the chain of cross-reference tables places them, the newest first; and the last trailer."""
    found: dict[int, bytes] = {}
    (start,) = re.findall(rb"startxref\s+(\d+)\s+%%EOF\s*\Z", pdf)
    last = b""
    at: int | None = int(start)
    while at is not None:
        assert pdf[at : at + 4] == b"xref", "a table lies where it is said to"
        table, _, rest = pdf[at:].partition(b"trailer")
        lines = table.splitlines()[1:]
        while lines:
            first, count = map(int, lines.pop(0).split())
            for number in range(first, first + count):
                place, _, kind = lines.pop(0).split()
                if kind == b"n" and number not in found:
                    head = b"%d 0 obj" % number
                    assert pdf[int(place) : int(place) + len(head)] == head, "an object lies where the table says"
                    found[number] = pdf[int(place) : pdf.index(b"endobj", int(place))]
        trailer = rest.partition(b"startxref")[0]
        last = last or trailer
        before = re.search(rb"/Prev (\d+)", trailer)
        at = None if before is None else int(before[1])
    return found, last


def numbers(text: bytes, key: bytes) -> list[float]:
    (inside,) = re.findall(rb"/" + key + rb" \[([^\]]*)\]", text)
    return [float(value) for value in inside.split()]


@pytest.mark.parametrize("name", [*PLACES])
def test_the_corners_of_the_map_are_where_they_are(name: str, tmp_path: Path) -> None:
    place = PLACES[name]
    path = tmp_path / "map.pdf"
    write_sheet([path], SHEET, place, BOX)
    pdf = path.read_bytes()
    found, trailer = objects(pdf)
    assert max(found) < int(re.findall(rb"/Size (\d+)", trailer)[0])
    (page,) = [text for text in found.values() if re.search(rb"/Type /Page\b(?!s)", text)]
    (viewport,) = re.findall(rb"/VP \[ (\d+) 0 R \]", page)
    view = found[int(viewport)]
    assert np.allclose(
        np.array(numbers(view, b"BBox")) * 25.4 / 72,
        [FRAME_MM[0], FRAME_MM[1], FRAME_MM[0] + FRAME_MM[2], FRAME_MM[1] + FRAME_MM[3]],
    )
    (measure,) = re.findall(rb"/Measure (\d+) 0 R", view)
    told = found[int(measure)]
    assert b"/Subtype /GEO" in told
    (system,) = re.findall(rb"/GCS (\d+) 0 R", told)
    assert place.crs is not None
    crs = pyproj.CRS.from_user_input(place.crs)
    assert (b"/PROJCS" if crs.is_projected else b"/GEOGCS") in found[int(system)]
    assert b"/EPSG %d" % (crs.to_epsg() or 0) in found[int(system)]
    (wkt,) = re.findall(rb"/WKT \((.*)\) >>", found[int(system)])
    text = re.sub(rb"\\([()\\])", rb"\1", wkt).decode()
    assert pyproj.CRS.from_wkt(text).is_projected == crs.is_projected
    # Shares of the viewport and places on Earth, corner by corner; the oracle is pyproj in the geographic CRS of the map.
    shares = np.array(numbers(told, b"LPTS")).reshape(-1, 2)
    places = np.array(numbers(told, b"GPTS")).reshape(-1, 2)
    frame = MapFrame.fit(place, BOX, FRAME_MM[2:])
    xy = frame.to_crs((2 * shares - 1) * np.array(frame.half))
    to = pyproj.Transformer.from_crs(crs, crs.geodetic_crs, always_xy=True)
    lon, lat = to.transform(xy[:, 0], xy[:, 1])
    assert np.allclose(places, np.stack([lat, lon], axis=1), atol=1e-9)
    assert len({tuple(row) for row in shares.tolist()}) == 4


def test_without_a_crs_it_stays_what_matplotlib_wrote(tmp_path: Path) -> None:
    path = tmp_path / "map.pdf"
    write_sheet([path], SHEET, Georeference((1.0, 0, 0, 0, -1.0, 0), None), BOX)
    assert b"/VP" not in path.read_bytes()
    assert path.read_bytes().count(b"%%EOF") == 1


@pytest.mark.checkers
@pytest.mark.skipif(shutil.which("gdalinfo") is None, reason="GDAL is not installed")
@pytest.mark.parametrize("name", [*PLACES])
def test_gdal_reads_the_place_of_the_map(name: str, tmp_path: Path) -> None:
    place, path = PLACES[name], tmp_path / "map.pdf"
    write_sheet([path], SHEET, place, BOX)
    said = subprocess.run(["gdalinfo", path], capture_output=True, text=True, check=False)
    if "not recognized" in said.stderr:
        pytest.skip("this GDAL reads no PDF")
    (ring,) = re.findall(r"NEATLINE=POLYGON \(\((.*)\)\)", said.stdout)
    found = np.array([[float(v) for v in point.split()] for point in ring.split(",")])
    frame = MapFrame.fit(place, BOX, FRAME_MM[2:])
    wide, high = frame.half
    corners = frame.to_crs(np.array([[-wide, -high], [wide, high], [-wide, high], [wide, -high]]))
    metre = 1e-5 if place.crs == "EPSG:4326" else 1.0
    for corner in corners:
        assert np.hypot(*(found - corner).T).min() < 2 * metre

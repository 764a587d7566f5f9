"""Georeferencing of a PDF: a viewport with its measure (ISO 32000-2:2020, 12.10; Adobe Supplement to ISO 32000, 2008).

The file that matplotlib wrote stays as it is; the page gets a viewport by an incremental update (ISO 32000-2, 7.5.6) at its
end, so that GDAL, QGIS, Acrobat and Avenza read coordinates from the map.
"""

from __future__ import annotations

import re

import numpy as np
import pyproj

from geoseg.crs import between
from geoseg.formats.sheet.frame import MapFrame

__all__ = ["georeferenced"]

POINTS_PER_MM = 72 / 25.4
PAGE = re.compile(rb"(?m)^(\d+) 0 obj\n<< /Type /Page\b(?!s)(.*?)>>\nendobj", re.DOTALL)
TRAILER = re.compile(rb"trailer\n<<(.*?)>>\nstartxref\n(\d+)\n%%EOF", re.DOTALL)
CORNERS = ((0, 0), (0, 1), (1, 1), (1, 0))
"""Of the viewport, as shares of its width and height from the lower left."""


def georeferenced(pdf: bytes, frame: MapFrame, corner_mm: tuple[float, float]) -> bytes:
    """A PDF of one page whose map is georeferenced; as it was where the map has no CRS.

    Args:
        pdf: The file, as matplotlib writes it.
        frame: Of the map.
        corner_mm: Left and bottom of the map on the page.
    """
    if frame.georeference.crs is None:
        return pdf
    crs = pyproj.CRS.from_user_input(frame.georeference.crs)
    page, trailer = PAGE.search(pdf), TRAILER.search(pdf)
    assert page is not None, "matplotlib has written a page"
    assert trailer is not None, "and a trailer"
    size = re.search(rb"/Size (\d+)", trailer[1])
    assert size is not None, "a trailer has a size"
    viewport, measure, system = (int(size[1]) + k for k in range(3))
    low = np.array(corner_mm) * POINTS_PER_MM
    high = low + np.array(frame.size_mm) * POINTS_PER_MM
    objects = {
        int(page[1]): b"<< /Type /Page" + page[2] + b" /VP [ %d 0 R ] >>" % viewport,
        viewport: b"<< /Type /Viewport /Name (Map) /BBox [ %s ] /Measure %d 0 R >>" % (_numbers([*low, *high]), measure),
        measure: b"<< /Type /Measure /Subtype /GEO /Bounds [ %s ] /GPTS [ %s ] /LPTS [ %s ] /GCS %d 0 R >>"
        % (_numbers(np.ravel(CORNERS)), _numbers(_places(frame, crs)), _numbers(np.ravel(CORNERS)), system),
        system: _system(crs),
    }
    return _updated(pdf, objects, trailer, int(size[1]) + 3)


def _places(frame: MapFrame, crs: pyproj.CRS) -> list[float]:
    """Latitude and longitude of the corners in the geographic CRS that the CRS is based on."""
    wide, high = frame.half
    corners = frame.to_crs(np.array([((2 * x - 1) * wide, (2 * y - 1) * high) for x, y in CORNERS]))
    geographic = crs.geodetic_crs
    if crs.is_projected and geographic is not None:
        lon, lat = between(crs, geographic).transform(corners[:, 0], corners[:, 1])
        corners = np.stack([lon, lat], axis=1)
    return [float(value) for value in corners[:, ::-1].ravel()]


def _system(crs: pyproj.CRS) -> bytes:
    kind = b"PROJCS" if crs.is_projected else b"GEOGCS"
    code = crs.to_epsg()
    try:
        wkt = crs.to_wkt("WKT1_ESRI")
    except pyproj.exceptions.CRSError:
        wkt = crs.to_wkt("WKT1_GDAL")
    text = wkt.encode("ascii", "replace").replace(b"\\", b"\\\\").replace(b"(", b"\\(").replace(b")", b"\\)")
    return b"<< /Type /%s%s /WKT (%s) >>" % (kind, b"" if code is None else b" /EPSG %d" % code, text)


def _numbers(values: object) -> bytes:
    return " ".join(f"{value:.10f}".rstrip("0").rstrip(".") for value in np.asarray(values, np.float64).tolist()).encode()


def _updated(pdf: bytes, objects: dict[int, bytes], trailer: re.Match[bytes], size: int) -> bytes:
    """The file with some objects added or replaced at its end."""
    body, places = pdf if pdf.endswith(b"\n") else pdf + b"\n", {}
    for number, content in objects.items():
        places[number] = len(body)
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    start = len(body)
    body += b"xref\n" + b"".join(b"%d 1\n%010d 00000 n \n" % (number, place) for number, place in sorted(places.items()))
    facts = re.sub(rb"/Size \d+", b"/Size %d" % size, trailer[1])
    return body + b"trailer\n<<%s /Prev %s >>\nstartxref\n%d\n%%%%EOF\n" % (facts, trailer[2], start)

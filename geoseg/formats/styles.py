"""Styles of maps: QGIS styles and class names beside the files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from geoseg.codes import NODATA, NOT_ANALYSED
from geoseg.formats.text import xml_attribute, xml_text

__all__ = ["DOCTYPE", "QGIS_VERSION", "ClassStyle", "category_names", "class_styles", "raster_qml", "vector_qml"]

DOCTYPE = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
QGIS_VERSION = "3.22.0"
PALETTE = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb", "#e8a33d", "#7b5ea7", "#9c755f")
"""Colours for classes that have none; the first seven are Paul Tol's bright scheme, safe for the colour-blind."""
NOT_ANALYSED_COLOR = "#828282"


@dataclass(frozen=True, slots=True)
class ClassStyle:
    """A class code as it is shown."""

    code: int
    name: str
    color: str
    """``#rrggbb``."""

    @property
    def rgb(self) -> tuple[int, int, int]:
        """The colour as red, green and blue."""
        return int(self.color[1:3], 16), int(self.color[3:5], 16), int(self.color[5:7], 16)


def class_styles(classes: Iterable[tuple[int, str, str | None]]) -> tuple[ClassStyle, ...]:
    """Styles of ``(code, name, colour or None)``, and of *not analysed*."""
    styles = [ClassStyle(code, name, color or PALETTE[i % len(PALETTE)]) for i, (code, name, color) in enumerate(classes)]
    return (*styles, ClassStyle(NOT_ANALYSED, "not analysed", NOT_ANALYSED_COLOR))


def raster_qml(styles: Iterable[ClassStyle]) -> str:
    """QGIS style of a class raster: one colour a code, nodata transparent."""
    entries = "\n".join(
        f'        <paletteEntry value="{s.code}" color="{s.color}" alpha="255" label={xml_attribute(s.name)}/>' for s in styles
    )
    return (
        f'{DOCTYPE}<qgis version="{QGIS_VERSION}" styleCategories="Symbology">\n'
        "  <pipe>\n"
        f'    <rasterrenderer type="paletted" band="1" opacity="1" alphaBand="-1" nodataColor="">\n'
        "      <rasterTransparency/>\n"
        f"      <colorPalette>\n{entries}\n      </colorPalette>\n"
        "    </rasterrenderer>\n"
        "  </pipe>\n"
        "  <blendMode>0</blendMode>\n"
        "</qgis>\n"
    )


def vector_qml(styles: Iterable[ClassStyle]) -> str:
    """QGIS style of polygons: filled by class code, with a thin outline."""
    categories, symbols = [], []
    for i, s in enumerate(styles):
        red, green, blue = s.rgb
        dark = ",".join(str(int(v * 0.6)) for v in s.rgb)
        categories.append(f'      <category value="{s.code}" symbol="{i}" label={xml_attribute(s.name)} render="true"/>')
        symbols.append(
            f'      <symbol type="fill" name="{i}" alpha="1" clip_to_extent="1" force_rhr="0">\n'
            f'        <layer class="SimpleFill" enabled="1" locked="0" pass="0">\n'
            + "".join(
                f'          <prop k="{key}" v="{value}"/>\n'
                for key, value in (
                    ("color", f"{red},{green},{blue},140"),
                    ("style", "solid"),
                    ("outline_color", f"{dark},255"),
                    ("outline_style", "solid"),
                    ("outline_width", "0.2"),
                    ("outline_width_unit", "MM"),
                    ("joinstyle", "miter"),
                )
            )
            + "        </layer>\n      </symbol>"
        )
    return (
        f'{DOCTYPE}<qgis version="{QGIS_VERSION}" styleCategories="Symbology">\n'
        '  <renderer-v2 type="categorizedSymbol" attr="code" forceraster="0" symbollevels="0" enableorderby="0">\n'
        "    <categories>\n" + "\n".join(categories) + "\n    </categories>\n"
        "    <symbols>\n" + "\n".join(symbols) + "\n    </symbols>\n"
        "  </renderer-v2>\n"
        "  <layerGeometryType>2</layerGeometryType>\n"
        "</qgis>\n"
    )


def category_names(styles: Iterable[ClassStyle]) -> str:
    """A GDAL ``.aux.xml`` file with the class names of a raster."""
    names = {s.code: s.name for s in styles} | {NODATA: "no data"}
    lines = "\n".join(f"      <Category>{xml_text(names.get(code, ''))}</Category>" for code in range(NODATA + 1))
    return (
        '<PAMDataset>\n  <PAMRasterBand band="1">\n    <CategoryNames>\n'
        f"{lines}\n    </CategoryNames>\n  </PAMRasterBand>\n</PAMDataset>\n"
    )

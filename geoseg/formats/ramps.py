"""Colours of values: a ramp from dark to light, its legend, its QGIS style, and pictures of maps with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geoseg.arrays import U8, U16
from geoseg.codes import MAX_VALUE, NO_VALUE, VALUE_NOT_ANALYSED
from geoseg.digits import figure
from geoseg.formats.preview import BACKGROUND, BORDER, GAP, PicturePlace, sheet_of, stretched
from geoseg.formats.styles import DOCTYPE, NOT_ANALYSED_COLOR, QGIS_VERSION
from geoseg.formats.text import xml_attribute

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Ramp", "ValuePanels", "colored_values", "value_qml", "write_value_preview"]

VIRIDIS = ("#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#fde725")
"""At even steps; light rises along it, so that it is read in grey and by the colour-blind (van der Walt and Smith 2015,
https://bids.github.io/colormap/)."""
SHARE = (2, 98)
"""Percentiles of a map at which the ramp ramp."""
TICKS = 5
BAR_PX, LEGEND_PX, FONT_PX, TALLEST_PX = 18, 120, 13, 300


@dataclass(frozen=True, slots=True)
class Ramp:
    """Colours of the values of a map."""

    title: str
    """What the values are, with their unit."""
    suffix: str
    """Their unit as it stands behind a number."""
    low: float
    """The value that the first colour stands for; those below have it, too."""
    high: float
    """That of the last colour."""
    scale: float
    """Of codes: value = code * scale + offset."""
    offset: float

    @classmethod
    def of(cls, codes: U16, scaling: tuple[float, float], title: str, suffix: str) -> Ramp:
        """The ramp between the values within which almost all codes (h, w) lie; over all codes where none stands for a value.

        Args:
            codes: Of the map.
            scaling: Scale and offset of codes.
            title: What the values are, with their unit.
            suffix: Their unit as it stands behind a number.
        """
        (scale, offset), known = scaling, codes[codes <= MAX_VALUE]
        low, high = np.percentile(known, SHARE).tolist() if known.size else (0.0, float(MAX_VALUE))
        # A map of one value has a ramp, too.
        high = max(high, low + 1)
        return cls(title, suffix, figure(low * scale + offset, 6), figure(high * scale + offset, 6), scale, offset)

    @property
    def values(self) -> list[float]:
        """Some at even steps from one end to the other, rounded to what a step tells."""
        decimals = max(0, 1 - int(np.floor(np.log10((self.high - self.low) / (TICKS - 1)))))
        return [round(value, decimals) for value in np.linspace(self.low, self.high, TICKS).tolist()]

    @property
    def legend(self) -> list[tuple[str, str]]:
        """Some colours, ``#rrggbb``, with what they stand for."""
        colors = [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in _ramp(TICKS).tolist()]
        return [(color, f"{value:g}{self.suffix}") for color, value in zip(colors, self.values, strict=True)]


def _rgb(color: str) -> list[int]:
    return [int(color[i : i + 2], 16) for i in (1, 3, 5)]


def _ramp(steps: int = 256) -> U8:
    """(steps, 3): the ramp."""
    anchors = np.array([_rgb(color) for color in VIRIDIS], np.float64)
    at = np.linspace(0, len(VIRIDIS) - 1, steps)
    channels = [np.interp(at, np.arange(len(VIRIDIS)), anchors[:, k]) for k in range(3)]
    return np.rint(np.stack(channels, axis=1)).astype(np.uint8)


def colored_values(codes: U16, ramp: Ramp) -> U8:
    """(h, w, 3) of codes (h, w); grey where not analysed, white without data."""
    place = np.clip((codes * ramp.scale + ramp.offset - ramp.low) / (ramp.high - ramp.low), 0, 1)
    out: U8 = _ramp()[np.rint(place * 255).astype(np.intp)]
    out[codes == VALUE_NOT_ANALYSED] = _rgb(NOT_ANALYSED_COLOR)
    out[codes == NO_VALUE] = BACKGROUND
    return out


def value_qml(ramp: Ramp) -> str:
    """QGIS style: the ramp over physical values, which QGIS makes of codes by itself; what is not analysed is transparent."""
    stops = np.linspace(ramp.low, ramp.high, len(VIRIDIS)).tolist()
    items = "\n".join(
        f'          <item value="{value:.12g}" color="{color}" alpha="255" label={xml_attribute(f"{value:.6g}{ramp.suffix}")}/>'
        for value, color in zip(stops, VIRIDIS, strict=True)
    )
    # One code above the largest value: no value lies within half a step of it.
    unknown = VALUE_NOT_ANALYSED * ramp.scale + ramp.offset
    least, most = unknown - 0.5 * ramp.scale, unknown + 0.5 * ramp.scale
    return (
        f'{DOCTYPE}<qgis version="{QGIS_VERSION}" styleCategories="Symbology">\n'
        "  <pipe>\n"
        '    <rasterrenderer type="singlebandpseudocolor" band="1" opacity="1" alphaBand="-1" nodataColor="" '
        f'classificationMin="{ramp.low:.12g}" classificationMax="{ramp.high:.12g}">\n'
        "      <rasterTransparency>\n        <singleValuePixelList>\n"
        f'          <pixelListEntry min="{least:.12g}" max="{most:.12g}" percentTransparent="100"/>\n'
        "        </singleValuePixelList>\n      </rasterTransparency>\n"
        "      <rastershader>\n"
        '        <colorrampshader colorRampType="INTERPOLATED" classificationMode="1" clip="0" '
        f'minimumValue="{ramp.low:.12g}" maximumValue="{ramp.high:.12g}" labelPrecision="6">\n'
        f"{items}\n"
        "        </colorrampshader>\n      </rastershader>\n    </rasterrenderer>\n  </pipe>\n"
        "  <blendMode>0</blendMode>\n"
        "</qgis>\n"
    )


@dataclass(frozen=True, slots=True, eq=False)
class ValuePanels:
    """The parts of the picture, (h, w, 3) uint8 each."""

    image: U8
    values: U8


def write_value_preview(
    path: Path,
    image: NDArray[np.generic],
    codes: U16,
    ramp: Ramp,
    place: PicturePlace,
    *,
    clouded: bool = False,
) -> ValuePanels:
    """Write the picture: the image, the map, the legend; returns the first two.

    Args:
        path: The PNG file.
        image: (1 or 3, h, w) pixels of the scene, every ``place.stride``-th.
        codes: (h, w) codes of the same pixels.
        ramp: What they are, and their colours.
        place: Where the pixels lie.
        clouded: Whether clouds hide what is not analysed, so that its light does not count.
    """
    import PIL.Image

    photo = stretched(image, codes != NO_VALUE, codes != VALUE_NOT_ANALYSED if clouded else None)
    panels = ValuePanels(photo, colored_values(codes, ramp))
    sheet = sheet_of([PIL.Image.fromarray(photo), PIL.Image.fromarray(panels.values)], place)
    size = sheet.width + GAP + LEGEND_PX, max(sheet.height, (2 * TICKS + 3) * FONT_PX)
    wide = PIL.Image.new("RGB", size, BACKGROUND)
    wide.paste(sheet, (0, 0))
    _draw_legend(wide, sheet.width + GAP, ramp)
    wide.save(path, format="PNG", compress_level=2)
    return panels


def _draw_legend(sheet: Image, left: int, ramp: Ramp) -> None:
    """Draw the name of the quantity, and below it the ramp, the largest value at the top."""
    import PIL.Image
    from PIL import ImageDraw, ImageFont

    draw, font, lines = ImageDraw.Draw(sheet), ImageFont.load_default(FONT_PX), [""]
    for word in ramp.title.split():
        longer = f"{lines[-1]} {word}".strip()
        lines[-1:] = [longer] if draw.textlength(longer, font=font) <= LEGEND_PX or not lines[-1] else [lines[-1], word]
    for i, line in enumerate(lines):
        draw.text((left, i * (FONT_PX + 3)), line, fill=BORDER, font=font)
    top = len(lines) * (FONT_PX + 3) + FONT_PX
    height = max(2, min(sheet.height - top - FONT_PX, TALLEST_PX))
    bar = np.repeat(_ramp(height)[::-1][:, None], BAR_PX, axis=1)
    sheet.paste(PIL.Image.fromarray(bar), (left, top))
    for i, value in enumerate(ramp.values):
        y = top + (TICKS - 1 - i) * (height - 1) // (TICKS - 1)
        draw.line([left + BAR_PX, y, left + BAR_PX + 4, y], fill=BORDER)
        draw.text((left + BAR_PX + 8, y - FONT_PX // 2 - 1), f"{value:g}", fill=BORDER, font=font)

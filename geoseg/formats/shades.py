"""QGIS styles of figures rather than classes: outlines, hatching, shades by a number."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from geoseg.formats.styles import DOCTYPE, QGIS_VERSION
from geoseg.formats.text import xml_attribute

__all__ = ["SHARES", "hatched_qml", "outline_qml", "shades_qml", "shades_raster_qml", "shares_qml"]

RAMP = ("#fff5eb", "#fdd0a2", "#fd8d3c", "#d94801", "#7f2704")
"""From little to much: ColorBrewer's Oranges, which the colour-blind and printers distinguish."""


def _rgb(color: str) -> str:
    return ",".join(str(int(color[i : i + 2], 16)) for i in (1, 3, 5))


def _symbol(name: str, fill: str, outline: str, width: float, *, brush: str = "solid", line: str = "solid") -> str:
    values = (
        ("color", fill),
        ("style", brush),
        ("outline_color", outline),
        ("outline_style", line),
        ("outline_width", f"{width:g}"),
        ("outline_width_unit", "MM"),
        ("joinstyle", "miter"),
    )
    return (
        f'      <symbol type="fill" name={xml_attribute(name)} alpha="1" clip_to_extent="1" force_rhr="0">\n'
        '        <layer class="SimpleFill" enabled="1" locked="0" pass="0">\n'
        + "".join(f'          <prop k="{key}" v="{value}"/>\n' for key, value in values)
        + "        </layer>\n      </symbol>"
    )


def _vector(renderer: str, rules: str, symbols: Sequence[str]) -> str:
    return (
        f'{DOCTYPE}<qgis version="{QGIS_VERSION}" styleCategories="Symbology">\n'
        f'  <renderer-v2 {renderer} forceraster="0" symbollevels="0" enableorderby="0">\n{rules}'
        "    <symbols>\n" + "\n".join(symbols) + "\n    </symbols>\n  </renderer-v2>\n"
        "  <layerGeometryType>2</layerGeometryType>\n</qgis>\n"
    )


def outline_qml(color: str, *, dashed: bool = False, width_mm: float = 0.6) -> str:
    """Polygons as their outlines only."""
    symbol = _symbol("0", "0,0,0,0", f"{_rgb(color)},255", width_mm, brush="no", line="dash" if dashed else "solid")
    return _vector('type="singleSymbol"', "", [symbol])


def hatched_qml(color: str) -> str:
    """Polygons hatched, so that what lies under them is seen."""
    return _vector('type="singleSymbol"', "", [_symbol("0", f"{_rgb(color)},255", f"{_rgb(color)},255", 0.2, brush="b_diagonal")])


def shades_qml(column: str, limits: Sequence[float], labels: Sequence[str], unknown: str) -> str:
    """Polygons shaded by a number; those without one are hatched, not left out.

    Args:
        column: The number, 0 or more.
        limits: Where shades end: the first holds what is not above the first limit, and so on.
        labels: A text a shade.
        unknown: The text of those without a number.
    """
    name = f'"{column}"'
    lows = [f"{name} > {low:.12g} AND " for low in limits[:-1]]
    filters = [f"{low}{name} <= {high:.12g}" for low, high in zip(["", *lows], limits, strict=True)] + [f"{name} IS NULL"]
    rules = "".join(
        f'      <rule key="r{i}" filter={xml_attribute(text)} symbol="{i}" label={xml_attribute(label)}/>\n'
        for i, (text, label) in enumerate(zip(filters, [*labels, unknown], strict=True))
    )
    colors = [RAMP[round(i * (len(RAMP) - 1) / max(1, len(limits) - 1))] for i in range(len(limits))]
    symbols = [_symbol(str(i), f"{_rgb(color)},200", "90,90,90,255", 0.1) for i, color in enumerate(colors)]
    symbols.append(_symbol(str(len(colors)), "130,130,130,255", "90,90,90,255", 0.1, brush="b_diagonal"))
    return _vector('type="RuleRenderer"', f'    <rules key="root">\n{rules}    </rules>\n', symbols)


SHARES = (0.0, 0.1, 0.25, 0.5, 1.0)


def shares_qml(column: str, what: str) -> str:
    """Polygons shaded by a share from 0 to 1 of something among what was analysed."""
    percent = [f"{100 * limit:g} %" for limit in SHARES]
    between = [f"{low} to {high}" for low, high in itertools.pairwise(percent[1:])]
    labels = [f"none {what}", f"up to {percent[1]} {what}", *between]
    return shades_qml(column, SHARES, labels, "nothing analysed")


def shades_raster_qml(most: float, unit: str) -> str:
    """A raster of one band shaded from 0 to a value; 0 itself is clear, so that the map under it is seen."""
    steps = [most * i / (len(RAMP) - 1) for i in range(len(RAMP))]
    items = "".join(
        f'          <item value="{value:.12g}" color="{color}" alpha="{0 if i == 0 else 210}" '
        f"label={xml_attribute(f'{value:.4g} {unit}')}/>\n"
        for i, (value, color) in enumerate(zip(steps, RAMP, strict=True))
    )
    return (
        f'{DOCTYPE}<qgis version="{QGIS_VERSION}" styleCategories="Symbology">\n  <pipe>\n'
        '    <rasterrenderer type="singlebandpseudocolor" band="1" opacity="1" alphaBand="-1" classificationMin="0" '
        f'classificationMax="{most:.12g}" nodataColor="">\n'
        "      <rasterTransparency/>\n      <rastershader>\n"
        '        <colorrampshader colorRampType="INTERPOLATED" classificationMode="1" clip="0" minimumValue="0" '
        f'maximumValue="{most:.12g}">\n'
        f"{items}        </colorrampshader>\n      </rastershader>\n    </rasterrenderer>\n  </pipe>\n  "
        "<blendMode>0</blendMode>\n</qgis>\n"
    )

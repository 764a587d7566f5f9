"""Colours of classes as properties of GeoJSON features, for viewers that know them.

The names are those of simplestyle 1.1.0, https://github.com/mapbox/simplestyle-spec/tree/master/1.1.0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from geoseg.formats.styles import ClassStyle
from geoseg.polygons.features import GEOMETRY

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["colored"]

OPACITY = 0.6
"""Of the inside: maps beneath are to be seen."""


def colored(batches: Iterable[pa.RecordBatch], styles: Iterable[ClassStyle]) -> Iterator[pa.RecordBatch]:
    """Features with ``fill``, ``fill-opacity`` and ``stroke`` of their class; a class without a colour has none of them.

    Args:
        batches: Features with their ``code`` (``features.feature_schema``).
        styles: The classes.
    """
    import pyarrow as pa

    colors = {style.code: style.color for style in styles}
    for batch in batches:
        found = [colors.get(code) for code in batch.column("code").to_pylist()]
        fill = pa.array(found, pa.string())
        opacity = pa.array([None if color is None else OPACITY for color in found], pa.float64())
        columns = {"fill": fill, "fill-opacity": opacity, "stroke": fill}
        place = batch.schema.names.index(GEOMETRY)
        arrays = [*batch.columns[:place], *columns.values(), *batch.columns[place:]]
        own, added = list(batch.schema), [pa.field(name, array.type) for name, array in columns.items()]
        yield pa.RecordBatch.from_arrays(arrays, schema=pa.schema([*own[:place], *added, *own[place:]]))

"""Files of areas that were estimated from a sample."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from geoseg.formats.text import write_table
from pipeline.files.outputs import output_file, write_output_json

__all__ = ["write_areas"]

COLUMNS = ("class", "mapped_ha", "area_ha", "se_ha", "low_ha", "high_ha")
FIGURES = ("value", "se", "low", "high")


def write_areas(document: Mapping[str, Any], out: Path | None, table: Path | None) -> None:
    """Write the figures as JSON and the areas as CSV, where they are asked for.

    Raises:
        OutputError: A file can't be written.
    """
    if out is not None:
        write_output_json(out, document)
    if table is not None:
        scale = 1e4 if document["unit"] == "m2" else 1.0
        figures = [(row["class"], row["mapped_area"], *(row["area"][k] for k in FIGURES)) for row in document["by_class"]]
        rows = [(name, *("" if v is None else f"{v / scale:.4f}" for v in areas)) for name, *areas in figures]
        with output_file(table) as part:
            write_table(part, COLUMNS, rows)

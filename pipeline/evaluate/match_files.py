"""Files of what ``match`` has found."""

from __future__ import annotations

from pathlib import Path

from geoseg.formats.text import write_table
from pipeline.evaluate.match_document import Matched
from pipeline.files.outputs import output_file, write_output_json

__all__ = ["write_matched"]


def write_matched(found: Matched, out: Path | None, pairs: Path | None) -> None:
    """Write the figures as JSON and the ids of objects that match as CSV, where they are asked for.

    Raises:
        OutputError: A file can't be written.
    """
    if out is not None:
        write_output_json(out, found.document)
    if pairs is not None:
        with output_file(pairs) as path:
            write_table(path, ("found", "truth", "iou"), ((a, b, f"{share:.6f}") for a, b, share in found.pairs))

"""The page of a scene: its latest map, with those before it."""

from __future__ import annotations

import base64
from pathlib import Path

from prefect.artifacts import create_markdown_artifact

from flows.pages.page_links import file_address, link, markdown_table, markdown_text, page_key
from geoseg.dialect import number_of
from geoseg.errors import OutputError
from geoseg.formats.page.amounts import area_text, percent, share_of
from pipeline.files.run_folder import REPORT
from pipeline.files.scene_record import SceneRecord
from pipeline.publish.run_facts import PAGE

__all__ = ["PICTURE_BYTES", "image_address", "show_scene"]

PICTURE_BYTES = 2_000_000
PICTURE = "preview.png"


def show_scene(folder: Path) -> None:
    """Show a published scene: a page of areas, picture, outputs and warnings, whose earlier states Prefect keeps.

    Raises:
        OutputError: There is no report.
    """
    record = SceneRecord.read(folder)
    if record is None:
        raise OutputError(f"{folder}: its {REPORT} is gone or can't be read; run again, and it is made anew")
    create_markdown_artifact(
        _markdown(folder, record),
        key=page_key("scene", folder.parent, folder.name),
        description=f"{record.scene}: {record.status}, in {folder.parent.resolve()}",
    )


def image_address(path: Path) -> str | None:
    """A picture as an address that holds it; None where it is not there, or too large for a page."""
    if not path.is_file() or path.stat().st_size > PICTURE_BYTES:
        return None
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def _markdown(folder: Path, record: SceneRecord) -> str:
    lines = [f"# {markdown_text(record.scene)}: {markdown_text(record.status or '')}", ""]
    if record.reason:
        lines += [f"**{markdown_text(record.reason)}**", ""]
    if PAGE in record.outputs and file_address(folder / PAGE) is not None:
        lines += [f"{link('The whole report', folder / PAGE)}", ""]
    if record.warnings:
        lines += ["## What to mind", "", *(f"- {markdown_text(text)}" for text in record.warnings), ""]
    if (picture := image_address(folder / PICTURE)) is not None:
        lines += [f"![Image, classes and polygons]({picture})", ""]
    whole = sum(entry.pixels for entry in record.classes)
    lines += markdown_table(
        ("class", "area", "share of all pixels", "pixels", "code"),
        (
            (
                markdown_text(entry.name),
                area_text(entry.area_m2),
                percent(share_of(entry.pixels, whole)),
                f"{entry.pixels:,}",
                str(entry.code),
            )
            for entry in record.classes
        ),
    )
    model, chunks = record.model, record.chunks
    made, done = number_of(record.features, "polygon"), number_of(chunks.total, "chunk")
    lines += [
        f"{made}, {done} ({chunks.empty} without data), {record.whole_s:.1f} s.",
        f"Model {markdown_text(model.name)} {markdown_text(model.version)}, sha256 {model.sha256[:12]}.",
        "",
        f"## Files in {markdown_text(str(folder.resolve()))}",
        "",
        *(f"- {link(name, folder / name)}" for name in record.outputs),
    ]
    return "\n".join(lines) + "\n"

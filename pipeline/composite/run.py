"""Composite, from scenes to published images: laid on one lattice, made chunk by chunk, written, and put into place."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geoseg.dialect import setting
from geoseg.documents import LARGE, Json, read_json
from geoseg.errors import ConfigError, OutputError
from geoseg.parallel import ordered
from geoseg.windows import Window
from pipeline.composite.composite_page import ImageFacts, write_page_of_images
from pipeline.composite.composite_plan import Document, PlannedComposite, plan_composite
from pipeline.composite.image_files import Image, write_image
from pipeline.composite.imaging import ChunkSpool, Imager, chunks_of
from pipeline.composite.observing import Observations
from pipeline.composite.periods import name_of, span_of
from pipeline.config.sections import Config
from pipeline.files.atomic import full_disks_told, remove_tree, write_json
from pipeline.files.lock import exclusive
from pipeline.files.outputs import atomic_folder, check_new_file, check_new_folder, output_file
from pipeline.files.owned import FileFacts
from pipeline.files.version import code_version

__all__ = ["RECORD", "Composite", "composite"]

RECORD, PAGE = "run.json", "report.html"
TIFFS = (".tif", ".tiff")


@dataclass(frozen=True, slots=True)
class Composite:
    """Images that were made."""

    images: tuple[Path, ...]
    """One a period, in their order."""
    record: Path
    """What was made of what."""
    fresh: bool
    """Whether they were made now; they were there already otherwise."""


def composite(
    inputs: Sequence[str],
    out: Path,
    config: Config,
    *,
    maps: Path | None = None,
    overwrite: bool = False,
    renew: bool = False,
) -> Composite:
    """Make one image without clouds of many scenes, or one a period.

    Args:
        inputs: Files, folders, globs, list files, addresses, STAC items and searches.
        out: A folder, or a GeoTIFF to write where there is one image.
        config: The settings.
        maps: The folder of maps that the images are made for; what lies in it is no scene, either.
        overwrite: Replace what is there.
        renew: Replace what was made of other scenes or with other settings; what is finished is left as it is.

    Raises:
        SceneError: A scene can't be read or placed.
        ConfigError: The settings don't fit.
        OutputError: The output is there, or can't be written.
    """
    flat = out.suffix.lower() in TIFFS
    if flat:
        check_new_file(out, overwrite=overwrite)
    plan = plan_composite(inputs, config, maps or out)
    if flat and len(plan.found.periods) > 1:
        raise ConfigError(f"--out: {out}: is one file, and there are {len(plan.found.periods)} images; name a folder")
    if not flat and not overwrite and (done := _finished(out, plan)) is not None:
        return done
    overwrite = overwrite or renew
    if not flat:
        check_new_folder(out, overwrite=overwrite)
    work = out.with_name(f".{out.name}.composite")
    with exclusive(work / ".lock"):
        if _identity_of(work) != plan.identity:
            for path in work.iterdir():
                if path.name != ".lock":
                    remove_tree(path)
            write_json(work / "identity.json", {"identity": plan.identity})
        with full_disks_told(out):
            facts = _made(plan, config, work, out.stem if flat else None)
        images = _published(facts, out, work, overwrite=overwrite)
        remove_tree(work)
    return images


def _made(plan: PlannedComposite, config: Config, work: Path, stem: str | None) -> Document:
    """Make all chunks and files, in ``work / "files"``; the record."""
    found, started = plan.found, time.monotonic()
    place = found.lattice.georeference(found.window.row_off, found.window.col_off)
    files = work / "files"
    remove_tree(files)
    files.mkdir()
    images: list[Json] = []
    told: list[ImageFacts] = []
    for key, some in found.periods.items():
        spool = ChunkSpool(work / f"chunks_{key}", chunks_of(some, found.window, found.area))
        _make_chunks(Imager(some, found.window, found.values, config.composite, found.area, plan.reading), spool, plan)
        for one in some:
            one.scene.verify_unchanged()
        image = Image(stem or name_of(key), place, found.window.shape, found.values, config.composite, some, span_of(key))
        names = write_image(image, spool, files, work / "levels", flat=stem is not None, threads=plan.threads)
        moved = sum(map(spool.moved, spool.chunks))
        counts = _counts(spool, found)
        told.append(ImageFacts(image.name, names, len(some), image.times, *_figures(counts)))
        images.append({"name": image.name, "period": key or None, "files": dict(names), "pixels_moved": moved, **counts})
    page = PAGE if stem is None else f"{stem}.{PAGE}"
    write_page_of_images(files / page, told, found.values.names, image.method, found.notes)
    return {
        "geoseg": code_version(),
        "identity": plan.identity,
        "settings": {name: config.public()[name] for name in ("composite", "scene", "area")},
        "lattice": found.lattice.document(),
        "window": [found.window.row_off, found.window.col_off, *found.window.shape],
        "bands": list(found.values.labels),
        "dtype": found.values.dtype,
        "nodata": found.values.nodata,
        "physical_values": found.values.physical,
        "report": page,
        "images": images,
        "scenes": [{"period": key or None, **one.facts} for key, some in found.periods.items() for one in some],
        "warnings": list(found.notes),
        "memory_bytes": plan.memory_bytes,
        "seconds": round(time.monotonic() - started, 3),
    }


def _make_chunks(imager: Imager, spool: ChunkSpool, plan: PlannedComposite) -> None:
    """Make the chunks of an image that are not there yet."""

    def make(chunk: Window) -> None:
        spool.put(chunk, imager.chunk(chunk))

    todo = [chunk for chunk in spool.chunks if not spool.has(chunk)]
    pool = ThreadPoolExecutor(plan.threads, thread_name_prefix="geoseg-composite")
    try:
        for _ in ordered(pool, make, todo, plan.threads):
            pass
    finally:
        pool.shutdown(cancel_futures=True)
        imager.close()


def _counts(spool: ChunkSpool, found: Observations) -> dict[str, int | float]:
    """Pixels with data, and how many clear observations they have."""
    total = np.zeros(2**16, np.int64)
    for chunk in spool.chunks:
        count = spool.read("count", None, np.zeros((), np.uint16), chunk)
        total += np.bincount(count.ravel().astype(np.int64), minlength=len(total))
    clear = int(total[1:].sum())
    mean = float((total * np.arange(len(total))).sum() / clear) if clear else 0.0
    return {
        "clear_pixels": clear,
        "pixels": found.window.pixels,
        "most_observations": int(np.flatnonzero(total).max(initial=0)),
        "mean_observations": round(mean, 4),
    }


def _figures(counts: Mapping[str, int | float]) -> tuple[int, int, float, int]:
    """What the page tells of counts."""
    return int(counts["clear_pixels"]), int(counts["pixels"]), counts["mean_observations"], int(counts["most_observations"])


def _published(facts: Document, out: Path, work: Path, *, overwrite: bool) -> Composite:
    """Put finished files where they are to be."""
    images = facts["images"]
    assert isinstance(images, list)
    named = [one["files"] for one in images if isinstance(one, Mapping)]
    if out.suffix.lower() not in TIFFS:
        with atomic_folder(out, replace=overwrite) as folder:
            for path in (work / "files").iterdir():
                _keep_times(path, out / path.name)
                shutil.move(path, folder / path.name)
            write_json(folder / RECORD, facts)
        return Composite(
            tuple(out / str(files["image"]) for files in named if isinstance(files, Mapping)), out / RECORD, fresh=True
        )
    (files,) = named
    assert isinstance(files, Mapping)
    files = {**files, "report": facts["report"]}
    record = out.with_name(f"{out.stem}.{RECORD}")
    for kind, name in sorted(files.items(), key=lambda item: item[0] == "image"):
        # The image comes last: where it is, all is.
        if kind == "image":
            write_json(record, facts)
        target = out if kind == "image" else out.with_name(str(name))
        with output_file(target) as temporary:
            shutil.move(work / "files" / str(name), temporary)
    return Composite((out,), record, fresh=True)


def _keep_times(new: Path, earlier: Path) -> None:
    """Give files the times of those that they replace where they are the same: what was made of these is not made again."""
    for path in sorted(new.rglob("*")) if new.is_dir() else [new]:
        before = earlier / path.relative_to(new)
        if path.is_file() and before.is_file() and FileFacts.of(path).hold(before):
            stat = before.stat()
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def _identity_of(folder: Path, name: str = "identity.json") -> object:
    try:
        document = read_json(folder / name, limit=LARGE)
    except (OSError, ValueError):
        return None
    return document.get("identity") if isinstance(document, Mapping) else None


def _finished(out: Path, plan: PlannedComposite) -> Composite | None:
    """What an earlier run has made of the same, where it is still there."""
    if _identity_of(out, RECORD) != plan.identity:
        return None
    record = read_json(out / RECORD, limit=LARGE)
    files = [out / name for one in record["images"] for name in (*one["files"].values(), record["report"])]
    if not all(path.is_file() for path in files):
        raise OutputError(f"{out}: some of its files have gone; make them again with {setting('overwrite')}")
    return Composite(tuple(out / one["files"]["image"] for one in record["images"]), out / RECORD, fresh=False)

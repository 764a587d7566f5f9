"""The accuracy of a map and the areas of its classes, from a sample that people have labelled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
from numpy.typing import NDArray

from geoseg.codes import MAX_CLASS
from geoseg.errors import ConfigError
from geoseg.models.folder import file_hash
from geoseg.sampling.estimators import Estimate, Sample, accuracy, shares_of_blocks
from geoseg.windows import Window
from pipeline.sample_file import UNSURE, Design, read_sample
from pipeline.sampling import ClassMap, areas_of, open_map

__all__ = ["estimate_areas"]

COVERED = 0.5
"""A class whose interval reaches further than this share of it is not known well."""


def estimate_areas(map_path: str, sample_path: Path, *, drop: bool = False, correction: bool = True) -> dict[str, Any]:
    """Accuracy of a map and areas of its classes from a labelled sample.

    Args:
        map_path: The map; that which the sample was drawn from, or another one of the same grid.
        sample_path: The sample, as ``draw_sample`` wrote it, labelled.
        drop: Leave out units without a label instead of refusing; their strata are then taken as if fewer had been drawn.
        correction: Whether the finite population correction is applied.

    Raises:
        ConfigError: It is no probability sample of this map, or is not labelled.
    """
    design, columns = read_sample(sample_path)
    facts = design.facts
    image = open_map(map_path)
    place = image.raster.georeference
    if (
        list(image.raster.shape) != facts["shape"]
        or not np.allclose(place.transform, facts["transform"])
        or not _same_crs(place.crs, facts["crs"])
    ):
        raise ConfigError(
            f"{sample_path}: was drawn from {facts['map']}, whose grid {map_path} does not have, so that it is no probability sample of it; "
            "give that map, or one on its grid"
        )
    own = file_hash(image.path) == facts["map_sha256"]
    names = {int(code): name for code, name in facts["classes"]}
    if image.names != names and not own:
        raise ConfigError(
            f"{map_path}: its classes are {', '.join(image.names.values())}, those of the sample {', '.join(names.values())}; "
            "both are to be the same"
        )
    strata = facts["strata"]
    size = np.array([stratum["size"] for stratum in strata], np.float64)
    area_by_code = areas_of(image.raster)
    total = sum(area for code, area in area_by_code.items() if int(code) <= MAX_CLASS)
    document: dict[str, Any] = {
        "map": image.path.name, "sample": sample_path.name, "drawn_from": facts["map"], "same_map": own,
        "estimator": _estimator(facts, own=own), "unit": "m2" if place.crs is not None else "px", "population_area": total,
        "not_analysed_area": area_by_code.get("254", 0.0), "classes": list(names.values()),
    }  # fmt: skip
    if not own:
        drawn_total = sum(area for code, area in facts["area_m2"].items() if int(code) <= MAX_CLASS)
        if abs(drawn_total - total) > 1e-6 * max(total, 1.0):
            raise ConfigError(
                f"{map_path}: {total:.0f} {document['unit']} are analysed, and {drawn_total:.0f} in the map that the sample was drawn "
                "from: what lies in one and not in the other was not sampled; mask both alike"
            )
    if facts["block"] > 1:
        return document | _of_blocks(design, columns, names, size, total, area_by_code, drop=drop, correction=correction)
    return document | _of_points(design, columns, image, names, size, total, area_by_code, drop=drop, correction=correction)


def _estimator(facts: Mapping[str, Any], *, own: bool) -> str:
    if facts["block"] > 1:
        return "one-stage cluster sampling of blocks (Cochran 1977)"
    if len(facts["strata"]) == 1:
        return "simple random sampling"
    if own and facts["strata_sha256"] == facts["map_sha256"] and not facts["around"]:
        return "stratified by the classes of the map (Olofsson et al. 2014)"
    return "stratified by other strata than the classes of the map (Stehman 2014)"


def _same_crs(one: str | None, other: str | None) -> bool:
    if one is None or other is None:
        return one is None and other is None
    return bool(pyproj.CRS.from_user_input(one) == pyproj.CRS.from_user_input(other))


def _kept(labelled: NDArray[np.bool_], what: str, *, drop: bool) -> NDArray[np.int64]:
    missing = int((~labelled).sum())
    if missing and not drop:
        raise ConfigError(
            f"sample: {missing} of {len(labelled)} units have no {what}; label them, or pass --nonresponse drop to take the others "
            "for all, which is right only if what can't be told is like the rest"
        )
    return np.flatnonzero(labelled)


def _of_points(
    design: Design, columns: Mapping[str, NDArray[Any]], image: ClassMap, names: Mapping[int, str], size: NDArray[np.float64],
    total: float, area_by_code: Mapping[str, float], *, drop: bool, correction: bool,
) -> dict[str, Any]:  # fmt: skip
    order = {name: k for k, name in enumerate(names.values())} | {str(code): k for k, code in enumerate(names)}
    given = [None if value is None else str(value).strip() for value in columns["reference"].tolist()]
    for number, text in enumerate(given, 1):
        if text and text != UNSURE and text not in order:
            raise ConfigError(
                f"sample: unit {number} is labelled {text!r}, which is none of {', '.join(names.values())}; correct it"
            )
    labelled = np.array([bool(text) and text != UNSURE for text in given])
    kept = _kept(labelled, "label", drop=drop)
    reference = np.array([order[str(given[k])] for k in kept], np.int64)
    position = {code: k for k, code in enumerate(names)}
    mapped_codes = [int(image.raster.classes(Window(int(design.row[k]), int(design.col[k]), 1, 1))[0, 0]) for k in kept]
    mapped = np.array([position[code] for code in mapped_codes], np.int64)
    sample = Sample(design.stratum[kept], size, correction)
    found = accuracy(sample, mapped, reference, len(names), design.area[kept])
    rows = []
    for k, (code, name) in enumerate(names.items()):
        area, there = found.shares[k].times(total), area_by_code.get(str(code), 0.0)
        rows.append({
            "class": name, "mapped_area": there, "area": area.to_json(), "share": found.shares[k].to_json(),
            "users_accuracy": found.users[k].to_json(), "producers_accuracy": found.producers[k].to_json(),
            "bias": _bias(there, area),
        })  # fmt: skip
    return {
        "units": len(kept), "left_out": int(len(given) - len(kept)), "overall_accuracy": found.overall.to_json(),
        "error_matrix": {"counts": found.counts.tolist(), "proportions": found.proportions.tolist()}, "by_class": rows,
        "notes": _notes(rows, design, kept),
    }  # fmt: skip


def _of_blocks(
    design: Design, columns: Mapping[str, NDArray[Any]], names: Mapping[int, str], size: NDArray[np.float64], total: float,
    area_by_code: Mapping[str, float], *, drop: bool, correction: bool,
) -> dict[str, Any]:  # fmt: skip
    percent = np.stack([columns[f"percent_{k}"].astype(np.float64) for k in range(len(names))], axis=1)
    whole = np.nansum(percent, axis=1)
    some: NDArray[np.bool_] = np.asarray(np.isfinite(percent).any(axis=1))
    wrong = np.flatnonzero(some & (np.abs(whole - 100) > 1))
    if len(wrong):
        raise ConfigError(
            f"sample: the shares of unit {int(wrong[0]) + 1} add up to {whole[wrong[0]]:g} percent; they are to be 100"
        )
    kept = _kept(some, "shares", drop=drop)
    share = np.nan_to_num(percent[kept]) / whole[kept, None]
    found = shares_of_blocks(Sample(design.stratum[kept], size, correction), share, design.area[kept])
    rows = []
    for k, (code, name) in enumerate(names.items()):
        area, there = found[k].times(total), area_by_code.get(str(code), 0.0)
        rows.append(
            {"class": name, "mapped_area": there, "area": area.to_json(), "share": found[k].to_json(), "bias": _bias(there, area)}
        )
    return {"units": len(kept), "left_out": int(len(some) - len(kept)), "by_class": rows, "notes": _notes(rows, design, kept)}


def _bias(mapped: float, area: Estimate) -> bool:
    """Whether the mapped area lies outside of the interval."""
    low, high = area.interval
    return bool(np.isfinite(area.value) and not low <= mapped <= high)


def _notes(rows: Sequence[Mapping[str, Any]], design: Design, kept: NDArray[np.int64]) -> list[str]:
    notes = [
        f"{row['class']}: the map's area lies outside of the interval: counting its pixels is biased"
        for row in rows
        if row["bias"]
    ]
    for row in rows:
        area = row["area"]
        if area["value"] and area["high"] - area["value"] > COVERED * area["value"]:
            notes.append(
                f"{row['class']}: known to {100 * (area['high'] / area['value'] - 1):.0f} % only; draw more units where it may be"
            )
        if area["low"] is not None and area["low"] < 0:
            notes.append(
                f"{row['class']}: the interval reaches below 0: too few units showed it for the normal distribution to hold"
            )
    left = len(design.stratum) - len(kept)
    if left:
        notes.append(f"{left} units were left out as if they had not been drawn")
    return notes

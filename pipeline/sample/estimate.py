"""The accuracy of a map and the areas of its classes, from a sample of which it is known what lies there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyproj
from numpy.typing import NDArray

from geoseg.addresses import split_layer
from geoseg.errors import ConfigError
from geoseg.models.model_folder import file_hash
from geoseg.sampling.estimators import Accuracy, Estimate, Sample, accuracy, accuracy_of_blocks, most_unseen, shares_of_blocks
from geoseg.windows import Window
from pipeline.files.reports import review_note
from pipeline.sample.areas_file import AreaDocument, ClassArea, class_areas, entry_of
from pipeline.sample.file import Design, DesignFacts, read_sample
from pipeline.sample.response import UNKNOWN, Columns, Reference, kept_of, labels_of, shares_of, tables_of
from pipeline.sample.sampling_frame import ClassMap, open_map, same_place

__all__ = ["estimate_areas"]

COVERED = 0.5
"""A class whose interval reaches further than this share of it is not known well."""
FEW_BLOCKS = 100
"""Intervals from fewer are too narrow: in simulation, 20 blocks hold the truth in 82 to 90 of 100 samples, 40 in 89 to 93."""
Floats = NDArray[np.float64]


def estimate_areas(
    map_path: str, sample_path: Path, *, reference: Reference | None = None, drop: bool = False, correction: bool = True
) -> AreaDocument:
    """Accuracy of a map and areas of its classes from a sample.

    Args:
        map_path: The map; that which the sample was drawn from, or another one of the same grid.
        sample_path: The sample, as ``draw_sample`` wrote it, labelled.
        reference: What lies where in its units; by default, what is filled in.
        drop: Leave out units without a label instead of refusing; their strata are then taken as if fewer had been drawn.
        correction: Whether the finite population correction is applied.

    Raises:
        ConfigError: It is no probability sample of this map, or is not labelled.
        SceneError: The map or the reference can't be read.
    """
    design, columns = read_sample(sample_path)
    image, facts = open_map(map_path), design.facts
    own = file_hash(image.path) == facts["map_sha256"]
    if not own:
        _check_map(image, sample_path, facts)
    if reference is not None:
        told = _told_by_reference(image, design, reference, drop=drop, correction=correction)
    elif facts["block"] > 1:
        told = _told_by_shares(image, design, columns, drop=drop, correction=correction)
    else:
        told = _told_by_labels(image, design, columns, drop=drop, correction=correction)
    document = _document(image, sample_path, design, told, reference, own=own)
    found, names, block = told.found, list(image.names.values()), facts["block"]
    notes = _notes(document["by_class"], told.shares) + _unseen(image, design, told)
    if found is not None:
        document["overall_accuracy"] = entry_of(found.overall)
        document["error_matrix"] = {
            "of": "pixels" if block > 1 else "units",
            "counts": found.counts.tolist(),
            "proportions": found.proportions.tolist(),
        }
        notes += _agreed(found, names)
    if block > 1 and len(told.kept) < FEW_BLOCKS:
        notes.append(
            f"{len(told.kept)} blocks are few: intervals from 20 held the truth in 82 to 90 of 100 simulated samples, from 40 in "
            f"89 to 93, from {FEW_BLOCKS} in 93 to 94; draw more, and smaller ones"
        )
    if document["left_out"]:
        notes.append(f"{document['left_out']} units were left out as if they had not been drawn")
    reviewed = review_note(Path(image.path))
    document["notes"] = notes if reviewed is None else [*notes, reviewed]
    return document


def _document(
    image: ClassMap, sample_path: Path, design: Design, told: _Told, reference: Reference | None, *, own: bool
) -> AreaDocument:
    facts = design.facts
    return {
        "map": image.path.name,
        "sample": sample_path.name,
        "drawn_from": facts["map"],
        "same_map": own,
        "reference": None
        if reference is None
        else {"file": Path(reference.path).name, "sha256": file_hash(split_layer(reference.path)[0])},
        "estimator": _estimator(facts, own=own),
        "unit": "px" if image.raster.georeference.crs is None else "m2",
        "population_area": image.analysed_area,
        "not_analysed_area": image.area.get("254", 0.0),
        "classes": list(image.names.values()),
        "units": len(told.kept),
        "left_out": len(design.stratum) - len(told.kept),
        "by_class": class_areas(image, told.shares, told.found),
    }


@dataclass(frozen=True, slots=True, eq=False)
class _Told:
    """Classes in the units, and the estimates that follow."""

    kept: NDArray[np.int64]
    """(n,) units of which it is known what is there."""
    sample: Sample
    """These."""
    there: Floats
    """(n, K) shares of the classes in each."""
    shares: Sequence[Estimate]
    """(K,) of the classes in the area."""
    found: Accuracy | None
    """None where it is not known what lies where in a unit."""


def _sizes(design: Design) -> Floats:
    return np.array([stratum["size"] for stratum in design.facts["strata"]], np.float64)


def _told_by_reference(image: ClassMap, design: Design, reference: Reference, *, drop: bool, correction: bool) -> _Told:
    tables = tables_of(image, design, reference)
    kept = kept_of(
        design.stratum,
        design.facts["strata"],
        tables.missing == 0,
        _uncovered(reference, tables.missing, tables.pixels),
        drop=drop,
    )
    sample = Sample(design.stratum[kept], _sizes(design), correction)
    found = accuracy_of_blocks(sample, tables.pixels[kept], tables.area[kept])
    there = tables.area[kept].sum(axis=1)
    return _Told(kept, sample, there / there.sum(axis=1, keepdims=True), found.shares, found)


def _told_by_shares(image: ClassMap, design: Design, columns: Columns, *, drop: bool, correction: bool) -> _Told:
    there = shares_of(columns, len(image.names))
    kept = kept_of(
        design.stratum, design.facts["strata"], np.isfinite(there[:, 0]), "shares; fill them in, give --reference", drop=drop
    )
    sample, there = Sample(design.stratum[kept], _sizes(design), correction), there[kept]
    return _Told(kept, sample, there, shares_of_blocks(sample, there, design.area[kept]), None)


def _told_by_labels(image: ClassMap, design: Design, columns: Columns, *, drop: bool, correction: bool) -> _Told:
    labels, count = labels_of(columns, image.names), len(image.names)
    kept = _kept(design, labels != UNKNOWN, "label; label them", drop=drop)
    sample = Sample(design.stratum[kept], _sizes(design), correction)
    found = accuracy(sample, _mapped(image, design, kept), labels[kept], count, design.area[kept])
    return _Told(kept, sample, np.eye(count)[labels[kept]], found.shares, found)


def _check_map(image: ClassMap, sample: Path, facts: DesignFacts) -> None:
    """Refuse a map that the sample says nothing of."""
    place = image.raster.georeference
    if (
        list(image.raster.shape) != facts["shape"]
        or not _same_crs(place.crs, facts["crs"])
        or not same_place(place, facts["transform"], facts["shape"])
    ):
        raise ConfigError(
            f"{sample}: was drawn from {facts['map']}, whose grid {image.path} does not have, so that it is no probability "
            "sample of it; give that map, or one on its grid"
        )
    names = {int(code): name for code, name in facts["classes"]}
    if image.names != names:
        raise ConfigError(
            f"{image.path}: its classes are {', '.join(image.names.values())}, those of the sample {', '.join(names.values())}; "
            "both are to be the same"
        )
    if image.mask_sha256 != facts["mask_sha256"]:
        raise ConfigError(
            f"{image.path}: analysed other pixels than {facts['map']}, from which the sample was drawn: what lies in one and "
            "not in the other was not sampled; mask both alike"
        )


def _same_crs(one: str | None, other: str | None) -> bool:
    if one is None or other is None:
        return one is None and other is None
    return bool(pyproj.CRS.from_user_input(one) == pyproj.CRS.from_user_input(other))


def _estimator(facts: DesignFacts, *, own: bool) -> str:
    if facts["block"] > 1:
        return "one-stage cluster sampling of blocks, ratios of totals (Cochran 1977; Stehman 1997)"
    if len(facts["strata"]) == 1:
        return "simple random sampling"
    if own and facts["strata_sha256"] == facts["map_sha256"] and not facts["around"]:
        return "stratified by the classes of the map (Olofsson et al. 2014)"
    return "stratified by other strata than the classes of the map (Stehman 2014)"


def _kept(design: Design, known: NDArray[np.bool_], what: str, *, drop: bool) -> NDArray[np.int64]:
    return kept_of(design.stratum, design.facts["strata"], known, what, drop=drop)


def _uncovered(reference: Reference, missing: NDArray[np.int64], pixels: NDArray[np.int64]) -> str:
    first = int(missing.argmax())
    return (
        f"class everywhere in {reference.path}: unit {first + 1} has none in {missing[first]:,} of "
        f"{missing[first] + pixels[first].sum():,} analysed pixels, which lie outside of what it covers, or where its value is "
        "no class; give one that covers all units, or, of features, the class of what lies outside by --outside"
    )


def _mapped(image: ClassMap, design: Design, kept: NDArray[np.int64]) -> NDArray[np.int64]:
    """Class of the map at points, by position."""
    position = {code: k for k, code in enumerate(image.names)}
    places = zip(design.row[kept].tolist(), design.col[kept].tolist(), strict=True)
    return np.array([position[int(image.raster.classes(Window.at((row, col), (1, 1)))[0, 0])] for row, col in places], np.int64)


def _notes(rows: Sequence[ClassArea], shares: Sequence[Estimate]) -> list[str]:
    notes = [
        f"{row['class']}: the map's area lies outside of the interval: counting its pixels is biased"
        for row in rows
        if row["bias"]
    ]
    for row, share in zip(rows, shares, strict=True):
        area = row["area"]
        value, high = area["value"], area["high"]
        if value and high is not None and high - value > COVERED * value:
            notes.append(
                f"{row['class']}: the interval reaches {high / value:.1f} times the estimate, too far to rely "
                "on it; draw more units where it may be"
            )
        if share.cut:
            notes.append(
                f"{row['class']}: the interval is cut at {'0' if share.value < 0.5 else 'all'}: too few units showed it, or "
                "something else, for the normal distribution to hold"
            )
    return notes


def _unseen(image: ClassMap, design: Design, told: _Told) -> list[str]:
    """Strata in which all units are the same: standard errors take these as known without error, and no sample knows that."""
    notes, scale = [], 1e4 if image.raster.georeference.crs is not None else 1.0
    sample, there = told.sample, told.there
    means = [design.area[told.kept][sample.stratum == h].mean() for h in range(len(sample.size))]
    total = float((sample.size * means).sum())
    for number, stratum in enumerate(design.facts["strata"]):
        units = there[sample.stratum == number]
        if len(units) == stratum["size"] or not (units == units[0]).all() or units[0].max() != 1:
            continue
        most = most_unseen(np.ones(1), np.array([float(len(units))]))
        area = most * stratum["size"] * means[number] / total * image.analysed_area / scale
        notes.append(
            f"{stratum['name']}: all {len(units)} units are {list(image.names.values())[int(units[0].argmax())]}, which adds "
            f"nothing to any standard error; up to {100 * most:.1f} % of it, {area:,.1f} {'px' if scale == 1 else 'ha'}, "
            "may be something else (97.5 %)"
        )
    return notes


def _agreed(found: Accuracy, names: Sequence[str]) -> list[str]:
    """Accuracies of 0 or 1, whose standard error is 0."""
    every = [("overall accuracy", found.overall)]
    for title, estimates in (("user's accuracy", found.users), ("producer's accuracy", found.producers)):
        every += [(f"{title} of {name}", estimate) for name, estimate in zip(names, estimates, strict=True)]
    same = [title for title, estimate in every if estimate.unseen > 0]
    return (
        [
            (
                f"{', '.join(same)}: all units agree, so that the standard error is 0; the interval is that of the binomial "
                "distribution"
            )
        ]
        if same
        else []
    )

"""Grading by a model of this event: learned from the buildings that are labelled, and what to label next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geoseg.arrays import F64
from geoseg.damage.event_model import EventData, EventFigures, EventModel, learn_event, to_label
from geoseg.damage.scale import CLASSES, decided
from geoseg.dialect import number_of, setting
from geoseg.errors import ConfigError
from geoseg.models.model_folder import file_hash
from pipeline.damage.buildings import Building
from pipeline.damage.case import Case, Counter
from pipeline.damage.document import EventEntry
from pipeline.damage.embeddings import EMBEDDINGS, Embeddings, embed_buildings, key_of, places_of
from pipeline.damage.event_labels import EventLabels, read_labels
from pipeline.damage.files import write_labels
from pipeline.damage.grading import Grade, classes_of_damage
from pipeline.damage.settings import EventOptions
from pipeline.files.manifest import Manifest
from pipeline.files.run_folder import RunFolder
from pipeline.segment.progress import Progress

__all__ = ["LABEL_NEXT", "NO_LABEL", "Event", "EventGrades", "grade_event"]

LABEL_NEXT = "label_next.gpkg"
NO_LABEL = "no label yet"
"""Why nothing is graded where no building has a label."""


@dataclass(frozen=True, slots=True, eq=False)
class EventGrades:
    """Grades of all buildings of an event."""

    grades: Mapping[int, Grade]
    """By the number of the building."""
    figures: EventFigures | None
    """None where nothing was labelled."""
    given: bool
    """Whether, for want of labels, the grades are those of the model that was given."""
    next_ones: tuple[int, ...]
    """Numbers of the buildings to label next, the most useful first."""
    embeddings: Embeddings | None = None
    """What they were learned from."""


@dataclass(frozen=True, slots=True, eq=False)
class Event:
    """A case that is graded by a model of its event."""

    case: Case
    options: EventOptions
    labels: EventLabels
    weights: str | None
    """sha256 of the weights that were given."""

    @classmethod
    def of(cls, case: Case, options: EventOptions | None) -> Event | None:
        """Read the labels of a case; None where it is not graded so.

        Raises:
            ConfigError: Labels or weights can't be read.
        """
        if options is None or not options.wanted:
            return None
        place, config = case.opened.scene.georeference, case.config
        labels = read_labels(options.labels, options.label_column, case.buildings, place, config.scene.assume_crs)
        if options.weights is not None and not Path(options.weights).is_file():
            raise ConfigError(f"{setting('weights')}: {options.weights}: no such file")
        return cls(case, options, labels, None if options.weights is None else file_hash(Path(options.weights)))

    def embedded_by(self) -> dict[str, object]:
        """All that the embeddings depend on."""
        return self.case.graded_by() | {"encoder": self.weights or "of the model"}

    def learned_from(self) -> dict[str, object]:
        """What else the grades depend on."""
        return {"labels": self.labels.digest(), "label_next": [self.options.suggestions, self.options.label_column]}

    def run(self, place: RunFolder, progress: Progress, pixels: Path, tolerance_m: float) -> EventGrades:
        """Embed the buildings, or take up what is known of them, and grade them; the folder is held.

        Args:
            place: The folder.
            progress: Is told of the buildings.
            pixels: Where a map of damage goes that grades what has no label yet.
            tolerance_m: Pixels so near to a footprint count to it.
        """
        manifest, counter = Manifest.open(place.manifest, self.embedded_by()), Counter(progress, len(self.case.buildings))
        found = embed_buildings(self.case, self.case.conversion(), self.options.weights, place, manifest, counter.add)
        given = None if self.labels.by_number else given_grades(self.case, found, pixels, tolerance_m)
        result = grade_event(self.case.buildings, found, self.labels, self.options.suggestions, given)
        return replace(result, embeddings=found)

    def write(self, stage: Path, result: EventGrades) -> None:
        """Write the embeddings, for the next labels, and what to label next."""
        assert result.embeddings is not None
        result.embeddings.write(stage / EMBEDDINGS, key_of(self.embedded_by()))
        write_label_next(stage / LABEL_NEXT, self.case, result, self.labels, self.options.label_column)

    def maker(self, result: EventGrades) -> dict[str, str]:
        """What the grades were made by, for each building."""
        if result.given:
            return self.case.maker()
        card, count = self.case.model.card, len(self.labels.by_number)
        encoder = f"{card.name} {card.version}" if self.weights is None else Path(self.options.weights or "").stem
        sha256 = self.weights or self.case.model.sha256
        return {"name": "model of this event", "version": f"({number_of(count, 'label')}, encoder {encoder})", "sha256": sha256}

    def entry(self, result: EventGrades) -> EventEntry:
        """The model of the event in the summary."""
        codes = list(self.labels.by_number.values())
        return {
            "labels": len(codes),
            "by_class": {name: codes.count(code) for code, name in enumerate(CLASSES)},
            "unmatched": self.labels.unmatched,
            "label_next": len(result.next_ones),
            "cross_validated": result.figures,
        }

    def warnings(self, result: EventGrades) -> list[str]:
        """What a reader of the grades is to mind."""
        count, found = len(self.labels.by_number), result.figures
        if result.given:
            by, labels = self.case.model.card.name, setting("labels")
            return [f"the grades are those of {by}, not learned from this event: fill in {LABEL_NEXT} and pass it as {labels}"]
        if found is None:
            return [f"no building is labelled, so that none is graded: fill in {LABEL_NEXT} and pass it as {setting('labels')}"]
        low, high = found["macro_f1_95"] or (float("nan"), float("nan"))
        learned = (
            f"the grades are those of a model of this event alone, learned from {count} labelled buildings: macro F1 of labels "
            f"that it had not seen {found['macro_f1']:.2f} ({low:.2f} to {high:.2f})"
        )
        told = [learned]
        if absent := [name for name, labels in zip(CLASSES, found["classes"], strict=True) if not labels]:
            told.append(f"no building is labelled {', '.join(absent)}: what the model says of it is a guess")
        if self.labels.unmatched:
            told.append(f"{self.labels.unmatched} labels lie on no footprint and were not used")
        return told


def given_grades(case: Case, found: Embeddings, pixels: Path, tolerance_m: float) -> dict[int, Grade] | None:
    """Grades of the model that was given, by the number of the building; None where it grades no damage.

    Args:
        case: The buildings.
        found: Their embeddings, with the probabilities of a model that grades buildings.
        pixels: Where the map of a model goes that maps damage by pixels.
        tolerance_m: Its pixels so near to a footprint count to it.
    """
    if (probability := found.embedded.probability) is not None:
        each = iter(probability)
        pairs = zip(case.buildings, found.reason, strict=True)
        return {one.number: Grade(reason, None) if reason else Grade(None, next(each)) for one, reason in pairs}
    if classes_of_damage(case.model.card) is None:
        return None
    return {building.number: grade for building, grade in case.by_pixels(pixels, tolerance_m)}


def grade_event(
    buildings: Sequence[Building],
    found: Embeddings,
    labels: EventLabels,
    count: int,
    given: Mapping[int, Grade] | None = None,
) -> EventGrades:
    """Grade buildings by a model of the event; a labelled one has the class of its label.

    Args:
        buildings: In the order of the run.
        found: Their embeddings.
        labels: Classes of some.
        count: How many are named to label next.
        given: Grades of another model, which stand, and choose what to label next, where nothing is labelled.

    Raises:
        ConfigError: There are too few labels, or all of one class.
    """
    seen = found.seen
    shown = [buildings[k] for k in seen.tolist()]
    grades = {b.number: Grade(reason or None, None) for b, reason in zip(buildings, found.reason, strict=True)}
    if given is not None:
        grades |= given
    if not shown:
        return EventGrades(grades, None, given is not None, ())
    code = labels.of(shown)
    # In the order of the file of footprints, whatever order the images are read in.
    which = np.array(sorted(np.flatnonzero(code >= 0).tolist(), key=lambda k: shown[k].number), np.int64)
    data = EventData.of(found.embedded, places_of(shown))
    model: EventModel | None = learn_event(data, which, code[which]) if labels.by_number else None
    for k, building in enumerate(shown):
        if model is None and given is None:
            grades[building.number] = Grade(NO_LABEL, None)
        elif model is not None:
            known = np.eye(len(CLASSES), dtype=np.float32)[code[k]] if code[k] >= 0 else model.probability[k].astype(np.float32)
            grades[building.number] = Grade(None, known)
    probability = _chances([grades[one.number] for one in shown]) if model is None and given is not None else None
    following = to_label(data, which, probability if model is None else model.probability, count)
    figures = None if model is None else model.figures
    return EventGrades(grades, figures, given is not None, tuple(shown[k].number for k in following.tolist()))


def _chances(grades: Sequence[Grade]) -> F64:
    """Probabilities (N, K) of grades; of what has none, nothing is more probable."""
    even = np.full(len(CLASSES), 1 / len(CLASSES))
    return np.array([even if grade.probability is None else grade.probability for grade in grades], np.float64)


def write_label_next(path: Path, case: Case, result: EventGrades, labels: EventLabels, column: str) -> None:
    """Write the buildings to label next, with an empty class to fill in, and before them those that have a label.

    So the file holds all labels once it is filled in, and is what the next run is given.
    """
    by_number = {building.number: building for building in case.buildings}
    known = sorted(labels.by_number)
    numbers = [*known, *result.next_ones]
    grades = [result.grades[number].probability for number in numbers]
    guess: list[str | None] = [None if p is None else CLASSES[int(decided(p[None])[0])] for p in grades]
    columns: dict[str, NDArray[np.generic]] = {
        "name": np.array([by_number[number].name for number in numbers], object),
        "rank": np.array([0] * len(known) + list(range(1, len(result.next_ones) + 1)), np.int32),
        column: np.array([CLASSES[labels.by_number[number]] for number in known] + [None] * len(result.next_ones), object),
        "guess": np.array(guess, object),
    }
    write_labels(path, "label_next", [by_number[number] for number in numbers], columns, case.file.crs)

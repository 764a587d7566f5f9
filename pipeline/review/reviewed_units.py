"""What people decide on one by one: polygons of classes, objects, or graded buildings."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from geoseg.errors import ConfigError
from pipeline.files.maps import BUILDINGS, POLYGONS, first_file
from pipeline.review.decisions import Decision, Key
from pipeline.sample.file import UNSURE
from pipeline.view.first import Order

__all__ = ["BUILDING_UNITS", "CLASS_UNITS", "DRAWN_TWICE", "LABEL_UNITS", "NO_BUILDING", "OBJECT_UNITS", "Units"]

NO_BUILDING, DRAWN_TWICE = "not a building", "drawn twice"
"""Reasons for which a building leaves the count; with any other one it is not analysed."""


@dataclass(frozen=True, slots=True)
class Units:
    """A kind of units and what may be said of them."""

    name: str
    """``polygons``, ``objects`` or ``buildings``."""
    files: tuple[str, ...]
    """Names of the file that holds them, the first that is there."""
    layer: str | None
    """In a GeoPackage; None where it has but one."""
    known_by: str
    """The file whose sha256 tells of which result a log speaks."""
    made_of: tuple[str, ...]
    """Files of the run that a version is made of, as far as they are there."""
    reasons: tuple[str, ...]
    """Reasons of a rejection that the page and the form offer; any other text is one, too."""
    order: Order
    """In which they are to be decided."""
    has_ground: bool
    """Whether something is left where one was that is rejected or redrawn, and can have a class of its own."""

    def file_in(self, folder: Path) -> Path | None:
        """The file of the units in a folder."""
        return first_file(folder, self.files)

    def check(
        self,
        decision: Decision,
        version: int,
        known: Collection[Key],
        codes: Collection[int],
        own: Collection[int],
        where: str = "",
    ) -> None:
        """Refuse a decision that says of a unit what can't be.

        Args:
            decision: What is said.
            version: The version that is reviewed.
            known: All units of this version.
            codes: All classes.
            own: Those that a unit can be of.
            where: The folder of the version.

        Raises:
            ConfigError: The unit or a class is not there, or the units have no ground that could get a class.
        """
        if decision.version != version or (decision.key is not None and decision.key not in known):
            place = f", {where}" if where else ""
            raise ConfigError(f"decision: polygon {decision.polygon} of version {decision.version} is not on this map{place}")
        for code in (decision.code, decision.rest):
            if code is not None and code not in codes:
                raise ConfigError(f"decision: class {code} is none of {', '.join(map(str, codes))}")
        self.check_class(decision, own)

    def check_class(self, decision: Decision, own: Collection[int]) -> None:
        """Refuse a class that units can't be of, or one for the ground of units that have none.

        Raises:
            ConfigError: It names such.
        """
        if decision.action in ("class", "redraw") and decision.code not in own:
            raise ConfigError(f"decision: class {decision.code} has no {self.name}; give one of {', '.join(map(str, own))}")
        if not self.has_ground and (decision.rest is not None or (decision.action == "reject" and decision.code is not None)):
            raise ConfigError(f"decision: what is left where one of these {self.name} was has no class of its own; leave it out")


CLASS_UNITS = Units(
    name="polygons",
    # GeoJSON last: its longitudes and latitudes are rounded.
    files=POLYGONS,
    layer=None,
    known_by="classes.tif",
    made_of=("classes.tif", "confidence.tif"),
    reasons=("no such thing there", "border is wrong", "mixed classes", "cloud or shadow", "image is too poor", "other"),
    order="doubt",
    has_ground=True,
)
OBJECT_UNITS = replace(CLASS_UNITS, name="objects", known_by="instances.tif", made_of=(*CLASS_UNITS.made_of, "instances.tif"))
BUILDING_UNITS = Units(
    name="buildings",
    files=BUILDINGS[:1],
    layer="buildings",
    known_by="buildings.gpkg",
    made_of=("buildings.gpkg", "damage.json", "zones.gpkg"),
    reasons=(NO_BUILDING, DRAWN_TWICE, "cloud or shadow", "image is too poor", "images are shifted", "other"),
    order="unsure",
    has_ground=False,
)
LABEL_UNITS = Units(
    name="buildings",
    files=BUILDINGS[:1],
    layer="buildings",
    known_by="buildings.gpkg",
    made_of=(),
    reasons=(UNSURE,),
    order="unsure",
    has_ground=False,
)
"""Of buildings that are labelled: a class, or that it can't be told."""

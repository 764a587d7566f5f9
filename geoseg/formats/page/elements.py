"""The values of a page: what it says, in the order that one reads it. Texts are plain; the template escapes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

__all__ = [
    "Cell",
    "Column",
    "Entry",
    "Facts",
    "Histogram",
    "Inline",
    "Link",
    "Links",
    "Minded",
    "Notes",
    "Page",
    "Part",
    "Picture",
    "Pictures",
    "Row",
    "ScaleBar",
    "Section",
    "Swatch",
    "Table",
    "Words",
]


@dataclass(frozen=True, slots=True)
class Swatch:
    """A colour of the legend."""

    color: str
    """``#rrggbb``."""
    name: str


@dataclass(frozen=True, slots=True)
class ScaleBar:
    """A length on the ground."""

    label: str
    share: float
    """Of the picture's width, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture within the page."""

    uri: str
    """``data:`` with its bytes."""
    width: int
    height: int
    alt: str
    """What it shows, for those who don't see it."""
    caption: str = ""
    crisp: bool = False
    """Whether its pixels are classes, whose borders are not to be blurred."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table with more than its text."""

    text: str
    href: str = ""
    """Relative address that the text leads to."""
    color: str = ""
    """``#rrggbb`` of a class."""
    share: float | None = None
    """0 to 1, shown as a bar."""
    picture: Picture | None = None
    tone: str = ""
    """``good``, ``warn`` or ``bad``."""


Row = list[Cell | str]
"""A row of a table as it is made."""


@dataclass(frozen=True, slots=True)
class Column:
    """The head of a column."""

    name: str
    numeric: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table; the first cell of each row is its head."""

    kind: ClassVar[str] = "table"
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]

    @classmethod
    def of(cls, caption: str, columns: Sequence[str], rows: Sequence[Row]) -> Table:
        """A table of cells or texts; names of columns of numbers begin with ``#``."""
        heads = tuple(Column(name.removeprefix("#"), name.startswith("#")) for name in columns)
        return cls(caption, heads, tuple(tuple(c if isinstance(c, Cell) else Cell(c) for c in row) for row in rows))


@dataclass(frozen=True, slots=True)
class Pictures:
    """Pictures side by side with what explains them; the first two can be swiped over each other."""

    kind: ClassVar[str] = "pictures"
    pictures: tuple[Picture, ...]
    legend: tuple[Swatch, ...] = ()
    scale: ScaleBar | None = None
    swipe: bool = False


@dataclass(frozen=True, slots=True)
class Histogram:
    """Shares by class of a figure, drawn as bars."""

    kind: ClassVar[str] = "histogram"
    title: str
    caption: str
    unit: str
    """Of the horizontal axis."""
    bars: tuple[tuple[str, float], ...]
    """Label, and share of all from 0 to 1."""

    @property
    def most(self) -> float:
        """The largest share, above 0."""
        return max((share for _, share in self.bars), default=0.0) or 1.0


@dataclass(frozen=True, slots=True)
class Inline:
    """A drawing that was made as SVG."""

    kind: ClassVar[str] = "inline"
    svg: str
    """Well-formed, and of this program: it is not escaped."""
    title: str
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Minded:
    """Something to mind."""

    text: str
    count: int = 1
    """How often it was said."""
    tone: str = "warn"
    """``bad`` where the result may be wrong because of it."""


@dataclass(frozen=True, slots=True)
class Notes:
    """What to mind, the gravest first."""

    kind: ClassVar[str] = "notes"
    items: tuple[Minded, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """A fact with its name."""

    name: str
    text: str
    href: str = ""
    """Address that the text leads to."""
    tone: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts by name."""

    kind: ClassVar[str] = "facts"
    entries: tuple[Entry, ...]
    folded: str = ""
    """Title under which they are folded away; empty where they are seen at once."""


@dataclass(frozen=True, slots=True)
class Link:
    """A file beside the page."""

    name: str
    """Its address, relative to the page."""
    about: str = ""


@dataclass(frozen=True, slots=True)
class Links:
    """Files beside the page."""

    kind: ClassVar[str] = "links"
    items: tuple[Link, ...]


@dataclass(frozen=True, slots=True)
class Words:
    """A paragraph."""

    kind: ClassVar[str] = "words"
    text: str


Part = Table | Pictures | Histogram | Inline | Notes | Facts | Links | Words


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a page with its heading."""

    title: str
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """A page: the title, what one sees in ten seconds, and sections."""

    title: str
    kind: str
    """What it is of, such as ``Map``."""
    lead: tuple[Entry, ...]
    """The figures at the top."""
    sections: tuple[Section, ...]
    status: Entry | None = None
    """How it ended, with its reason, where that is to be said."""
    footer: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """For programs, by name."""

    @property
    def swipes(self) -> bool:
        """Whether two pictures can be swiped over each other, which takes a script."""
        return any(isinstance(part, Pictures) and part.swipe for section in self.sections for part in section.parts)

"""Measures the layout of the code: `make check` fails where it is worse than what has been reached.

    python tests/house.py            the table, and exit code 1 beyond a bar
    python tests/house.py --list     what each figure counts, one by one

Each row has the bar, which is what has been reached, and the aim. Bars are lowered with the code, never raised.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("geoseg", "pipeline", "flows")
LINES, BODY, PARAMETERS, WIDTH = 300, 60, 8, 130
# Files that hold a table, not code; the keywords are made by tests/front_doors.py.
TABLES = {"geoseg/formats/sheet/fonts.py", "pipeline/api/keywords.py"}
# Names that mean the same in each folder that has one: the first line, what every folder of a verb may have; below, one idea
# whose arithmetic is in geoseg and whose files are in pipeline.
SAME = {"__init__", "__main__", "run", "settings", "report", "document", "file", "pairs", "evaluate", "train"} | {
    "cells",  # squares of a metric grid that results are counted in
    "chips",  # images and labels of one size
    "chunks",  # what is done with one chunk of a scene
    "draw",  # a random sample of units
    "memory",  # bytes of RAM
    "model_folder",  # card, network and weights on disk
    "objects",  # found one by one, with a mask each
    "opening",  # the one place where files of a kind are opened
    "panoptic",  # objects and classes as one map
    "planning",  # what was asked for becomes a plan
    "saving",  # a network as a model folder
    "scan",  # one look at a source
    "scene",  # one source image
    "series",  # more than two dates
    "weights",  # of classes, in the loss
    "zones",  # polygons that results are counted by
}
AIMS = {"deliver": 13, "evaluate": 11, "sample": 11, "segment": 16}
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True, slots=True)
class Row:
    """A figure: what it counts, what has been reached, and what is to be reached."""

    name: str
    found: list[str]
    bar: int
    aim: int
    count: int | None = None

    @property
    def value(self) -> int:
        """How many there are, or the figure itself."""
        return len(self.found) if self.count is None else self.count


@cache
def sources() -> dict[str, str]:
    """Text of all modules by path."""
    return {str(p.relative_to(ROOT)): p.read_text() for package in PACKAGES for p in sorted((ROOT / package).rglob("*.py"))}


@cache
def trees() -> dict[str, ast.Module]:
    """Syntax of all modules by path."""
    return {path: ast.parse(text) for path, text in sources().items()}


@cache
def arrows() -> dict[str, set[str]]:
    """What each module imports of the three packages, wherever in its code; packages' own files aside."""
    graph = grimp.build_graph(*PACKAGES, exclude_type_checking_imports=True)
    packages = {path.removesuffix("/__init__.py").replace("/", ".") for path in sources() if path.endswith("/__init__.py")}
    modules = graph.modules - packages
    return {module: graph.find_modules_directly_imported_by(module) & modules for module in modules}


def circles() -> list[str]:
    """Groups of modules that import each other, directly or over others (Tarjan's strongly connected components)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups: list[str] = []

    def visit(module: str) -> None:
        order[module] = low[module] = len(order)
        stack.append(module)
        for target in arrows()[module]:
            if target not in order:
                visit(target)
                low[module] = min(low[module], low[target])
            elif target in stack:
                low[module] = min(low[module], order[target])
        if low[module] == order[module]:
            place = stack.index(module)
            group = stack[place:]
            del stack[place:]
            if len(group) > 1:
                groups.append(" <-> ".join(sorted(group)))

    for module in sorted(arrows()):
        if module not in order:
            visit(module)
    return groups


def _folder(module: str) -> str:
    return ".".join(module.split(".")[:2]) if module.count(".") > 1 else module


def mutual() -> list[str]:
    """Folders that import each other."""
    seen = {(_folder(a), _folder(b)) for a, targets in arrows().items() for b in targets}
    return sorted(f"{a} <-> {b}" for a, b in seen if a < b and (b, a) in seen)


@cache
def chain(module: str, above: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The longest chain of modules of `pipeline` that begins with one."""
    targets = [t for t in arrows()[module] if t.startswith("pipeline.") and t not in above]
    return max(((module, *chain(t, (*above, module))) for t in targets), key=len, default=(module,))


def folders() -> Iterator[tuple[str, list[str]]]:
    """Modules that lie side by side."""
    beside: dict[str, list[str]] = defaultdict(list)
    for path in sources():
        parent, _, name = path.rpartition("/")
        if name != "__init__.py" and parent != "pipeline/cli":
            beside[parent].append(path)
    yield from beside.items()


def functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """All of them, with where they stand."""
    for path, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, FUNCTION):
                yield f"{path}:{node.lineno} {node.name}", node


def _parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    given = node.args
    names = [a.arg for a in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return len([name for name in names if name not in ("self", "cls")])


def recurring() -> list[str]:
    """Files of one name in several folders, where the name is not one that means the same in each."""
    names = Counter(Path(path).stem for path in sources() if not path.startswith("pipeline/cli/"))
    return sorted(
        f"{name}: {', '.join(p for p in sources() if Path(p).stem == name)}"
        for name, n in names.items()
        if n > 1 and name not in SAME
    )


def _lines(pattern: str, *roots: str) -> list[str]:
    found = []
    for path, text in sources().items():
        if path.startswith(roots):
            for number, line in enumerate(text.splitlines(), start=1):
                if not re.match(r"\s*(from|import) ", line):
                    found += [f"{path}:{number}"] * len(re.findall(pattern, line))
    return found


def measure() -> list[Row]:
    """All rows."""
    beside = dict(folders())
    largest = max(beside.items(), key=lambda item: len(item[1]))
    chains = {name: chain(f"pipeline.cli.{name}") for name in ("deliver", "evaluate", "sample", "segment")}
    ruff = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    long = [path for path, text in sources().items() if text.count("\n") > LINES and path not in TABLES]
    return [
        Row("files side by side in pipeline/", beside.get("pipeline", []), 2, 6),
        Row(f"modules of the largest folder ({largest[0]})", largest[1], 19, 19),
        Row("import circles", circles(), 0, 0),
        Row("folders that import each other", mutual(), 0, 0),
        *(Row(f"import chain of {name}", list(found), AIMS[name], AIMS[name]) for name, found in chains.items()),
        Row(f"modules over {LINES} lines", long, 0, 6),
        Row(f"functions over {BODY} lines", [w for w, f in functions() if (f.end_lineno or 0) - f.lineno >= BODY], 0, 0),
        Row(
            f"functions with more than {PARAMETERS} parameters", [w for w, f in functions() if _parameters(f) > PARAMETERS], 2, 6
        ),
        Row("formatter switched off", _lines(r"# fmt: (?:skip|off)", *PACKAGES), 0, 0),
        Row("lines over the limit", _lines(rf"^.{{{WIDTH + 1},}}$", *PACKAGES), 0, 0),
        Row("rules of the linter that are left out", list(ruff["ignore"]), 15, 15),
        Row("Any in pipeline", _lines(r"\bAny\b", "pipeline"), 14, 60),
        Row("names of files for two ideas", recurring(), 0, 0),
    ]


def main() -> int:
    """Print the table."""
    rows = measure()
    width = max(len(row.name) for row in rows)
    for row in rows:
        mark = "" if row.value <= row.bar else "  <- beyond the bar"
        print(f"{row.name:<{width}} {row.value:>5}   bar {row.bar:>4}   aim {row.aim:>4}{mark}")
        if "--list" in sys.argv or mark:
            print(*(f"    {item}" for item in row.found), sep="\n")
    return int(any(row.value > row.bar for row in rows))


if __name__ == "__main__":
    sys.exit(main())

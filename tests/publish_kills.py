"""Kill whole commands at each change that their publish makes, and look at what the next start finds.

Each publish is killed as the first one and as one that replaces another.

    python tests/publish_kills.py FOLDER [CASE ...]

Prints a JSON line a case: how often it was killed, how often a reader then found the old files and how often the new ones,
all whole; and what was wrong. Forked from a process that has computed nothing, whose threads a fork would lack.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from kill_points import KILLED, traced

CASES = ("segment", "deforestation", "damage", "deliver")
TIMES = ("finished", "seconds", "seconds_by_step", "digest", "plan")
"""Of a record, what the time and the memory that is free decide."""
TILES = ("--tile", "256", "--halo", "32", "--chunk", "256")


def forked(action: Callable[[], object]) -> None:
    """Run an action in a process of its own."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = int(action() or 0)  # type: ignore[call-overload]
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, status


def command(arguments: list[str]) -> Callable[[], int]:
    """``geoseg`` in this process, without its words."""

    def call() -> int:
        from pipeline.cli import run

        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = run(arguments)
        if code:
            sys.stderr.write(said.getvalue())
        return code

    return call


def make_inputs(folder: Path) -> None:
    """Two dates of a frontier, zones, an image before and after a disaster, footprints, and a model of damage."""
    import geopandas
    import rasterio
    import shapely
    from support import TRANSFORM, UTM, damage_by_red

    from geoseg.procedural import Frontier

    for name, years in (("before", 0.0), ("after", 9.0)):
        Frontier(300, 300, 7, years=years, acquired=f"20{14 + int(years)}-07-14").write(folder / f"{name}.tif")
    with rasterio.open(folder / "before.tif") as scene:
        zone = geopandas.GeoDataFrame({"name": ["all"]}, geometry=[shapely.box(*scene.bounds)], crs=scene.crs)
    zone.to_file(folder / "zones.gpkg")
    image = np.full((3, 256, 256), 50, np.uint8)
    profile = {"driver": "GTiff", "height": 256, "width": 256, "count": 3, "dtype": "uint8", "photometric": "rgb"}
    for name, value in (("pre", 5), ("post", 200)):
        with rasterio.open(folder / f"{name}.tif", "w", **profile, crs=UTM, transform=TRANSFORM) as target:
            image[0] = value
            target.write(image)
            target.update_tags(ACQUISITION_DATE=f"{2020 + (value > 5)}-01-01")
    corners = [(TRANSFORM @ (20 + 40 * k, 20), TRANSFORM @ (40 + 40 * k, 40)) for k in range(5)]
    shapes = [shapely.box(a, d, c, b) for (a, b), (c, d) in corners]
    geopandas.GeoDataFrame({"uid": range(5)}, geometry=shapes, crs=UTM).to_file(folder / "footprints.gpkg")
    damage_by_red(folder / "model")


def arguments_of(case: str, inputs: Path, out: Path, *, again: bool) -> list[str]:
    """The command line of a case; the second one gives something else."""
    if case == "segment":
        more = ["--min-area", "2ha", "--formats", "gpkg", "--overwrite"] if again else ["--min-area", "1ha"]
        return ["segment", str(inputs / "before.tif"), "-m", "amazon-forest", "-o", str(out), *TILES, *more, "-q"]
    if case == "deforestation":
        more = ["--min-area", "2ha", "--overwrite"] if again else ["--min-area", "1ha", "--zones", str(inputs / "zones.gpkg")]
        dates = [str(inputs / "before.tif"), str(inputs / "after.tif")]
        return ["deforestation", *dates, "-m", "amazon-forest", "-o", str(out), *TILES, *more, "-q"]
    if case == "damage":
        more = ["--cell", "100", "--overwrite"] if again else ["--cell", "200", "--zones", str(inputs / "footprints.gpkg")]
        given = [str(inputs / "pre.tif"), str(inputs / "post.tif"), "--footprints", str(inputs / "footprints.gpkg")]
        return ["damage", *given, "-m", str(inputs / "model"), "-o", str(out), "--coregister", "off", *more, "-q"]
    more = ["--event", "The second", "--code", "B", "--overwrite"] if again else ["--event", "The first"]
    return ["deliver", str(inputs / "graded" / "pre_to_post"), "-o", str(out / "delivery"), *more]


def contents(out: Path) -> dict[str, Any]:
    """What is published in an output folder, without what tells the time; what damage is graded by is an output of its own."""
    found: dict[str, Any] = {}
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out).as_posix()
        if (
            name.startswith(("pixels/", "."))
            or not path.is_file()
            or ".run/" in f"{name}/"
            or path.parent == out
            or path.name == "checksums.sha256"
        ):
            continue
        found[name] = path.read_bytes()
        if path.name in ("run.json", ".geoseg.json"):
            found[name] = {key: value for key, value in json.loads(found[name]).items() if key not in TIMES}
    return found


def settle(out: Path) -> None:
    """What each reader does first."""
    from pipeline.files.run_folder import RunFolder

    for work in sorted(out.rglob(".run")):
        RunFolder(work.parent).settle()


class Publish:
    """Counts what a command changes from the moment at which its publish is written down."""

    def __init__(self, case: str, *, again: bool) -> None:
        self.case, self.again = case, again

    def kill(self, number: int, action: Callable[[], object], out: Path) -> bool:
        """As ``killed_at``, but for the changes before."""
        begun = self.case == "deliver" and not self.again
        child = os.fork()
        if child == 0:
            seen = 0

            def count(name: str, args: tuple[Any, ...]) -> None:
                nonlocal seen, begun
                if isinstance(args[0], int) or not os.path.abspath(args[0]).startswith(str(out)):
                    return
                begun = begun or (name == "replace" and str(args[1]).endswith("publish.json") and "pixels" not in str(args[1]))
                if begun:
                    if seen == number:
                        os._exit(KILLED)
                    seen += 1

            os.fsync = lambda _: None  # type: ignore[assignment, misc]
            code = 1
            try:
                with traced(count):
                    code = int(action() or 0)  # type: ignore[call-overload]
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        assert code in (0, KILLED), f"it ended with {code}"
        return code == KILLED


def tried(case: str, inputs: Path, folder: Path, *, again: bool) -> dict[str, Any]:
    """Kill a case at each change of its publish."""
    folder.mkdir(exist_ok=True)
    base, out, saved = folder / "base", folder / "out", folder / "saved"
    for path in (base, out, saved):
        shutil.rmtree(path, ignore_errors=True)
    out.mkdir()
    if again:
        forked(command(arguments_of(case, inputs, out, again=False)))
    out.rename(base)
    old = contents(base)

    def begin(start: Path) -> None:
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(start, out, symlinks=True)

    action = command(arguments_of(case, inputs, out, again=again))
    begin(base)
    forked(action)
    new = contents(out)
    assert new != old
    assert not [path for path in out.rglob("*") if path.name == ".run"]
    publish, start = Publish(case, again=again), base
    tally: dict[str, Any] = {
        "case": case,
        "publish": "replacing" if again else "first",
        "killed": 0,
        "old": 0,
        "new": 0,
        "wrong": [],
    }
    while True:
        number = tally["killed"]
        begin(start)
        if not publish.kill(number, action, out):
            break
        if number == 0 and case != "deliver":
            # From here on the run goes on: what was computed once is computed.
            shutil.copytree(out, saved, symlinks=True)
            start = saved
        tally["killed"] += 1
        shutil.rmtree(folder / "reader", ignore_errors=True)
        shutil.copytree(out, folder / "reader", symlinks=True)
        settle(folder / "reader")
        there = contents(folder / "reader")
        if there in (old, new):
            tally["new" if there == new else "old"] += 1
        else:
            tally["wrong"].append(f"a reader after {number} changes: {_difference(there, old, new)}")
        if number % 10:
            continue
        forked(action)
        if contents(out) != new:
            tally["wrong"].append(f"the next run after {number} changes: {_difference(contents(out), old, new)}")
    return tally


def _difference(there: dict[str, Any], old: dict[str, Any], new: dict[str, Any]) -> str:
    names = sorted({*there, *old, *new})
    return ", ".join(
        f"{name}: {'old' if there[name] == old.get(name) else 'new' if there[name] == new.get(name) else 'other'}"
        if name in there
        else f"{name}: gone"
        for name in names
        if name not in there or there[name] not in (old.get(name), new.get(name)) or old.get(name) != new.get(name)
    )[:300]


def main() -> None:
    """Prepare, and try the cases."""
    from pipeline.files.version import code_version

    code_version()  # once: somebody may work on the code meanwhile
    folder, cases = Path(sys.argv[1]).resolve(), sys.argv[2:] or list(CASES)
    inputs = folder / "inputs"
    inputs.mkdir(parents=True)
    forked(lambda: make_inputs(inputs))
    if "deliver" in cases:
        forked(command(arguments_of("damage", inputs, inputs / "graded", again=False)))
    for case in cases:
        for again in (False, True):
            print(json.dumps(tried(case, inputs, folder / case, again=again)), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()

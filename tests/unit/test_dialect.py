"""Settings in messages: names in Python, flags on the command line and in what it starts."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support import LIMIT_S, WriteRaster

from geoseg.dialect import as_flags, listed, number_of, setting
from geoseg.errors import DtypeError
from geoseg.scenes.bands.value_map import value_map
from geoseg.scenes.opening import open_scene

ROOT = Path(__file__).parents[2]


def test_one_is_not_told_as_several() -> None:
    told = [number_of(count, noun) for count, noun in ((0, "scene"), (1, "chunk"), (2, "class"), (1, "class"), (1200, "tile"))]
    assert told == ["0 scenes", "1 chunk", "2 classes", "1 class", "1,200 tiles"]


def test_settings_are_named_as_the_caller_writes_them() -> None:
    told = (setting("assume_crs"), setting("assume_crs", "EPSG:32721"))
    with as_flags():
        on_the_command_line = (setting("assume_crs"), setting("assume_crs", "EPSG:32721"))
        child = [sys.executable, "-c", "from geoseg.dialect import setting; print(setting('tile', '512'))"]
        in_a_process = subprocess.run(child, capture_output=True, text=True, cwd=ROOT, check=True, timeout=LIMIT_S).stdout.strip()
    assert told == ("assume_crs", "assume_crs=EPSG:32721") == (setting("assume_crs"), setting("assume_crs", "EPSG:32721"))
    assert on_the_command_line == ("--assume-crs", "--assume-crs EPSG:32721")
    assert in_a_process == "--tile 512"


def test_a_refusal_keeps_its_cure_in_both(write_raster: WriteRaster) -> None:
    scene = open_scene(write_raster(np.ones((1, 8, 8), np.uint16)))

    def refused() -> str:
        with pytest.raises(DtypeError) as error:
            value_map(scene, scene.bands, dtype="uint8", value_range=(0.0, 255.0), physical=False, rescale=None)
        return str(error.value)

    in_python = refused()
    with as_flags():
        on_the_command_line = refused()
    assert "pass rescale=LOW,HIGH" in in_python
    assert in_python.replace("rescale=", "--rescale ") == on_the_command_line


def test_of_many_names_the_first_are_listed() -> None:
    assert [listed(["a", "b", "c"][:count], 2) for count in range(4)] == ["", "a", "a, b", "a, b and 1 more"]


def flags(tree: ast.Module) -> Iterator[str]:
    documents = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documents:
            yield from re.findall(r"(?<![\w-])--[a-z][a-z-]+", node.value)


def test_the_library_names_no_flag() -> None:
    found = {path.name: [*flags(ast.parse(path.read_text()))] for path in (ROOT / "geoseg").rglob("*.py")}
    # What other programs are told: pip, tar.
    told = {"doors.py": ["--force-reinstall"], "container.py": ["--format"]}
    assert {name: some for name, some in found.items() if some} == told

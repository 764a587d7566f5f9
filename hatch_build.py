"""Compiles the Cython modules when a wheel is built, or in place for an editable install."""

from __future__ import annotations

import os
from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# Without contraction, results have the same bits on every machine; nobody looks at the flags that what traps would set.
FLAGS = ["-O3", "-g0", "-ffp-contract=off", "-fno-trapping-math"]


class CythonBuildHook(BuildHookInterface):
    PLUGIN_NAME = "custom"

    def initialize(self, version, build_data):
        from Cython.Build import cythonize
        from setuptools import Distribution, Extension

        root = Path(self.root)
        sources = sorted(path.relative_to(root) for path in (root / "geoseg").rglob("*.pyx"))
        flags = [] if os.name == "nt" else FLAGS
        extensions = [Extension(".".join(path.with_suffix("").parts), [str(path)], extra_compile_args=flags) for path in sources]
        before = os.getcwd()
        os.chdir(root)
        try:
            modules = cythonize(extensions, build_dir="build/cython", quiet=True, language_level=3)
            command = Distribution({"name": "geoseg", "ext_modules": modules}).get_command_obj("build_ext")
            command.inplace = True
            command.build_temp = "build/temp"
            command.ensure_finalized()
            command.run()
        finally:
            os.chdir(before)
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        build_data["artifacts"] += [f"/{path.with_suffix('')}*.so" for path in sources] + [
            f"/{path.with_suffix('')}*.pyd" for path in sources
        ]

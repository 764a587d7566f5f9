"""Addresses of the names of ``import geoseg`` that are imported when they are asked for."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path

from geoseg.errors import ConfigError

__all__ = ["NOUNS", "check_path", "reach"]

NOUNS = {
    "estimate_area": "geoseg.sampling.estimators",
    "load_model": "geoseg.models.model_folder",
    "open_scene": "geoseg.scenes.opening",
    "polygonize": "geoseg.polygons.dataframe",
}
PACKAGE, VERBS = "pipeline", "api"


def reach(name: str) -> object:
    """A noun of the library, or a verb of the pipeline.

    Raises:
        ConfigError: Something else that is called ``pipeline`` stands in the way.
    """
    if name not in NOUNS:
        check_path()
    found: object = getattr(importlib.import_module(NOUNS.get(name, f"{PACKAGE}.{VERBS}")), name)
    return found


def check_path() -> None:
    """Look for the package without importing it: what hides it is a stranger's program, which is not to be run.

    Raises:
        ConfigError: Something else that is called ``pipeline`` stands in the way.
    """
    try:
        spec = importlib.util.find_spec(PACKAGE)
    except ValueError:
        spec = None
    if spec is None:
        raise ConfigError(
            f"geoseg is installed without its package {PACKAGE}; install it anew: pip install --force-reinstall geoseg"
        )
    if not any((Path(folder) / VERBS).is_dir() for folder in spec.submodule_search_locations or ()):
        raise ConfigError(
            f"{spec.origin or PACKAGE}: hides geoseg's own package {PACKAGE!r}, since Python finds it first; rename it, or start "
            "Python in another folder"
        )

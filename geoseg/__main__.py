"""``python -m geoseg`` does what ``geoseg`` does."""

import importlib
import sys

from geoseg.doors import check_path
from geoseg.errors import ConfigError

try:
    # With -m, Python looks into the working folder first.
    check_path()
except ConfigError as error:
    print(f"geoseg: {error}", file=sys.stderr)
    sys.exit(2)
importlib.import_module("pipeline.__main__").main()

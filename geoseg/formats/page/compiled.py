"""Templates compiled once and kept beside their source, as Python keeps its modules: compiling takes as long as a small map."""

from __future__ import annotations

import hashlib
import importlib.util
import marshal
import os
import sys
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from types import CodeType

import jinja2

__all__ = ["CompiledTemplates"]


class CompiledTemplates(jinja2.BytecodeCache):
    """Keeps compiled templates in ``__pycache__``, where that can be written and Python is not told to write none.

    Args:
        options: What compiles them beside the template: other options make other code.
    """

    def __init__(self, options: str) -> None:
        self._options = f"{jinja2.__version__} {sys.version} {options}"

    def get_cache_key(self, name: str, filename: str | None = None) -> str:
        """Where the code of a template is kept; empty for one that is no file."""
        del name
        return "" if filename is None else importlib.util.cache_from_source(filename)

    def load_bytecode(self, bucket: jinja2.bccache.Bucket) -> None:
        """Give a template its code, if what is kept was made of the same source."""
        with suppress(OSError, EOFError, ValueError, TypeError):
            kept = Path(bucket.key).read_bytes()
            digest = self._digest(bucket)
            code = marshal.loads(kept[len(digest) :]) if kept.startswith(digest) else None  # noqa: S302 - as of any module
            bucket.code = code if isinstance(code, CodeType) else None

    def dump_bytecode(self, bucket: jinja2.bccache.Bucket) -> None:
        """Keep the code of a template, whole or not at all."""
        if sys.dont_write_bytecode or not bucket.key:
            return
        temporary = f"{bucket.key}.{token_hex(8)}"
        # A folder that others have installed can't be written: the next process compiles it again.
        with suppress(OSError):
            Path(bucket.key).parent.mkdir(parents=True, exist_ok=True)
            Path(temporary).write_bytes(self._digest(bucket) + marshal.dumps(bucket.code))
            os.replace(temporary, bucket.key)

    def _digest(self, bucket: jinja2.bccache.Bucket) -> bytes:
        return hashlib.sha256(f"{self._options}\n{bucket.checksum}".encode()).digest()

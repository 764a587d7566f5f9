"""Record batches on their way to GDAL: what goes wrong while they are made is not lost there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["write_batches"]


def write_batches(path: str | Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch], **options: Any) -> None:
    """Write record batches by GDAL, also none at all; what they raise while they are made arrives as it was.

    Args:
        path: The file, or the file that gets a further layer.
        schema: Of the batches.
        batches: Features, some at a time.
        **options: Those of ``pyogrio.raw.write_arrow``.

    Raises:
        pyogrio.errors.DataSourceError: The file can't be made; or another error of pyogrio.
    """
    import pyogrio.raw

    stream = _ArrowStream(schema, batches)
    with stream.kept():
        pyogrio.raw.write_arrow(stream, path, **options)


class _ArrowStream:
    """Record batches as pyogrio takes them, also none at all.

    What they raise crosses C, where only its kind and no words are left of it: refusals would end as errors of pyogrio, and
    so would Ctrl-C. ``kept`` raises it as it was.
    """

    def __init__(self, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
        self._schema, self._batches = schema, batches
        self._error: BaseException | None = None

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The stream, by the interface of Arrow."""
        import pyarrow as pa

        return pa.RecordBatchReader.from_batches(self._schema, self._noted()).__arrow_c_stream__(requested_schema)

    def _noted(self) -> Iterator[pa.RecordBatch]:
        try:
            yield from self._batches
        except GeneratorExit:
            raise
        except BaseException as error:
            self._error = error
            raise

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Raise what the batches have raised in the place of what became of it."""
        try:
            yield
        except Exception:
            if self._error is not None:
                raise self._error from None
            raise

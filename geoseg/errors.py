"""Every error that geoseg raises on purpose.

::

    GeosegError
    ├── UsageError            ValueError      the call is wrong; nothing was started
    │   ├── ConfigError                       an option or a configuration key
    │   ├── OutputError       OSError         the output folder can't be used
    │   │   └── OutputBusyError               another run is active there
    │   └── ModelError                        the model can't be loaded or doesn't fit
    ├── SceneError            ValueError      this scene is refused; the others go on
    │   ├── NotARasterError                   the file is not a raster that is accepted
    │   ├── TruncatedError                    the file ends before its data does
    │   ├── ReadError         OSError         pixels could not be read
    │   ├── GeoreferenceError                 the scene has no usable place on Earth
    │   ├── BandError                         the bands asked for are not there
    │   ├── DtypeError                        the pixel values are not what the model takes
    │   ├── SceneTooLargeError                a size limit was passed
    │   ├── SceneChangedError                 the file changed while it was read
    │   └── OutsideAreaError                  no pixel lies in the area of interest
    ├── DocumentError         ValueError      a JSON or TOML document can't be taken
    ├── ChunkError            RuntimeError    one chunk could not be computed
    │   └── TileTimeoutError                  a tile of it took too long
    ├── ClusterError          RuntimeError    the cluster was lost
    └── Interrupted           RuntimeError    the run was asked to stop

A message says what is wrong, where, the value and the limit, and what to do about it. They are caught in one place,
``pipeline.cli``, which turns them into one line and an exit code. ``geoseg.transient`` tells the causes that pass by
themselves (a server that is down, a full disk) from those that do not (a damaged file, a wrong setting).
"""

from __future__ import annotations

from geoseg.redaction import sanitized

__all__ = [
    "BandError",
    "ChunkError",
    "ClusterError",
    "ConfigError",
    "DocumentError",
    "DtypeError",
    "GeoreferenceError",
    "GeosegError",
    "Interrupted",
    "ModelError",
    "NotARasterError",
    "OutputBusyError",
    "OutputError",
    "OutsideAreaError",
    "ReadError",
    "SceneChangedError",
    "SceneError",
    "SceneTooLargeError",
    "TileTimeoutError",
    "TruncatedError",
    "UsageError",
]


def _told(args: tuple[object, ...]) -> list[object]:
    """Arguments of an error as they may be told: messages quote paths of strangers and words of libraries."""
    return [sanitized(arg) if isinstance(arg, str) else arg for arg in args]


class GeosegError(Exception):
    """Base of every error that geoseg raises on purpose; its message holds no secret, wherever its parts come from."""

    def __init__(self, *args: object) -> None:
        super().__init__(*_told(args))

    transient: bool = False
    """Whether the cause may pass by itself, so that the same call can succeed later."""


class UsageError(GeosegError, ValueError):
    """The call is wrong, so nothing was started."""


class ConfigError(UsageError):
    """An option or a configuration key has a value that can't work."""


# OSError comes first: in the other order such an exception can't be unpickled, and errors travel back from workers.
class OutputError(OSError, UsageError):
    """The output folder can't be written, is busy, or holds something else."""

    def __init__(self, *args: object) -> None:
        super().__init__(*_told(args))


class OutputBusyError(OutputError):
    """Another run is active in the output folder."""

    transient = True


class ModelError(UsageError):
    """The model can't be loaded, or is not the model that its card describes."""


class SceneError(GeosegError, ValueError):
    """This scene is refused; the other scenes of the run go on."""


class NotARasterError(SceneError):
    """The file is not a raster of an accepted format."""


class TruncatedError(SceneError):
    """The file ends before the blocks that its header lists."""


class ReadError(OSError, SceneError):
    """Pixels could not be read from the file or its server."""

    def __init__(self, *args: object) -> None:
        super().__init__(*_told(args))


class GeoreferenceError(SceneError):
    """The scene has no coordinate reference system or no transform that places its pixels."""


class BandError(SceneError):
    """The bands that the model takes can't be found in the scene."""


class DtypeError(SceneError):
    """The scene's pixel values are not in the range or type that the model takes."""


class SceneTooLargeError(SceneError):
    """The scene or one of its blocks passes a size limit."""


class SceneChangedError(SceneError):
    """The source changed while it was being read, so its result would be a mixture."""

    transient = True


class OutsideAreaError(SceneError):
    """No pixel of the scene lies in the area of interest, so that there is nothing to map."""


class DocumentError(GeosegError, ValueError):
    """A JSON or TOML document can't be taken: too large, damaged, or with values that nothing can be done with."""


class ChunkError(GeosegError, RuntimeError):
    """One chunk could not be computed."""


class TileTimeoutError(ChunkError):
    """A tile took longer than it may; it would again."""


class ClusterError(GeosegError, RuntimeError):
    """The cluster was lost and did not come back; what is finished is kept."""

    transient = True


class Interrupted(GeosegError, RuntimeError):  # noqa: N818 - it is no error
    """The run was asked to stop; what is finished is kept."""

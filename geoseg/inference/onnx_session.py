"""Networks of ONNX Runtime that end: no run takes longer than it may, and all stop when they are told to.

A network can hold a loop without end. ONNX Runtime computes in a thread of its own here, so that whoever waits for it goes on
when the time is over or a signal comes, and it is told to stop, which it looks at between two operators. One that does not
even then is left behind; ``stuck`` tells that a process with such a thread can't end by itself.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import onnxruntime as ort
from numpy.typing import NDArray

from geoseg.arrays import F32
from geoseg.dialect import setting
from geoseg.errors import ConfigError, Interrupted, ModelError, TileTimeoutError
from geoseg.inference.engine import CPU
from geoseg.models.onnx_tensors import with_outputs

__all__ = ["OnnxSession", "stuck"]

LOADING_S = 600.0
"""Longest time for loading a network, which computes what is constant in it."""
GRACE_S = 3.0
"""How long a run that was told to stop is waited for."""
POLL_S = 0.2
ENDING = "ExecutionProvider"
MOST_TIMEOUTS = 3
"""So many tiles that take too long are the network's fault."""

_left_behind: list[threading.Thread] = []


def stuck() -> bool:
    """Whether a run that was told to stop still goes on."""
    return any(thread.is_alive() for thread in _left_behind)


def _provider(name: str) -> str:
    """The name that ONNX Runtime has for a provider.

    Raises:
        ConfigError: This ONNX Runtime does not have it.
    """
    known: dict[str, str] = {one.removesuffix(ENDING).casefold(): one for one in ort.get_available_providers()}
    found = known.get(name.removesuffix(ENDING).casefold())
    if found is None:
        raise ConfigError(
            f"provider: {name} is none of this ONNX Runtime, which has {', '.join(sorted(known))}; install the package of ONNX "
            "Runtime that has it, such as onnxruntime-gpu in place of onnxruntime"
        )
    return found


class OnnxSession:
    """A network in ONNX Runtime; several threads may run it, one at a time.

    Args:
        path: The file.
        threads: CPU threads; 0 for all.
        seconds: Longest time of a run.
        provider: Its execution provider, by name, with or without the ending ExecutionProvider, whatever the case.
        also: Names of tensors inside of it that are given after its outputs.

    Raises:
        ModelError: It can't be loaded.
        ConfigError: This ONNX Runtime does not have the provider, or can't start it.
    """

    def __init__(
        self,
        path: Path,
        *,
        threads: int = 0,
        seconds: float = LOADING_S,
        provider: str = CPU,
        also: Sequence[str] = (),
    ) -> None:
        wanted = _provider(provider)
        self.path, self.seconds = path, seconds
        self._turn = threading.Lock()
        self._stop = threading.Event()
        self._timeouts = 0
        self._hopeless: str | None = None
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4
        # Idle threads that spin take the cores from reading, writing and tracing.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.enable_mem_pattern = False
        self._runner = _Runner()

        def load() -> Any:
            # What the provider can't compute, the CPU does.
            network = with_outputs(path.read_bytes(), also) if also else str(path)
            return ort.InferenceSession(network, options, providers=list(dict.fromkeys([wanted, _provider(CPU)])))

        try:
            self._session: Any = self._runner.call(load, LOADING_S, self._stop, lambda: None)
        except _TimeOverError:
            raise ModelError(f"{path}: was not loaded within {LOADING_S:g} s; give another model") from None
        except Interrupted:
            raise
        except Exception as error:  # ONNX Runtime raises kinds of its own
            raise ModelError(f"{path}: can't be loaded: {_first_line(error)}") from error
        if self._session.get_providers()[0] != wanted:
            # ONNX Runtime goes on without it.
            raise ConfigError(
                f"provider: {provider} is there, but could not be started, most often because a library of its own is missing; "
                f"leave {setting('provider')} out to use the CPU"
            )

    @property
    def inputs(self) -> list[Any]:
        """Names and shapes of what it takes."""
        found: list[Any] = self._session.get_inputs()
        return found

    def run(self, feeds: dict[str, NDArray[Any]], *, share: float = 1.0) -> list[F32]:
        """All outputs for some inputs.

        Args:
            feeds: Arrays by name of the input.
            share: How many times the longest time it may take.

        Raises:
            TileTimeoutError: It took longer.
            ModelError: It did so several times, or could not be stopped.
            Interrupted: ``stop`` was called.
        """
        with self._turn:
            if self._hopeless is not None:
                raise ModelError(self._hopeless)
            if self._stop.is_set():
                raise Interrupted("stopped before a tile")
            options = ort.RunOptions()
            options.log_severity_level = 4

            def end() -> None:
                options.terminate = True

            limit = self.seconds * max(1.0, share)
            session = self._session
            try:
                outputs: list[F32] = self._runner.call(lambda: session.run(None, feeds, options), limit, self._stop, end)
            except _TimeOverError as error:
                raise self._too_long(limit, ended=error.ended) from None
            except Exception as error:
                if self._stop.is_set():
                    raise Interrupted("stopped in a tile") from error
                raise
            self._timeouts = 0
            return outputs

    def stop(self) -> None:
        """End the run under way, and refuse others."""
        self._stop.set()

    def _too_long(self, limit: float, *, ended: bool) -> ModelError | TileTimeoutError:
        self._timeouts += 1
        text = (
            f"{self.path}: a tile took more than {limit:g} s; if the network is sound and this machine slow, allow more with "
            f"{setting('tile_timeout')}, else give another model"
        )
        if not ended or self._timeouts >= MOST_TIMEOUTS:
            self._hopeless = text
            return ModelError(text)
        return TileTimeoutError(text)


class _TimeOverError(Exception):
    """A call took too long."""

    def __init__(self, *, ended: bool) -> None:
        super().__init__()
        self.ended = ended
        """Whether it ended when it was told to."""


class _Runner:
    """A thread that runs one call after the other, and does not keep the process alive.

    It stays from call to call: to start a thread for each tile takes longer than a small network does.
    """

    def __init__(self) -> None:
        self._calls: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        self._answers: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
        self._thread = threading.Thread(target=_serve, args=(self._calls, self._answers), name="geoseg-onnx", daemon=True)
        self._thread.start()
        weakref.finalize(self, self._calls.put, None)

    def call(self, function: Callable[[], Any], seconds: float, stop: threading.Event, end: Callable[[], None]) -> Any:
        """The result; whatever else happens meanwhile, ``end`` is called, and the call given a moment to end.

        Raises:
            _TimeOverError: It took longer than allowed.
            Interrupted: ``stop`` was set.
        """
        self._calls.put(function)
        try:
            result, failure = self._answer(seconds, stop)
        except BaseException as error:
            # A signal, too: nobody waits for the result any more.
            end()
            ended = True
            try:
                self._answers.get(timeout=GRACE_S)
            except Empty:
                ended = False
                _left_behind.append(self._thread)
            if isinstance(error, _TimeOverError):
                error.ended = ended
            raise
        if failure is not None:
            raise failure
        return result

    def _answer(self, seconds: float, stop: threading.Event) -> tuple[Any, BaseException | None]:
        deadline = time.monotonic() + seconds
        while True:
            try:
                return self._answers.get(timeout=min(POLL_S, max(0.0, deadline - time.monotonic())))
            except Empty:
                if stop.is_set():
                    raise Interrupted("stopped in a tile") from None
                if time.monotonic() >= deadline:
                    raise _TimeOverError(ended=False) from None


def _serve(calls: SimpleQueue[Callable[[], Any] | None], answers: SimpleQueue[tuple[Any, BaseException | None]]) -> None:
    while (call := calls.get()) is not None:
        try:
            answer: tuple[Any, BaseException | None] = (call(), None)
        except BaseException as error:  # noqa: BLE001 - it belongs to the one who waits
            answer = (None, error)
        # What was computed belongs to who asked for it.
        del call
        answers.put(answer)
        del answer


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]

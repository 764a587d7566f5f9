"""Copies to a device, computation and copies back, side by side on a GPU; on a CPU one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from geoseg.inference.device.device_pass import Batch

__all__ = ["Streams"]


class Streams:
    """Three streams of a GPU, and the events between them; on a CPU there is nothing to wait for.

    What one stream has allocated and another one uses is recorded with the latter, so that the memory is not given away before.
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._cuda = device, device.type == "cuda"
        if self._cuda:
            # What was sent so far, as the weights, belongs to another stream, which these don't wait for.
            torch.cuda.synchronize(device)
            # What torch has not typed is called here and below.
            self._in, self._compute, self._out = (torch.cuda.Stream(device) for _ in range(3))  # type: ignore[no-untyped-call]

    @contextmanager
    def computing(self) -> Iterator[None]:
        """What is launched inside belongs to the stream that computes."""
        with torch.inference_mode():
            if not self._cuda:
                yield
                return
            with torch.cuda.device(self._device), torch.cuda.stream(self._compute):
                yield

    def bring(self, batch: Batch) -> Batch:
        """The batch on the device; called inside of ``computing``, which waits for it."""
        if not self._cuda:
            return batch
        with torch.cuda.stream(self._in):
            there = [t.to(self._device, non_blocking=True) for t in (batch.raw, batch.valid, batch.keep)]
        self._compute.wait_stream(self._in)
        for tensor in there:
            tensor.record_stream(self._compute)
        return replace(batch, raw=there[0], valid=there[1], keep=there[2])

    def home(self, tensors: tuple[torch.Tensor, ...], homes: list[torch.Tensor]) -> Callable[[], Any]:
        """Bring results home; returns what waits until they are there."""
        if not self._cuda:
            for home, tensor in zip(homes, tensors, strict=True):
                home.copy_(tensor)
            return lambda: None
        self._out.wait_stream(self._compute)
        with torch.cuda.stream(self._out):
            for home, tensor in zip(homes, tensors, strict=True):
                home.copy_(tensor, non_blocking=True)
                tensor.record_stream(self._out)
            done = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch's
            done.record()
        return done.synchronize

    def release(self) -> None:
        """Give memory back that is not in use, when all is done that was launched."""
        if self._cuda:
            torch.cuda.synchronize(self._device)
            torch.cuda.empty_cache()

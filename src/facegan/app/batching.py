"""Renders the requests of all visitors in common batches, one after the other."""

from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Condition, Thread
from types import TracebackType
from typing import Self
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from facegan.core.errors import FaceganError
from facegan.models.architectures import Generator
from facegan.sample.renderer import BATCH, Renderer

Pixels = NDArray[np.uint8]

MAX_WAITING = 200  # requests
PATIENCE = 30.0  # seconds


@dataclass(eq=False)
class _Request:
    network: Generator
    z: Tensor
    answer: "Future[Pixels]" = field(default_factory=Future)


class Batcher:
    """A thread with a bounded queue. A batch costs the same for one latent as for `BATCH`.

    An image does not depend on the latents beside it, as `Renderer` has it.
    """

    def __init__(self) -> None:
        self._waiting: deque[_Request] = deque()
        self._changed = Condition()
        self._closed = False
        self._renderers = WeakKeyDictionary[Generator, Renderer]()  # of networks in use
        self._thread = Thread(target=self._work, name="batcher", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def render(self, network: Generator, z: Tensor) -> Pixels:
        """The images of at most `BATCH` latents: uint8 (n, H, W, C). Safe in any thread.

        Args:
            z: float32 (n, latent_dim), on the CPU.
        Raises:
            FaceganError: if too many requests wait, or the output contains NaN.
        """
        request = _Request(network, z)
        with self._changed:
            if len(self._waiting) >= MAX_WAITING:
                raise FaceganError(f"{MAX_WAITING} requests are waiting; try again in a minute")
            self._waiting.append(request)
            self._changed.notify()
        try:
            return request.answer.result(PATIENCE)
        except TimeoutError:
            raise FaceganError(f"no image within {PATIENCE:.0f} s; try again") from None

    def _work(self) -> None:
        while batch := self._next():
            try:
                z = torch.cat([request.z for request in batch])
                (images,) = self._renderer(batch[0].network)(z)
            except Exception as error:  # of one network; the others go on
                for request in batch:
                    request.answer.set_exception(error)
                continue
            ends = np.cumsum([len(request.z) for request in batch])
            for request, part in zip(batch, np.split(images, ends[:-1]), strict=True):
                request.answer.set_result(part)

    def _renderer(self, network: Generator) -> Renderer:
        if network not in self._renderers:
            self._renderers[network] = Renderer(network)
        return self._renderers[network]

    def _next(self) -> list[_Request]:
        """Wait for a request, and take those of the same network that fit into its batch."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if self._closed:
                return []
            first = self._waiting.popleft()
            batch, rows = [first], len(first.z)
            for request in list(self._waiting):
                if request.network is first.network and rows + len(request.z) <= BATCH:
                    self._waiting.remove(request)
                    batch.append(request)
                    rows += len(request.z)
            return batch

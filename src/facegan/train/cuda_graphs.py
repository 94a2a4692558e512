"""CUDA graphs: kernels captured once, and launched together from then on."""

from collections.abc import Callable

import torch
from torch import Tensor

# Calls before the capture, in which libraries select kernels and allocate workspaces.
WARM_UP = 3


class CudaGraphed:
    """A function that is captured on its fourth call and replayed from then on.

    A small network's kernels run faster than Python can launch them one by one.

    Args:
        function: launches the same kernels on the same tensors in every call; tensors that it
            modifies keep their addresses.
        generator: the CUDA generator that `function` draws from; replays advance it.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], generator: torch.Generator) -> None:
        self.function, self.generator, self.calls = function, generator, 0
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """`function(x)`; the shape and dtype of `x` are the same in every call."""
        if self.calls < WARM_UP:
            self.calls += 1
            return self.function(x)
        if self.graph is None:
            self._capture(x)
        self.x.copy_(x)
        assert self.graph is not None
        self.graph.replay()
        return self.result.clone()

    def _capture(self, x: Tensor) -> None:
        self.x = x.clone()
        # A graph captures a stream of the current device, which need not be that of the tensors.
        with torch.cuda.device(x.device):
            graph = torch.cuda.CUDAGraph()
            graph.register_generator_state(self.generator)
            # thread_local: other threads may use the GPU during the capture.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self.result = self.function(self.x)
        self.graph = graph

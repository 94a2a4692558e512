"""CUDA graphs: kernels that are recorded once and from then on started all together."""

from collections.abc import Callable

import torch
from torch import Tensor

# Calls before the recording, in which libraries choose their kernels and take their memory.
WARM_UP = 3


class CudaGraphed:
    """A function that is recorded on its fourth call and replayed at every later one.

    A small network's kernels take less time than Python needs to start them one by one.

    Args:
        function: what it does and to which tensors is always the same; whatever it changes keeps
            its place in memory.
        generator: the generator on the GPU that `function` draws from: a replay goes on with it.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], generator: torch.Generator) -> None:
        self.function, self.generator, self.calls = function, generator, 0
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, given: Tensor) -> Tensor:
        """What `function` returns; `given` has the same shape and type at every call."""
        if self.calls < WARM_UP:
            self.calls += 1
            return self.function(given)
        if self.graph is None:
            self._record(given)
        self.given.copy_(given)
        assert self.graph is not None
        self.graph.replay()
        return self.result.clone()

    def _record(self, given: Tensor) -> None:
        self.given, graph = given.clone(), torch.cuda.CUDAGraph()
        graph.register_generator_state(self.generator)
        # thread_local: other threads may use the GPU meanwhile.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            self.result = self.function(self.given)
        self.graph = graph

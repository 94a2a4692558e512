"""CUDA graphs. Most are skipped without a GPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from facegan.train.cuda_graphs import WARM_UP, CudaGraphed

CALLS = WARM_UP + 5


def results(device: torch.device, captured: bool) -> list[Tensor]:
    """Results of a function that draws random numbers and modifies a tensor."""
    rng = torch.Generator(device).manual_seed(0)
    total = torch.zeros(4, device=device)

    def step(x: Tensor) -> Tensor:
        total.add_(x * torch.rand(4, generator=rng, device=device))
        return total * 2

    function = CudaGraphed(step, rng) if captured else step
    return [function(torch.full((4,), float(n), device=device)) for n in range(CALLS)]


def test_replays_compute_what_eager_calls_do(gpu: torch.device) -> None:
    replayed, eager = results(gpu, captured=True), results(gpu, captured=False)
    assert all(map(torch.equal, replayed, eager))


def test_a_result_is_not_overwritten_by_the_next(gpu: torch.device) -> None:
    assert len({tuple(result.tolist()) for result in results(gpu, captured=True)}) == CALLS


def test_the_generator_can_be_reset_between_replays(gpu: torch.device) -> None:
    rng = torch.Generator(gpu).manual_seed(0)
    draw = CudaGraphed(lambda x: x + torch.rand(4, generator=rng, device=gpu), rng)
    zeros = torch.zeros(4, device=gpu)
    for _ in range(WARM_UP + 1):
        draw(zeros)
    state = rng.get_state()
    first, second = draw(zeros), draw(zeros)
    rng.set_state(state)
    assert torch.equal(draw(zeros), first) and torch.equal(draw(zeros), second)
    rng.manual_seed(1)
    assert not torch.equal(draw(zeros), first)


class FakeGraph:
    def register_generator_state(self, generator: torch.Generator) -> None:
        pass

    def replay(self) -> None:
        pass


def test_a_capture_is_on_the_device_of_the_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU: which of PyTorch's functions are called, in order."""
    calls = list[Any]()

    @contextmanager
    def device(chosen: torch.device) -> Iterator[None]:
        calls.append(chosen)
        yield
        calls.append("back")

    @contextmanager
    def graph(captured: FakeGraph, capture_error_mode: str) -> Iterator[None]:
        calls.append("capture")
        yield

    monkeypatch.setattr(torch.cuda, "device", device)
    monkeypatch.setattr(torch.cuda, "graph", graph)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", FakeGraph)
    function = CudaGraphed(lambda x: x + 1, torch.Generator())
    for _ in range(WARM_UP + 2):
        function(torch.zeros(1))
    assert calls == [torch.device("cpu"), "capture", "back"]

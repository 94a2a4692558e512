"""CUDA graphs. Skipped without a GPU."""

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

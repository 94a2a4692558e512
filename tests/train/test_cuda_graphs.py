"""What a GPU replays. On machines without one, these tests are skipped."""

import torch
from torch import Tensor

from facegan.train.cuda_graphs import WARM_UP, CudaGraphed

CALLS = WARM_UP + 5


def results(device: torch.device, recorded: bool) -> list[Tensor]:
    """Of a function that draws numbers and changes a tensor."""
    source = torch.Generator(device).manual_seed(0)
    total = torch.zeros(4, device=device)

    def work(given: Tensor) -> Tensor:
        total.add_(given * torch.rand(4, generator=source, device=device))
        return total * 2

    function = CudaGraphed(work, source) if recorded else work
    return [function(torch.full((4,), float(n), device=device)) for n in range(CALLS)]


def test_replays_compute_what_calls_do(gpu: torch.device) -> None:
    replayed, called = results(gpu, recorded=True), results(gpu, recorded=False)
    assert all(map(torch.equal, replayed, called))


def test_a_result_is_not_overwritten_by_the_next(gpu: torch.device) -> None:
    assert len({tuple(result.tolist()) for result in results(gpu, recorded=True)}) == CALLS


def test_a_source_may_be_set_back_between_replays(gpu: torch.device) -> None:
    source = torch.Generator(gpu).manual_seed(0)
    draw = CudaGraphed(lambda given: given + torch.rand(4, generator=source, device=gpu), source)
    zeros = torch.zeros(4, device=gpu)
    for _ in range(WARM_UP + 1):
        draw(zeros)
    state = source.get_state()
    first, second = draw(zeros), draw(zeros)
    source.set_state(state)
    assert torch.equal(draw(zeros), first) and torch.equal(draw(zeros), second)
    source.manual_seed(1)
    assert not torch.equal(draw(zeros), first)

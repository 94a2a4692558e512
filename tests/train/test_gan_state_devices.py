"""What a training state does on a GPU and with other processes, seen without them."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from facegan.params import Params
from facegan.train import gan_state
from facegan.train.gan_state import GANState

IMAGES = torch.arange(4 * 32 * 32, dtype=torch.int64).reshape(4, 32, 32, 1).to(torch.uint8)


@pytest.fixture
def gan(params: Callable[..., Params]) -> GANState:
    return GANState(params(train={"batch_size": 4}).train, 32, 1, 0, torch.device("cpu"))


@pytest.mark.parametrize(("device", "size", "captured"), [("cuda", 1, True), ("cuda", 2, False)])
def test_steps_are_captured_on_a_gpu_if_there_is_one_process(
    device: str, size: int, captured: bool, gan: GANState, monkeypatch: pytest.MonkeyPatch
) -> None:
    captures: list[Any] = []
    monkeypatch.setattr(gan_state, "CudaGraphed", lambda *arguments: captures.append(arguments))
    gan.device, gan.group = torch.device(device), SimpleNamespace(size=size)  # type: ignore[assignment]
    gan._build_steps()
    assert [generator is gan.rng.generator for _, generator in captures] == [True, True] * captured
    assert [step.args for step, _ in captures] == [(False,), (True,)] * captured
    assert [step is None for step in gan.step_functions.values()] == [captured] * 2


def test_gradients_and_metrics_are_averaged_over_processes(gan: GANState) -> None:
    averaged: list[list[Tensor]] = []
    group: Any = SimpleNamespace(size=1, all_reduce_mean=averaged.append)
    gan.group = group
    metrics = gan.train_step(IMAGES)
    networks = gan.discriminator, gan.generator
    for network, gradients in zip(networks, averaged, strict=False):
        found = [weight.grad for weight in network.parameters()]
        assert len(gradients) == sum(gradient is not None for gradient in found) > 0
    assert len(averaged) == 3 and averaged[2][0] is metrics

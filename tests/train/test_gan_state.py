"""The training step."""

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from facegan.data.batches import Batches
from facegan.data.dataset import load_images
from facegan.params import Params
from facegan.train.cuda_graphs import CudaGraphed
from facegan.train.gan_state import GANState
from facegan.train.losses import gradient_penalty

MakeParams = Callable[..., Params]
CPU = torch.device("cpu")
RECIPES: list[dict[str, Any]] = [
    {},
    {"dtype": "bfloat16", "lr_decay_from": 20},
    {"loss": "hinge", "spectral_norm": True, "discriminator_lr": 0.001},
    {"architecture": "residual", "loss": "relativistic", "r1": 1.0, "r2": 1.0},
    {"architecture": "residual", "loss": "bce", "r1": 0.5, "lazy_reg_interval": 2},
    {"architecture": "resnet", "loss": "relativistic", "r1": 0.1, "beta1": 0.0},
    {"hflip": True, "augment": ["brightness", "saturation", "contrast", "translation", "cutout"]},
]


@pytest.fixture
def batch(dataset: Path) -> Tensor:
    return next(Batches(load_images(dataset), 20, 0))


@pytest.fixture
def trainer(params: MakeParams) -> Callable[..., GANState]:
    def make(seed: int = 0, **train: Any) -> GANState:
        return GANState(params(train=train).train, 32, 1, seed, CPU)

    return make


def weights(trainer: GANState) -> list[Tensor]:
    networks = (trainer.generator, trainer.discriminator, trainer.ema.network)
    return [p.detach().clone() for network in networks for p in network.parameters()]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: "-".join(recipe))
def test_a_step_moves_both_networks_and_the_average(
    recipe: dict[str, Any], trainer: Callable[..., GANState], batch: Tensor
) -> None:
    one = trainer(**recipe)
    before = weights(one)
    for _ in range(3):  # a residual block's first convolution waits for the second's first step
        figures = one.train_step(batch)
    assert figures.shape == (3,) and figures.isfinite().all()
    assert not figures.requires_grad
    assert 0 <= figures[2] <= 1
    still = [torch.equal(new, old) for new, old in zip(weights(one), before, strict=True)]
    # What is added to all logits alike cancels out where they are compared in pairs.
    assert sum(still) == one.loss.paired
    assert one.is_finite()


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: "-".join(recipe))
def test_a_trainer_that_was_saved_goes_on_as_if_it_had_not_been(
    recipe: dict[str, Any], trainer: Callable[..., GANState], batch: Tensor
) -> None:
    one, other = trainer(**recipe), trainer(seed=1, **recipe)
    for _ in range(3):
        one.train_step(batch)
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    assert torch.equal(one.train_step(batch), other.train_step(batch))
    assert all(map(torch.equal, weights(one), weights(other)))


def rates(trainer: GANState) -> list[float]:
    optimizers = (trainer.generator_optimizer, trainer.discriminator_optimizer)
    return [optimizer.param_groups[0]["lr"].item() for optimizer in optimizers]


def test_each_network_has_its_learning_rate(
    trainer: Callable[..., GANState], batch: Tensor
) -> None:
    for given, expected in ((None, 0.001), (0.002, 0.002)):
        one = trainer(lr=0.001, discriminator_lr=given)
        for _ in range(3):
            assert rates(one) == pytest.approx([0.001, expected])
            one.train_step(batch)


def test_learning_rates_fall_with_the_root_of_the_images_seen(
    trainer: Callable[..., GANState], batch: Tensor
) -> None:
    one = trainer(lr=0.001, discriminator_lr=0.002, batch_size=20, lr_decay_from=40)
    found = []
    for _ in range(9):
        one.train_step(batch)  # the last begins at 160 images seen
        found.append(rates(one))
    factors = [1, 1, 1, 1.5**-0.5, 2**-0.5, 2.5**-0.5, 3**-0.5, 3.5**-0.5, 0.5]
    assert found == [pytest.approx([0.001 * f, 0.002 * f]) for f in factors]


def test_a_lower_learning_rate_moves_the_weights_less(
    trainer: Callable[..., GANState], batch: Tensor
) -> None:
    def moved(**recipe: Any) -> float:
        one = trainer(batch_size=20, **recipe)
        for _ in range(10):
            one.train_step(batch)
        before = weights(one)
        one.train_step(batch)
        return max(
            (new - old).abs().max().item() for new, old in zip(weights(one), before, strict=True)
        )

    # Adam's steps are of the learning rate's size.
    assert moved(lr_decay_from=2) == pytest.approx(moved() / 10, rel=0.5)


def test_the_penalty_counts_for_all_steps_between_two(
    trainer: Callable[..., GANState], batch: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[float] = []

    def penalty(logits: Tensor, images: Tensor) -> Tensor:
        value = gradient_penalty(logits, images)
        taken.append(value.item())
        return value

    monkeypatch.setattr("facegan.train.gan_state.gradient_penalty", penalty)
    one = trainer(r1=1.0, r2=1.0, lazy_reg_interval=3)
    for _ in range(7):
        one.train_step(batch)
    assert len(taken) == 6  # at the steps 0, 3 and 6, for photographs and for generated images
    assert all(value > 0 for value in taken)


def test_penalties_make_the_discriminators_gradient_smaller(
    trainer: Callable[..., GANState], batch: Tensor
) -> None:
    def steepness(**recipe: Any) -> float:
        one = trainer(architecture="residual", loss="relativistic", lr=0.002, **recipe)
        for _ in range(30):
            one.train_step(batch)
        images = batch.permute(0, 3, 1, 2).float().div(127.5).sub(1).requires_grad_(True)
        return gradient_penalty(one.discriminator(images), images).item()

    assert steepness(r1=10.0, r2=10.0, lazy_reg_interval=1) < 0.5 * steepness()


def test_flips_show_both_sides(trainer: Callable[..., GANState], batch: Tensor) -> None:
    flipped = trainer(hflip=True)._flipped(batch)
    turned = [torch.equal(new, old.flip(1)) for new, old in zip(flipped, batch, strict=True)]
    kept = [torch.equal(new, old) for new, old in zip(flipped, batch, strict=True)]
    assert all(a or b for a, b in zip(turned, kept, strict=True))
    assert any(turned) and any(kept)


def test_a_weight_that_is_no_number_is_noticed(
    trainer: Callable[..., GANState], batch: Tensor
) -> None:
    for network in ("generator", "discriminator"):
        one = trainer()
        parameter = next(getattr(one, network).parameters())
        with torch.no_grad():
            parameter.select(0, 0).fill_(float("nan"))
        assert not one.is_finite()


def test_another_noise_draws_other_latents(trainer: Callable[..., GANState], batch: Tensor) -> None:
    one, other, same = trainer(), trainer(), trainer()
    other.rng.reseed([0, 0, 1])
    same.rng.reseed([0, 0, 1])
    assert not torch.equal(one.train_step(batch), other.train_step(batch))
    third = trainer()
    third.rng.reseed([0, 0, 1])
    assert torch.equal(same.train_step(batch), third.train_step(batch))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: "-".join(recipe))
def test_a_gpu_replays_steps_that_compute_the_same(
    recipe: dict[str, Any], params: MakeParams, batch: Tensor, gpu: torch.device
) -> None:
    # Slow, because cuDNN's sums have no fixed order, and a training makes much of little.
    slow = {"lr": 1e-5, "discriminator_lr": 1e-5, "lazy_reg_interval": 2}
    settings = params(train={**recipe, **slow}).train
    replaying, calling = (GANState(settings, 32, 1, 0, gpu) for _ in range(2))
    calling.work = {kind: partial(calling._work, kind) for kind in (False, True)}
    before, images = weights(replaying), batch.to(gpu)
    for _ in range(20):
        figures = replaying.train_step(images), calling.train_step(images)
    assert all(isinstance(work, CudaGraphed) for work in replaying.work.values())
    torch.testing.assert_close(*figures, rtol=0.05, atol=0.05)
    moved = [
        torch.stack([(new - old).norm() for new, old in zip(weights(one), before, strict=True)])
        for one in (replaying, calling)
    ]
    torch.testing.assert_close(*moved, rtol=0.1, atol=1e-6)


def test_a_gpus_trainer_goes_on_from_a_saved_state(
    params: MakeParams, batch: Tensor, gpu: torch.device
) -> None:
    settings = params(train={"architecture": "residual", "r1": 0.1}).train
    one, other = GANState(settings, 32, 1, 0, gpu), GANState(settings, 32, 1, 1, gpu)
    images = batch.to(gpu)
    for _ in range(20):
        one.train_step(images)
        other.train_step(images)  # recorded, and recorded anew for what it is given
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    for _ in range(10):
        torch.testing.assert_close(
            one.train_step(images), other.train_step(images), rtol=1e-3, atol=1e-3
        )


def test_nobody_waits_for_a_gpu_in_a_step(
    dataset: Path, params: MakeParams, gpu: torch.device
) -> None:
    augmented = ["brightness", "saturation", "contrast", "translation", "cutout"]
    settings = params(train={"hflip": True, "augment": augmented, "r1": 0.1}).train
    one = GANState(settings, 32, 1, 0, gpu)
    batches = Batches(load_images(dataset).to(gpu), settings.batch_size, 0, gpu)
    for _ in range(20):  # recording waits, once
        one.train_step(next(batches))
    with pytest.warns(UserWarning, match="prototype"):
        torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(5):  # within an epoch
            one.train_step(next(batches))
    finally:
        torch.cuda.set_sync_debug_mode("default")

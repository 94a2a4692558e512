import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from facegan.models.dcgan import Generator, initialise
from facegan.train.ema import EMA


def constant(value: float) -> nn.Linear:
    network = nn.Linear(3, 2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(value)
    return network


def values(network: nn.Module) -> Tensor:
    return torch.cat([parameter.flatten() for parameter in network.parameters()])


def generator(seed: int) -> Generator:
    network = Generator(size=32, channels=1, latent_dim=6, base_channels=4)
    initialise(network, torch.Generator().manual_seed(seed))
    return network


@pytest.fixture
def batches() -> tuple[Tensor, ...]:
    return torch.randn(3, 20, 6, generator=torch.Generator().manual_seed(7)).unbind()


@given(
    batches=st.lists(st.integers(1, 100), min_size=1, max_size=10),
    half_lives=st.sampled_from([0.5, 1, 2, 3]),
)
def test_an_old_weight_counts_half_after_a_half_life_of_any_batches(
    batches: list[int], half_lives: float
) -> None:
    images = 2 * sum(batches)
    average = EMA(constant(0.0), half_life=int(images / half_lives / 2) * 2)
    live = constant(1.0)
    for size in batches:
        average.update(live, 2 * size)
    old = 0.5 ** (images / average.half_life)
    torch.testing.assert_close(values(average.network), torch.full((8,), 1 - old))


def test_a_half_life_of_images_halves_the_distance_exactly() -> None:
    average = EMA(constant(0.0), half_life=60)
    for _ in range(3):
        average.update(constant(1.0), images=20)
    assert values(average.network).tolist() == pytest.approx([0.5] * 8, rel=1e-6)


def test_the_average_starts_as_a_copy_that_training_does_not_reach() -> None:
    live = constant(3.0)
    average = EMA(live, half_life=10)
    with torch.no_grad():
        live.weight.fill_(5.0)
    assert values(average.network).tolist() == [3.0] * 8
    assert not any(parameter.requires_grad for parameter in average.network.parameters())
    assert all(parameter.requires_grad for parameter in live.parameters())


def test_updating_leaves_the_live_network_alone() -> None:
    live = generator(1)
    average = EMA(generator(0), half_life=10)
    before = copy.deepcopy(live.state_dict())
    average.update(live, images=5)
    assert all(torch.equal(value, before[name]) for name, value in live.state_dict().items())


def test_settled_statistics_are_those_of_the_batches(batches: tuple[Tensor, ...]) -> None:
    average = EMA(generator(0), half_life=10)
    settled = average.recalibrate_batchnorm(batches)
    # What reaches the first BatchNorm doesn't depend on any other.
    first, norm = average.network.get_submodule("layers.0"), settled.get_submodule("layers.1")
    assert isinstance(norm, nn.BatchNorm2d)
    inputs = [first(z[:, :, None, None]).transpose(0, 1).flatten(1) for z in batches]
    means = torch.stack([x.mean(1) for x in inputs]).mean(0)
    variances = torch.stack([x.var(1) for x in inputs]).mean(0)
    torch.testing.assert_close(norm.running_mean, means)
    torch.testing.assert_close(norm.running_var, variances)


def test_settled_over_one_batch_it_draws_that_batch_as_training_would(
    batches: tuple[Tensor, ...],
) -> None:
    average = EMA(generator(0), half_life=10)
    settled = average.recalibrate_batchnorm(batches[:1])
    live = copy.deepcopy(average.network).train()(batches[0])
    # The running variance is the unbiased one, the batch's own is not.
    torch.testing.assert_close(settled(batches[0]), live, rtol=0.02, atol=0.002)


def test_a_settled_network_is_in_eval_mode_throughout(batches: tuple[Tensor, ...]) -> None:
    settled = EMA(generator(0).train(), half_life=10).recalibrate_batchnorm(batches)
    assert not any(module.training for module in settled.modules())
    alone, together = settled(batches[0][:1]), settled(batches[0])[:1]
    torch.testing.assert_close(alone, together)


def test_settling_leaves_the_live_network_and_the_average_alone(
    batches: tuple[Tensor, ...],
) -> None:
    live = generator(0)
    average = EMA(live, half_life=10)
    networks = (live, average.network)
    before = [copy.deepcopy(network.state_dict()) for network in networks]
    modes = [network.training for network in networks]
    average.recalibrate_batchnorm(batches)
    for network, state in zip(networks, before, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert [network.training for network in networks] == modes


def test_settling_twice_gives_the_same_and_forgets_the_statistics_before(
    batches: tuple[Tensor, ...],
) -> None:
    average = EMA(generator(0), half_life=10)
    first = average.recalibrate_batchnorm(batches).state_dict()
    average.network.train()(100 * batches[0])
    second = average.recalibrate_batchnorm(batches).state_dict()
    assert all(torch.equal(value, second[name]) for name, value in first.items())

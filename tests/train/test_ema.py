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
def test_old_weights_decay_by_half_per_half_life_whatever_the_batches(
    batches: list[int], half_lives: float
) -> None:
    images = 2 * sum(batches)
    ema = EMA(constant(0.0), half_life=int(images / half_lives / 2) * 2)
    live = constant(1.0)
    for size in batches:
        ema.update(live, 2 * size)
    old = 0.5 ** (images / ema.half_life)
    torch.testing.assert_close(values(ema.network), torch.full((8,), 1 - old))


def test_one_half_life_halves_the_distance() -> None:
    ema = EMA(constant(0.0), half_life=60)
    for _ in range(3):
        ema.update(constant(1.0), images=20)
    assert values(ema.network).tolist() == pytest.approx([0.5] * 8, rel=1e-6)


def test_the_ema_starts_as_an_independent_copy() -> None:
    live = constant(3.0)
    ema = EMA(live, half_life=10)
    with torch.no_grad():
        live.weight.fill_(5.0)
    assert values(ema.network).tolist() == [3.0] * 8
    assert not any(parameter.requires_grad for parameter in ema.network.parameters())
    assert all(parameter.requires_grad for parameter in live.parameters())


def test_update_does_not_change_the_live_network() -> None:
    live = generator(1)
    ema = EMA(generator(0), half_life=10)
    before = copy.deepcopy(live.state_dict())
    ema.update(live, images=5)
    assert all(torch.equal(value, before[name]) for name, value in live.state_dict().items())


def test_recalibrated_statistics_are_those_of_the_batches(batches: tuple[Tensor, ...]) -> None:
    ema = EMA(generator(0), half_life=10)
    recalibrated = ema.recalibrate_batchnorm(batches)
    # The input of the first BatchNorm depends on no other.
    first, norm = ema.network.get_submodule("layers.0"), recalibrated.get_submodule("layers.1")
    assert isinstance(norm, nn.BatchNorm2d)
    inputs = [first(z[:, :, None, None]).transpose(0, 1).flatten(1) for z in batches]
    means = torch.stack([x.mean(1) for x in inputs]).mean(0)
    variances = torch.stack([x.var(1) for x in inputs]).mean(0)
    torch.testing.assert_close(norm.running_mean, means)
    torch.testing.assert_close(norm.running_var, variances)


def test_recalibrated_on_one_batch_its_output_is_that_of_training_mode(
    batches: tuple[Tensor, ...],
) -> None:
    ema = EMA(generator(0), half_life=10)
    recalibrated = ema.recalibrate_batchnorm(batches[:1])
    live = copy.deepcopy(ema.network).train()(batches[0])
    # The running variance is the unbiased one, the batch's own is not.
    torch.testing.assert_close(recalibrated(batches[0]), live, rtol=0.02, atol=0.002)


def test_a_recalibrated_network_is_in_eval_mode(batches: tuple[Tensor, ...]) -> None:
    recalibrated = EMA(generator(0).train(), half_life=10).recalibrate_batchnorm(batches)
    assert not any(module.training for module in recalibrated.modules())
    alone, together = recalibrated(batches[0][:1]), recalibrated(batches[0])[:1]
    torch.testing.assert_close(alone, together)


def test_recalibration_changes_neither_the_live_nor_the_ema_network(
    batches: tuple[Tensor, ...],
) -> None:
    live = generator(0)
    ema = EMA(live, half_life=10)
    networks = (live, ema.network)
    before = [copy.deepcopy(network.state_dict()) for network in networks]
    modes = [network.training for network in networks]
    ema.recalibrate_batchnorm(batches)
    for network, state in zip(networks, before, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert [network.training for network in networks] == modes


def test_recalibration_does_not_depend_on_earlier_statistics(
    batches: tuple[Tensor, ...],
) -> None:
    ema = EMA(generator(0), half_life=10)
    first = ema.recalibrate_batchnorm(batches).state_dict()
    ema.network.train()(100 * batches[0])
    second = ema.recalibrate_batchnorm(batches).state_dict()
    assert all(torch.equal(value, second[name]) for name, value in first.items())

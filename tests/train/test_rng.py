import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from facegan.runtime.distributed import Group
from facegan.train.rng import Rng

CPU = torch.device("cpu")
shapes = st.lists(st.integers(1, 3), max_size=3)


@given(st.sampled_from([1, 2, 3]), st.integers(1, 4), shapes, st.integers(0, 100))
def test_the_parts_of_all_processes_are_the_numbers_of_a_single_process(
    size: int, share: int, shape: list[int], seed: int
) -> None:
    single = Rng(seed, CPU)
    ranks = [Rng(seed, CPU, Group(rank, size)) for rank in range(size)]
    n = size * share
    for _ in range(2):
        parts = torch.cat([rng.normal(share, *shape) for rng in ranks])
        assert torch.equal(parts, single.normal(n, *shape))
        parts = torch.cat([rng.uniform(share, *shape) for rng in ranks])
        assert torch.equal(parts, single.uniform(n, *shape))
        parts = torch.cat([rng.integers(9, share, *shape) for rng in ranks])
        assert torch.equal(parts, single.integers(9, n, *shape))
    for numbers in (single.normal(n, *shape), single.uniform(n, *shape)):
        assert numbers.shape == (n, *shape) and numbers.dtype == torch.float32
    assert single.integers(9, n, *shape).shape == (n, *shape)


def test_numbers_have_the_right_distributions() -> None:
    rng = Rng(0, CPU)
    normal, uniform, integers = (
        rng.normal(10_000), rng.uniform(10_000), rng.integers(3, 10_000)
    )  # fmt: skip
    assert abs(normal.mean()) < 0.05 and normal.std().item() == pytest.approx(1, abs=0.05)
    assert 0 <= uniform.min() < 0.01 and 0.99 < uniform.max() < 1
    assert set(integers.tolist()) == {0, 1, 2}


def test_numbers_are_on_the_given_device_whatever_torchs_default() -> None:
    rng = Rng(0, CPU)
    with torch.device("meta"):
        numbers = rng.normal(3), rng.uniform(3), rng.integers(3, 3)
    assert {drawn.device.type for drawn in numbers} == {"cpu"}


def test_numbers_depend_on_the_seed_alone() -> None:
    one, other = Rng(0, CPU), Rng(1, CPU)
    assert not torch.equal(one.normal(9), other.normal(9))
    one.reseed([0, 7, 1])
    other.reseed([0, 7, 1])
    assert torch.equal(one.normal(9), other.normal(9))
    other.reseed([0, 7, 2])
    assert not torch.equal(one.normal(9), other.normal(9))


def test_a_restored_state_continues_and_one_of_another_device_type_is_reseeded() -> None:
    before, after = Rng(0, CPU), Rng(1, CPU)
    before.normal(9)
    after.restore(before.generator.get_state(), [5])
    assert torch.equal(after.normal(9), before.normal(9))
    after.restore(torch.zeros(16, dtype=torch.uint8), [5])  # CUDA's has 16 bytes
    before.reseed([5])
    assert torch.equal(after.normal(9), before.normal(9))

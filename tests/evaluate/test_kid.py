import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch_fidelity import metric_kid
from torchmetrics.image.kid import poly_mmd

from facegan.evaluate import kid
from facegan.evaluate.jackknife import GROUPS
from facegan.evaluate.kid import SUBSET_SIZE, SUBSETS, kernel_distance, squared_mmds, subset_size

seeds = st.integers(0, 10_000)
KERNEL = {
    "kid_kernel": "poly",
    "kid_kernel_poly_degree": 3,
    "kid_kernel_poly_gamma": None,
    "kid_kernel_poly_coef0": 1,
}


def features(count: int, dimensions: int, seed: int) -> Tensor:
    return torch.randn(count, dimensions, generator=torch.Generator().manual_seed(seed))


def squared_mmd(real: Tensor, fake: Tensor) -> float:
    """Of a single subset that contains everything."""
    ones = [torch.ones(1, len(side), dtype=torch.float64) for side in (real, fake)]
    return float(squared_mmds(real, fake, *ones))


@given(count=st.integers(2, 60), dimensions=st.integers(1, 40), seed=seeds)
def test_the_squared_mmd_agrees_with_torch_fidelity_and_torchmetrics(
    count: int, dimensions: int, seed: int
) -> None:
    real, fake = features(count, dimensions, seed), features(count, dimensions, seed + 1) + 0.5
    ours = squared_mmd(real, fake)
    one = metric_kid.kernel_mmd(real.double().numpy(), fake.double().numpy(), **KERNEL)
    other = poly_mmd(real.double(), fake.double())
    assert ours == pytest.approx(float(one), rel=1e-9, abs=1e-12)
    assert ours == pytest.approx(float(other), rel=1e-9, abs=1e-12)


@given(real=st.integers(2, 8), fake=st.integers(2, 8), seed=seeds)
def test_the_squared_mmd_equals_the_papers_sums_over_pairs(real: int, fake: int, seed: int) -> None:
    x, y = features(real, 3, seed).double().tolist(), features(fake, 3, seed + 1).double().tolist()

    def mean(pairs: list[tuple[list[float], list[float]]]) -> float:
        return float(np.mean([(np.dot(a, b) / 3 + 1) ** 3 for a, b in pairs]))

    within_x = mean([(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j])
    within_y = mean([(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j])
    expected = within_x + within_y - 2 * mean([(a, b) for a in x for b in y])
    ours = squared_mmd(features(real, 3, seed), features(fake, 3, seed + 1))
    assert ours == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(real=st.integers(2, 30), fake=st.integers(2, 30), seed=seeds)
def test_the_squared_mmd_is_symmetric(real: int, fake: int, seed: int) -> None:
    one, other = features(real, 6, seed), features(fake, 6, seed + 1)
    assert squared_mmd(one, other) == pytest.approx(squared_mmd(other, one), rel=1e-9, abs=1e-12)


def test_the_squared_mmd_is_computed_in_float64() -> None:
    real, fake = features(50, 1280, 0) + 3, features(50, 1280, 1) + 3
    assert squared_mmd(real, fake) == squared_mmd(real.double(), fake.double())


def test_the_squared_mmd_does_not_modify_its_inputs() -> None:
    real, fake = features(20, 4, 0).double(), features(20, 4, 1).double()
    before = real.clone(), fake.clone()
    squared_mmd(real, fake)
    assert all(map(torch.equal, before, (real, fake)))


def test_the_estimate_is_unbiased() -> None:
    # Both sides have one distribution: the mean is 0 within four standard errors.
    found = np.array([squared_mmd(features(10, 4, i), features(10, 4, -i)) for i in range(1, 501)])
    assert abs(found.mean()) < 4 * found.std() / len(found) ** 0.5
    assert (found < 0).any()


@given(count=st.integers(20, 300), other=st.integers(20, 300), seed=seeds)
def test_the_mean_over_subsets_is_close_to_the_value_over_all(
    count: int, other: int, seed: int
) -> None:
    real, fake = features(count, 8, seed), features(other, 8, seed + 1) + 0.5
    mean, spread, _ = kernel_distance(real, fake, seed)
    # With replacement, images would be paired with themselves, and the estimate far too high.
    assert mean == pytest.approx(squared_mmd(real, fake), abs=5 * spread / SUBSETS**0.5)


def test_mean_and_spread_agree_with_torch_fidelity_on_other_subsets() -> None:
    real, fake = features(400, 16, 0), features(300, 16, 1) + 0.3
    theirs = metric_kid.kid_features_to_metric(
        real.double(),
        fake.double(),
        kid_subsets=SUBSETS,
        kid_subset_size=subset_size(400, 300),
        rng_seed=0,
        verbose=False,
        **KERNEL,
    )
    mean, spread, _ = kernel_distance(real, fake, 0)
    expected = theirs[metric_kid.KEY_METRIC_KID_MEAN]
    error = (2 / SUBSETS) ** 0.5 * spread
    assert mean == pytest.approx(expected, abs=4 * error)
    assert spread == pytest.approx(theirs[metric_kid.KEY_METRIC_KID_STD], rel=0.3)


def test_two_samples_of_one_distribution_are_at_distance_zero() -> None:
    mean, spread, _ = kernel_distance(features(2000, 16, 0), features(2000, 16, 1), 0)
    assert abs(mean) < spread


def test_the_distance_grows_with_a_shift() -> None:
    real, fake = features(200, 16, 0), features(200, 16, 1)
    means = [kernel_distance(real, fake + shift, 0)[0] for shift in (0, 0.25, 0.5, 1, 2)]
    assert means == sorted(means)
    assert means[-1] > 10


def test_a_dropped_mode_is_detected() -> None:
    modes = torch.cat([features(200, 16, 0) - 1, features(200, 16, 1) + 1])
    others = torch.cat([features(200, 16, 2) - 1, features(200, 16, 3) + 1])
    whole, *_ = kernel_distance(modes, others, 0)
    half, *_ = kernel_distance(modes, features(400, 16, 2) + 1, 0)
    assert half > 10 * abs(whole)


@pytest.mark.parametrize("seed", [0, 7])
def test_the_seed_determines_the_result_and_the_global_rng_is_untouched(seed: int) -> None:
    real, fake = features(40, 4, 0), features(50, 4, 1)
    torch.manual_seed(0)
    before = kernel_distance(real, fake, seed)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    assert kernel_distance(real, fake, seed) == before
    assert torch.equal(torch.get_rng_state(), state)
    assert kernel_distance(real, fake, seed + 1) != before


@pytest.mark.parametrize(
    ("real", "fake", "size"),
    [
        (4, 4, 2),
        (5, 100, 2),
        (100, 51, 25),
        (1998, 50_000, 999),
        (2000, 2000, SUBSET_SIZE),
        (60_000, 50_000, SUBSET_SIZE),
    ],
)
def test_the_subset_size_is_as_published_or_half_of_the_smaller_side(
    real: int, fake: int, size: int
) -> None:
    assert subset_size(real, fake) == size


def test_mean_and_spread_are_those_of_subsets_of_the_reported_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = list[tuple[Tensor, Tensor, Tensor]]()

    def recording(real: Tensor, fake: Tensor, in_real: Tensor, in_fake: Tensor) -> Tensor:
        calls.append((in_real, in_fake, squared_mmds(real, fake, in_real, in_fake)))
        return calls[-1][-1]

    monkeypatch.setattr(kid, "squared_mmds", recording)
    found = kernel_distance(features(31, 3, 0), features(80, 3, 1), 0)
    ((in_real, in_fake, distances),) = calls
    assert (in_real.shape, in_fake.shape) == ((SUBSETS + GROUPS, 31), (SUBSETS + GROUPS, 80))
    for masks in (in_real[:SUBSETS], in_fake[:SUBSETS]):
        assert set(masks.unique().tolist()) == {0, 1} and set(masks.sum(1).tolist()) == {15}
        assert len(masks.unique(dim=0)) == SUBSETS
    of_subsets = distances[:SUBSETS].numpy()
    assert found[:2] == pytest.approx((np.mean(of_subsets), np.std(of_subsets)), rel=1e-9)


@given(seed=seeds)
def test_the_squared_mmd_of_a_subset_depends_on_its_members_only(seed: int) -> None:
    real, fake = features(30, 5, seed), features(20, 5, seed + 1)
    rng = torch.Generator().manual_seed(seed)
    masks = [torch.stack([torch.randperm(n, generator=rng) < 7 for _ in range(3)])
             for n in (30, 20)]  # fmt: skip
    batched = squared_mmds(real, fake, masks[0].double(), masks[1].double())
    separate = [squared_mmd(real[a], fake[b]) for a, b in zip(*masks, strict=True)]
    assert batched.tolist() == pytest.approx(separate, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_the_distance_does_not_depend_on_the_block_size(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, fake = features(30, 5, 0), features(20, 5, 1)
    before = kernel_distance(real, fake, 0)
    monkeypatch.setattr(kid, "BLOCK", block)
    assert kernel_distance(real, fake, 0) == pytest.approx(before, rel=1e-9)


def test_few_features_have_a_positive_spread() -> None:
    assert kernel_distance(features(40, 4, 0), features(40, 4, 1), 0)[1] > 0


def test_the_standard_error_is_that_of_the_estimate_without_each_tenth_of_the_images() -> None:
    real, fake = features(40, 4, 0), features(50, 4, 1) + 0.5
    values = [
        squared_mmd(real[torch.arange(40) % 10 != group], fake[torch.arange(50) % 10 != group])
        for group in range(10)
    ]
    expected = (9 / 10 * np.square(np.array(values) - np.mean(values)).sum()) ** 0.5
    assert kernel_distance(real, fake, 0).error == pytest.approx(expected, rel=1e-9)


def test_the_standard_error_is_about_the_standard_deviation_over_samples() -> None:
    pairs = [(features(50, 8, 2 * i), features(50, 8, 2 * i + 1) + 0.5) for i in range(60)]
    actual = np.std([squared_mmd(*pair) for pair in pairs])
    errors = [kernel_distance(*pair, 0).error for pair in pairs]
    assert 0.8 * actual < np.mean(errors) < 2 * actual

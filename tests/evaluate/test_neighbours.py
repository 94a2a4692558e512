from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.stats import betabinom
from sklearn.neighbors import NearestNeighbors
from torch import Tensor
from torch.nn.functional import normalize
from torch_fidelity.metric_prc import calculate_precision_recall_full

from facegan.evaluate import neighbours
from facegan.evaluate.neighbours import (
    manifold_shares,
    memorisation,
    nearest,
    precision_and_recall,
)

seeds = st.integers(0, 10_000)
counts = st.integers(4, 60)


def features(count: int, dimensions: int, seed: int) -> Tensor:
    return torch.randn(count, dimensions, generator=torch.Generator().manual_seed(seed))


def with_norm(norm: float, count: int, dimensions: int) -> Tensor:
    values = features(count, dimensions, 0).abs()  # non-negative, as after a ReLU
    return norm * normalize(values)


@given(
    queries=st.integers(1, 60), keys=st.integers(1, 60), dimensions=st.integers(1, 30), seed=seeds
)
def test_nearest_agrees_with_scipys_tree(
    queries: int, keys: int, dimensions: int, seed: int
) -> None:
    x, y = features(queries, dimensions, seed), features(keys, dimensions, seed + 1)
    distances, indices = nearest(x, y)
    expected, expected_indices = cKDTree(y.double().numpy()).query(x.double().numpy())
    assert (distances.dtype, indices.dtype) == (torch.float64, torch.int64)
    assert indices.tolist() == expected_indices.tolist()
    assert distances.numpy() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("norm", [0.01, 30, 3000])
@pytest.mark.parametrize("dimensions", [1, 1280, 2048])
def test_a_copy_is_at_distance_zero_whatever_the_norm(norm: float, dimensions: int) -> None:
    values = with_norm(norm, 100, dimensions)
    distances, _ = nearest(values, values.flip(0))
    assert distances.max() == 0


def test_the_nearest_neighbour_of_a_copy_is_the_original() -> None:
    values = with_norm(30, 300, 1280)
    assert nearest(values, values.flip(0))[1].tolist() == list(range(299, -1, -1))


def test_the_distance_of_a_near_copy_is_accurate() -> None:
    values = with_norm(30, 100, 1280)
    near = values.clone()
    near[:, 0] += 0.001
    expected = (near[:, 0].double() - values[:, 0].double()).abs()
    torch.testing.assert_close(nearest(near, values)[0], expected, rtol=1e-4, atol=0)


def test_ties_go_to_the_first_key() -> None:
    keys = torch.cat([features(10, 5, 0) + 9, features(10, 5, 1), features(10, 5, 1)])
    assert nearest(features(10, 5, 1), keys)[1].tolist() == list(range(10, 20))


def by_scikit_learn(real: Tensor, fake: Tensor) -> tuple[float, float]:
    """The paper's equations, with scikit-learn's neighbours and explicit differences."""
    x, y = real.double().numpy(), fake.double().numpy()

    def share(samples: NDArray[np.float64], manifold: NDArray[np.float64]) -> float:
        index = NearestNeighbors(n_neighbors=3, algorithm="brute").fit(manifold)
        radii = index.kneighbors()[0][:, -1]  # without queries, samples aren't own neighbours
        distances = np.linalg.norm(samples[:, None] - manifold, axis=2)
        return float((distances <= radii).any(1).mean())

    return share(y, x), share(x, y)


@given(real=counts, fake=counts, dimensions=st.integers(1, 16), shift=st.floats(0, 2), seed=seeds)
def test_precision_and_recall_agree_with_torch_fidelity(
    real: int, fake: int, dimensions: int, shift: float, seed: int
) -> None:
    x, y = features(real, dimensions, seed), features(fake, dimensions, seed + 1) + shift
    expected = calculate_precision_recall_full(y.double(), x.double(), 3)
    # torch-fidelity divides in float32.
    assert precision_and_recall(x, y) == pytest.approx(expected, rel=1e-7)


@given(real=counts, fake=counts, dimensions=st.integers(1, 16), shift=st.floats(0, 2), seed=seeds)
def test_precision_and_recall_agree_with_scikit_learn(
    real: int, fake: int, dimensions: int, shift: float, seed: int
) -> None:
    x, y = features(real, dimensions, seed), features(fake, dimensions, seed + 1) + shift
    assert precision_and_recall(x, y) == pytest.approx(by_scikit_learn(x, y), rel=1e-12)


@given(real=counts, fake=counts, seed=seeds)
def test_recall_is_precision_with_sides_swapped(real: int, fake: int, seed: int) -> None:
    x, y = features(real, 4, seed), features(fake, 4, seed + 1) + 0.5
    assert precision_and_recall(x, y) == precision_and_recall(y, x)[::-1]


@pytest.mark.parametrize("copies", [1, 4, 9])
def test_identical_sets_have_precision_and_recall_1(copies: int) -> None:
    # From four copies on, radii are 0, and rounding could exclude them.
    values = with_norm(30, 50, 1280).repeat(copies, 1)
    assert precision_and_recall(values, values.flip(0)) == (1, 1)


def test_precision_falls_as_fakes_get_noisier() -> None:
    real, fake, noise = features(300, 8, 0), features(300, 8, 1), features(300, 8, 2)
    precisions = [precision_and_recall(real, fake + std * noise)[0] for std in (0, 1, 2, 8)]
    assert precisions == sorted(precisions, reverse=True)
    assert precisions[0] > 0.8
    assert precisions[-1] < 0.1


def test_missing_modes_lower_recall_and_not_precision() -> None:
    def modes(count: int, seed: int) -> Tensor:
        parts = [features(1200 // count, 8, seed + i) + 20 * i for i in range(count)]
        return torch.cat(parts)

    scores = [precision_and_recall(modes(4, 0), modes(count, 10)) for count in (4, 3, 2, 1)]
    for (precision, recall), share in zip(scores, (1, 0.75, 0.5, 0.25), strict=True):
        assert precision > 0.8
        assert 0.7 * share < recall <= share


def test_identical_fakes_have_recall_0() -> None:
    precision, recall = precision_and_recall(features(100, 8, 0), torch.zeros(50, 8))
    assert (precision, recall) == (1, 0)


@given(real=counts, fake=counts, seed=seeds)
def test_precision_and_recall_of_a_subset_are_those_of_its_members_alone(
    real: int, fake: int, seed: int
) -> None:
    one, other = features(real, 4, seed), features(fake, 4, seed + 1) + 0.3
    rng = torch.Generator().manual_seed(seed)
    masks = [torch.stack([torch.randperm(n, generator=rng) < size for size in (n, 4, n // 2 + 3)])
             for n in (real, fake)]  # fmt: skip
    together = manifold_shares(one, other, *masks)
    for found, in_real, in_fake in zip(together.tolist(), *masks, strict=True):
        assert tuple(found) == precision_and_recall(one[in_real], other[in_fake])


@pytest.mark.parametrize("block", [3, 50, 1000])
def test_results_do_not_depend_on_the_block_size(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = features(101, 6, 0), features(83, 6, 1) + 0.3
    distances, indices = nearest(one, other)
    scores = precision_and_recall(one, other)
    monkeypatch.setattr(neighbours, "BLOCK", block)
    torch.testing.assert_close(nearest(one, other)[0], distances, rtol=1e-12, atol=0)
    assert torch.equal(nearest(one, other)[1], indices)
    assert precision_and_recall(one, other) == scores


def test_distances_are_computed_block_by_block(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(neighbours, "BLOCK", 10)
    one, other = features(95, 6, 0), features(83, 6, 1)
    shapes = [tuple(block.shape) for block in neighbours._distances(one, other)]
    assert shapes == [(10, 83)] * 9 + [(5, 83)]


def exactly(x: Tensor) -> Tensor:
    return x


def with_noise(x: Tensor) -> Tensor:
    return x + 0.01 * features(len(x), x.shape[1], 9)


@pytest.mark.parametrize("changed", [exactly, with_noise])
def test_copies_of_training_images_are_found(changed: Callable[[Tensor], Tensor]) -> None:
    train, holdout = features(500, 32, 0), features(300, 32, 1)
    copied = torch.randint(500, (200,), generator=torch.Generator().manual_seed(0))
    found = memorisation(changed(train[copied]), train, holdout)
    assert found.share == 1
    assert found.distances.max() < 0.2
    assert torch.equal(found.nearest, copied)


def test_new_samples_of_the_distribution_are_not_memorised() -> None:
    train, holdout, fake = features(1000, 8, 0), features(3000, 8, 1), features(3000, 8, 2)
    found = memorisation(fake, train, holdout)
    assert found.share == pytest.approx(0.01, abs=0.008)  # three standard errors


@pytest.mark.parametrize(("held_out", "expected"), [(99, 0.01), (250, 0.01), (19, 0.05)])
def test_the_expected_share_is_unbiased_with_few_held_out_images(
    held_out: int, expected: float
) -> None:
    train = features(100, 4, 0)
    shares = [
        memorisation(features(200, 4, 2 * i + 1), train, features(held_out, 4, 2 * i + 2)).share
        or 0.0
        for i in range(300)
    ]
    error = np.std(shares) / len(shares) ** 0.5
    assert np.mean(shares) == pytest.approx(expected, abs=4 * error)


@pytest.mark.parametrize("held_out", [5, 30, 250])
def test_the_expected_share_and_its_error_are_those_of_generators_that_do_not_memorise(
    held_out: int,
) -> None:
    train = features(60, 4, 0)
    found = [
        memorisation(features(50, 4, 2 * i + 1), train, features(held_out, 4, 2 * i + 2))
        for i in range(400)
    ]
    shares = [result.share or 0.0 for result in found]
    assert np.mean(shares) == pytest.approx(found[0].expected, rel=0.2)
    assert np.std(shares) == pytest.approx(found[0].error, rel=0.2)


@pytest.mark.parametrize("held_out", [5, 99, 250])
def test_the_expected_share_is_that_of_a_beta_binomial_distribution(held_out: int) -> None:
    """Each sample is below the k-th of m distances with a probability from Beta(k, m + 1 - k)."""
    found = memorisation(features(50, 4, 0), features(60, 4, 1), features(held_out, 4, 2))
    k = max(1, 0.01 * (held_out + 1))
    number = betabinom(50, k, held_out + 1 - k)
    assert (found.expected, found.error) == pytest.approx((number.mean() / 50, number.std() / 50))


def test_images_that_resemble_no_photograph_are_not_memorised() -> None:
    found = memorisation(features(200, 8, 2) + 30, features(500, 8, 0), features(300, 8, 1))
    assert found.share == 0


def test_copies_come_first_in_the_order() -> None:
    train, holdout, fake = features(500, 8, 0), features(300, 8, 1), features(400, 8, 2)
    copies = torch.tensor([7, 100, 399])
    fake[copies] = train[[4, 3, 499]]
    found = memorisation(fake, train, holdout)
    assert found.order[:3].tolist() == copies.tolist()
    assert found.nearest[copies].tolist() == [4, 3, 499]
    assert found.distances[found.order].diff().min() >= 0
    assert sorted(found.order.tolist()) == list(range(400))


def test_distances_are_those_to_the_nearest_training_image() -> None:
    train, fake = features(50, 8, 0), features(40, 8, 2)
    found = memorisation(fake, train, features(30, 8, 1))
    expected = (fake.double() - train[found.nearest].double()).norm(dim=1)
    torch.testing.assert_close(found.distances, expected)


def test_copies_are_found_even_if_held_out_images_are_copies_too() -> None:
    train, holdout, fake = features(500, 64, 0), features(300, 64, 1), features(200, 64, 2)
    holdout[:30] = train[:30]
    assert memorisation(train[:200], train, holdout).share == 1
    assert memorisation(fake, train, holdout).share == 0


def test_one_held_out_image_is_enough() -> None:
    train = features(10, 4, 0)
    found = memorisation(train[:5], train[:1], features(1, 4, 1))
    assert found.share is not None and 0 < found.share <= 1


def test_without_held_out_images_there_is_an_order_but_no_share() -> None:
    train, fake = features(50, 8, 0), features(40, 8, 2)
    found, other = (memorisation(fake, train, features(count, 8, 1)) for count in (0, 9))
    assert (found.share, found.expected, found.error) == (None, 1, 0)
    for name in ("order", "nearest", "distances"):
        assert torch.equal(getattr(found, name), getattr(other, name))

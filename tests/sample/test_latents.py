import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from facegan.core.errors import FaceganError
from facegan.models import sampling
from facegan.sample.latents import latents, parse_seeds, slerp, truncate, walk
from facegan.sample.metadata import format_seeds

SEEDS = st.lists(st.integers(0, sampling.MAX_SEED), min_size=1, max_size=30, unique=True)


@given(SEEDS)
def test_seeds_are_read_as_they_are_written(seeds: list[int]) -> None:
    assert parse_seeds(format_seeds(seeds)) == seeds


def test_ranges_include_their_last_seed() -> None:
    assert parse_seeds("1, 5-9") == [1, 5, 6, 7, 8, 9]
    assert format_seeds([1, 5, 6, 7, 9, 8]) == "1,5-7,9,8"


@pytest.mark.parametrize(
    ("text", "part"),
    [("", "''"), ("1,,2", "''"), ("-1", "'-1'"), ("9-5", "'9-5'"), ("x", "'x'"), ("1.5", "'1.5'"),
     ("4294967296", "'4294967296'"), ("1e3", "'1e3'"), ("1-2-3", "'1-2-3'"),
     ("99999999999999999999", "'99999999999999999999'"), ("3,1-5", "twice"),
     ("0-4294967295", "more than 10,000,000")],
)  # fmt: skip
def test_other_seeds_are_refused_with_the_part_that_is_wrong(text: str, part: str) -> None:
    with pytest.raises(FaceganError, match=part):
        parse_seeds(text)


@given(SEEDS)
def test_a_seed_has_one_latent_whatever_the_others(seeds: list[int]) -> None:
    z = latents(seeds, 5)
    assert all(torch.equal(z[i], sampling.latents(1, 5, s)[0]) for i, s in enumerate(seeds))


def test_a_truncated_latent_has_the_truncated_normal_distribution() -> None:
    z = truncate(sampling.latents(4000, 10, 0), 0.7).flatten().numpy()
    assert np.abs(z).max() <= 0.7
    assert stats.kstest(z, stats.truncnorm(-0.7, 0.7).cdf).pvalue > 0.01


@given(st.floats(0.01, 6), st.floats(-5, 5), st.floats(-5, 5))
def test_truncation_keeps_sign_and_order(threshold: float, a: float, b: float) -> None:
    low, high = truncate(torch.tensor([[min(a, b), max(a, b)]]), threshold)[0].tolist()
    assert -threshold <= low <= high <= threshold
    assert low * min(a, b) >= 0 and high * max(a, b) >= 0


def test_a_high_threshold_changes_nothing() -> None:
    z = sampling.latents(20, 30, 0)
    torch.testing.assert_close(truncate(z, 12.0), z)


@given(st.integers(2, 50), st.integers(0, 1000))
def test_the_path_between_two_latents_is_a_part_of_a_circle(dimensions: int, seed: int) -> None:
    a, b = sampling.latents(2, dimensions, seed)
    path = slerp(a, b, torch.tensor([0, 0.25, 0.5, 0.75, 1]))
    torch.testing.assert_close(path[0], a)
    torch.testing.assert_close(path[4], b)
    norms = torch.linspace(a.norm(), b.norm(), 5)
    torch.testing.assert_close(path.norm(dim=1), norms, rtol=1e-4, atol=1e-4)
    unit = path / path.norm(dim=1, keepdim=True)
    cosines = (unit[1:] * unit[:-1]).sum(1)
    torch.testing.assert_close(cosines, cosines[:1].expand(4), rtol=1e-3, atol=1e-3)


def test_between_parallel_or_opposite_latents_the_path_is_straight() -> None:
    a = torch.tensor([1.0, 2.0])
    torch.testing.assert_close(slerp(a, 3 * a, torch.tensor([0.5]))[0], 2 * a)
    torch.testing.assert_close(slerp(a, -a, torch.tensor([0.5]))[0], 0 * a)


@pytest.mark.parametrize(("loop", "count"), [(True, 12), (False, 9)])
def test_a_walk_passes_its_seeds_in_order(loop: bool, count: int) -> None:
    keys = sampling.latents(3, 8, 0)
    path = walk(keys, 4, loop)
    assert path.shape == (count, 8)
    torch.testing.assert_close(path[[0, 4, 8]], keys)
    steps = (path[1:] - path[:-1]).norm(dim=1)
    assert steps.max() < 2 * steps.min()
    if loop:  # the first frame follows the last one at the same pace
        assert (path[0] - path[-1]).norm() < 2 * steps.min()


@pytest.mark.parametrize("threshold", [0.0, -1.0, float("nan")])
def test_a_threshold_that_is_not_positive_is_refused(threshold: float) -> None:
    with pytest.raises(FaceganError, match="valid: above 0"):
        truncate(torch.zeros(1, 2), threshold)

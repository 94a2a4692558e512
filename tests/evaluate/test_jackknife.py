import pytest
import torch

from facegan.evaluate.jackknife import GROUPS, MIN_IMAGES, standard_error, without_each_group


@pytest.mark.parametrize("count", [MIN_IMAGES, 31, 200])
def test_each_image_is_left_out_once_and_groups_are_of_about_equal_size(count: int) -> None:
    left_out = ~without_each_group(count)
    assert left_out.shape == (GROUPS, count)
    assert (left_out.sum(0) == 1).all()
    assert left_out.sum(1).max() - left_out.sum(1).min() <= 1


def test_the_standard_error_of_a_mean_is_its_textbook_value() -> None:
    samples = torch.randn(GROUPS, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    means = torch.stack([samples[mask].mean() for mask in without_each_group(GROUPS)])
    assert standard_error(means) == pytest.approx(float(samples.std()) / GROUPS**0.5)


def test_equal_values_have_no_error() -> None:
    assert standard_error(torch.full((GROUPS,), 0.25, dtype=torch.float64)) == 0

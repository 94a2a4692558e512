import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from facegan.train.augment import ADAPTATION, AUGMENTATIONS, adapt, augment
from facegan.train.rng import Rng

SIDES = st.sampled_from([28, 32, 64])
names = st.lists(st.sampled_from(list(AUGMENTATIONS)), unique=True)


def seeded(seed: int) -> Rng:
    return Rng(seed, torch.device("cpu"))


def images(count: int, channels: int, side: int) -> Tensor:
    return seeded(1).uniform(count, channels, side, side) * 2 - 1


@given(names, st.sampled_from([1, 3]), SIDES)
def test_the_output_has_the_inputs_shape_and_is_finite(
    chosen: list[str], channels: int, side: int
) -> None:
    before = images(5, channels, side)
    after = augment(before, chosen, seeded(0))
    assert after.shape == before.shape and after.dtype == before.dtype
    assert after.isfinite().all()


@given(names, st.integers(0, 100))
def test_the_same_seed_gives_the_same_images(chosen: list[str], seed: int) -> None:
    before = images(3, 3, 32)
    one, other = (augment(before, chosen, seeded(seed)) for _ in range(2))
    assert torch.equal(one, other)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_images_of_a_batch_get_different_parameters(name: str) -> None:
    same = images(1, 3, 32).expand(16, -1, -1, -1)
    after = AUGMENTATIONS[name](same, seeded(0))
    assert len({tuple(image.flatten().tolist()) for image in after}) > 8


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_gradients_reach_the_images(name: str) -> None:
    before = images(4, 3, 32).requires_grad_(True)
    (gradient,) = torch.autograd.grad(AUGMENTATIONS[name](before, seeded(0)).square().sum(), before)
    assert all(image.abs().sum() > 0 for image in gradient)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_augmented_images_stay_on_their_device_whatever_torchs_default(name: str) -> None:
    before, rng = images(4, 3, 32), seeded(0)
    with torch.device("meta"):
        after = AUGMENTATIONS[name](before, rng)
    assert after.device.type == "cpu"


def test_brightness_adds_one_number_per_image_in_the_papers_range() -> None:
    before = images(200, 3, 28)
    added = (AUGMENTATIONS["brightness"](before, seeded(0)) - before).flatten(1)
    assert (added.max(1).values - added.min(1).values).max() < 1e-5
    assert added.min() >= -0.5 and added.max() < 0.5 and added.max() - added.min() > 0.9


def test_saturation_keeps_the_grey_and_scales_the_colour() -> None:
    before = images(200, 3, 28)
    after = AUGMENTATIONS["saturation"](before, seeded(0))
    torch.testing.assert_close(after.mean(1), before.mean(1))
    colour, was = (x - x.mean(1, keepdim=True) for x in (after, before))
    factors = (colour * was).sum((1, 2, 3)) / was.square().sum((1, 2, 3))
    assert factors.min() >= 0 and factors.max() <= 2 and factors.max() - factors.min() > 1.8


def test_contrast_keeps_the_mean_and_scales_the_distance_from_it() -> None:
    before = images(200, 3, 28)
    after = AUGMENTATIONS["contrast"](before, seeded(0))
    torch.testing.assert_close(after.mean((1, 2, 3)), before.mean((1, 2, 3)))
    distance, was = (x - x.mean((1, 2, 3), keepdim=True) for x in (after, before))
    factors = (distance * was).sum((1, 2, 3)) / was.square().sum((1, 2, 3))
    assert factors.min() >= 0.5 and factors.max() <= 1.5 and factors.max() - factors.min() > 0.9


def test_translation_shifts_by_at_most_an_eighth_and_pads_with_zeros() -> None:
    before = torch.ones(300, 1, 32, 32)
    after = AUGMENTATIONS["translation"](before, seeded(0))
    rows = 32 - after[:, 0].amax(2).sum(1)  # shifted out
    columns = 32 - after[:, 0].amax(1).sum(1)
    assert set(rows.tolist()) == set(columns.tolist()) == {0, 1, 2, 3, 4}
    kept = after.sum((1, 2, 3))
    torch.testing.assert_close(kept, (32 - rows) * (32 - columns))


def extents(marked: Tensor) -> tuple[set[tuple[int, int]], set[tuple[int, int]]]:
    """First row and the one after the last, of each of the masks (n, H, W); likewise columns."""
    found = []
    for axis in (2, 1):
        lines = marked.any(axis).int()
        first, last = lines.argmax(1), lines.shape[1] - lines.flip(1).argmax(1)
        found.append(set(zip(first.tolist(), last.tolist(), strict=True)))
    return found[0], found[1]


def test_translations_go_in_all_directions_as_far() -> None:
    after = AUGMENTATIONS["translation"](torch.ones(3000, 1, 32, 32), seeded(0))
    expected = {(max(0, shift), min(32, 32 + shift)) for shift in range(-4, 5)}
    assert extents(after[:, 0] != 0) == (expected, expected)


def test_cutouts_are_centred_on_every_pixel() -> None:
    after = AUGMENTATIONS["cutout"](torch.ones(3000, 1, 32, 32), seeded(0))
    expected = {(max(0, centre - 8), min(32, centre + 8)) for centre in range(32)}
    assert extents(after[:, 0] == 0) == (expected, expected)


def test_translation_keeps_the_channels_of_a_pixel_together() -> None:
    before = torch.zeros(50, 3, 32, 32)
    before[:, :, 16, 16] = torch.tensor([0.1, 0.2, 0.3])
    after = AUGMENTATIONS["translation"](before, seeded(0))
    found = after.abs().sum(1).flatten(1).argmax(1)
    pixels = after.flatten(2)[torch.arange(50), :, found]
    torch.testing.assert_close(pixels, torch.tensor([0.1, 0.2, 0.3]).expand(50, 3))


def test_cutout_hides_a_square_of_half_the_side_clipped_to_the_image() -> None:
    after = AUGMENTATIONS["cutout"](torch.ones(300, 3, 32, 32), seeded(0))
    hidden = after == 0
    assert torch.equal(hidden[:, 0], hidden[:, 1]) and torch.equal(hidden[:, 0], hidden[:, 2])
    rows, columns = hidden[:, 0].any(2).sum(1), hidden[:, 0].any(1).sum(1)
    torch.testing.assert_close(hidden[:, 0].sum((1, 2)), rows * columns)
    assert rows.max() == columns.max() == 16
    assert not torch.equal(hidden[:, 0].any(2), hidden[:, 0].any(1))
    # At least a quarter of the square is inside, because its centre is.
    assert rows.min() >= 8 and columns.min() >= 8


@given(names, st.floats(0, 1))
def test_each_image_is_augmented_with_the_given_probability(
    chosen: list[str], probability: float
) -> None:
    before = images(64, 3, 28)
    after = augment(before, chosen, seeded(0), torch.tensor(probability))
    changed = (after != before).flatten(1).any(1).float().mean()
    expected = 1 - (1 - probability) ** len(chosen)
    assert abs(changed - expected) < 5 * (expected * (1 - expected) / 64) ** 0.5 + 0.05


def test_affine_keeps_the_centre_and_rotates_and_zooms_within_the_documented_spread() -> None:
    radius = torch.stack(torch.meshgrid(*[torch.linspace(-1, 1, 33)] * 2, indexing="ij")).square()
    before = radius.sum(0).sqrt().expand(400, 1, -1, -1)
    after = AUGMENTATIONS["affine"](before, seeded(0))
    assert after[:, 0, 16, 16].max() < 0.05
    # The radius is not changed by rotations, and scaled by zooms.
    octaves = (after[:, 0, 16, 24] / before[:, 0, 16, 24]).log2()
    assert 0.17 < octaves.std() < 0.23 and octaves.mean().abs() < 0.04
    torch.testing.assert_close(after[:, 0, 22, 22], after[:, 0, 10, 22], rtol=0.01, atol=0.01)
    ramp = torch.linspace(-1, 1, 33).expand(400, 1, 33, 33)
    turned = AUGMENTATIONS["affine"](ramp, seeded(0))
    slopes = (
        turned[:, 0, 20, 16] - turned[:, 0, 12, 16],
        turned[:, 0, 16, 20] - turned[:, 0, 16, 12],
    )
    degrees = torch.atan2(*slopes).rad2deg()
    assert 9 < degrees.std() < 11 and degrees.mean().abs() < 2


def test_affine_reflects_the_edges_and_without_rotation_and_zoom_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ones, before = torch.ones(50, 1, 32, 32), images(9, 3, 32)
    torch.testing.assert_close(AUGMENTATIONS["affine"](ones, seeded(0)), ones)
    monkeypatch.setattr("facegan.train.augment.ROTATION", 0.0)
    monkeypatch.setattr("facegan.train.augment.ZOOM", 0.0)
    after = AUGMENTATIONS["affine"](before, seeded(0))
    torch.testing.assert_close(after, before, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("accuracy", "sign"), [(0.9, 1), (0.7, -1)])
def test_the_probability_rises_above_the_target_accuracy_and_falls_below(
    accuracy: float, sign: int
) -> None:
    probability = torch.tensor(0.5)
    adapt(probability, torch.tensor(accuracy), 0.8, 5000)
    assert float(probability) == pytest.approx(0.5 + sign * 5000 / ADAPTATION)


def test_the_probability_stays_between_0_and_1() -> None:
    for accuracy, end in ((1.0, 1.0), (0.0, 0.0)):
        probability = torch.tensor(0.5)
        for _ in range(3):
            adapt(probability, torch.tensor(accuracy), 0.8, ADAPTATION // 2)
        assert float(probability) == end

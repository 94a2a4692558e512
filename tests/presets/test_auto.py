"""The params.yaml that is chosen by the photographs."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facegan.core.errors import FaceganError
from facegan.params import Params, load_params, preset_text
from facegan.presets.auto import auto_preset, is_auto, title
from facegan.presets.survey import Photographs


def chosen(count: int, side: int = 89, is_grey: bool = False, **changes: Any) -> Params:
    """The parameters for `count` photographs of one size."""
    fields: dict[str, Any] = {"unusable": 0.0, "short_sides": (side,) * min(count, 200)}
    return parsed(auto_preset(Photographs(count, is_grey=is_grey, **fields | changes)))


def parsed(text: str) -> Params:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "params.yaml"
        path.write_text(text, "utf-8")
        return load_params(path)


def values(params: Params) -> dict[str, Any]:
    content = params.model_dump(by_alias=True)
    content["register"].pop("name")
    return content


@given(
    count=st.integers(8, 300_000),
    sides=st.lists(st.integers(1, 4000), min_size=8, max_size=40),
    unusable=st.floats(0, 0.9),
    is_grey=st.booleans(),
)
def test_the_parameters_are_valid_and_fit_the_photographs(
    count: int, sides: list[int], unusable: float, is_grey: bool
) -> None:
    try:
        params = parsed(auto_preset(Photographs(count, unusable, tuple(sides), is_grey)))
    except FaceganError as error:  # too many of few photographs are too small
        assert count < 20 and "usable photographs" in str(error)
        return
    usable = sum(side >= params.preprocess.min_side for side in sides) / len(sides)
    assert usable >= 0.9
    assert params.preprocess.max_rejected >= 1 - usable * (1 - unusable) - 1e-9
    trained = int(count * usable * (1 - params.preprocess.holdout))
    assert params.train.batch_size <= max(trained // 2, 4)
    steps = params.train.epochs * (trained // params.train.batch_size)
    assert steps * params.train.batch_size >= 35_000
    assert params.train.eval_interval <= steps * params.train.batch_size / 1.8
    assert params.reference.subset <= count
    assert params.evaluate.num_samples > 1280 and params.train.quick_num_samples > 1280


@pytest.mark.parametrize(
    ("name", "count", "side", "is_grey"),
    [
        ("digits", 5000, 28, True),
        ("mnist", 60_000, 28, True),
        ("celeba32", 10_000, 40, False),
        ("celeba64", 10_000, 89, False),
        ("celeba64", 202_599, 178, False),
    ],
)
def test_photographs_like_a_presets_own_get_that_preset(
    name: str, count: int, side: int, is_grey: bool
) -> None:
    preset = values(parsed(preset_text(name)))
    found = values(chosen(count, side, is_grey))
    if name == "mnist":  # which has another number of images held out
        found["train"]["epochs"] = preset["train"]["epochs"]
    assert found["register"].pop("terms") == "not stated"
    assert preset["register"].pop("terms") != "not stated"
    assert found == preset


@pytest.mark.parametrize("count", [8, 50, 200, 1000])
def test_few_photographs_are_augmented_and_seen_as_often_as_thousands(count: int) -> None:
    train = chosen(count).train
    names = ["brightness", "saturation", "contrast", "translation", "affine"]
    assert (train.augment, train.augment_target) == (names, 0.7)
    assert (train.hflip, train.eval_interval) == (True, 25_000)
    batches = count * 9 // 10 if count >= 300 else count
    seen = train.epochs * (batches // train.batch_size) * train.batch_size
    assert seen == pytest.approx(180_000, rel=0.02)


def test_many_photographs_are_not_augmented() -> None:
    train = chosen(2000).train
    assert (train.augment, train.augment_target) == ([], None)


def test_grey_images_are_neither_flipped_nor_saturated() -> None:
    for side in (28, 200):
        params = chosen(500, side, is_grey=True)
        assert not params.train.hflip
        assert params.train.augment == ["brightness", "contrast", "translation", "affine"]
        assert params.preprocess.channels == 1


@pytest.mark.parametrize(("count", "holdout"), [(50, 0.0), (299, 0.0), (300, 0.1), (9000, 0.1)])
def test_photographs_are_held_out_where_they_are_enough_for_a_score(
    count: int, holdout: float
) -> None:
    assert chosen(count).preprocess.holdout == holdout


@pytest.mark.parametrize(
    ("side", "resolution", "min_side"),
    [(20, 32, 20), (32, 32, 32), (63, 32, 32), (64, 64, 64), (4000, 64, 64)],
)
def test_the_resolution_is_the_largest_measured_one_that_the_photographs_have(
    side: int, resolution: int, min_side: int
) -> None:
    preprocess = chosen(500, side).preprocess
    assert (preprocess.resolution, preprocess.min_side) == (resolution, min_side)


def test_some_small_or_broken_photographs_lower_neither_resolution_nor_the_others_chance() -> None:
    params = chosen(5000, short_sides=(500,) * 95 + (40,) * 5, unusable=0.02)
    assert params.preprocess.resolution == 64
    assert params.preprocess.max_rejected == pytest.approx(0.14)  # twice 0.02 + 0.98 * 0.05


@pytest.mark.parametrize("count", [0, 7])
def test_too_few_photographs_are_refused(count: int) -> None:
    with pytest.raises(FaceganError, match=f"^{count} usable photographs; at least 8"):
        chosen(count)


def test_the_file_says_what_it_was_chosen_by_and_whether_it_was_modified(tmp_path: Path) -> None:
    text = auto_preset(Photographs(50, 0.0, (89,) * 50, is_grey=False))
    assert title(text) == (
        "preset auto for 50 photographs in colour, short sides of 89 pixels: celeba64 with 3,750 "
        "epochs, batches of 16"
    )
    path = tmp_path / "params.yaml"
    assert not is_auto(path)
    path.write_text(text)
    assert is_auto(path)
    path.write_text(text.replace("epochs: 3750", "epochs: 3751"))
    assert not is_auto(path)
    path.write_text(preset_text("celeba64"))
    assert not is_auto(path)

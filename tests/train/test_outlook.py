from typing import Any

import pytest

from conftest import make_params
from facegan.params import Train
from facegan.train.outlook import outlook


def settings(**changes: Any) -> Train:
    return make_params(train={"batch_size": 32, "ema_half_life": 500, **changes}).train


def test_a_training_of_twenty_steps_is_announced_as_noise() -> None:
    text = outlook(50, settings(epochs=20), is_pretrained=False)
    assert text.startswith("20 steps of 32 images, 640 images seen in 20 epochs of 50; ")
    assert "too few for anything but noise; raise train.epochs to 313 or more" in text
    assert "facegan preset auto" in text
    assert "\n" not in text


@pytest.mark.parametrize(("epochs", "noise"), [(312, True), (313, False)])
def test_the_recommended_number_of_epochs_is_enough(epochs: int, noise: bool) -> None:
    assert ("noise" in outlook(50, settings(epochs=epochs), is_pretrained=False)) == noise


def test_a_training_of_many_images_is_announced_without_a_warning() -> None:
    text = outlook(9053, settings(epochs=20, ema_half_life=5000), is_pretrained=False)
    assert text == "5,640 steps of 32 images, 180,480 images seen in 20 epochs of 9,053"


def test_a_short_training_of_trained_networks_is_not_noise() -> None:
    text = outlook(5000, settings(epochs=1), is_pretrained=True)
    assert text == "156 steps of 32 images, 4,992 images seen in 1 epoch of 5,000"


def test_an_average_that_is_mostly_untrained_is_announced() -> None:
    text = outlook(5000, settings(epochs=9, ema_half_life=50_000), is_pretrained=False)
    assert "the EMA generator would still be 54% the initial network" in text


@pytest.mark.parametrize(("images", "augment", "warned"), [
    (500, [], True), (500, ["translation"], False), (5000, [], False),
])  # fmt: skip
def test_few_images_without_augmentation_are_announced(
    images: int, augment: list[str], warned: bool
) -> None:
    text = outlook(images, settings(epochs=400, augment=augment), is_pretrained=False)
    assert ("will memorise" in text) == warned
    assert ("train.augment with train.augment_target: 0.7 delays that" in text) == warned

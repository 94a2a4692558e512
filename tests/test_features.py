from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from facegan.features import EfficientNetLite0, load_extractor
from facegan.params import Extractor


def settings(input_size: int = 32, precision: str = "float32") -> Extractor:
    return Extractor.model_validate(
        {"extractor": "efficientnet-lite0", "input_size": input_size, "precision": precision}
    )


@pytest.fixture(scope="module")
def extractor() -> EfficientNetLite0:
    return load_extractor(settings(), torch.device("cpu"))


def noise(count: int, channels: int = 3, size: int = 40) -> Tensor:
    source = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, size, size, channels), generator=source).byte()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [28, 32, 64])
def test_images_of_any_size_become_1280_floats_each(
    channels: int, size: int, extractor: EfficientNetLite0
) -> None:
    features = extractor(noise(3, channels, size))
    assert (features.shape, features.dtype) == ((3, 1280), torch.float32)
    assert extractor.num_features == 1280
    assert features.isfinite().all()


def test_a_grey_image_has_the_features_of_the_same_image_as_rgb(
    extractor: EfficientNetLite0,
) -> None:
    grey = noise(4, channels=1)
    assert torch.equal(extractor(grey), extractor(grey.expand(-1, -1, -1, 3).contiguous()))


def test_other_images_have_other_features(extractor: EfficientNetLite0) -> None:
    images = noise(4)
    features = extractor(torch.cat([images, images.flip(3)]))  # and BGR is another image
    distances = torch.cdist(features, features) + torch.eye(8) * 1e9
    assert distances.min() > 0.1


@pytest.mark.parametrize("batch", [1, 7])
def test_features_do_not_depend_on_the_batch(batch: int, extractor: EfficientNetLite0) -> None:
    images = noise(64)
    whole = extractor(images)
    parts = torch.cat([extractor(part) for part in images.split(batch)])
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-4)


def test_no_images_have_no_features(extractor: EfficientNetLite0) -> None:
    # A data set of which nothing is held out has an empty part.
    assert extractor(noise(0)).shape == (0, 1280)


def test_the_extractor_neither_trains_nor_keeps_gradients(extractor: EfficientNetLite0) -> None:
    assert not any(module.training for module in extractor.modules())
    assert not any(parameter.requires_grad for parameter in extractor.parameters())
    assert not extractor(noise(2)).requires_grad
    before = [buffer.clone() for buffer in extractor.buffers()]
    extractor(noise(2))
    assert all(map(torch.equal, extractor.buffers(), before))


def test_large_images_are_antialiased(extractor: EfficientNetLite0) -> None:
    # Inverted in the two columns of eight where a resize by 8 without a filter would look.
    plain = noise(1, size=4).repeat_interleave(64, 1).repeat_interleave(64, 2)
    striped = plain.clone()
    for column in (3, 4):
        striped[:, :, column::8] = 255 - striped[:, :, column::8]
    average = (0.75 * plain.float() + 0.25 * (255 - plain.float())).round().byte()
    seen = extractor(striped)
    assert (seen - extractor(average)).norm() < 0.2 * (seen - extractor(255 - plain)).norm()


def test_features_are_the_mean_over_places_of_an_input_scaled_as_in_training() -> None:
    extractor = load_extractor(settings(input_size=64), torch.device("cpu"))
    images = noise(2, size=64)  # the extractor's own size, so that nothing is resized
    x = (images.permute(0, 3, 1, 2).float() - 127) / 128
    with torch.inference_mode():
        maps = extractor.network.extract_features(x)
    assert maps.shape == (2, 1280, 2, 2)
    torch.testing.assert_close(extractor(images), maps.mean((2, 3)), rtol=1e-4, atol=1e-4)


def test_the_weights_are_pretrained() -> None:
    # A network with random weights starts its classifier near 0; ImageNet's knows 1000 classes.
    network = load_extractor(settings(), torch.device("cpu")).network
    statistics = [b for name, b in network.named_buffers() if name.endswith("running_mean")]
    assert all(bool(buffer.any()) for buffer in statistics)


@pytest.mark.parametrize(
    "change", [lambda: settings(input_size=64), lambda: settings(precision="bfloat16")]
)
def test_every_setting_moves_the_features(
    change: Callable[[], Extractor], extractor: EfficientNetLite0
) -> None:
    other = load_extractor(change(), torch.device("cpu"))(noise(2))
    assert other.dtype == torch.float32
    assert not torch.equal(other, extractor(noise(2)))


def test_bfloat16_features_are_near_those_of_float32(extractor: EfficientNetLite0) -> None:
    features = extractor(noise(8))
    short = load_extractor(settings(precision="bfloat16"), torch.device("cpu"))(noise(8))
    assert (short - features).norm() < 0.1 * features.norm()

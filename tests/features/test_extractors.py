import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from facegan.core.errors import FaceganError
from facegan.features import inception_weights
from facegan.features.extractors import EfficientNetLite0, Inception, load_extractor
from facegan.params import Extractor
from inception import fidelity_extractor, pictures, random_weights

AnExtractor = EfficientNetLite0 | Inception


def settings(input_size: int = 32, dtype: str = "float32") -> Extractor:
    return Extractor.model_validate(
        {"extractor": "efficientnet-lite0", "input_size": input_size, "dtype": dtype}
    )


def inception_settings(dtype: str = "float32") -> Extractor:
    return Extractor.model_validate({"extractor": "inception", "input_size": 299, "dtype": dtype})


@pytest.fixture(scope="module")
def extractor() -> AnExtractor:
    return load_extractor(settings(), torch.device("cpu"))


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with random_weights(tmp_path_factory.mktemp("inception")) as path:
        yield path


@pytest.fixture(scope="module")
def inception(inception_file: Path) -> AnExtractor:
    return load_extractor(inception_settings(), torch.device("cpu"))


@pytest.fixture(scope="module")
def fidelity(inception_file: Path) -> nn.Module:
    return fidelity_extractor(inception_file)


@pytest.fixture(params=["extractor", "inception"])
def any_extractor(request: pytest.FixtureRequest) -> AnExtractor:
    """Both, in turn."""
    chosen: AnExtractor = request.getfixturevalue(request.param)
    return chosen


def noise(count: int, channels: int = 3, size: int = 40) -> Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, size, size, channels), generator=rng).byte()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [28, 32, 64])
def test_images_of_any_size_give_1280_features(
    channels: int, size: int, extractor: AnExtractor
) -> None:
    features = extractor(noise(3, channels, size))
    assert (features.shape, features.dtype) == ((3, 1280), torch.float32)
    assert extractor.num_features == 1280
    assert features.isfinite().all()


def test_greyscale_and_rgb_versions_have_the_same_features(any_extractor: AnExtractor) -> None:
    grey = noise(4, channels=1)
    rgb = grey.expand(-1, -1, -1, 3).contiguous()
    assert torch.equal(any_extractor(grey), any_extractor(rgb))


def test_different_images_have_different_features(any_extractor: AnExtractor) -> None:
    images = noise(4)
    features = any_extractor(torch.cat([images, images.flip(3)]))  # RGB and BGR differ too
    distances = torch.cdist(features, features) + torch.eye(8) * 1e9
    assert distances.min() > 0.1


@pytest.mark.parametrize("batch", [1, 7])
def test_features_do_not_depend_on_the_batch(batch: int, extractor: AnExtractor) -> None:
    images = noise(64)
    whole = extractor(images)
    parts = torch.cat([extractor(part) for part in images.split(batch)])
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-4)


def test_zero_images_give_zero_rows(any_extractor: AnExtractor) -> None:
    # A dataset without held-out images has an empty part.
    assert any_extractor(noise(0)).shape == (0, any_extractor.num_features)


def test_the_extractor_is_frozen(any_extractor: AnExtractor) -> None:
    assert not any(module.training for module in any_extractor.modules())
    assert not any(parameter.requires_grad for parameter in any_extractor.parameters())
    before = [buffer.clone() for buffer in any_extractor.buffers()]
    assert not any_extractor(noise(2)).requires_grad
    assert all(map(torch.equal, any_extractor.buffers(), before))


def test_large_images_are_antialiased(extractor: AnExtractor) -> None:
    # Inverted in those two of eight columns that a resize by 8 without antialiasing samples.
    plain = noise(1, size=4).repeat_interleave(64, 1).repeat_interleave(64, 2)
    striped = plain.clone()
    for column in (3, 4):
        striped[:, :, column::8] = 255 - striped[:, :, column::8]
    average = (0.75 * plain.float() + 0.25 * (255 - plain.float())).round().byte()
    seen = extractor(striped)
    assert (seen - extractor(average)).norm() < 0.2 * (seen - extractor(255 - plain)).norm()


def test_features_are_the_spatial_mean_of_an_input_scaled_as_in_training() -> None:
    extractor = load_extractor(settings(input_size=64), torch.device("cpu"))
    images = noise(2, size=64)  # the input size, so nothing is resized
    x = (images.permute(0, 3, 1, 2).float() - 127) / 128
    with torch.inference_mode():
        maps = extractor.network.extract_features(x)
    assert maps.shape == (2, 1280, 2, 2)
    torch.testing.assert_close(extractor(images), maps.mean((2, 3)), rtol=1e-4, atol=1e-4)


def test_the_weights_are_pretrained() -> None:
    # A new network's running means are 0.
    network = load_extractor(settings(), torch.device("cpu")).network
    statistics = [b for name, b in network.named_buffers() if name.endswith("running_mean")]
    assert all(bool(buffer.any()) for buffer in statistics)


@pytest.mark.parametrize(
    "change", [lambda: settings(input_size=64), lambda: settings(dtype="bfloat16")]
)
def test_every_setting_changes_the_features(
    change: Callable[[], Extractor], extractor: AnExtractor
) -> None:
    other = load_extractor(change(), torch.device("cpu"))(noise(2))
    assert other.dtype == torch.float32
    assert not torch.equal(other, extractor(noise(2)))


def test_bfloat16_features_are_close_to_float32(extractor: AnExtractor) -> None:
    features = extractor(noise(8))
    bfloat16 = load_extractor(settings(dtype="bfloat16"), torch.device("cpu"))(noise(8))
    assert (bfloat16 - features).norm() < 0.1 * features.norm()


@pytest.mark.parametrize("size", [28, 299, 320])
def test_inception_features_equal_those_of_torch_fidelity(
    size: int, inception: AnExtractor, fidelity: nn.Module
) -> None:
    images = noise(2, size=size)
    (expected,) = fidelity(images.permute(0, 3, 1, 2))
    features = inception(images)
    assert (features.shape, features.dtype) == ((2, inception.num_features), torch.float32)
    differences = (features - expected).norm(dim=1) / expected.norm(dim=1)
    assert differences.max() < 1e-4


@pytest.mark.faults
def test_bfloat16_inception_features_are_close_to_float32(
    inception_file: Path, inception: AnExtractor
) -> None:
    images = pictures(range(100, 103))
    features = inception(images)
    bfloat16 = load_extractor(inception_settings("bfloat16"), torch.device("cpu"))(images)
    assert bfloat16.dtype == torch.float32
    assert not torch.equal(bfloat16, features)
    assert (bfloat16 - features).norm(dim=1).max() < 0.3 * torch.pdist(features).min()


@pytest.mark.parametrize("change", ["missing", "another shape"])
def test_weights_of_another_network_are_rejected_in_one_line(
    change: str, inception_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = torch.load(inception_file, weights_only=True)
    if change == "missing":
        del state["Mixed_7c.branch1x1.conv.weight"]
    else:
        state["fc.weight"] = torch.zeros(1000, 2048)
    path = tmp_path / "other.pth"
    torch.save(state, path, _use_new_zipfile_serialization=False)
    monkeypatch.setattr(inception_weights, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.setenv(inception_weights.VARIABLE, str(path))
    assert "the weights don't fit the network" in error_line()


def test_missing_weights_are_reported_with_the_command_that_fetches_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "none.pth"
    monkeypatch.setenv(inception_weights.VARIABLE, str(path))
    message = error_line()
    assert message.startswith(f"{path}: not found")
    assert "facegan fetch inception" in message


def error_line() -> str:
    """Load the Inception network, which must fail with one line."""
    with pytest.raises(FaceganError) as caught:
        load_extractor(inception_settings(), torch.device("cpu"))
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)

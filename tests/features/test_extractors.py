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
from inception import pictures, random_weights, torch_fidelitys

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
def theirs(inception_file: Path) -> nn.Module:
    return torch_fidelitys(inception_file)


@pytest.fixture(params=["extractor", "inception"])
def each(request: pytest.FixtureRequest) -> AnExtractor:
    """One after the other."""
    chosen: AnExtractor = request.getfixturevalue(request.param)
    return chosen


def noise(count: int, channels: int = 3, size: int = 40) -> Tensor:
    source = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, size, size, channels), generator=source).byte()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [28, 32, 64])
def test_images_of_any_size_become_1280_floats_each(
    channels: int, size: int, extractor: AnExtractor
) -> None:
    features = extractor(noise(3, channels, size))
    assert (features.shape, features.dtype) == ((3, 1280), torch.float32)
    assert extractor.num_features == 1280
    assert features.isfinite().all()


def test_a_grey_image_has_the_features_of_the_same_image_as_rgb(
    each: AnExtractor,
) -> None:
    grey = noise(4, channels=1)
    assert torch.equal(each(grey), each(grey.expand(-1, -1, -1, 3).contiguous()))


def test_other_images_have_other_features(each: AnExtractor) -> None:
    images = noise(4)
    features = each(torch.cat([images, images.flip(3)]))  # and BGR is another image
    distances = torch.cdist(features, features) + torch.eye(8) * 1e9
    assert distances.min() > 0.1


@pytest.mark.parametrize("batch", [1, 7])
def test_features_do_not_depend_on_the_batch(batch: int, extractor: AnExtractor) -> None:
    images = noise(64)
    whole = extractor(images)
    parts = torch.cat([extractor(part) for part in images.split(batch)])
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-4)


def test_no_images_have_no_features(each: AnExtractor) -> None:
    # A data set of which nothing is held out has an empty part.
    assert each(noise(0)).shape == (0, each.num_features)


def test_the_extractor_neither_trains_nor_keeps_gradients(each: AnExtractor) -> None:
    assert not any(module.training for module in each.modules())
    assert not any(parameter.requires_grad for parameter in each.parameters())
    before = [buffer.clone() for buffer in each.buffers()]
    assert not each(noise(2)).requires_grad
    assert all(map(torch.equal, each.buffers(), before))


def test_large_images_are_antialiased(extractor: AnExtractor) -> None:
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
    "change", [lambda: settings(input_size=64), lambda: settings(dtype="bfloat16")]
)
def test_every_setting_moves_the_features(
    change: Callable[[], Extractor], extractor: AnExtractor
) -> None:
    other = load_extractor(change(), torch.device("cpu"))(noise(2))
    assert other.dtype == torch.float32
    assert not torch.equal(other, extractor(noise(2)))


def test_bfloat16_features_are_near_those_of_float32(extractor: AnExtractor) -> None:
    features = extractor(noise(8))
    short = load_extractor(settings(dtype="bfloat16"), torch.device("cpu"))(noise(8))
    assert (short - features).norm() < 0.1 * features.norm()


@pytest.mark.parametrize("size", [28, 299, 320])
def test_inceptions_features_are_torch_fidelitys(
    size: int, inception: AnExtractor, theirs: nn.Module
) -> None:
    images = noise(2, size=size)
    (expected,) = theirs(images.permute(0, 3, 1, 2))
    features = inception(images)
    assert (features.shape, features.dtype) == ((2, inception.num_features), torch.float32)
    differences = (features - expected).norm(dim=1) / expected.norm(dim=1)
    assert differences.max() < 1e-4


def test_inceptions_bfloat16_features_are_near_those_of_float32(
    inception_file: Path, inception: AnExtractor
) -> None:
    images = pictures(range(100, 103))
    features = inception(images)
    short = load_extractor(inception_settings("bfloat16"), torch.device("cpu"))(images)
    assert short.dtype == torch.float32
    assert not torch.equal(short, features)
    assert (short - features).norm(dim=1).max() < 0.3 * torch.pdist(features).min()


@pytest.mark.parametrize("change", ["missing", "another shape"])
def test_the_weights_of_another_network_are_refused_in_one_line(
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
    assert "the weights are another network's" in refusal()


def test_missing_weights_are_named_with_the_way_to_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "none.pth"
    monkeypatch.setenv(inception_weights.VARIABLE, str(path))
    message = refusal()
    assert message.startswith(f"{path}: not there")
    assert "facegan fetch inception" in message


def refusal() -> str:
    """The one line in which loading the Inception network ends."""
    with pytest.raises(FaceganError) as caught:
        load_extractor(inception_settings(), torch.device("cpu"))
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)

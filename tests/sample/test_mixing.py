from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from facegan.core.errors import FaceganError
from facegan.core.events import Event, Progress, silent
from facegan.models import stylegan2
from facegan.models.modulated_resnet import Modulated
from facegan.sample import latents, mixing
from facegan.sample.opening import Opened
from facegan.sample.renderer import Renderer
from networks import modulated_generator, small_generator, styled_generator

Pixels = NDArray[np.uint8]
COARSE, FINE = [3, 8, 9], [8, 1]


@pytest.fixture(
    scope="module", name="network", params=[styled_generator, modulated_generator],
    ids=["stylegan2", "modulated-resnet"],
)  # fmt: skip
def make_network(request: pytest.FixtureRequest) -> mixing.Styled:
    network: mixing.Styled = request.param()
    return network


def images(network: nn.Module, seeds: list[int], truncation: float | None = None) -> Pixels:
    """As `facegan sample` draws them."""
    return np.concatenate(list(Renderer(network)(latents.latents(seeds, 6, truncation))))


def cells(table: Pixels, side: int = 32) -> Pixels:
    """uint8 (rows, columns, H, W, C)."""
    rows, columns = table.shape[0] // side, table.shape[1] // side
    return table.reshape(rows, side, columns, side, -1).swapaxes(1, 2)


def mixed(
    network: mixing.Styled,
    coarse: list[int],
    fine: list[int],
    below: int,
    truncation: float | None = None,
) -> Pixels:
    return cells(mixing.table(network, coarse, fine, below, truncation, silent))


@pytest.mark.parametrize("truncation", [None, 0.7])
def test_the_first_column_and_row_are_the_images_of_the_seeds(
    truncation: float | None, network: mixing.Styled
) -> None:
    found = mixed(network, COARSE, FINE, 16, truncation)
    assert found.shape == (4, 3, 32, 32, 3)
    assert not found[0, 0].any()
    assert np.array_equal(found[1:, 0], images(network, COARSE, truncation))
    assert np.array_equal(found[0, 1:], images(network, FINE, truncation))


@pytest.mark.parametrize("below", [8, 16, 32])
def test_a_seed_mixed_with_itself_is_its_own_image_byte_for_byte(
    below: int, network: mixing.Styled
) -> None:
    found = mixed(network, COARSE, FINE, below)
    assert np.array_equal(found[2, 1], images(network, [8])[0])


def test_at_the_ends_all_styles_are_of_one_seed(network: mixing.Styled) -> None:
    all_fine, all_coarse = (mixed(network, COARSE, FINE, below) for below in (4, 64))
    for row in range(1, 4):
        assert np.array_equal(all_fine[row, 1:], all_fine[0, 1:])
    for column in range(1, 3):
        assert np.array_equal(all_coarse[1:, column], all_coarse[1:, 0])


def test_a_mixture_differs_from_both_seeds_and_by_crossover(network: mixing.Styled) -> None:
    found = [mixed(network, [3], [1], below)[1, 1] for below in (4, 8, 16, 32, 64)]
    for number, image in enumerate(found):
        assert not any(np.array_equal(image, other) for other in found[:number])


@pytest.mark.parametrize(("size", "below"), [(32, 8), (32, 16), (32, 64), (28, 14), (28, 7)])
def test_each_layer_has_the_style_of_its_resolution(size: int, below: int) -> None:
    network, z = styled_generator(size=size), latents.latents([3, 1], 6)
    seen = dict[str, tuple[int, Tensor]]()  # the last of each layer
    for name, module in network.named_modules():
        if isinstance(module, stylegan2.Modulated):

            def note(_: object, inputs: tuple[Tensor, Tensor], y: Tensor, name: str = name) -> None:
                seen[name] = y.shape[-1], inputs[1][0]

            module.register_forward_hook(note)
    with torch.no_grad():
        network(z[:1])
        coarse = seen["first"][1]
        network(z[1:])
        fine = seen["first"][1]
        mixing.Mixer(network, below)(z.flatten()[None])
    assert len(seen) == 2 + 3 * len(network.up) and not torch.equal(coarse, fine)
    for name, (side, style) in seen.items():
        assert torch.equal(style, coarse if side < below else fine), name


def test_layers_below_the_crossover_are_modulated_by_the_coarse_latent() -> None:
    network, (coarse, fine) = modulated_generator(), latents.latents([3, 1], 6).split(1)
    seen = list[tuple[int, Tensor]]()
    for layer in network.layers:
        if isinstance(layer, Modulated):
            layer.register_forward_hook(lambda _, x, y: seen.append((y.shape[-1], x[1])))
    mixing.Mixer(network, 16)(torch.cat([coarse, fine], 1))
    last = seen[-5:]  # of two passes
    assert [side for side, _ in last] == [4, 8, 16, 32, 32]
    assert all(torch.equal(z, coarse if side < 16 else fine) for side, z in last)


def test_a_mixture_is_independent_of_the_others(network: mixing.Styled) -> None:
    many = mixed(network, list(range(7)), list(range(10, 18)), 16)
    assert np.array_equal(many[6, 3], mixed(network, [5], [12], 16)[1, 1])
    assert np.array_equal(many[1, 8], mixed(network, [0], [17, 2], 16)[1, 1])


def test_progress_counts_mixtures(network: mixing.Styled) -> None:
    events = list[Event]()
    mixing.table(network, list(range(7)), list(range(5)), 16, None, events.append)
    assert events == [Progress(32, 35), Progress(35, 35)]


def hooks(network: nn.Module) -> int:
    return sum(len(module._forward_pre_hooks) for module in network.modules())


@pytest.mark.parametrize("failing", [1, 2])
def test_hooks_are_removed_even_after_an_error(failing: int) -> None:
    """A mixture takes two passes."""
    network, z = styled_generator(), latents.latents([1, 2], 6).flatten()[None]
    mixer, calls = mixing.Mixer(network, 16), list[int]()

    def fail(*_: object) -> None:
        assert hooks(network) > 0
        calls.append(1)
        if len(calls) == failing:
            raise RuntimeError("out of memory")

    network.to_rgb[-1].register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        mixer(z)
    assert hooks(network) == 0
    calls = [1, 1]
    mixer(z)
    assert hooks(network) == 0


def test_a_network_is_not_changed(network: mixing.Styled) -> None:
    before = images(network, [0, 1])
    mixed(network, [0], [1], 16)
    assert hooks(network) == 0
    assert np.array_equal(images(network, [0, 1]), before)


def test_an_architecture_without_styles_is_refused() -> None:
    opened = Opened(small_generator().eval(), "0" * 64, "faces", 3)
    with pytest.raises(FaceganError) as caught:
        mixing.require_styles(opened)
    assert str(caught.value) == (
        "mix needs a generator with a style for each layer (train.architecture: modulated-resnet "
        "or stylegan2); faces version 3 is dcgan; facegan interpolate morphs between seeds of any"
    )


@pytest.mark.parametrize(
    ("size", "valid"),
    [(28, [7, 14, 28, 56]), (32, [4, 8, 16, 32, 64]), (128, [4, 8, 16, 32, 64, 128, 256])],
)
def test_the_crossover_is_a_side_of_a_feature_map(size: int, valid: list[int]) -> None:
    network = styled_generator(size=size, base_channels=2)
    assert [mixing.crossover(network, side) for side in valid] == valid
    assert mixing.crossover(network, None) == (28 if size == 28 else 16)
    for below in (-1, 0, 5, valid[0] // 2, 2 * valid[-1]):
        with pytest.raises(FaceganError) as caught:
            mixing.crossover(network, below)
        assert str(caught.value) == f"--below {below}: valid: {', '.join(map(str, valid))}"


def test_a_table_has_at_most_10_000_images() -> None:
    mixing.check(Path("mix.png"), list(range(99)), list(range(99)))
    with pytest.raises(FaceganError, match=r"^mix.png: a table of 101 x 100 images; valid: at mos"):
        mixing.check(Path("mix.png"), list(range(100)), list(range(99)))


def test_a_table_too_large_for_a_jpeg_is_refused_before_it_is_drawn(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    opened = Opened(styled_generator(), "0" * 64)
    monkeypatch.setattr(mixing, "table", None)
    with pytest.raises(FaceganError, match=r"mix.jpg: a grid of 65,632 x 64 pixels; a JPEG has"):
        mixing.mix(opened, tmp_path / "mix.jpg", [1], list(range(2050)), None, None, False, silent)

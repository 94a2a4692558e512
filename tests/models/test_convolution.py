from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from facegan.models import convolution
from facegan.models.convolution import Conv2d, ConvTranspose2d

Convolution = nn.Conv2d | nn.ConvTranspose2d
# The kernel, stride and padding of the networks' layers.
HALVING, SAME, WHOLE, POINT = (4, 2, 1), (3, 1, 1), (4, 1, 0), (1, 1, 0)
KINDS = {Conv2d: nn.Conv2d, ConvTranspose2d: nn.ConvTranspose2d}


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pair(kind: type[Convolution], *geometry: int, bias: bool) -> tuple[Convolution, Convolution]:
    """Ours and torch's, with the same weights."""
    ours, theirs = (each(3, 5, *geometry, bias=bias).double() for each in (kind, KINDS[kind]))
    for number, weight in enumerate(theirs.parameters()):
        weight.data = drawn(*weight.shape, seed=number)
    ours.load_state_dict(theirs.state_dict())
    return ours.to(memory_format=torch.channels_last), theirs


def never(*_: object) -> Tensor:
    raise AssertionError("not as matrix multiplications")


def output_and_gradients(layer: Convolution, x: Tensor) -> list[Tensor]:
    """And those of a gradient's norm, as a penalty takes them."""
    x = x.clone().requires_grad_()
    y = layer(x)
    (gradient,) = torch.autograd.grad(y.sin().sum(), x, create_graph=True)
    last = gradient.square().sum() + y.cos().sum()
    return [y, gradient, *torch.autograd.grad(last, [x, *layer.parameters()])]


@pytest.mark.parametrize("kind", KINDS)
@given(
    geometry=st.sampled_from([HALVING, SAME, WHOLE, POINT]),
    n=st.integers(1, 3),
    sides=st.tuples(st.integers(2, 4), st.integers(2, 4)),
    bias=st.booleans(),
    channels_last=st.booleans(),
)
def test_small_maps_give_torchs_outputs_and_gradients(
    kind: type[Convolution],
    geometry: tuple[int, int, int],
    n: int,
    sides: tuple[int, int],
    bias: bool,
    channels_last: bool,
) -> None:
    if kind is Conv2d:  # `sides` are the smaller map's
        kernel, stride, padding = geometry
        sides = tuple((side - 1) * stride + kernel - 2 * padding for side in sides)  # type: ignore[assignment]
    ours, theirs = pair(kind, *geometry, bias=bias)
    x = drawn(n, 3, *sides, seed=9)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    with pytest.MonkeyPatch.context() as patch:
        expected = output_and_gradients(theirs, x)
        patch.setattr(KINDS[kind], "forward", never)
        got = output_and_gradients(ours, x)
    torch.testing.assert_close(got, expected)


def test_one_pixel_becomes_a_map() -> None:
    ours, theirs = pair(ConvTranspose2d, *WHOLE, bias=False)
    x = drawn(2, 3, 1, 1)
    torch.testing.assert_close(output_and_gradients(ours, x), output_and_gradients(theirs, x))


@pytest.mark.parametrize(
    ("kind", "geometry", "side"),
    [
        (Conv2d, HALVING, 10),
        (Conv2d, (4, 2, 0), 5),  # leaves a row and a column out
        (Conv2d, (3, 2, 1), 5),
        (ConvTranspose2d, HALVING, 5),
        (ConvTranspose2d, (3, 2, 1), 3),
    ],
)
def test_other_maps_are_left_to_torch(
    monkeypatch: pytest.MonkeyPatch,
    kind: type[Convolution],
    geometry: tuple[int, int, int],
    side: int,
) -> None:
    monkeypatch.setattr(convolution, "_product", never)
    ours, theirs = pair(kind, *geometry, bias=True)
    x = drawn(2, 3, side, side)
    torch.testing.assert_close(ours(x), theirs(x))


def test_an_output_size_is_heeded() -> None:
    ours, _ = pair(ConvTranspose2d, *HALVING, bias=True)
    assert ours(drawn(2, 3, 4, 4), [9, 9]).shape == (2, 5, 9, 9)


@pytest.mark.parametrize(("kind", "side"), [(Conv2d, 8), (ConvTranspose2d, 4)])
def test_autocast_multiplies_in_bfloat16_as_exactly_as_torch(
    kind: type[Convolution], side: int
) -> None:
    ours, theirs = pair(kind, *HALVING, bias=False)
    x = drawn(4, 3, side, side)
    exact = output_and_gradients(theirs, x)
    errors = []
    for layer in (ours, theirs):
        single = layer.float()
        with torch.autocast("cpu", torch.bfloat16):
            y = single(x.float())
        assert y.dtype == torch.bfloat16
        y.float().sin().sum().backward()
        gradient = single.weight.grad
        assert gradient is not None and gradient.dtype == torch.float32
        errors.append((y.double() - exact[0]).abs().max().item())
    assert errors[0] < 2 * errors[1]


def test_gradients_lie_as_the_weights_do() -> None:
    for kind, side in ((Conv2d, 8), (ConvTranspose2d, 4)):
        ours, _ = pair(kind, *HALVING, bias=False)
        ours(drawn(2, 3, side, side)).sum().backward()
        assert ours.weight.grad is not None
        assert ours.weight.grad.stride() == ours.weight.stride()


def test_an_exported_network_has_torchs_convolutions() -> None:
    layers: list[tuple[Callable[..., Convolution], int, str]] = [
        (Conv2d, 8, "aten.conv2d.default"),
        (ConvTranspose2d, 4, "aten.conv_transpose2d.input"),
    ]
    for kind, side, operation in layers:
        layer = kind(3, 5, *HALVING)
        program = torch.export.export(layer, (torch.zeros(2, 3, side, side),))
        called = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
        assert called == [operation]

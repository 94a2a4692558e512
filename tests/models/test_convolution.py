from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from facegan.models import convolution
from facegan.models.convolution import Conv2d, ConvTranspose2d

Convolution = nn.Conv2d | nn.ConvTranspose2d
# Kernel, stride and padding of the networks' layers.
HALVING, SAME, WHOLE, POINT = (4, 2, 1), (3, 1, 1), (4, 1, 0), (1, 1, 0)
CPUINFO, HAS_AMX = Path("/proc/cpuinfo"), convolution.has_amx
KINDS = {Conv2d: nn.Conv2d, ConvTranspose2d: nn.ConvTranspose2d}


@pytest.fixture(autouse=True)
def with_amx(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a CPU with AMX, whatever this one has."""
    monkeypatch.setattr(convolution, "has_amx", lambda: True)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pair(kind: type[Convolution], *geometry: int, bias: bool) -> tuple[Convolution, Convolution]:
    """Our layer and torch's, with the same weights."""
    ours, theirs = (layer(3, 5, *geometry, bias=bias).double() for layer in (kind, KINDS[kind]))
    for number, weight in enumerate(theirs.parameters()):
        weight.data = normal(*weight.shape, seed=number)
    ours.load_state_dict(theirs.state_dict())
    return ours.to(memory_format=torch.channels_last), theirs


def never(*_: object) -> Tensor:
    raise AssertionError("not as a matrix product")


def output_and_gradients(layer: Convolution, x: Tensor) -> list[Tensor]:
    """Including gradients of a gradient's norm, as in a gradient penalty."""
    x = x.clone().requires_grad_()
    y = layer(x)
    (gradient,) = torch.autograd.grad(y.sin().sum(), x, create_graph=True)
    loss = gradient.square().sum() + y.cos().sum()
    return [y, gradient, *torch.autograd.grad(loss, [x, *layer.parameters()])]


@pytest.mark.parametrize("kind", KINDS)
@given(
    geometry=st.sampled_from([HALVING, SAME, WHOLE, POINT]),
    n=st.integers(1, 3),
    sides=st.tuples(st.integers(2, 4), st.integers(2, 4)),
    bias=st.booleans(),
    channels_last=st.booleans(),
)
def test_outputs_and_gradients_of_small_maps_equal_torchs(
    kind: type[Convolution],
    geometry: tuple[int, int, int],
    n: int,
    sides: tuple[int, int],
    bias: bool,
    channels_last: bool,
) -> None:
    if kind is Conv2d:  # `sides` are the smaller feature map's
        kernel, stride, padding = geometry
        sides = tuple((side - 1) * stride + kernel - 2 * padding for side in sides)  # type: ignore[assignment]
    ours, theirs = pair(kind, *geometry, bias=bias)
    x = normal(n, 3, *sides, seed=9)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    with pytest.MonkeyPatch.context() as patch:
        expected = output_and_gradients(theirs, x)
        patch.setattr(KINDS[kind], "forward", never)
        actual = output_and_gradients(ours, x)
    torch.testing.assert_close(actual, expected)


def test_outputs_and_gradients_from_1x1_equal_torchs() -> None:
    ours, theirs = pair(ConvTranspose2d, *WHOLE, bias=False)
    x = normal(2, 3, 1, 1)
    torch.testing.assert_close(output_and_gradients(ours, x), output_and_gradients(theirs, x))


@pytest.mark.parametrize(
    ("kind", "geometry", "side"),
    [
        (Conv2d, HALVING, 10),
        (Conv2d, (4, 2, 0), 5),  # does not cover the last row and column
        (Conv2d, (3, 2, 1), 5),
        (ConvTranspose2d, HALVING, 5),
        (ConvTranspose2d, (3, 2, 1), 3),
    ],
)
def test_other_feature_maps_use_torchs_convolution(
    monkeypatch: pytest.MonkeyPatch,
    kind: type[Convolution],
    geometry: tuple[int, int, int],
    side: int,
) -> None:
    monkeypatch.setattr(convolution, "_product", never)
    ours, theirs = pair(kind, *geometry, bias=True)
    x = normal(2, 3, side, side)
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize(("kind", "side"), [(Conv2d, 8), (ConvTranspose2d, 4)])
def test_without_amx_all_feature_maps_use_torchs_convolution(
    monkeypatch: pytest.MonkeyPatch, kind: type[Convolution], side: int
) -> None:
    monkeypatch.setattr(convolution, "has_amx", lambda: False)
    monkeypatch.setattr(convolution, "_product", never)
    ours, theirs = pair(kind, *HALVING, bias=True)
    x = normal(2, 3, side, side)
    torch.testing.assert_close(output_and_gradients(ours, x), output_and_gradients(theirs, x))


@pytest.mark.skipif(not CPUINFO.exists(), reason="needs /proc/cpuinfo")
def test_amx_is_detected_as_linux_reports_it() -> None:
    assert HAS_AMX() == ("amx_bf16" in CPUINFO.read_text().split())


def test_an_output_size_is_respected() -> None:
    ours, _ = pair(ConvTranspose2d, *HALVING, bias=True)
    assert ours(normal(2, 3, 4, 4), [9, 9]).shape == (2, 5, 9, 9)


@pytest.mark.parametrize(("kind", "side"), [(Conv2d, 8), (ConvTranspose2d, 4)])
def test_autocast_computes_in_bfloat16_as_accurately_as_torch(
    kind: type[Convolution], side: int
) -> None:
    ours, theirs = pair(kind, *HALVING, bias=False)
    x = normal(4, 3, side, side)
    reference = output_and_gradients(theirs, x)
    errors = []
    for layer in (ours, theirs):
        single = layer.float()
        with torch.autocast("cpu", torch.bfloat16):
            y = single(x.float())
        assert y.dtype == torch.bfloat16
        y.float().sin().sum().backward()
        gradient = single.weight.grad
        assert gradient is not None and gradient.dtype == torch.float32
        errors.append((y.double() - reference[0]).abs().max().item())
    assert errors[0] < 2 * errors[1]


def test_weight_gradients_have_the_weights_strides() -> None:
    for kind, side in ((Conv2d, 8), (ConvTranspose2d, 4)):
        ours, _ = pair(kind, *HALVING, bias=False)
        ours(normal(2, 3, side, side)).sum().backward()
        assert ours.weight.grad is not None
        assert ours.weight.grad.stride() == ours.weight.stride()


def test_an_exported_layer_is_torchs_convolution() -> None:
    layers: list[tuple[Callable[..., Convolution], int, str]] = [
        (Conv2d, 8, "aten.conv2d.default"),
        (ConvTranspose2d, 4, "aten.conv_transpose2d.input"),
    ]
    for kind, side, operation in layers:
        layer = kind(3, 5, *HALVING)
        program = torch.export.export(layer, (torch.zeros(2, 3, side, side),))
        called = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
        assert called == [operation]

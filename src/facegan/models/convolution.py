"""nn.Conv2d and nn.ConvTranspose2d that compute small feature maps as matrix products on AMX.

There, oneDNN's convolutions of such maps, in particular the gradients of their weights, take
several times as long as the equivalent matrix products (docs/performance.md, "Training on a CPU").
"""

import functools
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

# Largest feature map, in pixels, that is computed as a product: 4 x 4. At 8 x 8 the difference was
# within the noise.
MAX_PIXELS = 16


@functools.cache
def has_amx() -> bool:
    """Whether this CPU has AMX. A machine always takes the same path, so that its outputs are
    reproducible."""
    return bool(torch.cpu.get_capabilities().get("amx_bf16", False))


class Conv2d(nn.Conv2d):
    """nn.Conv2d: (n, C, H, W) -> (n, C', h, w)."""

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride, padding = _geometry(self)
        spans = [side + 2 * padding - kernel for side in x.shape[2:]]
        pixels = math.prod(span // stride + 1 for span in spans)
        # _Overlap is the transpose of _Windows only if the windows cover all pixels.
        uncovered = any(span % stride for span in spans)
        if pixels > MAX_PIXELS or uncovered or not _can_multiply(self, x):
            return super().forward(x)
        columns = _Windows.apply(_cast(x).permute(0, 2, 3, 1), kernel, stride, padding)
        y = _product(columns, _matrix(self).t())
        y = y if self.bias is None else y + _cast(self.bias)
        return y.permute(0, 3, 1, 2)


class ConvTranspose2d(nn.ConvTranspose2d):
    """nn.ConvTranspose2d: (n, C, h, w) -> (n, C', H, W)."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        small = x.shape[2] * x.shape[3] <= MAX_PIXELS
        if not small or output_size is not None or not _can_multiply(self, x):
            return super().forward(x, output_size)
        columns = _product(_cast(x).permute(0, 2, 3, 1), _matrix(self))
        y: Tensor = _Overlap.apply(columns, *_geometry(self))
        y = y if self.bias is None else y + _cast(self.bias)
        return y.permute(0, 3, 1, 2)


def _geometry(convolution: nn.Conv2d | nn.ConvTranspose2d) -> tuple[int, int, int]:
    """Kernel size, stride and padding, which are square in all networks here."""
    return convolution.kernel_size[0], convolution.stride[0], int(convolution.padding[0])


def _can_multiply(convolution: nn.Conv2d | nn.ConvTranspose2d, x: Tensor) -> bool:
    kernel, stride, _ = _geometry(convolution)
    # An exported network has torch's own layers, whatever device it will run on.
    eager_on_cpu = x.device.type == "cpu" and not torch.compiler.is_exporting()
    return eager_on_cpu and kernel % stride == 0 and has_amx()


def _cast(x: Tensor) -> Tensor:
    """Cast as autocast does for a convolution."""
    return x.to(torch.get_autocast_dtype("cpu")) if torch.is_autocast_enabled("cpu") else x


def _matrix(convolution: nn.Conv2d | nn.ConvTranspose2d) -> Tensor:
    """The weights as a matrix, one row per channel of the smaller map."""
    return _cast(convolution.weight).permute(0, 2, 3, 1).flatten(1)


def _product(x: Tensor, weights: Tensor) -> Tensor:
    """(n, h, w, C) and (C, C') -> (n, h, w, C')."""
    y: Tensor = _Product.apply(x.reshape(-1, x.shape[-1]), weights)
    return y.view(*x.shape[:-1], -1)


class _Product(torch.autograd.Function):
    """a @ b with `a` made contiguous: oneDNN takes twice as long for a transposed `a`, which the
    gradient of `b` has."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        return a.contiguous() @ b

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (gradient,), (a, b) = gradients, ctx.saved_tensors
        of_a = _Product.apply(gradient, b.t()) if ctx.needs_input_grad[0] else None
        of_b = _Product.apply(a.t(), gradient) if ctx.needs_input_grad[1] else None
        return of_a, of_b


class _Windows(torch.autograd.Function):
    """im2col: images (n, H, W, C) -> the pixels under each kernel position, (n, h, w, k k C)."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
        ctx.geometry = kernel, stride, padding
        images = pad(images, (0, 0, padding, padding, padding, padding))
        windows = images.unfold(1, kernel, stride).unfold(2, kernel, stride)
        return windows.permute(0, 1, 2, 4, 5, 3).flatten(3)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return _Overlap.apply(gradients[0], *ctx.geometry), None, None, None


class _Overlap(torch.autograd.Function):
    """col2im, the transpose of _Windows: sum each position's contributions to its pixels."""

    @staticmethod
    def forward(ctx: Any, columns: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
        ctx.geometry = kernel, stride, padding
        n, h, w, _ = columns.shape
        # In blocks of stride x stride pixels, to need few additions per kernel.
        blocks = kernel // stride
        parts = columns.view(n, h, w, blocks, stride, blocks, stride, -1)
        shape = n, h + blocks - 1, stride, w + blocks - 1, stride, parts.shape[-1]
        sums = columns.new_zeros(shape)
        for i in range(blocks):
            for j in range(blocks):
                sums[:, i : i + h, :, j : j + w] += parts[:, :, :, i, :, j].transpose(2, 3)
        images = sums.view(n, shape[1] * stride, shape[3] * stride, -1)
        if padding:
            images = images[:, padding:-padding, padding:-padding].contiguous()
        return images

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return _Windows.apply(gradients[0], *ctx.geometry), None, None, None

"""Resolutions and widths of the networks' layers."""

SIZES = (28, 32, 64, 128)


def base(size: int) -> int:
    """Side of the smallest feature map: 7 for MNIST's 28 pixels, else 4."""
    if size not in SIZES:
        raise ValueError(f"size {size}: valid: {SIZES}")
    return 7 if size % 7 == 0 else 4


def widths(size: int, base_channels: int) -> list[int]:
    """Channels at the resolutions base, 2 base, ..., size / 2: `base_channels` at the last one,
    twice as many at each one before.

    >>> widths(64, 64)
    [512, 256, 128, 64]
    """
    steps = (size // base(size)).bit_length() - 1
    return [base_channels * 2**step for step in reversed(range(steps))]

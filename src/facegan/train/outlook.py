"""What a training can be expected to reach, said before it starts."""

import math

from facegan.params import Train

# Images seen until which trainings on faces had made little but noise, whatever the number of
# photographs, and until which they had made coarse images (docs/ablations.md).
NOISE, COARSE = 10_000, 50_000
# Photographs below which the discriminator memorises all of them at once.
FEW = 2000
# Share of the untrained weights in the EMA generator above which it is worth a warning.
MAX_UNTRAINED = 0.1


def outlook(images: int, params: Train, is_pretrained: bool) -> str:
    """The number of steps and what to expect of them, as one line.

    Args:
        images: number of training images, at least `params.batch_size`.
        is_pretrained: whether the training starts from trained networks.
    """
    per_epoch = images // params.batch_size * params.batch_size
    seen = params.epochs * per_epoch
    untrained = 0.5 ** (seen / params.ema_half_life)
    expected = []
    if seen < NOISE and not is_pretrained:
        epochs = math.ceil(NOISE / per_epoch)
        expected.append(
            f"too few for anything but noise; raise train.epochs to {epochs:,} or more, or run: "
            "facegan preset auto"
        )
    elif untrained > MAX_UNTRAINED:
        expected.append(
            f"the EMA generator would still be {untrained:.0%} the initial network; lower "
            "train.ema_half_life or raise train.epochs"
        )
    elif seen < COARSE and not is_pretrained:
        expected.append("expect coarse images")
    if images < FEW and not params.augment:
        expected.append(
            f"the discriminator will memorise {images:,} images; train.augment with "
            "train.augment_target: 0.7 delays that"
        )
    steps = f"{seen // params.batch_size:,} steps of {params.batch_size} images"
    epochs_text = f"{params.epochs:,} epoch{'s' * (params.epochs > 1)} of {images:,}"
    return "; ".join([f"{steps}, {seen:,} images seen in {epochs_text}", *expected])

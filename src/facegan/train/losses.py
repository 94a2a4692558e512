"""Adversarial losses and gradient penalties: float32 logits in, float32 scalars out."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import relu, softplus


@dataclass(frozen=True)
class Loss:
    """Functions of the logits (n,) of real and (n,) of generated images.

    Attributes:
        discriminator: the discriminator's loss.
        generator: the generator's loss.
        paired: whether only differences between paired logits are meaningful.
    """

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor, Tensor], Tensor]
    paired: bool = False


LOSSES = {
    # Goodfellow et al. 2014: eq. 1, and the non-saturating form of section 3.
    "bce": Loss(
        lambda real, fake: softplus(-real).mean() + softplus(fake).mean(),
        lambda real, fake: softplus(-fake).mean(),
    ),
    # Lim and Ye 2017; Miyato et al. 2018, eq. 16 and 17.
    "hinge": Loss(
        lambda real, fake: relu(1 - real).mean() + relu(1 + fake).mean(),
        lambda real, fake: -fake.mean(),
    ),
    # Jolicoeur-Martineau 2018, paired: Huang et al. 2024, eq. 2 with f(t) = -softplus(-t).
    "relativistic": Loss(
        lambda real, fake: softplus(fake - real).mean(),
        lambda real, fake: softplus(real - fake).mean(),
        paired=True,
    ),
}


def gradient_penalty(logits: Tensor, images: Tensor) -> Tensor:
    """Mean squared norm of the gradient of the logits with respect to the images; differentiable.

    Half of it is R1 for real and R2 for generated images (Mescheder et al. 2018, eq. 9).

    Args:
        logits: (n,), computed from `images`.
        images: (n, C, H, W), with `requires_grad`.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.float().square().sum((1, 2, 3)).mean()

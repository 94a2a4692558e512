"""Adversarial losses: logits in, scalars out."""

from torch import Tensor
from torch.nn.functional import softplus


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Binary cross entropy: -log D(x) - log(1 - D(G(z))) (Goodfellow et al. 2014, eq. 1).

    Args:
        real, fake: logits (n,). The loss is computed in float32.
    """
    return softplus(-real.float()).mean() + softplus(fake.float()).mean()


def generator_loss(fake: Tensor) -> Tensor:
    """The non-saturating form: -log D(G(z)) (Goodfellow et al. 2014, section 3).

    Args:
        fake: logits (n,) of generated images. The loss is computed in float32.
    """
    return softplus(-fake.float()).mean()

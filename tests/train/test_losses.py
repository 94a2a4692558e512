import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from facegan.train.losses import LOSSES, gradient_penalty

values = st.floats(-50, 50, width=32)
pairs = st.lists(st.tuples(values, values), min_size=1, max_size=8).map(torch.tensor)


def cross_entropy(logits: Tensor, target: float) -> Tensor:
    return binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))


@given(pairs)
def test_bce_is_binary_cross_entropy_and_non_saturating(logits: Tensor) -> None:
    real, fake = logits.unbind(1)
    loss = LOSSES["bce"]
    expected = cross_entropy(real, 1) + cross_entropy(fake, 0)
    torch.testing.assert_close(loss.discriminator(real, fake), expected)
    torch.testing.assert_close(loss.generator(real, fake), cross_entropy(fake, 1))


@given(pairs)
def test_hinge_is_zero_beyond_the_margin(logits: Tensor) -> None:
    real, fake = logits.unbind(1)
    loss = LOSSES["hinge"]
    expected = (1 - real).clamp(min=0).mean() + (1 + fake).clamp(min=0).mean()
    torch.testing.assert_close(loss.discriminator(real, fake), expected)
    torch.testing.assert_close(loss.generator(real, fake), -fake.mean())


@given(pairs)
def test_relativistic_is_binary_cross_entropy_of_paired_differences(logits: Tensor) -> None:
    real, fake = logits.unbind(1)
    loss = LOSSES["relativistic"]
    torch.testing.assert_close(loss.discriminator(real, fake), cross_entropy(real - fake, 1))
    torch.testing.assert_close(loss.generator(real, fake), cross_entropy(fake - real, 1))


@pytest.mark.parametrize("name", LOSSES)
def test_extreme_logits_give_finite_losses_and_gradients(name: str) -> None:
    for real, fake in ((1000.0, -1000.0), (-1000.0, 1000.0)):
        x = torch.tensor([real, fake], requires_grad=True)
        total = LOSSES[name].discriminator(x[:1], x[1:]) + LOSSES[name].generator(x[:1], x[1:])
        (gradient,) = torch.autograd.grad(total, x)
        assert total.isfinite() and gradient.isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
def test_both_networks_pull_in_opposite_directions(name: str) -> None:
    real, fake = torch.zeros(2, 4, requires_grad=True).unbind(0)
    (discriminator,) = torch.autograd.grad(LOSSES[name].discriminator(real, fake), fake)
    (generator,) = torch.autograd.grad(LOSSES[name].generator(real, fake), fake)
    assert (discriminator > 0).all() and (generator < 0).all()


def test_the_penalty_is_the_mean_squared_norm_of_the_gradient() -> None:
    images = torch.randn(5, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    images.requires_grad_(True)
    logits = (images**2).sum((1, 2, 3))
    penalty = gradient_penalty(logits, images)
    torch.testing.assert_close(penalty, (4 * images**2).sum((1, 2, 3)).mean())
    # It is differentiable itself.
    (second,) = torch.autograd.grad(penalty, images)
    torch.testing.assert_close(second, 8 * images / 5)

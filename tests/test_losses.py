import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from facegan.losses import discriminator_loss, generator_loss

logits = st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=8).map(torch.tensor)


def cross_entropy(logits: Tensor, target: float) -> Tensor:
    return binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))


@given(real=logits, fake=logits)
def test_the_discriminators_loss_is_binary_cross_entropy(real: Tensor, fake: Tensor) -> None:
    expected = cross_entropy(real, 1) + cross_entropy(fake, 0)
    torch.testing.assert_close(discriminator_loss(real, fake), expected)


@given(fake=logits)
def test_the_generators_loss_is_the_non_saturating_one(fake: Tensor) -> None:
    torch.testing.assert_close(generator_loss(fake), cross_entropy(fake, 1))


def test_gradients_are_those_of_binary_cross_entropy() -> None:
    real, fake = torch.randn(2, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
    real.requires_grad_(), fake.requires_grad_()
    ours = torch.autograd.grad(discriminator_loss(real, fake), (real, fake))
    theirs = torch.autograd.grad(cross_entropy(real, 1) + cross_entropy(fake, 0), (real, fake))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_loss_of_short_floats_is_computed_in_float32(dtype: torch.dtype) -> None:
    # The mean of so many ones and a 3 is lost in bfloat16.
    short = torch.ones(1000, dtype=dtype)
    short[0] = 3
    for loss, expected in (
        (discriminator_loss(short, short), discriminator_loss(short.float(), short.float())),
        (generator_loss(short), generator_loss(short.float())),
    ):
        assert loss.dtype == torch.float32
        assert torch.equal(loss, expected)


@pytest.mark.parametrize(
    ("real", "fake", "discriminator", "generator"),
    [(1000.0, -1000.0, 0.0, 1000.0), (-1000.0, 1000.0, 2000.0, 0.0)],
)
def test_extreme_logits_give_finite_losses_and_gradients(
    real: float, fake: float, discriminator: float, generator: float
) -> None:
    x = torch.tensor([real, fake], requires_grad=True)
    losses = discriminator_loss(x[:1], x[1:]), generator_loss(x[1:])
    assert [loss.item() for loss in losses] == pytest.approx([discriminator, generator])
    (gradient,) = torch.autograd.grad(losses[0] + losses[1], x)
    assert gradient.isfinite().all()

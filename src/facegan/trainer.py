"""The training step, and everything that moves in it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from facegan import sampling
from facegan.augment import augment
from facegan.average import WeightAverage
from facegan.dataset import to_float
from facegan.losses import LOSSES, gradient_penalty
from facegan.models import architectures
from facegan.params import Train

# Latents over which BatchNorm's statistics are estimated.
SETTLE_SEED, SETTLE_BATCHES, SETTLE_BATCH = 3, 2, 250


class Trainer:
    """Both networks with their optimisers, and the average that is drawn from."""

    def __init__(
        self, params: Train, size: int, channels: int, seed: int, device: torch.device
    ) -> None:
        self.params, self.device, self.steps = params, device, 0
        self.loss = LOSSES[params.loss]
        self.discriminator_config: dict[str, Any] = {
            "architecture": params.architecture,
            "size": size, "channels": channels, "width": params.width,
        }  # fmt: skip
        self.generator_config = {**self.discriminator_config, "latent_dim": params.latent_dim}
        # Two streams, so that the latents don't repeat the numbers that made the weights.
        weights_seed, noise_seed = np.random.SeedSequence(seed).generate_state(2).tolist()
        self.generator, self.discriminator = self._networks(weights_seed)
        betas = params.beta1, params.beta2
        self.generator_optimizer, self.discriminator_optimizer = (
            torch.optim.Adam(network.parameters(), lr, betas, fused=True)
            for network, lr in (
                (self.generator, params.lr),
                (self.discriminator, params.discriminator_lr or params.lr),
            )
        )
        self.average = WeightAverage(self.generator, params.ema_half_life)
        self.noise = torch.Generator(device).manual_seed(noise_seed)

    def _networks(self, seed: int) -> tuple[nn.Module, nn.Module]:
        source = torch.Generator().manual_seed(seed)
        generator = architectures.build_generator(**self.generator_config)
        discriminator = architectures.build_discriminator(**self.discriminator_config)
        for network in (generator, discriminator):
            architectures.initialise(self.params.architecture, network, source)
        if self.params.spectral_norm:
            architectures.normalise_spectrum(discriminator, seed)
        for network in (generator, discriminator):
            network.to(self.device).to(memory_format=torch.channels_last)
        return generator, discriminator

    def step(self, images: Tensor) -> Tensor:
        """Train both networks on a batch.

        Args:
            images: uint8 (n, H, W, C) on the device.
        Returns:
            float32 (3,), still on the device: the discriminator's and the generator's loss, and the
            share of images, or of pairs, that the discriminator told right.
        """
        real = to_float(self._flipped(images))
        z = torch.randn(len(real), self.params.latent_dim, generator=self.noise, device=self.device)
        with self._autocast():
            fake = self.generator(z).float()
        discriminator_loss, right = self._train_discriminator(real, fake.detach())
        generator_loss = self._train_generator(real, fake)
        self.average.update(self.generator, len(real))
        self.steps += 1
        return torch.stack([discriminator_loss, generator_loss, right])

    def _train_discriminator(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        real, fake = self._augmented(real), self._augmented(fake)
        real_logits, fake_logits = self._judge(real), self._judge(fake)
        loss = total = self.loss.discriminator(real_logits, fake_logits)
        every = self.params.penalty_interval
        if self.steps % every == 0:
            for weight, images in ((self.params.r1, real), (self.params.r2, fake)):
                if weight > 0:
                    total = total + every * weight / 2 * self._penalty(images)
        _descend(self.discriminator_optimizer, total)
        if self.loss.paired:
            right = real_logits > fake_logits
        else:
            right = torch.cat([real_logits > 0, fake_logits < 0])
        return loss.detach(), right.float().mean()

    def _train_generator(self, real: Tensor, fake: Tensor) -> Tensor:
        self.discriminator.requires_grad_(False)  # only the gradient of its input is needed
        fake_logits = self._judge(self._augmented(fake))
        if self.loss.paired:
            with torch.no_grad():
                real_logits = self._judge(self._augmented(real))
        else:
            real_logits = fake_logits  # not looked at
        loss = self.loss.generator(real_logits, fake_logits)
        _descend(self.generator_optimizer, loss)
        self.discriminator.requires_grad_(True)
        return loss.detach()

    def _autocast(self) -> torch.autocast:
        enabled = self.params.precision == "bfloat16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled)

    def _judge(self, images: Tensor) -> Tensor:
        with self._autocast():
            logits: Tensor = self.discriminator(images)
        return logits.float()

    def _penalty(self, images: Tensor) -> Tensor:
        images = images.detach().requires_grad_(True)
        return gradient_penalty(self._judge(images), images)

    def _flipped(self, images: Tensor) -> Tensor:
        if not self.params.flips:
            return images
        chosen = torch.rand(len(images), 1, 1, 1, generator=self.noise, device=self.device) < 0.5
        return torch.where(chosen, images.flip(2), images)

    def _augmented(self, images: Tensor) -> Tensor:
        return augment(images, self.params.augment, self.noise)

    def settled(self) -> nn.Module:
        """The averaged generator, ready to draw."""
        z = sampling.latents(SETTLE_BATCHES * SETTLE_BATCH, self.params.latent_dim, SETTLE_SEED)
        return self.average.settle(z.to(self.device).split(SETTLE_BATCH))

    def is_finite(self) -> bool:
        """Whether all weights are numbers. Waits for the device."""
        weights = (*self.generator.parameters(), *self.discriminator.parameters())
        return bool(torch.stack([weight.detach().sum() for weight in weights]).isfinite().all())

    def reseed(self, seed: Sequence[int]) -> None:
        """Draw other latents and augmentations from here on."""
        self.noise.manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))

    def _parts(self) -> dict[str, Any]:
        return {
            "generator": self.generator, "discriminator": self.discriminator,
            "average": self.average.network,
            "generator_optimizer": self.generator_optimizer,
            "discriminator_optimizer": self.discriminator_optimizer,
        }  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        states = {name: part.state_dict() for name, part in self._parts().items()}
        return {**states, "noise": self.noise.get_state(), "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.noise.set_state(state["noise"].cpu())
        self.steps = state["steps"]


def _descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

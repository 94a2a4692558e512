"""The training step, and everything that moves in it."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from facegan import losses, sampling
from facegan.average import WeightAverage
from facegan.dataset import to_float
from facegan.models.dcgan import Discriminator, Generator, initialise
from facegan.params import Train

# Latents over which BatchNorm's statistics are estimated.
SETTLE_SEED, SETTLE_BATCHES, SETTLE_BATCH = 3, 2, 250


class Trainer:
    """Both networks with their optimisers, and the average that is drawn from."""

    def __init__(
        self, params: Train, size: int, channels: int, seed: int, device: torch.device
    ) -> None:
        self.device = device
        self.config = {
            "size": size, "channels": channels,
            "latent_dim": params.latent_dim, "width": params.width,
        }  # fmt: skip
        self.generator = Generator(**self.config)
        self.discriminator = Discriminator(size, channels, params.width)
        # Two streams, so that the latents don't repeat the numbers that made the weights.
        weights_seed, noise_seed = np.random.SeedSequence(seed).generate_state(2).tolist()
        weights = torch.Generator().manual_seed(weights_seed)
        for network in (self.generator, self.discriminator):
            initialise(network, weights)
            network.to(device).to(memory_format=torch.channels_last)
        self.generator_optimizer, self.discriminator_optimizer = (
            torch.optim.Adam(n.parameters(), params.lr, (params.beta1, 0.999), fused=True)
            for n in (self.generator, self.discriminator)
        )
        self.average = WeightAverage(self.generator, params.ema_half_life)
        self.noise = torch.Generator(device).manual_seed(noise_seed)
        self.bfloat16 = params.precision == "bfloat16"

    def step(self, images: Tensor) -> Tensor:
        """Train on one batch, uint8 (n, H, W, C); the two losses, still on the device: (2,)."""
        x = to_float(images)
        z = torch.randn(len(x), self.config["latent_dim"], generator=self.noise, device=self.device)

        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            fake = self.generator(z)
            real_logits, fake_logits = self.discriminator(x), self.discriminator(fake.detach())
        discriminator_loss = losses.discriminator_loss(real_logits, fake_logits)
        self.discriminator_optimizer.zero_grad()
        discriminator_loss.backward()
        self.discriminator_optimizer.step()

        self.discriminator.requires_grad_(False)  # only the gradient of its input is needed
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            fake_logits = self.discriminator(fake)
        generator_loss = losses.generator_loss(fake_logits)
        self.generator_optimizer.zero_grad()
        generator_loss.backward()
        self.generator_optimizer.step()
        self.discriminator.requires_grad_(True)

        self.average.update(self.generator, len(x))
        return torch.stack([discriminator_loss.detach(), generator_loss.detach()])

    def settled(self) -> nn.Module:
        """The averaged generator, ready to draw."""
        z = sampling.latents(SETTLE_BATCHES * SETTLE_BATCH, self.config["latent_dim"], SETTLE_SEED)
        return self.average.settle(z.to(self.device).split(SETTLE_BATCH))

    def _parts(self) -> dict[str, Any]:
        return {
            "generator": self.generator, "discriminator": self.discriminator,
            "average": self.average.network,
            "generator_optimizer": self.generator_optimizer,
            "discriminator_optimizer": self.discriminator_optimizer,
        }  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        states = {name: part.state_dict() for name, part in self._parts().items()}
        return {**states, "noise": self.noise.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.noise.set_state(state["noise"].cpu())

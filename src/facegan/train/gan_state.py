"""The training step, and the state that it updates."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from facegan.core.errors import FaceganError
from facegan.data.batches import to_float
from facegan.models import architectures, files
from facegan.params import Train
from facegan.runtime.distributed import SINGLE, Group
from facegan.train.augment import adapt, augment
from facegan.train.cuda_graphs import CudaGraphed
from facegan.train.ema import EMA
from facegan.train.losses import LOSSES, gradient_penalty
from facegan.train.rng import Rng

# Latents on which BatchNorm statistics are re-estimated.
CALIBRATION_SEED, CALIBRATION_BATCHES, CALIBRATION_BATCH = 3, 2, 250


class GANState:
    """Generator and discriminator with their optimizers, the EMA generator, and the RNG.

    Args:
        size: side of the images in pixels.
        channels: 1 (grey) or 3 (RGB).
        seed: of the initial weights, and of all random numbers of the steps.
        group: the processes that share each batch.
    """

    def __init__(
        self,
        params: Train,
        size: int,
        channels: int,
        seed: int,
        device: torch.device,
        group: Group = SINGLE,
    ) -> None:
        self.params, self.device, self.group, self.steps = params, device, group, 0
        self.seed = seed
        self.loss = LOSSES[params.loss]
        common: dict[str, Any] = {
            "architecture": params.architecture,
            "size": size, "channels": channels, "base_channels": params.base_channels,
        }  # fmt: skip
        self.generator_config = {**common, "latent_dim": params.latent_dim}
        self.discriminator_config = {**common, "spectral_norm": params.spectral_norm}
        # Two streams, so that latents do not repeat the numbers of the initial weights.
        weights_seed, noise_seed = np.random.SeedSequence(seed).generate_state(2).tolist()
        self.generator, self.discriminator = self._networks(common, weights_seed)
        betas = params.beta1, params.beta2
        self.generator_optimizer, self.discriminator_optimizer = (
            # The rate is a tensor, which a captured step reads again at each replay.
            torch.optim.Adam(
                network.parameters(), torch.tensor(lr, device=device), betas,
                fused=True, capturable=device.type == "cuda",
            )
            for network, lr in zip(
                (self.generator, self.discriminator), self._rates(), strict=True
            )
        )  # fmt: skip
        self.ema = EMA(self.generator, params.ema_half_life)
        is_adaptive = params.augment_target is not None
        # None: 1. On the device, because captured steps change it.
        self.augment_probability = torch.zeros((), device=device) if is_adaptive else None
        self.rng = Rng(noise_seed, device, group)
        self._build_steps()

    def _networks(self, common: dict[str, Any], seed: int) -> tuple[nn.Module, nn.Module]:
        rng = torch.Generator().manual_seed(seed)
        generator = architectures.build_generator(**self.generator_config)
        discriminator = architectures.build_discriminator(**common)
        for network in (generator, discriminator):
            architectures.initialise(self.params.architecture, network, rng)
        if self.params.spectral_norm:
            architectures.apply_spectral_norm(discriminator, seed)
        for network in (generator, discriminator):
            network.to(self.device).to(memory_format=torch.channels_last)
        return generator, discriminator

    def load_pretrained(self, folder: Path) -> None:
        """Initialise from `generator.safetensors` and `discriminator.safetensors` in `folder`.

        Raises:
            FaceganError: if one is missing, or its configuration differs from this training's.
        """
        for name, network, config in (
            ("generator", self.generator, self.generator_config),
            ("discriminator", self.discriminator, self.discriminator_config),
        ):
            path = folder / f"{name}.safetensors"
            state, found = files.load_network(path)
            differs = [
                f"{k} {found.get(k)}, not {v}" for k, v in config.items() if found.get(k) != v
            ]
            if not differs and state.keys() != network.state_dict().keys():
                differs = ["the layers are of another version of FaceGAN"]
            if differs:
                text = f"incompatible with this configuration: {'; '.join(differs)}"
                raise FaceganError(f"{path}: {text}")
            network.load_state_dict(state)
        self.ema.network.load_state_dict(self.generator.state_dict())

    def train_step(self, images: Tensor) -> Tensor:
        """Update both networks on a batch.

        Args:
            images: this process's part of the batch: uint8 (n, H, W, C) on the device.
        Returns:
            float32 (3,) on the device, averaged over all processes: the discriminator's loss, the
            generator's loss, and the discriminator's accuracy, the share of images, or of pairs,
            that it classifies correctly.
        """
        for optimizer, rate in zip(self._optimizers(), self._rates(), strict=True):
            for group in optimizer.param_groups:
                group["lr"].fill_(rate)
        interval = self.params.lazy_reg_interval
        penalised = self.steps % interval == 0 and max(self.params.r1, self.params.r2) > 0
        self.steps += 1
        return self.step_functions[penalised](images)

    def _optimizers(self) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
        return self.generator_optimizer, self.discriminator_optimizer

    def _rates(self) -> tuple[float, float]:
        """Learning rates of the generator and the discriminator at this step.

        Inverse square root decay (Karras et al. 2024, arXiv 2312.02696): lr /
        sqrt(max(t / t_ref, 1)), where t is images seen and t_ref is `lr_decay_from`.
        """
        seen, start = self.steps * self.params.batch_size, self.params.lr_decay_from
        factor = 1.0 if start is None else max(seen / start, 1) ** -0.5
        lr = self.params.lr
        return factor * lr, factor * (self.params.discriminator_lr or lr)

    def _build_steps(self) -> None:
        """Build the step functions; again after tensors have got new addresses."""
        self.step_functions: dict[bool, Callable[[Tensor], Tensor]] = {}
        for penalised in (False, True):
            step = partial(self._step, penalised)
            # One process only: collectives are not captured.
            if self.device.type == "cuda" and self.group.size == 1:
                self.step_functions[penalised] = CudaGraphed(step, self.rng.generator)
            else:
                self.step_functions[penalised] = step

    def _step(self, penalised: bool, images: Tensor) -> Tensor:
        real = to_float(self._flipped(images))
        z = self.rng.normal(len(real), self.params.latent_dim)
        with self._autocast():
            fake = self.generator(z).float()
        discriminator_loss, correct, real_logits = self._train_discriminator(
            real, fake.detach(), penalised
        )
        generator_loss = self._train_generator(real_logits, fake)
        self.ema.update(self.generator, self.params.batch_size)
        metrics = torch.stack([discriminator_loss, generator_loss, correct])
        self.group.all_reduce_mean([metrics])
        if self.augment_probability is not None and self.params.augment_target is not None:
            target, count = self.params.augment_target, self.params.batch_size
            adapt(self.augment_probability, metrics[2], target, count)
        return metrics

    def _train_discriminator(
        self, real: Tensor, fake: Tensor, penalised: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        batches = self._augmented(real), self._augmented(fake)
        weights = (self.params.r1, self.params.r2) if penalised else (0.0, 0.0)
        for images, weight in zip(batches, weights, strict=True):
            images.requires_grad_(weight > 0)
        real_logits, fake_logits = logits = [self._logits(images) for images in batches]
        loss = total = self.loss.discriminator(real_logits, fake_logits)
        for images, values, weight in zip(batches, logits, weights, strict=True):
            if weight > 0:
                half = self.params.lazy_reg_interval * weight / 2
                total = total + half * gradient_penalty(values, images)
        self._descend(self.discriminator_optimizer, total)
        if self.loss.paired:
            correct = real_logits > fake_logits
        else:
            correct = torch.cat([real_logits > 0, fake_logits < 0])
        return loss.detach(), correct.float().mean(), real_logits.detach()

    def _train_generator(self, real_logits: Tensor, fake: Tensor) -> Tensor:
        """`real_logits` are those before the discriminator's update: new ones would take a forward
        pass, 7% of the step, for constants that differ little."""
        self.discriminator.requires_grad_(False)  # only the gradient of its input is used
        loss = self.loss.generator(real_logits, self._logits(self._augmented(fake)))
        self._descend(self.generator_optimizer, loss)
        self.discriminator.requires_grad_(True)
        return loss.detach()

    def _descend(self, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        optimizer.zero_grad()
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        loss.backward(inputs=weights)  # not the images, whose gradient the penalty has
        self.group.all_reduce_mean([weight.grad for weight in weights if weight.grad is not None])
        optimizer.step()

    def _autocast(self) -> torch.autocast:
        enabled = self.params.dtype == "bfloat16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled)

    def _logits(self, images: Tensor) -> Tensor:
        with self._autocast():
            logits: Tensor = self.discriminator(images)
        return logits.float()

    def _flipped(self, images: Tensor) -> Tensor:
        if not self.params.hflip:
            return images
        chosen = self.rng.uniform(len(images), 1, 1, 1) < 0.5
        return torch.where(chosen, images.flip(2), images)

    def _augmented(self, images: Tensor) -> Tensor:
        return augment(images, self.params.augment, self.rng, self.augment_probability)

    def calibrated_ema(self) -> nn.Module:
        """A copy of the EMA generator in eval mode, with BatchNorm statistics re-estimated."""
        count = CALIBRATION_BATCHES * CALIBRATION_BATCH
        # Not the latents of seeds: those would change trained networks.
        z = Rng(CALIBRATION_SEED, torch.device("cpu")).normal(count, self.params.latent_dim)
        return self.ema.recalibrate_batchnorm(z.to(self.device).split(CALIBRATION_BATCH))

    def is_finite(self) -> bool:
        """Whether no weight is NaN or infinite. Synchronises with the device."""
        weights = (*self.generator.parameters(), *self.discriminator.parameters())
        return bool(torch.stack([weight.detach().sum() for weight in weights]).isfinite().all())

    def _parts(self) -> dict[str, Any]:
        return {
            "generator": self.generator, "discriminator": self.discriminator,
            "ema": self.ema.network,
            "generator_optimizer": self.generator_optimizer,
            "discriminator_optimizer": self.discriminator_optimizer,
        }  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        states = {name: part.state_dict() for name, part in self._parts().items()}
        own = {"rng": self.rng.generator.get_state(), "steps": self.steps}
        return {**states, **own, "augment_probability": self.augment_probability}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        for optimizer in self._optimizers():  # the checkpoint may be of another device type
            for group in optimizer.param_groups:
                group["capturable"] = self.device.type == "cuda"
        if self.augment_probability is not None:
            self.augment_probability.copy_(state["augment_probability"])
        self.steps = state["steps"]
        self.rng.restore(state["rng"], [self.seed, self.steps])
        self._build_steps()

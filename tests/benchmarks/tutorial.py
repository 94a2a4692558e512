"""PyTorch's DCGAN tutorial, the baseline of the training benchmarks."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from benchmarks.harness import serve, served

# More steps than the 4 batches that the loader prefetches while the other side is timed.
SIZE, BATCH, STEPS = 64, 64, 12


def tutorials(jpeg: Path) -> AbstractContextManager[Callable[[], None]]:
    """A function that runs STEPS steps of its loop, in a separate process."""
    return served(f"from benchmarks.tutorial import serve_loop; serve_loop({str(jpeg)!r})")


def serve_loop(jpeg: str) -> None:
    """float32, photographs decoded in every epoch, losses fetched at every step."""
    steps = [transforms.Resize(SIZE), transforms.CenterCrop(SIZE), transforms.ToTensor()]
    half = (0.5, 0.5, 0.5)
    images = datasets.ImageFolder(
        jpeg, transforms.Compose([*steps, transforms.Normalize(half, half)])
    )
    loader = DataLoader(images, BATCH, shuffle=True, num_workers=2, drop_last=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    generator, discriminator = (network.to(device) for network in _tutorial_networks())
    adam = partial(torch.optim.Adam, lr=0.0002, betas=(0.5, 0.999))
    optimizers = adam(generator.parameters()), adam(discriminator.parameters())
    batches = _forever(loader)

    def work() -> None:
        for _ in range(STEPS):
            _tutorial_step(next(batches).to(device), generator, discriminator, *optimizers)

    work()
    serve(work)


def _tutorial_networks() -> tuple[nn.Module, nn.Module]:
    """DCGAN of torch's layers, for latents (n, 100, 1, 1) and 64-pixel images."""
    up, down = partial(nn.ConvTranspose2d, bias=False), partial(nn.Conv2d, bias=False)
    generator = [up(100, 512, 4), nn.BatchNorm2d(512), nn.ReLU(True)]
    discriminator = [down(3, 64, 4, 2, 1), nn.LeakyReLU(0.2, True)]
    for width in (64, 128, 256):
        discriminator += [down(width, 2 * width, 4, 2, 1), nn.BatchNorm2d(2 * width)]
        discriminator += [nn.LeakyReLU(0.2, True)]
    for width in (512, 256, 128):
        generator += [up(width, width // 2, 4, 2, 1), nn.BatchNorm2d(width // 2), nn.ReLU(True)]
    last = [down(512, 1, 4), nn.Flatten(0)]
    networks = [*generator, up(64, 3, 4, 2, 1), nn.Tanh()], [*discriminator, *last]
    return nn.Sequential(*networks[0]), nn.Sequential(*networks[1])


def _forever(loader: DataLoader[tuple[Tensor, Tensor]]) -> Iterator[Tensor]:
    while True:
        for images, _ in loader:
            yield images


def _tutorial_step(
    real: Tensor,
    generator: nn.Module,
    discriminator: nn.Module,
    generator_optimizer: torch.optim.Optimizer,
    discriminator_optimizer: torch.optim.Optimizer,
) -> list[float]:
    ones, zeros = torch.ones(len(real)), torch.zeros(len(real))
    metrics = []
    discriminator_optimizer.zero_grad()
    logits = discriminator(real)
    loss = binary_cross_entropy_with_logits(logits, ones.to(real.device))
    loss.backward()
    metrics += [loss.item(), logits.sigmoid().mean().item()]
    fake = generator(torch.randn(len(real), 100, 1, 1, device=real.device))
    logits = discriminator(fake.detach())
    loss = binary_cross_entropy_with_logits(logits, zeros.to(real.device))
    loss.backward()
    metrics += [loss.item(), logits.sigmoid().mean().item()]
    discriminator_optimizer.step()
    generator_optimizer.zero_grad()
    logits = discriminator(fake)
    loss = binary_cross_entropy_with_logits(logits, ones.to(real.device))
    loss.backward()
    metrics += [loss.item(), logits.sigmoid().mean().item()]
    generator_optimizer.step()
    return metrics

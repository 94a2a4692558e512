"""Losses of 20 seeded steps, stored per architecture: a refactoring proves that it changes none.

In float64: processors round differently, each step amplifies that, and in float32 it reached 0.5%
after three steps.

`python tests/train/test_losses_of_20_steps.py` stores them again, after a change on purpose.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import Tensor

from conftest import make_params
from facegan.data.batches import Batches
from facegan.models.architectures import ARCHITECTURES
from facegan.train.gan_state import GANState
from facegan.train.losses import LOSSES
from samples import digits

STORED = Path(__file__).with_name("losses_of_20_steps.json")
STEPS = 20
# One configuration for each architecture and loss; every option is in one of them.
CONFIGS: dict[str, dict[str, Any]] = {
    "dcgan": {
        "architecture": "dcgan", "loss": "bce", "lr": 0.0001, "spectral_norm": True, "beta1": 0.5,
        "hflip": True, "r1": 0.0,
    },
    "residual": {
        "architecture": "residual", "loss": "hinge",
        "discriminator_lr": 0.002, "lr_decay_from": 100,
        "augment": ["brightness", "translation", "cutout"],
    },
    "resnet": {
        "architecture": "resnet", "loss": "relativistic", "lr": 0.0001, "r1": 0.5, "r2": 0.2,
        "lazy_reg_interval": 4,
    },
    "deep-resnet": {"architecture": "deep-resnet", "loss": "relativistic", "lr": 0.0001},
    "modulated-resnet": {
        "architecture": "modulated-resnet", "loss": "relativistic", "lr": 0.0001, "r1": 0.1,
    },
    "stylegan2": {
        "architecture": "stylegan2", "loss": "bce", "lr": 0.0001, "r1": 0.5,
        "augment": ["affine"], "augment_target": 0.6,
    },
}  # fmt: skip


def losses(name: str) -> list[list[float]]:
    """Of each step: the discriminator's and the generator's loss, and the accuracy."""
    images = torch.from_numpy(digits()[0][::10, :, :, None])
    batches = Batches(torch.nn.functional.pad(images, (0, 0, 2, 2, 2, 2)), 20, 0)
    with double_precision():
        gan = GANState(make_params(train=CONFIGS[name]).train, 32, 1, 0, torch.device("cpu"))
        return [gan.train_step(next(batches)).tolist() for _ in range(STEPS)]


@contextmanager
def double_precision() -> Iterator[None]:
    """float64 wherever the code says float32."""
    torch.set_default_dtype(torch.float64)
    try:
        with patch.object(Tensor, "float", Tensor.double):
            yield
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("name", CONFIGS)
def test_20_steps_have_the_stored_losses(name: str) -> None:
    stored = json.loads(STORED.read_text("utf-8"))[name]
    np.testing.assert_allclose(losses(name), stored, rtol=1e-7)


def test_every_architecture_and_loss_has_stored_losses() -> None:
    assert {config["architecture"] for config in CONFIGS.values()} == ARCHITECTURES.keys()
    assert {config["loss"] for config in CONFIGS.values()} == LOSSES.keys()


if __name__ == "__main__":
    torch.set_num_threads(1)
    rounded = {
        name: [[round(value, 9) for value in step] for step in losses(name)] for name in CONFIGS
    }
    STORED.write_text(json.dumps(rounded, indent=1) + "\n", "utf-8")

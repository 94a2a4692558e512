"""The training step."""

import copy
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from facegan.core.errors import FaceganError
from facegan.data.batches import Batches
from facegan.data.dataset import load_images
from facegan.models.files import save_network
from facegan.models.sampling import generate, latents
from facegan.params import Params
from facegan.runtime.distributed import Group
from facegan.train.augment import ADAPTATION
from facegan.train.cuda_graphs import CudaGraphed
from facegan.train.gan_state import GANState
from facegan.train.losses import gradient_penalty
from float64 import NoFloat64

MakeParams = Callable[..., Params]
CPU = torch.device("cpu")
CONFIGS: list[dict[str, Any]] = [
    {},
    {"dtype": "bfloat16", "lr_decay_from": 20},
    {"loss": "hinge", "spectral_norm": True, "discriminator_lr": 0.001},
    {"architecture": "residual", "loss": "relativistic", "r1": 1.0, "r2": 1.0},
    {"architecture": "residual", "loss": "bce", "r1": 0.5, "lazy_reg_interval": 2},
    {"architecture": "resnet", "loss": "relativistic", "r1": 0.1, "beta1": 0.0},
    {"hflip": True, "augment": ["brightness", "saturation", "contrast", "translation", "cutout"]},
    {"architecture": "stylegan2", "r1": 0.1, "augment": ["affine"], "augment_target": 0.8},
    {"architecture": "deep-resnet", "loss": "relativistic", "dtype": "bfloat16"},
    {"architecture": "resnet", "loss": "relativistic", "dtype": "bfloat16"},
]


@pytest.fixture
def batch(dataset: Path) -> Tensor:
    return next(Batches(load_images(dataset), 20, 0))


@pytest.fixture
def gan(params: MakeParams) -> Callable[..., GANState]:
    def make(seed: int = 0, **train: Any) -> GANState:
        return GANState(params(train=train).train, 32, 1, seed, CPU)

    return make


def weights(gan: GANState) -> list[Tensor]:
    networks = (gan.generator, gan.discriminator, gan.ema.network)
    return [p.detach().clone() for network in networks for p in network.parameters()]


@pytest.mark.parametrize("options", CONFIGS, ids=lambda options: "-".join(options))
def test_a_step_updates_both_networks_and_the_ema(
    options: dict[str, Any], gan: Callable[..., GANState], batch: Tensor
) -> None:
    one = gan(**options)
    before = weights(one)
    for _ in range(3):  # a residual block's first convolution has no gradient at first
        metrics = one.train_step(batch)
    assert metrics.shape == (3,) and metrics.isfinite().all()
    assert not metrics.requires_grad
    assert 0 <= metrics[2] <= 1
    unchanged = [torch.equal(new, old) for new, old in zip(weights(one), before, strict=True)]
    # The bias of the logits cancels out in a paired loss.
    assert sum(unchanged) == one.loss.paired
    assert one.is_finite()


@pytest.mark.parametrize("options", CONFIGS, ids=lambda options: "-".join(options))
def test_a_device_without_float64_can_take_steps_and_generate(
    options: dict[str, Any], gan: Callable[..., GANState], batch: Tensor
) -> None:
    one = gan(**options)
    with NoFloat64():
        for _ in range(2):
            assert one.train_step(batch).dtype == torch.float32
        assert one.is_finite()
        (images,) = generate(one.calibrated_ema(), latents(3, one.params.latent_dim, seed=0))
    assert images.dtype == torch.uint8


@pytest.mark.parametrize("options", CONFIGS, ids=lambda options: "-".join(options))
def test_a_restored_state_continues_exactly(
    options: dict[str, Any], gan: Callable[..., GANState], batch: Tensor
) -> None:
    one, other = gan(**options), gan(seed=1, **options)
    for _ in range(3):
        one.train_step(batch)
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    assert torch.equal(one.train_step(batch), other.train_step(batch))
    assert all(map(torch.equal, weights(one), weights(other)))


def test_the_probability_of_augmentation_follows_the_accuracy_and_is_restored(
    gan: Callable[..., GANState], batch: Tensor
) -> None:
    options = {"augment": ["affine"], "augment_target": 0.51, "lr": 0.01}
    one, other = gan(**options), gan(**options)
    expected = 0.0
    for _ in range(20):
        accuracy = float(one.train_step(batch)[2])
        expected += math.copysign(len(batch) / ADAPTATION, accuracy - 0.51)
        expected = max(expected, 0.0)
    assert expected > 0
    assert one.augment_probability is not None
    assert float(one.augment_probability) == pytest.approx(expected, rel=1e-4)
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    assert other.augment_probability == one.augment_probability


def test_images_are_augmented_with_the_probability_which_is_0_at_first(
    gan: Callable[..., GANState],
) -> None:
    one, images = gan(augment=["brightness"], augment_target=0.8), torch.zeros(9, 1, 32, 32)
    assert torch.equal(one._augmented(images), images)
    assert one.augment_probability is not None
    one.augment_probability.fill_(1)
    assert (one._augmented(images) != images).all()


def test_a_cpu_has_fused_optimizers_channels_last_weights_and_this_processs_numbers(
    params: MakeParams,
) -> None:
    group = Group(1, 2)
    one = GANState(params().train, 32, 1, 0, CPU, group)
    assert one.rng.group == group and one.augment_probability is None
    for optimizer in one._optimizers():
        for options in optimizer.param_groups:
            assert options["fused"] is True and options["capturable"] is False
    for network in (one.generator, one.discriminator):
        kernels = [weight for weight in network.parameters() if weight.ndim == 4]
        assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_convolutions_are_computed_in_the_given_dtype(
    dtype: torch.dtype, gan: Callable[..., GANState], batch: Tensor
) -> None:
    one, found = gan(dtype=str(dtype).removeprefix("torch.")), set[torch.dtype]()
    for module in (*one.generator.modules(), *one.discriminator.modules()):
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.register_forward_hook(lambda _, inputs, output: found.add(output.dtype))
    one.train_step(batch)
    assert found == {dtype}


def rates(gan: GANState) -> list[float]:
    optimizers = (gan.generator_optimizer, gan.discriminator_optimizer)
    return [optimizer.param_groups[0]["lr"].item() for optimizer in optimizers]


def test_each_network_has_its_own_learning_rate(
    gan: Callable[..., GANState], batch: Tensor
) -> None:
    for given, expected in ((None, 0.001), (0.002, 0.002)):
        one = gan(lr=0.001, discriminator_lr=given)
        for _ in range(3):
            assert rates(one) == pytest.approx([0.001, expected])
            one.train_step(batch)


def test_learning_rates_decay_with_the_square_root_of_images_seen(
    gan: Callable[..., GANState], batch: Tensor
) -> None:
    one = gan(lr=0.001, discriminator_lr=0.002, batch_size=20, lr_decay_from=40)
    found = []
    for _ in range(9):
        one.train_step(batch)  # the last one starts at 160 images seen
        found.append(rates(one))
    factors = [1, 1, 1, 1.5**-0.5, 2**-0.5, 2.5**-0.5, 3**-0.5, 3.5**-0.5, 0.5]
    assert found == [pytest.approx([0.001 * f, 0.002 * f]) for f in factors]


def test_a_lower_learning_rate_moves_the_weights_less(
    gan: Callable[..., GANState], batch: Tensor
) -> None:
    def moved(**options: Any) -> float:
        one = gan(batch_size=20, **options)
        for _ in range(10):
            one.train_step(batch)
        before = weights(one)
        one.train_step(batch)
        return max(
            (new - old).abs().max().item() for new, old in zip(weights(one), before, strict=True)
        )

    # Adam's updates are proportional to the learning rate.
    assert moved(lr_decay_from=2) == pytest.approx(moved() / 10, rel=0.5)


def test_penalties_are_computed_every_lazy_reg_interval_steps(
    gan: Callable[..., GANState], batch: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[float] = []

    def penalty(logits: Tensor, images: Tensor) -> Tensor:
        value = gradient_penalty(logits, images)
        taken.append(value.item())
        return value

    monkeypatch.setattr("facegan.train.gan_state.gradient_penalty", penalty)
    one = gan(r1=1.0, r2=1.0, lazy_reg_interval=3)
    for _ in range(7):
        one.train_step(batch)
    assert len(taken) == 6  # at steps 0, 3 and 6, for real and for generated images
    gan(r1=1.0, r2=0.0).train_step(batch)
    assert len(taken) == 7
    assert all(value > 0 for value in taken)


def test_a_penalty_counts_for_all_steps_of_its_interval(
    gan: Callable[..., GANState], batch: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    penalties, descended, descend = iter([3.0, 5.0]), list[float](), GANState._descend

    def recorded(self: GANState, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        descended.append(loss.item())
        descend(self, optimizer, loss)

    monkeypatch.setattr(
        "facegan.train.gan_state.gradient_penalty",
        lambda logits, images: 0 * logits.sum() + next(penalties),
    )
    monkeypatch.setattr(GANState, "_descend", recorded)
    loss = gan(r1=0.5, r2=2.0, lazy_reg_interval=4).train_step(batch)[0].item()
    assert descended[0] - loss == pytest.approx(4 * (0.5 / 2 * 3 + 2 / 2 * 5), rel=1e-5)


def test_penalties_reduce_the_discriminators_gradient(
    gan: Callable[..., GANState], batch: Tensor
) -> None:
    def gradient_norm(**options: Any) -> float:
        one = gan(architecture="residual", loss="relativistic", lr=0.002, **options)
        for _ in range(30):
            one.train_step(batch)
        images = batch.permute(0, 3, 1, 2).float().div(127.5).sub(1).requires_grad_(True)
        return gradient_penalty(one.discriminator(images), images).item()

    assert gradient_norm(r1=10.0, r2=10.0, lazy_reg_interval=1) < 0.5 * gradient_norm()


@pytest.mark.parametrize("loss", ["bce", "relativistic"])
def test_the_accuracy_is_the_share_of_images_or_pairs_on_the_right_side(
    loss: str, gan: Callable[..., GANState], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, images = gan(loss=loss), torch.zeros(4, 1, 32, 32)
    logits = iter(torch.tensor([[0.5, -1.0, 0.0, 2.0], [-0.5, 0.5, 0.0, -2.0]]))
    weight = next(one.discriminator.parameters())
    monkeypatch.setattr(one, "_logits", lambda _: next(logits) + 0 * weight.sum())
    assert one._train_discriminator(images, images, penalised=False)[1] == 0.5


def test_a_checkpoint_keeps_its_names_so_that_older_ones_load(
    gan: Callable[..., GANState],
) -> None:
    assert gan().state_dict().keys() == {
        "generator", "discriminator", "ema", "generator_optimizer", "discriminator_optimizer",
        "rng", "steps", "augment_probability",
    }  # fmt: skip


def test_hflip_flips_some_images(gan: Callable[..., GANState], batch: Tensor) -> None:
    flipped = gan(hflip=True)._flipped(batch)
    turned = [torch.equal(new, old.flip(1)) for new, old in zip(flipped, batch, strict=True)]
    kept = [torch.equal(new, old) for new, old in zip(flipped, batch, strict=True)]
    assert all(a or b for a, b in zip(turned, kept, strict=True))
    assert any(turned) and any(kept)


def save_networks(one: GANState, folder: Path) -> None:
    for name in ("generator", "discriminator"):
        state, config = getattr(one, name).state_dict(), getattr(one, f"{name}_config")
        save_network(state, config, folder / f"{name}.safetensors")


def test_pretrained_networks_are_loaded_and_the_ema_starts_from_them(
    gan: Callable[..., GANState], tmp_path: Path
) -> None:
    one, other = gan(seed=0), gan(seed=1)
    save_networks(one, tmp_path)
    other.load_pretrained(tmp_path)
    assert all(map(torch.equal, weights(one), weights(other)))


@pytest.mark.parametrize(
    ("options", "name", "difference"),
    [
        (
            {"base_channels": 16, "latent_dim": 7}, "generator",
            "base_channels 8, not 16; latent_dim 100, not 7",
        ),
        ({"spectral_norm": True}, "discriminator", "spectral_norm False, not True"),
    ],
)  # fmt: skip
def test_pretrained_networks_of_another_configuration_are_refused_with_both_values(
    options: dict[str, Any],
    name: str,
    difference: str,
    gan: Callable[..., GANState],
    tmp_path: Path,
) -> None:
    save_networks(gan(), tmp_path)
    text = f"{tmp_path}/{name}.safetensors: incompatible with this configuration: {difference}"
    with pytest.raises(FaceganError, match=f"^{text}$"):
        gan(**options).load_pretrained(tmp_path)


def test_pretrained_networks_with_other_layers_are_refused(
    gan: Callable[..., GANState], tmp_path: Path
) -> None:
    one = gan()
    save_networks(one, tmp_path)
    state = one.discriminator.state_dict()
    state["new"] = state.popitem()[1]
    save_network(state, one.discriminator_config, tmp_path / "discriminator.safetensors")
    text = "incompatible with this configuration: the layers are of another version of FaceGAN"
    with pytest.raises(FaceganError, match=f"^{tmp_path}/discriminator.safetensors: {text}$"):
        gan().load_pretrained(tmp_path)


def test_a_nan_weight_is_not_finite(gan: Callable[..., GANState], batch: Tensor) -> None:
    for network in ("generator", "discriminator"):
        one = gan()
        parameter = next(getattr(one, network).parameters())
        with torch.no_grad():
            parameter.select(0, 0).fill_(float("nan"))
        assert not one.is_finite()


def test_a_reseeded_rng_draws_other_latents(gan: Callable[..., GANState], batch: Tensor) -> None:
    one, other, same = gan(), gan(), gan()
    other.rng.reseed([0, 0, 1])
    same.rng.reseed([0, 0, 1])
    assert not torch.equal(one.train_step(batch), other.train_step(batch))
    third = gan()
    third.rng.reseed([0, 0, 1])
    assert torch.equal(same.train_step(batch), third.train_step(batch))


@pytest.mark.parametrize("options", CONFIGS, ids=lambda options: "-".join(options))
def test_captured_steps_compute_what_eager_ones_do(
    options: dict[str, Any], params: MakeParams, batch: Tensor, gpu: torch.device
) -> None:
    # Low rates: cuDNN's sums have no fixed order, and a training amplifies differences.
    low_rates = {"lr": 1e-5, "discriminator_lr": 1e-5, "lazy_reg_interval": 2}
    settings = params(train={**options, **low_rates}).train
    captured, eager = (GANState(settings, 32, 1, 0, gpu) for _ in range(2))
    eager.step_functions = {flag: partial(eager._step, flag) for flag in (False, True)}
    before, images = weights(captured), batch.to(gpu)
    for _ in range(20):
        metrics = captured.train_step(images), eager.train_step(images)
    assert all(isinstance(step, CudaGraphed) for step in captured.step_functions.values())
    torch.testing.assert_close(*metrics, rtol=0.05, atol=0.05)
    moved = [
        torch.stack([(new - old).norm() for new, old in zip(weights(one), before, strict=True)])
        for one in (captured, eager)
    ]
    torch.testing.assert_close(*moved, rtol=0.1, atol=1e-6)


def test_a_state_on_a_gpu_is_restored(params: MakeParams, batch: Tensor, gpu: torch.device) -> None:
    settings = params(train={"architecture": "residual", "r1": 0.1}).train
    one, other = GANState(settings, 32, 1, 0, gpu), GANState(settings, 32, 1, 1, gpu)
    images = batch.to(gpu)
    for _ in range(20):
        one.train_step(images)
        other.train_step(images)  # captured, and captured again after the restore
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    for _ in range(10):
        torch.testing.assert_close(
            one.train_step(images), other.train_step(images), rtol=1e-3, atol=1e-3
        )


def test_a_step_does_not_synchronise_with_the_gpu(
    dataset: Path, params: MakeParams, gpu: torch.device
) -> None:
    augmented = ["brightness", "saturation", "contrast", "translation", "cutout"]
    settings = params(train={"hflip": True, "augment": augmented, "r1": 0.1}).train
    one = GANState(settings, 32, 1, 0, gpu)
    batches = Batches(load_images(dataset).to(gpu), settings.batch_size, 0, gpu)
    for _ in range(20):  # the capture synchronises
        one.train_step(next(batches))
    with pytest.warns(UserWarning, match="prototype"):
        torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(5):  # within an epoch
            one.train_step(next(batches))
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_checkpoint_of_another_device_type_goes_on(
    gan: Callable[..., GANState], batch: Tensor
) -> None:
    """As CUDA leaves it: a generator's state of 16 bytes, and optimizers that can be captured."""
    one = gan()
    one.train_step(batch)
    state = one.state_dict()
    state["rng"] = torch.zeros(16, dtype=torch.uint8)
    for name in ("generator_optimizer", "discriminator_optimizer"):
        for group in state[name]["param_groups"]:
            group["capturable"] = True
    first, second = gan(), gan()
    for other in (first, second):
        other.load_state_dict(copy.deepcopy(state))
        assert not any(g["capturable"] for o in other._optimizers() for g in o.param_groups)
        other.train_step(batch)
    assert all(map(torch.equal, weights(first), weights(second)))
    assert not all(map(torch.equal, weights(first), weights(one)))

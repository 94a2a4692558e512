"""Packed images -> the generator with the best quick FID of a training."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from facegan.core import atomic, digests, events, history
from facegan.core.errors import FaceganError, Interrupted
from facegan.data import dataset
from facegan.data.batches import Batches, to_device_if_fits
from facegan.features import frechet
from facegan.models import sizes
from facegan.params import Train
from facegan.runtime import autocast, distributed
from facegan.runtime.distributed import Command, Group
from facegan.train import gan_state, monitor, run_folder, signals, trainer

PACKAGE = Path(__file__).parents[1]
# The folders whose code a training depends on; those of its stage in dvc.yaml.
WINGS = ("core", "data", "features", "models", "runtime", "train")


def train(
    data: Path,
    quick: Path,
    out: Path,
    params: Train,
    seed: int,
    device: torch.device,
    checkpoints: Path,
    on_event: events.OnEvent = events.silent,
    resume: Path | None = None,
    init: Path | None = None,
) -> None:
    """Train on the preprocessed folder `data` and write the best generator to the folder `out`.

    An unfinished training of the same fingerprint goes on from its last checkpoint, and so does a
    finished one that now has more epochs to go; the bytes of `out` are the same as without the
    break. SIGINT and SIGTERM take a checkpoint first. Processes that `torchrun` started share each
    batch.

    Args:
        checkpoints: where each training has a folder.
        resume: the folder of the training that has to be gone on with.
        init: the folder of a generator and a discriminator to begin with.
    Raises:
        FaceganError: if an input is unusable, the networks can't have this size, `resume` is of
            another training, the weights became no numbers too often, memory is short, or a signal
            asked for the end.
    """
    atomic.refuse_foreign(out, history.NAME)
    images, statistics = _load(data, quick)
    size, channels = images.shape[2:]
    with distributed.process_group(device) as group, _memory_is_short():
        listener = on_event if group.rank == 0 else events.silent
        possible = autocast.effective_dtype(params.dtype, device, listener)
        params = params.model_copy(update={"dtype": possible})
        identity = _identity(data, quick, init, seed, params, device, group)
        group.agree(digests.fingerprint(identity))
        placed = to_device_if_fits(images, device)
        batches = Batches(placed, params.batch_size, seed, device, group=group)
        gan = gan_state.GANState(params, size, channels, seed, device, group)
        if init is not None:
            gan.load_pretrained(init)
        if group.rank > 0:
            _follow(group, gan, batches)
            return
        folder = run_folder.RunFolder(checkpoints, identity, resume)
        quality = monitor.Monitor(
            statistics, images, params.latent_dim, params.quick_num_samples, device
        )
        run = trainer.Trainer(folder, gan, batches, quality, params, on_event)
        _lead(group, run)
        run.export(out)


def _load(data: Path, quick: Path) -> tuple[Tensor, frechet.Statistics]:
    images = dataset.load_images(data)
    statistics = frechet.Statistics.load(quick)
    size, _, channels = shape = tuple(images.shape[1:])
    if size not in sizes.SIZES or shape != (size, size, channels):
        valid = ", ".join(map(str, sizes.SIZES))
        raise FaceganError(f"{data}: images of {shape}; train makes squares of {valid} pixels")
    if list(shape) != statistics.metadata["shape"]:
        raise FaceganError(f"{quick}: of images {statistics.metadata['shape']}, not {list(shape)}")
    return images, statistics


def _identity(
    data: Path,
    quick: Path,
    init: Path | None,
    seed: int,
    params: Train,
    device: torch.device,
    group: Group,
) -> dict[str, Any]:
    """All that the bytes of a training depend on."""
    return {
        "data": dataset.data_sha256(data),
        "quick": digests.file_sha256(quick),
        "init_from": init and _hashes(init),
        "seed": seed,
        "params": params.model_dump(exclude={*trainer.STOPPING_PARAMS, "init_from"}),
        "code": digests.code_sha256(PACKAGE / wing for wing in WINGS),
        "torch": torch.__version__,
        "device": device.type,
        "threads": torch.get_num_threads(),
        "processes": group.size,
    }


def _hashes(folder: Path) -> dict[str, str]:
    names = ("generator", "discriminator")
    return {name: digests.file_sha256(folder / f"{name}.safetensors") for name in names}


def _lead(group: Group, run: trainer.Trainer) -> None:
    try:
        run.resume()
        run.run()
    except Interrupted:
        group.lead(Command.END)
        raise
    group.lead(Command.END)


def _follow(group: Group, gan: gan_state.GANState, batches: Batches) -> None:
    """Do as process 0 says, to the end; what it does with a signal holds for all."""
    with signals.stop_signals():
        while (message := group.follow(gan.device))[0] != Command.END:
            command, state = message
            if command == Command.LOAD:
                gan.load_state_dict(state["trainer"])
                batches.seen = state["images_seen"]
            else:
                gan.train_step(next(batches))


@contextmanager
def _memory_is_short() -> Iterator[None]:
    """Turn what PyTorch raises for want of memory into one line."""
    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError is one; others have no name
        named = any(words in str(error) for words in ("you tried to allocate", "out of memory"))
        if not (named or isinstance(error, torch.OutOfMemoryError)):
            raise
        reason = str(error).splitlines()[0]
        raise FaceganError(
            f"out of memory ({reason}); lower train.batch_size or train.base_channels"
        ) from None

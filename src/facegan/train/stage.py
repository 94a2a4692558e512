"""Packed images -> the generator with the best quick FID of a training."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from facegan.core import atomic, digests, events, history
from facegan.core.errors import FaceganError, Stopped
from facegan.data import dataset
from facegan.data.batches import Batches, place
from facegan.features import frechet
from facegan.models import sizes
from facegan.params import Train
from facegan.runtime import autocast, distributed
from facegan.runtime.distributed import Command, Group
from facegan.train import loop, monitor, run_folder, signals, trainer

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
    with distributed.joined(device) as group, _memory_is_short():
        listener = on_event if group.rank == 0 else events.silent
        possible = autocast.possible_precision(params.precision, device, listener)
        params = params.model_copy(update={"precision": possible})
        identity = {
            "data": dataset.data_sha256(data),
            "quick": digests.file_sha256(quick),
            "init_from": init and _hashes(init),
            "seed": seed,
            **_circumstances(params, device, group),
        }
        group.agree(digests.fingerprint(identity))
        placed = place(images, device)
        batches = Batches(placed, params.batch_size, seed, device, group=group)
        networks = trainer.Trainer(params, size, channels, seed, device, group)
        if init is not None:
            networks.begin_with(init)
        if group.rank > 0:
            _follow(group, networks, batches)
            return
        training = run_folder.Training(checkpoints, identity, resume)
        viewer = monitor.Judge(statistics, images, params.latent_dim, params.quick_fakes, device)
        run = loop.Loop(training, networks, batches, viewer, params, on_event)
        _lead(group, run)
        run.publish(out)


def _load(data: Path, quick: Path) -> tuple[Tensor, frechet.Statistics]:
    images = dataset.load_images(data)
    statistics = frechet.Statistics.load(quick)
    size, _, channels = shape = tuple(images.shape[1:])
    if size not in sizes.SIZES or shape != (size, size, channels):
        valid = ", ".join(map(str, sizes.SIZES))
        raise FaceganError(f"{data}: images of {shape}; train makes squares of {valid} pixels")
    if list(shape) != statistics.about["shape"]:
        raise FaceganError(f"{quick}: of images {statistics.about['shape']}, not {list(shape)}")
    return images, statistics


def _circumstances(params: Train, device: torch.device, group: Group) -> dict[str, Any]:
    """What the bytes depend on besides data and seed."""
    return {
        "params": params.model_dump(exclude={*loop.LENGTH, "init_from"}),
        "code": digests.code_sha256(PACKAGE / wing for wing in WINGS),
        "torch": torch.__version__,
        "device": device.type,
        "threads": torch.get_num_threads(),
        "processes": group.size,
    }


def _hashes(folder: Path) -> dict[str, str]:
    names = ("generator", "discriminator")
    return {name: digests.file_sha256(folder / f"{name}.safetensors") for name in names}


def _lead(group: Group, run: loop.Loop) -> None:
    try:
        run.resume()
        run.go()
    except Stopped:
        group.lead(Command.END)
        raise
    group.lead(Command.END)


def _follow(group: Group, networks: trainer.Trainer, batches: Batches) -> None:
    """Do as process 0 says, to the end; what it does with a signal holds for all."""
    with signals.stop_signals():
        while (message := group.follow(networks.device))[0] != Command.END:
            command, state = message
            if command == Command.LOAD:
                networks.load_state_dict(state["trainer"])
                batches.seen = state["images_seen"]
            else:
                networks.step(next(batches))


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
            f"out of memory ({reason}); lower train.batch_size or train.width"
        ) from None

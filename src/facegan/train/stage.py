"""Packed images -> the generator with the best quick FID."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
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
from facegan.runtime.distributed import Group
from facegan.train import gan_state, monitor, retention, run_folder, trainer

PACKAGE = Path(__file__).parents[1]
# Folders with the code that a training depends on, as in the deps of its stage in dvc.yaml.
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
    budget: int = retention.BUDGET,
    finish: bool = False,
) -> None:
    """Train on the preprocessed folder `data` and write the best generator to the folder `out`.

    An unfinished training of the same fingerprint resumes from its last checkpoint, and so does a
    finished one that now has more epochs. On a CPU, `out` is byte-identical to that of an
    uninterrupted training. On SIGINT and SIGTERM, a checkpoint is written first. Processes that
    `torchrun` started share each batch.

    Args:
        data: folder that `preprocess` wrote.
        quick: quick statistics that `reference` wrote.
        checkpoints: folder with one folder per training.
        resume: the training's folder that must be resumed.
        init: folder of a generator and a discriminator to start from.
        budget: bytes that finished trainings may keep in `checkpoints`.
        finish: end an unfinished training here, with its best generator so far. Without it, the
            training then still resumes exactly.
    Raises:
        FaceganError: if an input is unusable, the networks do not support the image size, the
            training is running already, `resume` is another training's, the weights became NaN or
            infinite too often, or memory is exhausted.
        Interrupted: on SIGINT and SIGTERM.
    """
    atomic.refuse_foreign(out, history.NAME)
    images, statistics = _load(data, quick)
    size, channels = images.shape[2:]
    with distributed.process_group(device) as group, _translate_out_of_memory():
        on_event = on_event if group.is_main else events.silent
        dtype = autocast.effective_dtype(params.dtype, device, on_event)
        params = params.model_copy(update={"dtype": dtype})
        identity = _identity(data, quick, init, seed, params, device, group)
        group.require_same(digests.fingerprint(identity))
        on_device = to_device_if_fits(images, device)
        batches = Batches(on_device, params.batch_size, seed, device, group=group)
        gan = gan_state.GANState(params, size, channels, seed, device, group)
        if init is not None:
            gan.load_pretrained(init)
        # Other machines do not have the folder to resume.
        folder = run_folder.RunFolder(checkpoints, identity, resume if group.is_main else None)
        if group.is_main:
            total = params.epochs * batches.steps_per_epoch * params.batch_size
            folder = _keep_longer(folder, total, params.epochs, on_event)
        scorer = monitor.Monitor(
            statistics, images, params.latent_dim, params.quick_num_samples, device, group
        )
        with _owned(folder, checkpoints, budget, on_event) if group.is_main else nullcontext():
            _run(trainer.Trainer(folder, gan, batches, scorer, params, on_event), out, finish)


def _load(data: Path, quick: Path) -> tuple[Tensor, frechet.Statistics]:
    images = dataset.load_images(data)
    statistics = frechet.Statistics.load(quick)
    size, _, channels = shape = tuple(images.shape[1:])
    if size not in sizes.SIZES or shape != (size, size, channels):
        valid = ", ".join(map(str, sizes.SIZES))
        raise FaceganError(f"{data}: images of shape {shape}; valid: squares of {valid} pixels")
    if list(shape) != statistics.metadata["shape"]:
        computed_for = statistics.metadata["shape"]
        raise FaceganError(
            f"{quick}: computed for images of shape {computed_for}; the dataset has {list(shape)}"
        )
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
    """All that the output of a training depends on."""
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


def _keep_longer(
    folder: run_folder.RunFolder, total: int, epochs: int, on_event: events.OnEvent
) -> run_folder.RunFolder:
    """Another folder for a run that is shorter than the training in `folder`.

    Raises:
        FaceganError: if `folder` must be resumed.
    """
    seen = run_folder.images_seen(folder.folder)
    if seen <= total:
        return folder
    text = f"{folder.folder}: has seen {seen:,} images, more than the {total:,} of train.epochs: "
    if folder.must_resume:
        raise FaceganError(f"{text}{epochs}; raise train.epochs to resume it")
    shorter = folder.for_epochs(epochs)
    on_event(events.Message(f"{text}{epochs}; it is kept, this run uses {shorter.folder}"))
    return shorter


@contextmanager
def _owned(
    folder: run_folder.RunFolder, checkpoints: Path, budget: int, on_event: events.OnEvent
) -> Iterator[None]:
    """Lock the folder, and then delete finished trainings past the budget."""
    with retention.lock(folder.folder):
        for run in retention.remove_finished(checkpoints, budget):
            text = f"deleted, finished trainings exceed {budget / 1e9:g} GB"
            on_event(events.Message(f"{run.folder}: {text}"))
        yield


def _run(run: trainer.Trainer, out: Path, finish: bool) -> None:
    try:
        run.run(finish)
        if run.group.is_main:
            run.export(out)
    except (Interrupted, KeyboardInterrupt) as error:
        if not run.group.is_main:
            return  # one message is enough, and torchrun stops all others after a failure
        if isinstance(error, KeyboardInterrupt):
            raise Interrupted("stopped at once; the last checkpoint stays") from None
        raise


@contextmanager
def _translate_out_of_memory() -> Iterator[None]:
    """Turn PyTorch's out-of-memory errors into one line."""
    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError and others without a subclass
        matches = any(words in str(error) for words in ("you tried to allocate", "out of memory"))
        if not (matches or isinstance(error, torch.OutOfMemoryError)):
            raise
        reason = str(error).splitlines()[0]
        raise FaceganError(
            f"out of memory ({reason}); lower train.batch_size or train.base_channels"
        ) from None

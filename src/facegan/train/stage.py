"""Packed images -> the generator with the best quick FID."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import PIL
import torch
from torch import Tensor

from facegan.core import digests, events, history, outputs
from facegan.core.errors import FaceganError, Interrupted
from facegan.data import dataset
from facegan.data.batches import Batches, to_device_if_fits
from facegan.features import frechet
from facegan.models import files, sizes
from facegan.params import Extractor, Train
from facegan.runtime import autocast, distributed
from facegan.runtime.distributed import Group
from facegan.train import continuation, gan_state, monitor, retention, run_folder, trainer
from facegan.train import identity as identities
from facegan.train.export import export
from facegan.train.outlook import outlook

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
    requested: Extractor | None = None,
    command: str = "facegan train",
    finish: bool = False,
) -> None:
    """Train on the preprocessed folder `data` and write the best generator to the folder `out`.

    An unfinished training that learns the same resumes from its last checkpoint, and so does a
    finished one that now has more epochs; one that is finished is exported again. On a CPU, `out`
    is byte-identical to that of an uninterrupted training in the same environment. On SIGINT and
    SIGTERM, a checkpoint is written first. Processes that `torchrun` started share each batch.

    Args:
        data: folder that `preprocess` wrote.
        quick: quick statistics that `reference` wrote.
        checkpoints: folder with one folder per training.
        resume: the training's folder that must be resumed.
        init: folder of a generator and a discriminator to start from.
        budget: bytes that finished trainings may keep in `checkpoints`.
        requested: the extractor that `quick` must have been computed with; None for any.
        command: the command that starts this training, for messages.
        finish: end an unfinished training here, with its best generator so far. Without it, the
            training then still resumes exactly.
    Raises:
        FaceganError: if an input is unusable, an output cannot be written, the networks do not
            support the image size, the training is running already, `resume` is another training's,
            the weights became NaN or infinite too often, or memory is exhausted.
        Interrupted: on SIGINT and SIGTERM.
    """
    images, statistics = _load(data, quick, requested)
    with distributed.process_group(device) as group, _translate_out_of_memory():
        if group.is_main:  # other machines may lack the outputs' folders
            _check_outputs(out, (data, quick), filter(None, (checkpoints, resume)))
        on_event = on_event if group.is_main else events.silent
        dtype = autocast.effective_dtype(params.dtype, device, on_event)
        identity = _identity(data, quick, init, seed, params, dtype, device, group)
        group.require_same(digests.fingerprint(identity))
        params = params.model_copy(update={"dtype": dtype})
        placed = to_device_if_fits(images, device)
        batches = Batches(placed, params.batch_size, seed, device, group=group)
        # Other machines do not have the folder to resume.
        folder = run_folder.RunFolder(checkpoints, identity, resume if group.is_main else None)
        if group.is_main:
            folder = _choose(folder, batches, params, command, on_event)
        with _owned(folder, checkpoints, budget, on_event) if group.is_main else nullcontext():
            if group.any(group.is_main and _export_finished(folder, params, out, on_event)):
                return
            folder.notes.append(outlook(len(images), params, init is not None))
            gan = _initial_state(params, images.shape[2:], seed, device, group, init)
            scorer = _monitor(statistics, images, params, device, group)
            _run(trainer.Trainer(folder, gan, batches, scorer, params, on_event), out, finish)


def _initial_state(
    params: Train,
    shape: tuple[int, ...],
    seed: int,
    device: torch.device,
    group: Group,
    init: Path | None,
) -> gan_state.GANState:
    """
    Args:
        shape: width and channels of the images.
    """
    size, channels = shape
    gan = gan_state.GANState(params, size, channels, seed, device, group)
    if init is not None:
        gan.load_pretrained(init)
    return gan


def _monitor(
    statistics: frechet.Statistics,
    images: Tensor,
    params: Train,
    device: torch.device,
    group: Group,
) -> monitor.Monitor:
    count = params.quick_num_samples
    return monitor.Monitor(statistics, images, params.latent_dim, count, device, group)


def _check_outputs(out: Path, inputs: Iterable[Path], kept: Iterable[Path]) -> None:
    """
    Args:
        kept: folders that get checkpoints, which the output must not contain.
    """
    outputs.check_output_folder(out, history.NAME, inputs)
    for folder in kept:
        outputs.check_parent_folder(folder)
        if out.resolve() in (folder / "file").resolve().parents:
            raise FaceganError(f"{folder}: is in the output {out}, which is replaced at the end")


def _load(
    data: Path, quick: Path, requested: Extractor | None
) -> tuple[Tensor, frechet.Statistics]:
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
    dataset.require_same_data(quick, statistics.metadata, data)
    if requested is not None:
        statistics.require_extractor(quick, requested)
    return images, statistics


def _identity(
    data: Path,
    quick: Path,
    init: Path | None,
    seed: int,
    params: Train,
    dtype: str,
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
        "pillow": PIL.__version__,
        "device": device.type,
        "dtype": dtype,
        "threads": torch.get_num_threads(),
        "processes": group.size,
    }


def _hashes(folder: Path) -> dict[str, str]:
    names = ("generator", "discriminator")
    return {name: digests.file_sha256(folder / f"{name}.safetensors") for name in names}


def _choose(
    run: run_folder.RunFolder,
    batches: Batches,
    params: Train,
    command: str,
    on_event: events.OnEvent,
) -> run_folder.RunFolder:
    """The folder of a training that this one continues, or a new one, with a message why.

    A run that is shorter than the training in its folder has one of its own.

    Raises:
        FaceganError: if the folder must be resumed, and has seen more images than this run will.
    """
    total = params.epochs * batches.steps_per_epoch * params.batch_size
    stopping = params.model_dump(include=trainer.STOPPING_PARAMS)
    if not run.must_resume:
        run = continuation.choose(run, total, stopping)
    seen = run_folder.images_seen(run.folder)
    if seen > total:
        epochs = params.epochs
        text = f"{run.folder}: has seen {seen:,} images, more than the {total:,} of train.epochs: "
        if run.must_resume:
            raise FaceganError(f"{text}{epochs}; raise train.epochs to resume it")
        run = continuation.choose(run.for_epochs(epochs), total, stopping)
        on_event(events.Message(f"{text}{epochs}; it is kept, this run uses {run.folder}"))
    elif not (run.must_resume or run.has_checkpoint()):
        run.notes += filter(None, [continuation.explain(run, command)])
    return run


def _export_finished(
    folder: run_folder.RunFolder, params: Train, out: Path, on_event: events.OnEvent
) -> bool:
    """Whether this training is finished already, and was exported again."""
    if not folder.is_served(params.model_dump(include=trainer.STOPPING_PARAMS)):
        return False
    changed = identities.describe(folder.changes(run_folder.read_events(folder.folder)))
    text = f"finished already in {folder.folder}{changed and f' ({changed})'}; exported again"
    on_event(events.Message(f"{text}; to train anew, delete that folder"))
    names = {Path(name).stem: folder.folder / name for name in run_folder.NETWORKS}
    networks = {name: files.load_network(path) for name, path in names.items()}
    states = {name: state for name, (state, _) in networks.items()}
    configs = {name: config for name, (_, config) in networks.items()}
    export(folder.folder, states, configs, out, on_event)
    return True


@contextmanager
def _owned(
    folder: run_folder.RunFolder, checkpoints: Path, budget: int, on_event: events.OnEvent
) -> Iterator[None]:
    """Lock the folder, and then delete finished trainings past the budget."""
    with retention.lock(folder.folder) as is_held:
        if not is_held:
            text = "the file system has no locks, so start this training only once"
            on_event(events.Message(f"{folder.folder}: {text}, or set FACEGAN_CHECKPOINTS"))
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

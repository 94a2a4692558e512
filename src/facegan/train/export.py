"""A run folder -> the folder that `train` hands on."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from facegan.core import history, pictures
from facegan.core.atomic import replacing
from facegan.core.errors import FaceganError
from facegan.core.events import Message, OnEvent
from facegan.models import files
from facegan.train.checkpoint import load_newest
from facegan.train.run_folder import CHECKPOINT, FINISHED, IDENTITY, SAMPLES, UNTRAINED


def export(
    run_folder: Path,
    best: dict[str, Any],
    configs: dict[str, dict[str, Any]],
    out: Path,
    on_event: OnEvent,
) -> None:
    """Write the folder `out`: networks, history, samples, tables for plots; then the animation.

    Args:
        run_folder: with the history, the samples and the untrained generator.
        best: `state_dict`s by network.
        configs: build configurations by network.
    """
    lines = history.read_history(run_folder / history.NAME)
    samples = [line["picture"] for line in lines if "picture" in line]
    with replacing(out) as folder:
        folder.mkdir()
        _save_networks(best, configs, folder)
        (folder / SAMPLES).mkdir()
        for name in (history.NAME, UNTRAINED):
            shutil.copyfile(run_folder / name, folder / name)
        for name in samples:
            pictures.attempt(folder / name, partial(shutil.copyfile, run_folder / name), on_event)
        history.write_table(lines, "losses", folder / "losses.csv")
        history.write_table(lines, "score", folder / "quick_fid.csv")
    if samples:
        animate = partial(pictures.save_animation, [out / name for name in samples])
        pictures.attempt(out / "evolution.gif", animate, on_event)


def _save_networks(best: dict[str, Any], configs: dict[str, dict[str, Any]], folder: Path) -> None:
    for name, config in configs.items():
        files.save_network(best[name], config, folder / f"{name}.safetensors")


@contextmanager
def exported(folder: Path, on_event: OnEvent) -> Iterator[Path]:
    """Yield a folder with networks and history as `train` writes them.

    That is `folder` itself, or a temporary folder if `folder` is that of an unfinished training in
    `checkpoints/`, or the checkpoint in it: with the best networks of the last checkpoint, and the
    history up to it.

    Raises:
        FaceganError: if such a training has no intact checkpoint with a score.
    """
    if folder.name == CHECKPOINT:
        folder = folder.parent
    if not (folder / IDENTITY).is_file() or (folder / FINISHED).is_file():
        yield folder
        return
    state = load_newest(folder / CHECKPOINT, torch.device("cpu"), on_event)
    if state is None or "generator" not in state["best"]:
        raise FaceganError(f"{folder}: no checkpoint with a score yet")
    if "configs" not in state:
        raise FaceganError(f"{folder}: the checkpoint is of another version of FaceGAN")
    seen, best = state["images_seen"], state["best"]
    on_event(
        Message(f"{folder}: at {seen:,} images seen; best generator at {best['images_seen']:,}")
    )
    with TemporaryDirectory() as name, (folder / history.NAME).open(encoding="utf-8") as start:
        temporary = Path(name)
        _save_networks(best, state["configs"], temporary)
        shutil.copyfile(folder / UNTRAINED, temporary / UNTRAINED)
        lines = [start.readline(), *(f"{line}\n" for line in state["lines"])]
        (temporary / history.NAME).write_text("".join(lines), "utf-8")
        yield temporary

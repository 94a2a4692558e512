"""Pretrained networks that a training starts from, if `train.init_from` is set."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from facegan.core.errors import FaceganError
from facegan.core.events import silent
from facegan.train.export import exported


@contextmanager
def pretrained_networks(init_from: str | None) -> Iterator[Path | None]:
    """Yield the folder with the pretrained generator and discriminator, or None.

    Networks of a version or a checkpoint are in a temporary folder, which is deleted at the end of
    the block.

    Args:
        init_from: a version in MLflow's registry, `models:/NAME/3`; a folder that `train` wrote, or
            that of an unfinished training; or None.
    Raises:
        FaceganError: if there is no such version, or the folder is not a dependency of the DVC
            stage that is running.
    """
    if init_from is None:
        yield None
    elif init_from.startswith("models:/"):
        from facegan.register import versions  # MLflow, which other trainings need not wait for

        with TemporaryDirectory() as folder:
            yield versions.download_networks(init_from, Path(folder))
    else:
        _require_dependency(init_from)
        with exported(Path(init_from), silent) as networks:
            yield networks


def _require_dependency(folder: str) -> None:
    """Refuse a folder that the running DVC stage does not list in its deps.

    DVC would not rerun the stage when the networks in that folder change.
    """
    stage = os.environ.get("DVC_STAGE")  # set by DVC for the commands of its stages
    if stage is None:
        return
    content = yaml.safe_load(Path("dvc.yaml").read_text("utf-8"))
    if Path(folder) not in map(Path, content["stages"][stage]["deps"]):
        raise FaceganError(
            f"train.init_from: {folder}: not a dependency of the stage {stage}; "
            "add it to the stage's deps in dvc.yaml"
        )

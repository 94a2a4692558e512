"""The networks that a training begins with, where they are not new ones."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from facegan.core.errors import FaceganError
from facegan.register import versions


@contextmanager
def pretrained_networks(init_from: str | None) -> Iterator[Path | None]:
    """The folder of `train.init_from`'s generator and discriminator; None where it is null.

    Args:
        init_from: a version in MLflow's registry, `models:/NAME/3`, or a folder.
    Raises:
        FaceganError: if there is no such version, or DVC doesn't know the folder.
    """
    if init_from is None:
        yield None
    elif init_from.startswith("models:/"):
        with TemporaryDirectory() as folder:
            yield versions.download_networks(init_from, Path(folder))
    else:
        _require_dependency(init_from)
        yield Path(init_from)


def _require_dependency(folder: str) -> None:
    """DVC would not see that the networks in a folder changed that its stage doesn't list."""
    stage = os.environ.get("DVC_STAGE")  # which DVC sets for a stage's command
    if stage is None:
        return
    content = yaml.safe_load(Path("dvc.yaml").read_text("utf-8"))
    if Path(folder) not in map(Path, content["stages"][stage]["deps"]):
        raise FaceganError(
            f"train.init_from: {folder}: DVC doesn't follow it; "
            f"add it to the deps of the stage {stage} in dvc.yaml"
        )

"""The evolution film of a version's training: from the project, or from its run in MLflow."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from facegan.core.digests import file_sha256
from facegan.core.errors import FaceganError
from facegan.core.pictures import save_animation
from facegan.core.project import stage_arguments
from facegan.register.registry import GENERATOR, Version
from facegan.sample.opening import WEIGHTS
from facegan.tracking import connection, images

EVOLUTION = "evolution.gif"


@dataclass(frozen=True)
class Film:
    """
    Attributes:
        path: of a GIF; None if there is none.
        note: where it comes from, or why there is none.
    """

    path: Path | None
    note: str


def find(version: Version, folder: Path) -> Film:
    """The film of the project's training, if that made the version; else one of the sample grids
    that the version's run has in MLflow.

    Args:
        folder: for a new film.
    Raises:
        FaceganError: if MLflow cannot be reached.
    """
    trained = _trained_here(version)
    if trained is not None:
        return Film(trained / EVOLUTION, f"{trained / EVOLUTION}, of the training of this version.")
    if not version.run:
        return Film(None, "No film: the version has no run, for example because it was imported.")
    path = folder / f"film{version.number}.gif"
    with TemporaryDirectory() as name, connection.translate_errors():
        grids = images.download(connection.connect(create=False), version.run, Path(name))
        if len(grids) < 2:
            return Film(
                None,
                f"No film: run {version.run[:8]} has {len(grids)} sample grids in MLflow, and the "
                "last training of this project made another version.",
            )
        save_animation(grids, path)
    return Film(path, f"{len(grids)} sample grids of run {version.run[:8]} in MLflow.")


def _trained_here(version: Version) -> Path | None:
    """The folder of the project's training if its generator is that of the version."""
    try:
        trained = Path(stage_arguments("train")[-1])
    except FaceganError:  # not in a project
        return None
    if not (trained / EVOLUTION).is_file() or not (trained / WEIGHTS).is_file():
        return None
    is_same = file_sha256(trained / WEIGHTS) == version.tags.get(GENERATOR)
    return trained if is_same else None

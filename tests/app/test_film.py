import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from facegan.app import film
from facegan.core.pictures import save_animation, save_picture
from facegan.register import registry
from facegan.register.registry import Version
from facegan.tracking import connection, images
from registrations import NAME

ROOT = Path(__file__).parents[2]


@pytest.fixture(name="version")
def make_version(project: Path) -> Version:
    return registry.read(connection.connect(), NAME).versions[1]


def write_grids(folder: Path) -> dict[int, Path]:
    """Grids of rising brightness, of which the steps are not in the order of their names."""
    folder.mkdir()
    paths = {step: folder / f"{step}.png" for step in (0, 900, 1000)}
    for step, path in paths.items():
        save_picture(np.full((8, 8, 1), step // 5, np.uint8), path)
    return paths


def test_the_film_is_that_of_the_projects_training_if_it_made_the_version(
    version: Version, project: Path, registered: Path
) -> None:
    shutil.copy(ROOT / "dvc.yaml", project)
    trained = project / "artifacts" / "train"
    trained.mkdir(parents=True)
    shutil.copy(registered / "train-1" / "generator.safetensors", trained)
    save_animation(list(write_grids(project / "grids").values()), trained / "evolution.gif")
    found = film.find(version, project / "films")
    assert found.path is not None and found.path.samefile(trained / "evolution.gif")
    assert "artifacts/train/evolution.gif" in found.note
    shutil.copy(registered / "train-2" / "generator.safetensors", trained)
    assert film.find(version, project / "films").path is None


def test_else_it_is_made_of_the_sample_grids_of_the_versions_run(
    version: Version, project: Path
) -> None:
    client = connection.connect()
    run = client.get_run(version.run)
    images.log_missing(client, run, write_grids(project / "grids"), set(), lambda: None)
    found = film.find(version, project / "films")
    assert found.note == f"3 sample grids of run {version.run[:8]} in MLflow."
    assert found.path is not None
    with Image.open(found.path) as animation:
        frames = ImageSequence.Iterator(animation)
        levels = [np.asarray(frame.convert("L")).max() for frame in frames]
    assert levels == [0, 180, 200]


def test_without_both_the_page_says_why(version: Version, project: Path) -> None:
    found = film.find(version, project / "films")
    assert found.path is None
    assert f"run {version.run[:8]} has 0 sample grids in MLflow" in found.note

"""A folder given for a file, and a file for a folder."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from facegan.core.errors import FaceganError
from facegan.data.dataset import load_images
from facegan.features.frechet import Statistics
from facegan.models.files import load_generator
from facegan.params import load_params, write_preset


def load_network(path: Path) -> None:
    load_generator(path, torch.device("cpu"))


def write_digits(path: Path) -> None:
    write_preset("digits", path, force=True)


@pytest.mark.parametrize("action", [Statistics.load, load_network, load_params, write_digits])
def test_a_folder_given_for_a_file_says_what_was_expected(
    action: Callable[[Path], None], tmp_path: Path
) -> None:
    with pytest.raises(FaceganError, match=f"^{tmp_path}: is a folder; expected "):
        action(tmp_path)


def test_a_file_given_for_a_folder_says_what_was_expected(tmp_path: Path) -> None:
    path = tmp_path / "images.npy"
    path.touch()
    expected = "is a file; expected the folder that facegan preprocess wrote"
    with pytest.raises(FaceganError, match=f"^{path}: {expected}$"):
        load_images(path)

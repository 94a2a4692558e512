from pathlib import Path

import pytest
import torch

from conftest import make_params
from facegan.reference.stage import reference


@pytest.fixture(scope="module")
def official(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Statistics with the features of 300 training images and all held-out ones."""
    folder, params = tmp_path_factory.mktemp("reference"), make_params(reference={"subset": 300})
    path = folder / "official.safetensors"
    reference(dataset, folder / "quick", path, params.reference, torch.device("cpu"))
    return path

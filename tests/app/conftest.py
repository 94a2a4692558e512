"""A registry with two versions, and what the page needs from it."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from conftest import enter, make_params
from facegan.app.batching import Batcher
from facegan.app.library import Library
from facegan.app.studio import Studio
from facegan.core.digests import file_sha256
from facegan.core.pictures import save_picture
from facegan.models.files import load_network, save_network
from registrations import NAME, Trainer
from stores import Sqlite


def strengthen(folder: Path, metrics: Path) -> None:
    """Give a freshly initialised generator some contrast: otherwise, all images are grey."""
    path = folder / "generator.safetensors"
    state, config = load_network(path)
    save_network({name: tensor * 20 for name, tensor in state.items()}, config, path)
    content = json.loads(metrics.read_text()) | {"generator": file_sha256(path)}
    metrics.write_text(json.dumps(content))


@pytest.fixture(scope="session")
def registered(
    empty_store: Path, references: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with a registry: version 1, with FID 50, is champion; version 2, with 60, is not."""
    folder = tmp_path_factory.mktemp("registered")
    with pytest.MonkeyPatch.context() as patch:
        enter(patch, folder, Sqlite(empty_store).clear(folder))
        register = Trainer(folder, references[1])
        for seed, fid in ((1, 50.0), (2, 60.0)):
            training = register.train(seed, fid)
            strengthen(*training)
            (training[0] / "samples").mkdir()
            save_picture(np.zeros((8, 8, 1), np.uint8), training[0] / "samples/0000000001.png")
            register.register(*training)
    (folder / "params.yaml").write_text(yaml.safe_dump(make_params().model_dump(by_alias=True)))
    return folder


@pytest.fixture
def project(
    registered: Path, empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A copy of `registered`, entered."""
    enter(monkeypatch, tmp_path, Sqlite(empty_store).load(registered, tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def studio(registered: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """For tests that change no registry."""
    folder = tmp_path_factory.mktemp("studio")
    with pytest.MonkeyPatch.context() as patch, Batcher() as batcher:
        enter(patch, registered, {"MLFLOW_TRACKING_URI": f"sqlite:///{registered}/mlflow.db"})
        library = Library(NAME, torch.device("cpu"), folder / "films")
        library.snapshot()
        yield Studio(library, batcher, folder / "faces")

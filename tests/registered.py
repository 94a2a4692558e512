"""Fixtures: a real MLflow store, and generators to register in it."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient

from conftest import enter, make_params
from facegan.tracking import connection
from registrations import Trainer
from stores import Store


@pytest.fixture(name="client")
def make_client(store: Path) -> MlflowClient:
    return connection.connect()


@pytest.fixture(name="register")
def make_register(client: MlflowClient, tmp_path: Path, references: tuple[Path, Path]) -> Trainer:
    return Trainer(tmp_path, references[1])


@pytest.fixture(scope="session")
def populated(
    backend: Store, references: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Any]:
    """A folder, and a store: version 1, with FID 50, is champion; version 2, with 60, is not."""
    folder = tmp_path_factory.mktemp("populated")
    with pytest.MonkeyPatch.context() as patch:
        enter(patch, folder, backend.clear(folder))
        register = Trainer(folder, references[1], exports=True)
        register(1, fid=50.0)
        register(2, fid=60.0)
        return folder, backend.save(folder)


@pytest.fixture
def two(
    backend: Store,
    populated: tuple[Path, Any],
    tmp_path: Path,
    references: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[MlflowClient, Trainer]:
    """A copy of `populated` as the current store."""
    folder, saved = populated
    environment = backend.load(saved, tmp_path)
    for seed in (1, 2):
        shutil.copytree(folder / f"train-{seed}", tmp_path / f"train-{seed}")
    enter(monkeypatch, tmp_path, environment)
    register = Trainer(tmp_path, references[1])
    params = make_params().model_dump(by_alias=True)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    return connection.connect(), register

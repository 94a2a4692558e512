"""A real MLflow store, and generators to register in it."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from conftest import make_params
from facegan.tracking import connection
from registrations import Trainer

# Columns of MLflow's database with absolute paths.
LOCATIONS = (
    *("experiments.artifact_location", "runs.artifact_uri"),
    *("logged_models.artifact_location", "model_versions.storage_location"),
)


@pytest.fixture(name="client")
def make_client(store: Path) -> MlflowClient:
    return connection.connect()


@pytest.fixture(name="register")
def make_register(client: MlflowClient, tmp_path: Path, references: tuple[Path, Path]) -> Trainer:
    return Trainer(tmp_path, references[1])


@pytest.fixture(scope="session")
def populated(
    empty_store: Path,
    references: tuple[Path, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A folder with a store: version 1, with FID 50, is champion; version 2, with 60, is not."""
    folder = tmp_path_factory.mktemp("populated")
    shutil.copyfile(empty_store, folder / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        patch.delenv("DVC_EXP_NAME", raising=False)
        register = Trainer(folder, references[1])
        register(1, fid=50.0)
        register(2, fid=60.0)
    return folder


@pytest.fixture
def two(
    populated: Path, tmp_path: Path, references: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> tuple[MlflowClient, Trainer]:
    """A copy of `populated` as the current store, moved to its own folder."""
    shutil.copyfile(populated / "mlflow.db", tmp_path / "mlflow.db")
    shutil.copytree(populated / "mlruns", tmp_path / "mlruns")
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database, database:
        for column in LOCATIONS:
            table, _, name = column.partition(".")
            database.execute(
                f"UPDATE {table} SET {name} = replace({name}, ?, ?)",
                (str(populated), str(tmp_path)),
            )
    for seed in (1, 2):
        shutil.copytree(populated / f"train-{seed}", tmp_path / f"train-{seed}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.delenv("DVC_EXP_NAME", raising=False)
    register = Trainer(tmp_path, references[1])
    params = make_params().model_dump(by_alias=True)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    return connection.connect(), register

"""MLflow's local store: created once, in the project, and moved with it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
from mlflow.store.tracking import sqlalchemy_store

from facegan.core.errors import FaceganError
from facegan.tracking import connection, runs, store
from histories import grids, losses, samples, write

pytestmark = pytest.mark.usefixtures("sqlite")


@pytest.fixture(name="project")
def make_project(empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with dvc.yaml and a store; the current one."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "dvc.yaml").write_text("stages: {}\n")
    shutil.copyfile(empty_store, project / "mlflow.db")
    monkeypatch.chdir(project)
    for name in ("MLFLOW_TRACKING_URI", "DVC_EXP_NAME", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    return project


@pytest.mark.parametrize("uri", [None, "", " ", "sqlite:///mlflow.db"])
def test_the_store_is_beside_dvc_yaml_whatever_the_current_folder(
    project: Path, monkeypatch: pytest.MonkeyPatch, uri: str | None
) -> None:
    if uri is not None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    (project / "deeper").mkdir()
    monkeypatch.chdir(project / "deeper")
    assert connection.tracking_uri() == f"sqlite:///{project}/mlflow.db"


def test_an_experiment_in_a_temporary_copy_uses_the_projects_store(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = project / ".dvc/tmp/exps/tmp1"
    (copy / ".dvc").mkdir(parents=True)
    (copy / "dvc.yaml").write_text("stages: {}\n")
    monkeypatch.chdir(copy)
    monkeypatch.setenv("DVC_EXP_NAME", "tmp1")
    monkeypatch.setenv("DVC_ROOT", str(project))
    client = connection.connect()
    run = runs.mirror(client, write(copy / "run", losses(20)), "faces")
    assert client.tracking_uri == f"sqlite:///{project}/mlflow.db"
    assert run.info.artifact_uri.startswith(f"file://{project}/mlruns/faces/")


def test_a_path_that_an_address_cannot_have_is_refused(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = project.rename(tmp_path / "faces?1")
    monkeypatch.chdir(moved)
    with pytest.raises(FaceganError, match=r"faces\?1: the address of a SQLite file ends at a \?"):
        store.tracking_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    assert store.tracking_uri() == f"sqlite:///{tmp_path}/mlflow.db"


def test_reading_from_another_folder_creates_no_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(FaceganError, match="no MLflow store; run this in a project's folder"):
        connection.connect(create=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.faults
def test_two_processes_at_once_create_one_whole_store(tmp_path: Path) -> None:
    code = "from facegan.tracking import connection; connection.connect()"
    environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code], cwd=tmp_path, env=environment, stderr=subprocess.PIPE
        )
        for _ in range(2)
    ]
    results = [process.communicate()[1].decode() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], results
    assert not (tmp_path / "mlflow.db.new").exists()


@pytest.mark.faults
def test_a_creation_that_was_killed_leaves_no_broken_store(
    empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def create(uri: str, artifacts: str) -> None:
        shutil.copyfile(empty_store, uri.removeprefix("sqlite:///"))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(sqlalchemy_store, "SqlAlchemyStore", create)
        store.create(tmp_path / "mlflow.db")
    assert not (tmp_path / "mlflow.db").exists()
    (tmp_path / "mlflow.db").touch()  # as SQLite leaves one that was opened only
    store.create(tmp_path / "mlflow.db")
    assert (tmp_path / "mlflow.db").stat().st_size > 0


@pytest.mark.parametrize("folder", ["moved", "moved here"])
@pytest.mark.parametrize("location", ["as is", "plain path"])
def test_a_project_that_moved_finds_its_artifacts(
    project: Path, monkeypatch: pytest.MonkeyPatch, folder: str, location: str
) -> None:
    client = connection.connect()
    if location == "plain path":  # as MLflow itself chooses it
        client.create_experiment("faces", str(project / "mlruns/1"))
    run = runs.mirror(client, write(project / "run", samples(0)), "faces")
    client.create_registered_model("faces")
    client.create_model_version("faces", f"{run.info.artifact_uri}/generator", run.info.run_id)
    moved = project.with_name(folder)
    project.rename(moved)
    monkeypatch.chdir(moved)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    client = connection.connect()
    assert len(grids(client, run.info.run_id)) == 2
    assert mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path="images")
    source = client.get_model_version("faces", "1").source
    assert source is not None and source.startswith((moved.as_uri(), str(moved)))
    assert store.relocate(moved / "mlflow.db") == 0
    # New runs go to the new place too.
    other = runs.mirror(client, write(moved / "b", samples(0), fingerprint="b"), "faces")
    assert other.info.artifact_uri.startswith((moved.as_uri(), str(moved)))
    assert not project.exists()


def test_artifacts_that_did_not_move_with_the_store_keep_their_places(
    project: Path, tmp_path: Path
) -> None:
    client = connection.connect()
    run = runs.mirror(client, write(project / "run", samples(0)), "faces")
    (tmp_path / "elsewhere").mkdir()
    shutil.copyfile(project / "mlflow.db", tmp_path / "elsewhere/mlflow.db")
    assert store.relocate(tmp_path / "elsewhere/mlflow.db") == 0
    shutil.copytree(project / "mlruns", tmp_path / "elsewhere/mlruns")
    assert store.relocate(tmp_path / "elsewhere/mlflow.db") == 1
    assert Path(run.info.artifact_uri.removeprefix("file://")).exists()

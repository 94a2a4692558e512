"""Imports that fail; test_catalog.py has those that succeed."""

import json
import shutil
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from commands import error_lines, invoke
from facegan.core.errors import FaceganError
from facegan.register import registry, transfer
from facegan.register.exported import RECORD
from registrations import NAME, Trainer

Two = tuple[MlflowClient, Trainer]


def edit(folder: Path, section: str, **values: object) -> None:
    record = json.loads((folder / RECORD).read_text())
    record[section] |= values
    (folder / RECORD).write_text(json.dumps(record))


def test_an_import_that_fails_leaves_neither_a_run_nor_a_version(two: Two, tmp_path: Path) -> None:
    client = two[0]
    transfer.export(client, NAME, 1, tmp_path / "out")
    edit(tmp_path / "out", "metrics", **{"not:*": 1.0})  # a name that MLflow refuses
    (line,) = error_lines(invoke("models", "import", "out", "--name", "other", cwd=tmp_path))
    assert "not:*" in line
    experiment = client.get_experiment_by_name("other")
    assert experiment is not None and client.search_runs([experiment.experiment_id]) == []
    assert not registry.read(client, "other").versions


def test_generators_of_another_shape_are_not_imported(two: Two, tmp_path: Path) -> None:
    """They would keep every other generator out of the model."""
    client = two[0]
    transfer.export(client, NAME, 1, tmp_path / "out")
    edit(tmp_path / "out", "tags", **{registry.SHAPE: "64x64x3"})
    client.delete_model_version(NAME, "1")
    with pytest.raises(FaceganError, match=r"has generators of 32x32x1 .* makes 64x64x3"):
        transfer.import_version(client, NAME, tmp_path / "out")
    assert list(registry.read(client, NAME).versions) == [2]


def test_a_deleted_experiment_is_named(two: Two, tmp_path: Path) -> None:
    client = two[0]
    transfer.export(client, NAME, 1, tmp_path / "out")
    client.delete_experiment(client.create_experiment("other"))
    with pytest.raises(FaceganError, match=r"experiment other is deleted; restore it"):
        transfer.import_version(client, "other", tmp_path / "out")


def test_an_empty_name_is_not_the_default(two: Two, tmp_path: Path) -> None:
    for name in ("", " "):
        (line,) = error_lines(invoke("models", "rollback", "2", "--name", name, cwd=tmp_path))
        assert line.startswith("--name is empty; ")


def test_a_full_disk_is_named_and_leaves_no_folder(
    two: Two, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(uri: str, dst_path: str) -> None:
        (Path(dst_path) / "MLmodel").touch()
        raise shutil.Error([("a", "b", "[Errno 28] No space left on device")])

    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", download)
    (line,) = error_lines(invoke("models", "export", "1", "out", cwd=tmp_path))
    assert line == "out: No space left on device; free some"
    assert not list(tmp_path.glob("*out*"))

"""Folders without stages; test_training.py has those with some."""

from pathlib import Path

import pytest

from facegan.core.errors import FaceganError
from pipelines.dag import read_dag


def test_what_is_no_project_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path, tmp_path / "missing", tmp_path / "file"):
        with pytest.raises(FaceganError) as error:
            read_dag(folder)
        advice = "name a project: --repository FOLDER"
        assert str(error.value) == f"{folder}: no dvc.yaml; {advice}"
